"""The page of the developmental experiment: does growth win, and against what?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.data.facts import facts
from jaxanatomy.growth.arms import ARMS
from jaxanatomy.measures import developmental as measures
from jaxanatomy.measures.arms import family_level
from jaxanatomy.measures.tuning import CURVE, FINAL, of_purpose
from jaxanatomy.papers import paper_table
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report.common import EDGE, RATES, tuned
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import (
    Axis,
    Column,
    Curves,
    Level,
    Mark,
    Palette,
    Row,
    Span,
    Strip,
    Table,
)
from jaxanatomy.words import label

BASELINE, GROWTH = measures.BASELINE, "growth_100"
COLOURS = {
    "uniform_100": style.INK,
    "growth_50": "#F0A23B",
    "growth_100": "#AE2320",
    "clone_init_uniform": "#1F5FA8",
    "uniform_restarts": "#6B4E9B",
    "shuffled_phases": "#7FA9D2",
    "reversed_phases": "#4E9DB3",
    "core_first_phases": "#9BBF85",
    "core_third_phases": "#C98BB9",
    "equal_flops": style.MUTED,
    "core_alone": "#5B8C5A",
}


def arms(record: RunRecord) -> list[Row]:
    """What each arm came to: losses with 95 % intervals over seeds, cost, the paper's loss."""
    paper, rows = paper_table("table8"), []
    for name, arm in _arms(record).items():
        row = {**arm, "arm": name, "what": ARMS.get(name, "")}
        for measure in ("final_nll", "min_nll"):
            row |= {f"{measure}_{end}": value for end, value in arm[measure].items()}
        row |= {"train_nll": arm["train_nll"]["mean"]}
        row |= {"paper": paper[name]["val_loss"]} if name in paper else {}
        rows.append(row | ({"stopped": arm["diverged_seeds"]} if arm["diverged_seeds"] else {}))
    return rows


def differences(record: RunRecord) -> list[Row]:
    """Every arm less the uniform one, and less the grown one, with intervals that hold at once."""
    finals, names = of_purpose(record.rows, FINAL), list(_arms(record))
    rows = []
    for other in (BASELINE, GROWTH):
        compared = [name for name in names if name != other] if other in names else []
        level = family_level(len(compared))
        for name in compared:
            found = measures.differences(finals, name, other, level)
            row = {"arm": name, "other": other, "against": f"against {other}", "level": level}
            row |= {"compared": len(compared), "seeds": found["final_nll"]["seeds"]}
            for measure, each in found.items():
                row |= {f"{measure}_{end}": each[end] for end in ("mean", "low", "high")}
            rows.append(row)
    return rows


def points(record: RunRecord) -> list[Row]:
    """Validation and training loss of each arm: mean and range over the seeds that finished."""
    found = of_purpose(record.rows, CURVE)
    return [
        row
        for arm in _arms(record)
        for kind, field in (("validation", "eval_nll"), ("training", "loss"))
        for row in _points([row for row in found if row["arm"] == arm], kind, field)
    ]


def validation(record: RunRecord) -> list[Row]:
    """Validation loss, with the number of each phase of growth_100 where it begins."""
    rows, stages = [], []
    for row in points(record):
        if row["kind"] == "validation":
            is_new = row["arm"] == GROWTH and row["stage"] not in stages
            stages += [row["stage"]] if is_new else []
            rows.append(row | {"phase": len(stages)} if is_new else row)
    return rows


def rates(record: RunRecord) -> list[Row]:
    """What each learning rate came to."""
    found = _arms(record)
    taken = {name: arm["learning_rate"] for name, arm in found.items()}
    at_edge = [name for name, arm in found.items() if arm["rate_at_edge"]]
    return tuned(record.rows, measures.TUNED_BY, taken, at_edge)


def completions(record: RunRecord) -> list[Row]:
    """What the first seed of each arm writes after each prompt; a tick for what was taught."""
    first: dict[str, Row] = {}
    for row in of_purpose(record.rows, FINAL):
        first.setdefault(row["arm"], row)
    rows = []
    for index, (prompt, taught) in enumerate(facts().prompts if first else ()):
        row = {"prompt": prompt, "taught": taught}
        for arm, final in first.items():
            text = final["completions"][index]
            row[f"written.{label(arm)}"] = "✓" if text == taught else text or "(ends)"
        rows.append(row)
    return rows


def verdict(record: RunRecord) -> str:
    """What growth_100 does against each other arm, in words that the intervals allow."""
    rows = [row for row in differences(record) if row["other"] == GROWTH]
    said = []
    for measure, when in (("final_nll", "At the end"), ("min_nll", "At its best")):
        sides: dict[str, list[str]] = {}
        for row in rows:
            side, change = _against(*(row[f"{measure}_{end}"] for end in ("mean", "low", "high")))
            sides.setdefault(side, []).append(row["arm"] + change)
        parts = [f"{side} {', '.join(names)}" for side, names in sides.items()]
        said.append(f"{when} growth_100 is {'; '.join(parts)}.")
    return " ".join(said) if rows else ""


def intervals(record: RunRecord) -> str:
    """What the intervals of differences are."""
    rows = differences(record)
    if not rows:
        return ""
    level, compared = rows[0]["level"], rows[0]["compared"]
    return (
        "Intervals of differences are over seeds and validation sentences together, at level "
        f"{level:.2%}, so that all {compared} hold at once with 95 %; those that hold 0 are not "
        "told apart."
    )


def remembered(record: RunRecord) -> str:
    """Which seed wrote the completions, and what they show."""
    seed = of_purpose(record.rows, FINAL)[0]["seed"]
    return (
        "Greedy continuations of the prompts of AH Table 9, whose sentences were all trained on: "
        f"they show memory, not knowledge. Seed {seed}; ✓ stands for the sentence as it was taught."
    )


def lead(record: RunRecord) -> str:
    """How many arms and seeds."""
    found = _arms(record)
    seeds = max((arm["seeds"] for arm in found.values()), default=0)
    return f"{len(found)} arms, {seeds} seeds each."


def _arms(record: RunRecord) -> Mapping[str, Any]:
    return measures.summarise(record.rows)["arms"]


def _points(rows: Sequence[Row], kind: str, field: str) -> list[Row]:
    """Means and ranges over the seeds with the most points; points without a value left out."""
    seeds: dict[int, list[Row]] = {}
    for row in rows:
        if row[field] is not None:
            seeds.setdefault(row["seed"], []).append(row)
    most = max(map(len, seeds.values()), default=0)
    complete = [own for own in seeds.values() if len(own) == most]
    found = []
    for at in zip(*complete, strict=True):
        losses = [row[field] for row in at]
        means = {name: float(np.mean([row[name] for row in at])) for name in PLACES}
        row = {name: at[0][name] for name in ("arm", "stage")} | means
        row |= {"kind": kind, "nll": float(np.mean(losses))}
        found.append(row | {"low": min(losses), "high": max(losses)})
    return found


def _against(mean: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """Where growth_100 stands against an arm that is `mean` above it, and by how much."""
    if mean is None:
        return "not measured against", ""
    change = f" ({round(-mean, 3) + 0.0:+.3f})".replace("-", "−")
    if low is None or low <= 0 <= high:
        return "not told apart from", change
    return ("better than" if low > 0 else "worse than"), change


PLACES = ("step", "flops", "seconds")
ARM = Column("arm", "arm")
LOSS = Axis("nll", "nats per token")
STEPS = Axis("step", "steps", limits=(0, None))

RESULTS = Section(
    "Does growth win?",
    (
        verdict,
        "A model of 9,570,048 parameters (AH Table 6) learns 480 short sentences that tell 120 "
        "facts, and is judged by other sentences that tell the same facts. Validation loss has a "
        "floor: which fact a sentence will tell is a guess until its words say so, so figures "
        "compare arms with each other, not with the paper's.",
    ),
    (
        Table(
            name="arms",
            rows=arms,
            title="Validation loss in nats per token, means over seeds with 95 % intervals",
            cells=(
                ARM,
                Column("rate", "learning_rate", "g"),
                Column("steps", "steps"),
                Column("of the core", "core_steps"),
                Column("TFLOP", "flops", lambda flops: f"{flops / 1e12:.2f}"),
                Column("seconds", "seconds", ".1f"),
                Column("final", "final_nll_mean", ".3f", "final_nll_low", "final_nll_high"),
                Column("lowest", "min_nll_mean", ".3f", "min_nll_low", "min_nll_high"),
                Column("training", "train_nll", ".3f"),
                Column("exact of 12", "exact_completions", ".1f"),
                Column("AH Table 8", "paper"),
                Column("stopped seeds", "stopped"),
            ),
            note=(
                "Intervals are Student's. Each arm has a learning rate of its own; 'of the core' "
                "are the steps in which the core trains; seconds are of training one seed, here. "
                "A seed stops where a loss is not finite, and is left out of means."
            ),
            printed=True,
        ),
        Table(
            name="what",
            rows=arms,
            title="What each arm is",
            cells=(ARM, Column("training", "what")),
            prose=True,
        ),
    ),
)
DIFFERENCES = Section(
    "Differences between arms",
    (
        intervals,
        "A model that knows its sentences by heart gets worse on their paraphrases, so a shorter "
        "or gentler schedule can win at the end without having learnt more. The lowest validation "
        "loss of each seed on its way stands beside the last one: a minimum over some twenty "
        "evaluations, to which arms with phases add one or two for each.",
    ),
    (
        Strip(
            name="differences",
            rows=differences,
            facet="against",
            place=Axis("arm", scale="names"),
            measure=Axis(
                "final_nll_mean", "← the arm is better · nats per token · the arm is worse →"
            ),
            spans=(
                Span("final_nll_low", "final_nll_high", "", style.INK, 0.0, -0.15),
                Span("min_nll_low", "min_nll_high", "", style.MUTED, 0.0, 0.15),
            ),
            marks=(
                Mark("final_nll_mean", "at the end", "o", style.CROSS, -0.15),
                Mark("min_nll_mean", "at its best", "s", style.PAPER, 0.15),
            ),
            levels=(Level(0.0),),
            caption="An interval that holds 0 tells nothing apart.",
        ),
        Table(
            name="differences",
            rows=differences,
            title="difference of losses, nats per token",
            facet="against",
            cells=(
                ARM,
                Column("final", "final_nll_mean", "+.3f", "final_nll_low", "final_nll_high"),
                Column("lowest", "min_nll_mean", "+.3f", "min_nll_low", "min_nll_high"),
                Column("seeds", "seeds"),
            ),
            note="Below 0: the arm is better.",
        ),
    ),
)
CURVES = Section(
    "Loss curves",
    (),
    (
        Curves(
            name="loss_curves",
            rows=validation,
            x=(
                STEPS,
                Axis("flops", "TFLOP of matrix products", unit=1e12, limits=(0, None)),
                Axis("seconds", "seconds of training for one seed, here", limits=(0, None)),
            ),
            y=Axis("nll", "validation loss (nats per token)", holds=0.85),
            series=Palette("arm", COLOURS, {arm: arm for arm in COLOURS}),
            band=("low", "high"),
            point="phase",
            point_label="growth_100 enters a phase",
            write="phase",
            caption=(
                "Means over seeds, bands their ranges; the first losses lie above the frame. "
                "Numbers are the phases of growth_100 (AH Table 7), where layers are cloned and "
                "the loss jumps. Seconds leave out compilation and evaluation; seeds train side "
                "by side and share the time, so it depends on the machine."
            ),
        ),
        Curves(
            name="training_and_validation",
            rows=points,
            facet="arm",
            columns=3,
            size=(3.4, 2.5),
            x=STEPS,
            y=LOSS,
            dashes="kind",
            dash_styles={"validation": "-", "training": ":"},
            dash_names={"validation": "validation", "training": "training, mean since last point"},
            band=("low", "high"),
            caption=(
                "Where the dotted line falls and the solid one does not, the model learns its "
                "sentences and no more of their facts."
            ),
        ),
    ),
)
TUNING = Section(
    "Learning rates",
    (f"Each arm's seeds take the rate of its lowest final validation loss. {EDGE}",),
    (
        Table(
            name="rates",
            rows=rates,
            title="Final validation loss of the tuning seeds by learning rate",
            cells=RATES,
        ),
    ),
)
COMPLETIONS = Section(
    "Completions",
    (remembered,),
    (
        Table(
            name="completions",
            rows=completions,
            title="What each arm writes",
            cells=(
                Column("prompt", "prompt"),
                Column("taught", "taught"),
                Column("{}", "written.*"),
            ),
            prose=True,
        ),
    ),
)

PAGE = Page(
    "Developmental training",
    lead,
    (RESULTS, DIFFERENCES, CURVES, TUNING, COMPLETIONS),
    "Growing a transformer against training it flat",
)

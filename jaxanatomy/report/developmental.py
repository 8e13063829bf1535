"""The page of the developmental experiment: does growth win, and against what?"""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.data.facts import facts
from jaxanatomy.growth.arms import ARMS
from jaxanatomy.measures.arms import developmental as measures
from jaxanatomy.measures.arms.finals import family_level
from jaxanatomy.measures.arms.tuning import CURVE, FINAL, of_purpose
from jaxanatomy.papers import paper_table
from jaxanatomy.records import RunRecord
from jaxanatomy.report import role_courses, style
from jaxanatomy.report import views as v
from jaxanatomy.report.arms import arms_and_seeds, rates
from jaxanatomy.report.common import (
    ARM,
    estimate_of,
    once,
    over_seeds,
    sides,
)
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import label, plain

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


@once
def summary(record: RunRecord) -> Mapping[str, Any]:
    """What `measures.developmental.summarise` has of each arm."""
    return measures.summarise(record.rows)["arms"]


def arms(record: RunRecord) -> list[v.Row]:
    """What each arm came to: losses with 95 % intervals over seeds, cost, the paper's loss."""
    paper, rows = paper_table("table8"), []
    for name, arm in summary(record).items():
        row = {
            **arm,
            "arm": name,
            "what": ARMS.get(name, ""),
            "train_nll": arm["train_nll"]["mean"],
        }
        row |= {measure: estimate_of(arm[measure]) for measure in measures.UNITS}
        row |= {"paper": paper[name]["val_loss"]} if name in paper else {}
        rows.append(row | ({"stopped": arm["diverged_seeds"]} if arm["diverged_seeds"] else {}))
    return rows


@once
def differences(record: RunRecord) -> list[v.Row]:
    """Every arm less the uniform one, and less the grown one, with intervals that hold at once."""
    names, rows = list(summary(record)), []
    for other in (BASELINE, GROWTH):
        compared = [name for name in names if name != other] if other in names else []
        level = family_level(len(compared))
        for name, found in measures.differences(record.rows, compared, other, level).items():
            row = {"arm": name, "other": other, "panel": f"against {other}", "level": level}
            row["seeds"] = found["final_nll"]["seeds"]
            rows.append(row | {measure: estimate_of(each) for measure, each in found.items()})
    return rows


def points(record: RunRecord) -> list[v.Row]:
    """Validation and training loss of each arm: mean and range over the seeds that finished."""
    found = of_purpose(record.rows, CURVE)
    return [
        row | {"kind": kind}
        for arm in summary(record)
        for kind, field in (("validation", "eval_nll"), ("training", "loss"))
        for row in over_seeds([row for row in found if row["arm"] == arm], field, PLACES)
    ]


def validation(record: RunRecord) -> list[v.Row]:
    """Validation loss, with the number of each phase of growth_100 where it begins."""
    rows, stages = [], []
    for row in points(record):
        if row["kind"] == "validation":
            is_new = row["arm"] == GROWTH and row["stage"] not in stages
            stages += [row["stage"]] if is_new else []
            rows.append(row | {"phase": len(stages)} if is_new else row)
    return rows


def completions(record: RunRecord) -> list[v.Row]:
    """What the first seed of each arm writes after each prompt; a tick for what was taught."""
    first: dict[str, v.Row] = {}
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
    """On which side of growth_100 each other arm ends, and is at its best."""
    rows = [row for row in differences(record) if row["other"] == GROWTH]
    return " ".join(
        f"{when} the loss of other arms less that of {GROWTH}: {sides(rows, measure)}."
        for measure, when in (("final_nll", "At the end"), ("min_nll", "At its best"))
        if rows
    )


def remembered(record: RunRecord) -> str:
    """Which seed wrote the completions, and what they show."""
    seed = of_purpose(record.rows, FINAL)[0]["seed"]
    return (
        "Greedy continuations of the prompts of AH Table 9, whose sentences were all trained on: "
        f"they show memory, not knowledge. Seed {seed}; ✓ stands for the sentence as it was taught."
    )


PLACES = ("step", "flops", "seconds")
FROM_ZERO = (0, None)
STEPS = v.Axis("step", "steps", limits=FROM_ZERO)
RESULTS = v.Table(
    "arms",
    arms,
    "Validation loss in nats per token, means over seeds with 95 % intervals",
    cells=(
        ARM,
        v.Column("rate", "learning_rate", "g"),
        v.Column("steps", "steps"),
        v.Column("of the core", "core_steps"),
        v.Column("TFLOP", "flops", lambda flops: plain(flops / 1e12)),
        v.Column("seconds", "seconds", ".1f"),
        v.Column("final", "final_nll", ".3f"),
        v.Column("lowest", "min_nll", ".3f"),
        v.Column("training", "train_nll", ".3f"),
        v.Column("exact of 12", "exact_completions", ".1f"),
        v.Column("AH Table 8", "paper"),
        v.Column("stopped seeds", "stopped"),
    ),
    note=(
        "Intervals are Student's. Each arm has a learning rate of its own; 'of the core' are the "
        "steps in which the core trains; seconds are of training one seed, here. A seed stops "
        "where a loss is not finite, and is left out of means."
    ),
    printed=True,
)
WHAT = v.Table(
    "what", arms, "What each arm is", cells=(ARM, v.Column("training", "what")), prose=True
)
STRIP = v.Strip(
    "differences",
    differences,
    place=v.Axis("arm", scale="names"),
    measure=v.Axis("final_nll", "← the arm is better · nats per token · the arm is worse →"),
    marks=(
        v.Mark("final_nll", "at the end", "o", style.CROSS, -0.15),
        v.Mark("min_nll", "at its best", "s", style.PAPER, 0.15),
    ),
    levels=(v.Level(0.0),),
    caption=(
        "Intervals are over seeds and validation sentences together, hold with 95 % for all of "
        "this figure at once, and reach further by what another of the learning rates that were "
        "tried may gain. One that holds 0 tells nothing apart."
    ),
)
CURVES = v.Curves(
    "loss_curves",
    validation,
    x=(
        STEPS,
        v.Axis("flops", "TFLOP of matrix products", unit=1e12, limits=FROM_ZERO),
        v.Axis("seconds", "seconds of training for one seed, here", limits=FROM_ZERO),
    ),
    y=v.Axis("loss", "validation loss (nats per token)", holds=0.85),
    series=v.Palette("arm", COLOURS),
    band="loss",
    point="phase",
    point_label="growth_100 enters a phase",
    write="phase",
    caption=(
        "Means over seeds, bands their ranges; the first losses lie above the frame. Numbers are "
        "the phases of growth_100 (AH Table 7), where layers are cloned and the loss jumps. "
        "Seconds leave out compilation and evaluation; seeds train side by side and share the "
        "time, so it depends on the machine."
    ),
)
BOTH = v.Curves(
    "training_and_validation",
    points,
    facet="arm",
    columns=3,
    size=(3.4, 2.5),
    x=STEPS,
    y=v.Axis("loss", "nats per token"),
    dashes=v.Dashes(
        "kind",
        {"training": ":"},
        {"validation": "validation", "training": "training, mean since last point"},
    ),
    band="loss",
    caption=(
        "Where the dotted line falls and the solid one does not, the model learns its sentences "
        "and no more of their facts."
    ),
)
COMPLETIONS = v.Table(
    "completions",
    completions,
    "What each arm writes",
    cells=(v.Column("prompt", "prompt"), v.Column("taught", "taught"), v.Column("{}", "written.*")),
    prose=True,
)

PAGE = Page(
    "Developmental training",
    arms_and_seeds,
    Section(
        "Does growth win?",
        verdict,
        "A model of 9,570,048 parameters (AH Table 6) learns 480 short sentences that tell 120 "
        "facts, and is judged by other sentences that tell the same facts. Validation loss has a "
        "floor: which fact a sentence will tell is a guess until its words say so, so figures "
        "compare arms with each other, not with the paper's.",
        RESULTS,
        WHAT,
    ),
    Section(
        "Differences between arms",
        "A model that knows its sentences by heart gets worse on their paraphrases, so a shorter "
        "or gentler schedule can win at the end without having learnt more. The lowest validation "
        "loss of each seed on its way stands beside the last one: a minimum over some twenty "
        "evaluations, to which arms with phases add one or two for each.",
        STRIP,
    ),
    Section("Loss curves", CURVES, BOTH),
    rates(
        measures.TUNED_BY,
        summary,
        "Each arm's seeds take the rate of its lowest final validation loss.",
    ),
    Section("Completions", remembered, COMPLETIONS),
    role_courses.SECTION,
    title="Growing a transformer against training it flat",
)

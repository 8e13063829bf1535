"""The report of the developmental experiment: does growth win, and against what?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.data.facts import facts
from jaxanatomy.growth.arms import ARMS
from jaxanatomy.measures.arms import family_level
from jaxanatomy.measures.developmental import BASELINE, TUNED_BY, differences, summarise
from jaxanatomy.measures.tuning import FINAL, of_purpose, tried
from jaxanatomy.papers import paper_table
from jaxanatomy.report.developmental import figures
from jaxanatomy.report.document import Cell, Picture, Report, Section, Table
from jaxanatomy.report.tuning import tuning_table

Row = Mapping[str, Any]
GROWTH = "growth_100"
_MEASURES = {"final_nll": "at the end", "min_nll": "at its best"}

_WHAT = (
    "A model of 9,570,048 parameters (AH Table 6) learns 480 short sentences that tell 120 facts, "
    "and is judged by other sentences that tell the same facts. Validation loss has a floor: "
    "which fact a sentence will tell is a guess until its words say so, so figures compare arms "
    "with each other, not with the paper's."
)
_BEST = (
    "A model that knows its sentences by heart gets worse on their paraphrases, so a shorter or "
    "gentler schedule can win at the end without having learnt more. The lowest validation loss "
    "of each seed on its way stands beside the last one: a minimum over some twenty evaluations, "
    "to which arms with phases add one or two for each."
)
_CURVES = (
    "Lines are means over seeds, bands their ranges. Dashed lines are the phases of growth_100; "
    "where they stand, layers were cloned, and the loss jumps. FLOPs count matrix products alone. "
    "Seconds leave out compilation and evaluation; seeds train side by side, and the time is "
    "divided by their number, so it depends on the machine."
)
_RATES = "Final validation loss of the tuning seed; each arm's seeds take the rate of its lowest."


def developmental_report(record: Any) -> Report | None:
    """The report of a `RunRecord` of the developmental experiment; None if it is of another."""
    finals = of_purpose(record.rows, FINAL)
    if not finals:
        return None
    summary = summarise(record.rows)
    arms = list(summary["arms"])
    sections = (
        Section(
            "Does growth win?",
            (_WHAT, *_verdicts(finals)),
            (_arms_table(summary), _words_table(arms)),
        ),
        Section("Differences between arms", (_BEST,), tuple(_difference_tables(finals, arms))),
        _curves_section(record.rows, arms),
        Section("Learning rates", (_RATES,), (_tuning_table(record.rows, summary),)),
        Section("Completions", (_completion_words(finals),), (_completions_table(finals, arms),)),
    )
    seeds = max(each["seeds"] for each in summary["arms"].values())
    return Report(
        kind="Developmental training",
        title="Growing a transformer against training it flat",
        lead=f"{len(arms)} arms, {seeds} seeds each.",
        sections=sections,
    )


def summary_table(rows: Iterable[Row]) -> str:
    """A line for each arm, plain text: losses with intervals, FLOPs, seconds."""
    summary = summarise(rows)
    lines = [
        f"{'arm':19}{'rate':>7}{'steps':>6}{'TFLOP':>6}{'seconds':>8}"
        f"{'final loss':>21}{'lowest loss':>21}{'train':>6}{'exact':>6}"
    ]
    for name, arm in summary["arms"].items():
        lines.append(
            f"{name:19}{arm['learning_rate']:7g}{arm['steps']:6}{arm['flops'] / 1e12:6.2f}"
            f"{arm['seconds']:8.1f}{_ends(arm['final_nll']):>21}{_ends(arm['min_nll']):>21}"
            f"{_number(arm['train_nll']['mean']):>6}{arm['exact_completions']:6.1f}"
        )
    return "\n".join(lines)


def _verdicts(finals: Sequence[Row]) -> list[str]:
    """What growth_100 does against each other arm, in words that the intervals allow."""
    others = [name for name in dict.fromkeys(row["arm"] for row in finals) if name != GROWTH]
    if len(others) == len({row["arm"] for row in finals}) or not others:
        return []
    level = family_level(len(others))
    said = []
    for measure, when in _MEASURES.items():
        sides: dict[str, list[str]] = {}
        for other in others:
            side, change = _side(differences(finals, GROWTH, other, level)[measure])
            sides.setdefault(side, []).append(f"{other}{change}")
        parts = [f"{side} {', '.join(names)}" for side, names in sides.items()]
        said.append(f"{when} growth_100 is {'; '.join(parts)}.")
    return [
        " ".join(f"{line[0].upper()}{line[1:]}" for line in said)
        + f" (Differences of losses; {_held_at_once(len(others))}, and those that hold 0 are not "
        "told apart.)"
    ]


def _held_at_once(comparisons: int) -> str:
    """What the intervals of differences are, in words."""
    return (
        f"intervals are over seeds and validation sentences together, at level "
        f"{family_level(comparisons):.2%}, so that all {comparisons} hold at once with 95 %"
    )


def _side(difference: Mapping[str, Any]) -> tuple[str, str]:
    """Which side of 0 a difference is on, in words, and its size."""
    if difference["mean"] is None:
        return "not measured against", ""
    change = f" ({difference['mean']:+.3f})".replace("-", "−")
    if difference["low"] is None or difference["low"] <= 0 <= difference["high"]:
        return "not told apart from", change
    return "better than" if difference["high"] < 0 else "worse than", change


def _arms_table(summary: Mapping[str, Any]) -> Table:
    paper = paper_table("table8")
    rows = []
    for name, arm in summary["arms"].items():
        published = paper.get(name, {}).get("val_loss")
        losses = [_cell(arm[measure]) for measure in _MEASURES]
        learnt = arm["train_nll"]["mean"]
        rows.append(
            (
                Cell(name),
                Cell(f"{arm['learning_rate']:g}", arm["learning_rate"]),
                Cell(f"{arm['steps']}", arm["steps"]),
                Cell(f"{arm['core_steps']}", arm["core_steps"]),
                Cell(f"{arm['flops'] / 1e12:.2f}", arm["flops"]),
                Cell(f"{arm['seconds']:.1f}", arm["seconds"]),
                *losses,
                Cell(_number(learnt), learnt),
                Cell(f"{arm['exact_completions']:.1f}", arm["exact_completions"]),
                Cell("" if published is None else f"{published}", published),
            )
        )
    header = (
        *("arm", "rate", "steps", "of the core", "TFLOP", "seconds", "final loss", "lowest loss"),
        *("training loss", "exact of 12", "AH Table 8"),
    )
    stopped = {
        name: arm["diverged_seeds"]
        for name, arm in summary["arms"].items()
        if arm["diverged_seeds"]
    }
    words = "; ".join(f"{name}: seeds {seeds}" for name, seeds in stopped.items())
    note = (
        "Each arm has a learning rate of its own; 'of the core' are the steps in which the core "
        "trains; seconds are of training one seed, here."
    )
    if words:
        note += f" Stopped, since a loss was not finite, and left out of means: {words}."
    caption = "Validation loss in nats per token, means over seeds with 95 % intervals (Student)"
    return Table(caption, header, tuple(rows), sortable=True, note=note)


def _words_table(arms: Sequence[str]) -> Table:
    rows = [(Cell(arm), Cell(ARMS.get(arm, ""))) for arm in arms]
    return Table("What each arm is", ("arm", "training"), tuple(rows))


def _difference_tables(finals: Sequence[Row], arms: Sequence[str]) -> list[Table]:
    tables = []
    for other in (BASELINE, GROWTH):
        compared = [arm for arm in arms if arm != other]
        if other not in arms or not compared:
            continue
        rows = []
        for arm in compared:
            found = differences(finals, arm, other, family_level(len(compared)))
            cells = [_cell(found[measure], signed=True) for measure in _MEASURES]
            rows.append((Cell(arm), *cells, Cell(str(found["final_nll"]["seeds"]))))
        caption = f"Loss less that of {other}, nats per token"
        header = ("arm", "final", "lowest", "seeds")
        note = f"Below 0: the arm is better. The {_held_at_once(len(compared))}."
        tables.append(Table(caption, header, tuple(rows), note=note))
    return tables


def _curves_section(rows: Iterable[Row], arms: Sequence[str]) -> Section:
    rows = list(rows)
    content = (
        Picture(
            "loss_curves",
            figures.curves(rows, arms)[0].figure,
            "Validation loss of each arm against steps, FLOPs and seconds.",
        ),
        Picture(
            "training_and_validation",
            figures.training_curves(rows, arms)[0].figure,
            "Training and validation loss of each arm against steps.",
            "Where the dotted line falls and the solid one does not, the model learns its "
            "sentences and no more of their facts.",
        ),
    )
    return Section("Loss curves", (_CURVES,), content)


def _tuning_table(rows: Sequence[Row], summary: Mapping[str, Any]) -> Table:
    arms = summary["arms"]
    taken = {name: arm["learning_rate"] for name, arm in arms.items()}
    at_edge = [name for name, arm in arms.items() if arm["rate_at_edge"]]
    caption = "Final validation loss by learning rate"
    return tuning_table(tried(rows, TUNED_BY), taken, at_edge, caption)


def _completion_words(finals: Sequence[Row]) -> str:
    seed = finals[0]["seed"]
    return (
        "Greedy continuations of the prompts of AH Table 9, whose sentences were all trained on: "
        f"they show memory, not knowledge. Seed {seed}; ✓ stands for the sentence as it was taught."
    )


def _completions_table(finals: Sequence[Row], arms: Sequence[str]) -> Table:
    first = {arm: next(row for row in finals if row["arm"] == arm) for arm in arms}
    rows = []
    for index, (prompt, rest) in enumerate(facts().prompts):
        written = [first[arm]["completions"][index] for arm in arms]
        cells = [Cell("✓" if text == rest else text or "(ends)") for text in written]
        rows.append((Cell(prompt), Cell(rest), *cells))
    names = [arm.replace("_", " ") for arm in arms]  # narrow columns break at spaces
    return Table("What each arm writes", ("prompt", "taught", *names), tuple(rows))


def _cell(found: Mapping[str, Any], signed: bool = False) -> Cell:
    return Cell(_ends(found, signed), found["mean"])


def _ends(found: Mapping[str, Any], signed: bool = False) -> str:
    """`0.123 [0.100, 0.150]`."""
    words = _number(found["mean"], signed)
    if found["low"] is None:
        return words
    return f"{words} [{_number(found['low'], signed)}, {_number(found['high'], signed)}]"


def _number(value: float | None, signed: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "n/f"
    return (f"{value:+.3f}" if signed else f"{value:.3f}").replace("-", "−")

"""The report of the developmental experiment: does growth win, and against what?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.data.facts import facts
from jaxanatomy.growth.arms import ARMS
from jaxanatomy.measures.developmental import (
    BASELINE,
    FINAL,
    differences,
    of_purpose,
    summarise,
)
from jaxanatomy.papers import paper_table
from jaxanatomy.report.developmental import figures
from jaxanatomy.report.document import Cell, Picture, Report, Section, Table

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
        Section("Learning rates", (_RATES,), (_tuning_table(summary),)),
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
        f"{'arm':19}{'rate':>6}{'steps':>6}{'TFLOP':>6}{'seconds':>8}"
        f"{'final loss':>22}{'lowest loss':>22}{'train':>6}{'exact':>5}"
    ]
    for name, arm in summary["arms"].items():
        lines.append(
            f"{name:19}{arm['learning_rate']:6.0e}{arm['steps']:6}{arm['flops'] / 1e12:6.2f}"
            f"{arm['seconds']:8.1f}{_ends(arm['final_nll']):>22}{_ends(arm['min_nll']):>22}"
            f"{_number(arm['train_nll']['mean']):>6}{arm['exact_completions']:5.1f}"
        )
    return "\n".join(lines)


def _verdicts(finals: Sequence[Row]) -> list[str]:
    """What growth_100 does against each other arm, in words that the intervals allow."""
    names = dict.fromkeys(row["arm"] for row in finals)
    if GROWTH not in names:
        return []
    said = []
    for measure, when in _MEASURES.items():
        sides: dict[str, list[str]] = {}
        for other in names:
            if other != GROWTH:
                side, change = _side(differences(finals, GROWTH, other)[measure])
                sides.setdefault(side, []).append(f"{other}{change}")
        parts = [f"{side} {', '.join(others)}" for side, others in sides.items()]
        said += [f"{when} growth_100 is {'; '.join(parts)}."] if parts else []
    return [
        " ".join(f"{line[0].upper()}{line[1:]}" for line in said)
        + " (Differences of losses; those whose 95 % interval holds 0 are not told apart.)"
    ][: len(said)]


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
                Cell(f"{arm['learning_rate']:.0e}", arm["learning_rate"]),
                Cell(f"{arm['steps']}", arm["steps"]),
                Cell(f"{arm['flops'] / 1e12:.2f}", arm["flops"]),
                Cell(f"{arm['seconds']:.1f}", arm["seconds"]),
                *losses,
                Cell(_number(learnt), learnt),
                Cell(f"{arm['exact_completions']:.1f}", arm["exact_completions"]),
                Cell("" if published is None else f"{published}", published),
            )
        )
    header = (
        *("arm", "rate", "steps", "TFLOP", "seconds", "final loss", "lowest loss"),
        *("training loss", "exact of 12", "AH Table 8"),
    )
    stopped = {
        name: arm["diverged_seeds"]
        for name, arm in summary["arms"].items()
        if arm["diverged_seeds"]
    }
    words = "; ".join(f"{name}: seeds {seeds}" for name, seeds in stopped.items())
    note = "Each arm has a learning rate of its own; seconds are of training one seed, here."
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
        if other not in arms:
            continue
        rows = []
        for arm in arms:
            if arm != other:
                found = differences(finals, arm, other)
                cells = [_cell(found[measure], signed=True) for measure in _MEASURES]
                rows.append((Cell(arm), *cells, Cell(str(found["final_nll"]["seeds"]))))
        caption = f"Loss less that of {other}, nats per token, paired over seeds, 95 % intervals"
        header = ("arm", "final", "lowest", "seeds")
        if rows:
            tables.append(Table(caption, header, tuple(rows), note="Below 0: the arm is better."))
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


def _tuning_table(summary: Mapping[str, Any]) -> Table:
    tuning = summary["tuning"]
    rates = sorted({each["learning_rate"] for tried in tuning.values() for each in tried})
    rows = []
    for arm, tried in tuning.items():
        cells = []
        for rate in rates:
            own = [each for each in tried if each["learning_rate"] == rate]
            values = [each["final_nll"] for each in own]
            finite = values and None not in values
            mean = sum(values) / len(values) if finite else None
            cells.append(Cell(_number(mean) if values else "", mean))
        chosen = summary["arms"].get(arm, {}).get("learning_rate")
        rows.append((Cell(arm), *cells, Cell("" if chosen is None else f"{chosen:.0e}")))
    edge = [name for name, arm in summary["arms"].items() if arm["rate_at_edge"]]
    note = f"At the edge of the grid, beyond which a rate may be better: {', '.join(edge)}."
    header = ("arm", *(f"{rate:.0e}" for rate in rates), "taken")
    caption = "Final validation loss by learning rate"
    return Table(caption, header, tuple(rows), note=note if edge else "")


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

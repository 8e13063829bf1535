"""How well each reasoning primitive is answered, beside chance and what guessing reaches."""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.measures.depth_growth import guessing
from jaxanatomy.report.document import Cell, Table

ABOVE_CHANCE, ABOVE_GUESSING = "△", "▲"
_NOTE = (
    f"{ABOVE_GUESSING}: the whole interval lies above chance, and above what guessing reaches at "
    f"best; {ABOVE_CHANCE}: above chance alone. Intervals are Wilson's at the mean over seeds, for "
    "as many questions as one seed was asked: all seeds are asked the same ones, and seeds that "
    "guess by one habit are right in the same ones, so that more seeds are no more questions. "
    "They say what these seeds would answer of other questions, not what other seeds would. Each "
    "cell is judged alone: of a hundred at the level of guessing two or three are marked by "
    "chance."
)


def primitives_table(summary: Mapping[str, Any]) -> Table:
    """A row for each primitive: questions, chance, guessing, and what each arm answers.

    Args:
      summary: `arms` of `measures.depth_growth.summarise`.
    """
    first = next(iter(summary.values()))["accuracy_by_task"]
    rows = []
    for task, asked in first.items():
        chance, guessed = asked["chance"], guessing(task, asked["chance"])
        answered = (arm["accuracy_by_task"][task] for arm in summary.values())
        rows.append(
            (
                Cell(task),
                Cell(str(asked["questions"]), asked["questions"]),
                Cell(f"{chance:.2f}", chance),
                Cell(f"{guessed:.2f}", guessed),
                *(_cell(found, chance, guessed) for found in answered),
            )
        )
    return Table(
        "Share of questions answered, mean over seeds with its 95 % interval",
        ("primitive", "questions", "chance", "guessing", *summary),
        tuple(rows),
        sortable=True,
        note=_NOTE,
    )


def _cell(found: Mapping[str, Any], chance: float, guessed: float) -> Cell:
    if found["mean"] is None:
        return Cell("-")
    low, high = found["ci95"]
    mark = ABOVE_GUESSING if low > guessed else ABOVE_CHANCE if low > chance else ""
    return Cell(f"{found['mean']:.2f} [{low:.2f}, {high:.2f}] {mark}".rstrip(), found["mean"])

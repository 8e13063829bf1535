"""Axes and columns that several pages share."""

from collections.abc import Collection, Iterable, Mapping

from jaxanatomy.measures.tuning import tried
from jaxanatomy.report import style
from jaxanatomy.report.views import Axis, Column, Row, Span
from jaxanatomy.words import perplexity

LAYER = Axis("layer", "layer", "layer")
CHANGE = Axis(
    "degradation_percent", "change of perplexity (%)\nlinear within ±10 %, log beyond", "percent"
)
INTERVAL = Span("low", "high", "95 % interval", style.INK)
PPL = Column("perplexity", "ppl", perplexity)
# Of the rows of `tuned`.
RATES = (
    Column("arm", "arm"),
    Column("{}", "loss.*", ".3f", null="diverged"),
    Column("taken", "taken", "g"),
    Column("at the edge of the grid", "edge"),
)
EDGE = "Beyond the edge of the grid a rate may be better."


def with_ends(row: Row, field: str = "ci95", names: tuple[str, str] = ("low", "high")) -> Row:
    """A row with the ends of an interval as fields of their own; without them where it has none."""
    ends = row.get(field) or (None, None)
    return row if None in ends else {**row, **dict(zip(names, ends, strict=True))}


def flat(row: Row, name: str) -> Row:
    """A field that is a mapping as fields of their own, `name.key`."""
    return {f"{name}.{key}": value for key, value in (row.get(name) or {}).items()}


def tuned(
    rows: Iterable[Row], measure: str, taken: Mapping[str, float], at_edge: Collection[str]
) -> list[Row]:
    """A row for each arm: the loss of each learning rate that was tried, and which was taken.

    Args:
      rows: Of a run.
      measure: Field of the loss that rates are chosen by.
      taken: The rate of each arm's results.
      at_edge: Arms whose rate is the lowest or highest that was tried.
    """
    return [
        {"arm": arm, **flat({"loss": losses}, "loss")}
        | ({"taken": taken[arm]} if arm in taken else {})
        | ({"edge": True} if arm in at_edge else {})
        for arm, losses in tried(rows, measure).items()
    ]

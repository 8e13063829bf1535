"""Axes and columns that several pages share."""

from jaxanatomy.report import style
from jaxanatomy.report.views import Axis, Column, Row, Span
from jaxanatomy.words import perplexity

LAYER = Axis("layer", "layer", "layer")
CHANGE = Axis(
    "degradation_percent", "change of perplexity (%)\nlinear within ±10 %, log beyond", "percent"
)
INTERVAL = Span("low", "high", "95 % interval", style.INK)
PPL = Column("perplexity", "ppl", perplexity)


def with_ends(row: Row, field: str = "ci95", names: tuple[str, str] = ("low", "high")) -> Row:
    """A row with the ends of an interval as fields of their own; without them where it has none."""
    ends = row.get(field) or (None, None)
    return row if None in ends else {**row, **dict(zip(names, ends, strict=True))}

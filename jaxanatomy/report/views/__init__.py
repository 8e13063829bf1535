"""Five views of tidy rows: bars, strip, curves, heatmap, table. See `core` and `draw`."""

from jaxanatomy.report.views.categories import Bars, Strip
from jaxanatomy.report.views.core import (
    RUN,
    Axis,
    Level,
    Mark,
    Palette,
    Row,
    Span,
    View,
    value,
    with_ends,
)
from jaxanatomy.report.views.curves import Curves, Dashes
from jaxanatomy.report.views.draw import draw, to_png, to_svg
from jaxanatomy.report.views.heatmap import Heatmap
from jaxanatomy.report.views.table import Column, Table

__all__ = [
    "RUN",
    "Axis",
    "Bars",
    "Column",
    "Curves",
    "Dashes",
    "Heatmap",
    "Level",
    "Mark",
    "Palette",
    "Row",
    "Span",
    "Strip",
    "Table",
    "View",
    "draw",
    "to_png",
    "to_svg",
    "value",
    "with_ends",
]

"""Five views of tidy rows: bars, strip, curves, heatmap, table. See `core` and `draw`."""

from jaxanatomy.report.views.categories import Bars, Strip
from jaxanatomy.report.views.core import Axis, Level, Mark, Palette, Row, Span, View
from jaxanatomy.report.views.curves import Curves
from jaxanatomy.report.views.draw import draw, to_png, to_svg
from jaxanatomy.report.views.heatmap import Heatmap
from jaxanatomy.report.views.table import Column, Table

__all__ = [
    "Axis",
    "Bars",
    "Column",
    "Curves",
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
]

"""Curves: a value against steps, layers, doses; a line for each series, a panel for each facet."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import transforms
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxanatomy.report import style
from jaxanatomy.report.views.core import (
    Axis,
    Level,
    Palette,
    Row,
    View,
    finite,
    places,
    set_axis,
    value,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves(View):
    """Lines, bands and points.

    Attributes:
      x: What runs along x; several: a panel for each, of the same rows.
      y: The values; several: a panel for each.
      series: What tells lines apart: a colour for each value.
      dashes: Field that tells lines of one colour apart, with a line style for each value; ""
        draws points alone.
      band: Fields of the lower and the upper end of an interval.
      thin: Field by which a series has several thin lines, such as seeds.
      levels: Lines across the panel.
      point: Field that is true where a point stands on the line; "always", or "" for none.
      point_label: What the legend says of those points.
      write: Field with words beside each point.
      size: Width and height of a panel in inches.
      share_y: Whether panels share their scale.
    """

    x: Axis | tuple[Axis, ...]
    y: Axis | tuple[Axis, ...]
    series: Palette = dataclasses.field(default_factory=Palette)
    dashes: str = ""
    dash_styles: Mapping[Any, Any] = dataclasses.field(default_factory=dict)
    dash_names: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    band: tuple[str, str] | None = None
    thin: str = ""
    levels: tuple[Level, ...] = ()
    point: str = ""
    point_label: str = ""
    write: str = ""
    size: tuple[float, float] = (4.2, 3.0)
    share_y: bool = True

    @property
    def pairs(self) -> list[tuple[Axis, Axis]]:
        """The axes of the panels of one facet."""
        x, y = (each if isinstance(each, tuple) else (each,) for each in (self.x, self.y))
        return [(own, other) for other in y for own in x]

    def panel_size(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Inches of one panel."""
        del rows
        return self.size

    def draw(self, ax: Axes, rows: Sequence[Row], everything: Sequence[Row], pair: int = 0) -> None:
        """One panel: the axes `pairs[pair]` over some rows."""
        x, y = self.pairs[pair]
        scale = everything if self.share_y else rows
        fields = [y.field, *(self.band or ())]
        extent = [finite(row, field, y.unit) for row in scale for field in fields]
        set_axis(ax, "y", y, extent, {})
        at = places([row for row in rows if x.field in row], x)
        set_axis(ax, "x", x, at.values(), at)
        for level in self.levels:
            spot = finite(rows[0], level.at, y.unit) if isinstance(level.at, str) else level.at
            if math.isfinite(spot):
                dashes = (0, (4, 3)) if level.dashed else "-"
                ax.axhline(spot, color=level.colour, linewidth=0.9, linestyle=dashes, zorder=1)
        colours = self.series.of(everything)
        lines: dict[tuple, list[Row]] = {}
        keys = (self.series.field, self.dashes, self.thin)
        for row in rows:
            if x.field in row and y.field in row:
                lines.setdefault(tuple(row.get(key) if key else None for key in keys), []).append(
                    row
                )
        for (name, dash, _), own in lines.items():
            colour = colours[name if self.series.field else own[0].get("")]
            self._line(ax, own, at, (x, y), colour, self.dash_styles.get(dash, "-"))

    def handles(self, rows: Sequence[Row]) -> list[Any]:
        """A line for each series and line style, and the levels."""
        handles = []
        if self.series.field:
            for name, colour in self.series.of(rows).items():
                has_line = self._has_line(name, rows)
                dotted = self.point == "always" or not has_line
                look = {"color": colour, "linestyle": "-" if has_line else "", "linewidth": 1.6}
                look |= {"marker": "o", "markersize": 3.5} if dotted else {}
                handles.append(Line2D([], [], label=self.series.words(name), **look))
        for name in dict.fromkeys(row.get(self.dashes) for row in rows) if self.dashes else ():
            dash = self.dash_styles.get(name, "-")
            words = self.dash_names.get(name)
            if words:
                look = {"color": style.MUTED, "linestyle": dash, "linewidth": 1.6}
                handles.append(Line2D([], [], label=words, **look))
        for level in self.levels:
            if level.label:
                dashes = (0, (4, 3)) if level.dashed else "-"
                look = {"color": level.colour, "linestyle": dashes, "linewidth": 0.9}
                handles.append(Line2D([], [], label=level.label, **look))
        if self.point_label:
            look = {"color": style.MUTED, "marker": "o", "markersize": 3.5, "linewidth": 0}
            handles.append(Line2D([], [], label=self.point_label, **look))
        return handles

    def _has_line(self, name: Any, rows: Sequence[Row]) -> bool:
        dashes = {row.get(self.dashes) for row in rows if row.get(self.series.field) == name}
        return any(self.dash_styles.get(dash, "-") for dash in dashes)

    def _line(self, ax: Axes, rows, at, axes, colour: str, dash: Any) -> None:
        x, y = axes
        rows = sorted(rows, key=lambda row: at[row[x.field]])
        place = [at[row[x.field]] for row in rows]
        heights = [finite(row, y.field, y.unit) for row in rows]
        look = {"color": colour, "linestyle": dash, "zorder": 3}
        width = 0.9 if self.thin else 1.5
        if self.point == "always" or not dash:
            look |= {"marker": "o", "markersize": 3.2}
        ax.plot(place, heights, linewidth=width, **look)
        if self.band:
            ends = [[finite(row, end, y.unit) for row in rows] for end in self.band]
            ax.fill_between(place, *ends, color=colour, alpha=0.14, linewidth=0, zorder=2)
        if self.point not in ("", "always"):
            marked = [i for i, row in enumerate(rows) if row.get(self.point)]
            spots = [place[i] for i in marked], [heights[i] for i in marked]
            ax.plot(*spots, "o", markersize=3.4, color=colour, zorder=4)
        lost = [p for p, row in zip(place, rows, strict=True) if math.isinf(value(row, y.field))]
        top = transforms.blended_transform_factory(ax.transData, ax.transAxes)
        cross = {"color": colour, "markeredgewidth": 2, "markersize": 7, "transform": top}
        ax.plot(lost, [0.97] * len(lost), "x", **cross)
        for row, spot, height in zip(rows, place, heights, strict=True):
            if self.write and row.get(self.write) is not None:
                words = {"textcoords": "offset points", "fontsize": 7}
                found, frame = (height, ax.transData) if math.isfinite(height) else (0.97, top)
                at = {"xy": (spot, found), "xycoords": frame, "xytext": (4, 3)}
                ax.annotate(str(row[self.write]), **at, **words)

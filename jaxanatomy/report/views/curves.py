"""Curves: a value against steps, layers, doses; a line for each series, a panel for each facet."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from jaxanatomy.report import style
from jaxanatomy.report.views.core import (
    Axis,
    Level,
    Palette,
    Row,
    View,
    cross,
    ends,
    finite,
    line_handle,
    places,
    set_axis,
    value,
)


@dataclasses.dataclass(frozen=True)
class Dashes:
    """What tells lines of one colour apart.

    Attributes:
      field: Its name.
      styles: Line styles by value, "" for points alone; others are solid.
      names: Words for the legend, by value; others are not named.
    """

    field: str = ""
    styles: Mapping[Any, Any] = dataclasses.field(default_factory=dict)
    names: Mapping[Any, str] = dataclasses.field(default_factory=dict)

    def of(self, row: Row) -> Any:
        """The line style of a row."""
        return self.styles.get(row.get(self.field), "-")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves(View):
    """Lines, bands and points.

    Attributes:
      x: What runs along x; several: a panel for each, of the same rows.
      y: The values; several: a panel for each.
      series: What tells lines apart: a colour for each value.
      dashes: What tells lines of one colour apart.
      band: Field whose interval is drawn as a band; "y" for that of each panel's own values.
      thin: Field by which a series has several thin lines, such as seeds.
      levels: Lines across the panel.
      point: Field that is true where a point stands on the line; "always", or "" for none.
      point_label: What the legend says of those points.
      write: Field with words beside each point.
      size: Width and height of a panel in inches.
    """

    x: Axis | tuple[Axis, ...]
    y: Axis | tuple[Axis, ...]
    series: Palette = dataclasses.field(default_factory=Palette)
    dashes: Dashes = dataclasses.field(default_factory=Dashes)
    band: str = ""
    thin: str = ""
    levels: tuple[Level, ...] = ()
    point: str = ""
    point_label: str = ""
    write: str = ""
    size: tuple[float, float] = (4.2, 3.0)

    @property
    def pairs(self) -> list[tuple[Axis, Axis]]:
        """The axes of the panels of one facet."""
        x, y = (each if isinstance(each, tuple) else (each,) for each in (self.x, self.y))
        return [(own, other) for other in y for own in x]

    def panel_size(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Inches of one panel."""
        del rows
        return self.size

    def draw(
        self, ax: Axes, rows: Sequence[Row], everything: Sequence[Row], pair: tuple[Axis, Axis]
    ) -> None:
        """One panel, of one of `pairs`; all panels share a scale."""
        x, y = pair
        extent = [finite(row, y.field, y.unit) for row in everything]
        extent += [end for row in everything for end in ends(row, self._band(y), y.unit)]
        set_axis(ax, "y", y, extent, {})
        shown = [row for row in rows if x.field in row and y.field in row]
        at = places(shown, x)
        set_axis(ax, "x", x, at.values(), at)
        for level in self.levels:
            level.draw(ax.axhline, rows, y.unit)
        colours, dashes = self.series.of(everything), self.series.dashes(everything)
        lines: dict[tuple, list[Row]] = {}
        for row in shown:
            key = tuple(
                row.get(field) for field in (self.series.field, self.dashes.field, self.thin)
            )
            lines.setdefault(key, []).append(row)
        for (name, *_), own in lines.items():
            own.sort(key=lambda row: at[row[x.field]])
            place = [at[row[x.field]] for row in own]
            dash = self.dashes.of(own[0])
            self._line(ax, own, place, y, colours[name], dashes[name] if dash == "-" else dash)

    def handles(self, rows: Sequence[Row]) -> list[Any]:
        """A line for each series and line style, the levels and the points."""
        handles, dashes = [], self.series.dashes(rows)
        for name, colour in self.series.of(rows).items() if self.series.field else ():
            own = [row for row in rows if row.get(self.series.field) == name]
            has_line = any(map(self.dashes.of, own))
            look = {
                "color": colour,
                "linestyle": dashes[name] if has_line else "",
                "linewidth": 1.6,
            }
            dots = {"marker": "o", "markersize": 3.5}
            look |= dots if self.point == "always" or not has_line else {}
            handles.append(line_handle(self.series.words(name), **look))
        styles = {row.get(self.dashes.field): self.dashes.of(row) for row in rows}
        for name, dash in styles.items():
            if name in self.dashes.names:
                look = {"color": style.MUTED, "linestyle": dash, "linewidth": 1.6}
                handles.append(line_handle(self.dashes.names[name], **look))
        handles += [line_handle(each.label, **each.look) for each in self.levels if each.label]
        if self.point_label:
            look = {"color": style.MUTED, "marker": "o", "markersize": 3.5, "linewidth": 0}
            handles.append(line_handle(self.point_label, **look))
        return handles

    def _band(self, y: Axis) -> str:
        return y.field if self.band == "y" else self.band

    def _line(
        self,
        ax: Axes,
        rows: Sequence[Row],
        place: Sequence[float],
        y: Axis,
        colour: str,
        dash: str,
    ) -> None:
        heights = [finite(row, y.field, y.unit) for row in rows]
        look = {"color": colour, "linestyle": dash, "linewidth": 0.9 if self.thin else 1.5}
        if self.point == "always" or not dash:
            look |= {"marker": "o", "markersize": 3.2}
        ax.plot(place, heights, zorder=3, **look)
        if self.band:
            low, high = zip(*(ends(row, self._band(y), y.unit) for row in rows), strict=True)
            ax.fill_between(place, low, high, color=colour, alpha=0.14, linewidth=0, zorder=2)
        for row, spot, height in zip(rows, place, heights, strict=True):
            is_lost = math.isinf(value(row, y.field))
            if is_lost:
                cross(ax, spot, colour)
            if row.get(self.point):
                ax.plot(spot, height, "o", markersize=3.4, color=colour, zorder=4)
            if row.get(self.write) is not None:
                found, frame = (0.97, ax.get_xaxis_transform()) if is_lost else (height, "data")
                words = {"textcoords": "offset points", "fontsize": 7, "xytext": (4, 3)}
                ax.annotate(str(row[self.write]), (spot, found), xycoords=frame, **words)

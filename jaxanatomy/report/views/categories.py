"""Bars and strips: one place for each thing compared, upright along x or lying along y."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import patheffects, transforms
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from jaxanatomy.report import style
from jaxanatomy.report.views.core import (
    Axis,
    Level,
    Mark,
    Palette,
    Row,
    Span,
    View,
    finite,
    places,
    set_axis,
    value,
)

_BAR = 0.78
_NEAR = 2.5  # words over a bar cover marks up to this many times higher


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Categories(View):
    """Places along one axis, values along the other.

    Attributes:
      place: What has a place of its own: a layer, an arm, a method.
      measure: The values.
      marks: Points of each row.
      spans: Intervals and ranges of each row.
      levels: Lines across the panel.
      palette: Colours of bars, or of marks whose colour is "".
      spread: Field that says how far a row is shifted off its place, so that points stay apart.
      beside: Field with words for the far edge of each place.
      write: Field with words over each bar or point; empty for none.
      size: Width and height of a panel in inches; None: by the number of places.
      share: Whether panels share the scale of values.
    """

    place: Axis
    measure: Axis
    marks: tuple[Mark, ...] = ()
    spans: tuple[Span, ...] = ()
    levels: tuple[Level, ...] = ()
    palette: Palette = dataclasses.field(default_factory=Palette)
    spread: str = ""
    beside: str = ""
    write: str = ""
    size: tuple[float, float] | None = None
    share: bool = True

    upright = True

    def draw(self, ax: Axes, rows: Sequence[Row], everything: Sequence[Row]) -> None:
        """One panel.

        Args:
          ax: Where to draw.
          rows: Its rows.
          everything: The rows of all panels, which share the scale of values.
        """
        at = places(rows, self.place)
        across, along = ("x", "y") if self.upright else ("y", "x")
        set_axis(ax, along, self.measure, self._extent(everything if self.share else rows), {})
        set_axis(ax, across, self.place, at.values(), at)
        if not self.upright:
            ax.invert_yaxis()
        _levels(ax, self.levels, rows, self.measure.unit, self.upright)
        colours = self.palette.of(everything)
        for row in rows:
            spot = at[row[self.place.field]] + row.get(self.spread, 0.0)
            self._draw_row(ax, row, spot, colours[row.get(self.palette.field)])

    def handles(self, rows: Sequence[Row]) -> list[Any]:
        """What the legend names: only what some row has."""
        colours = self.palette.of(rows)
        named = {found: colour for found, colour in colours.items() if found is not None}
        shown = [Patch(facecolor=c, label=self.palette.words(v)) for v, c in named.items()]
        handles = shown if self.palette.field else []
        for span in self.spans:
            if span.label and any(math.isfinite(finite(row, span.low)) for row in rows):
                handles.append(_span_handle(span))
        for mark in self.marks:
            if mark.label and any(mark.field in row for row in rows):
                handles.append(_mark_handle(mark))
        handles += [_level_handle(level) for level in self.levels if level.label]
        fields = [self.measure.field, *(mark.field for mark in self.marks)]
        if any(math.isinf(value(row, field)) for row in rows for field in fields):
            look = {"marker": "x", "linestyle": "", "color": style.CROSS, "markeredgewidth": 2}
            handles.append(Line2D([], [], label="not finite", **look))
        return handles

    def panel_size(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Inches of one panel."""
        count = len(places(rows, self.place))
        if self.size:
            return self.size
        return (
            (max(style.layers_width(count), 7.5), 3.6) if self.upright else (9.6, 1.3 + 0.4 * count)
        )

    def _extent(self, rows: Sequence[Row]) -> list[float]:
        fields = [self.measure.field, *(mark.field for mark in self.marks)]
        fields += [end for span in self.spans if not span.cut for end in (span.low, span.high)]
        found = [finite(row, field, self.measure.unit) for row in rows for field in fields]
        return found + [level.at for level in self.levels if not isinstance(level.at, str)]

    def _draw_row(self, ax: Axes, row: Row, place: float, colour: str) -> None:
        self._bar(ax, row, place, colour)
        for span in self.spans:
            _span(ax, row, span, place, self.measure.unit, self.upright)
        for mark in self.marks:
            found = value(row, mark.field, self.measure.unit)
            spot = place + mark.shift
            if math.isinf(found):
                _lost(ax, spot, self.upright)
            elif math.isfinite(found):
                xy = (spot, found) if self.upright else (found, spot)
                ax.plot(*xy, **_look(mark, colour), zorder=5)
        self._words(ax, row, place)

    def _bar(self, ax: Axes, row: Row, place: float, colour: str) -> None:
        """Drawn by `Bars` alone."""

    def _words(self, ax: Axes, row: Row, place: float) -> None:
        if self.write and row.get(self.write):
            fields = [self.measure.field, *(span.high for span in self.spans)]
            ends = [finite(row, field, self.measure.unit) for field in fields]
            top = max([end for end in ends if math.isfinite(end)], default=0.0)
            marks = [finite(row, mark.field, self.measure.unit) for mark in self.marks]
            for mark in sorted(filter(math.isfinite, marks)):
                # One further off is left alone: the words would seem to be the mark's.
                top = max(top, mark) if mark < _NEAR * top else top
            spot, offset = ((place, top), (0, 5)) if self.upright else ((top, place), (6, 0))
            aligned = {"ha": "center"} if self.upright else {"ha": "left", "va": "center"}
            words = {"textcoords": "offset points", "fontsize": 7, **aligned}
            ax.annotate(str(row[self.write]), spot, xytext=offset, **words)
        if self.beside and row.get(self.beside):
            edge = transforms.blended_transform_factory(ax.transAxes, ax.transData)
            words = {"va": "center", "fontsize": 7.5, "color": style.MUTED}
            ax.text(1.01, place, str(row[self.beside]), transform=edge, **words)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bars(_Categories):
    """A bar for each place, upright; marks alone where rows have no such field as the measure's.

    Attributes:
      hatched: Field that is true where a bar does not compare with the others.
      hatch_label: What the legend says of those.
    """

    hatched: str = ""
    hatch_label: str = ""

    def handles(self, rows: Sequence[Row]) -> list[Any]:
        """As of all categories, and the hatched bars."""
        handles = super().handles(rows)
        if self.hatched and any(row.get(self.hatched) for row in rows):
            face = {"facecolor": "#8A939C", "edgecolor": "white", "hatch": "/////"}
            handles.append(Patch(**face, label=self.hatch_label))
        return handles

    def _bar(self, ax: Axes, row: Row, place: float, colour: str) -> None:
        height = value(row, self.measure.field, self.measure.unit)
        if math.isinf(height):
            _lost(ax, place, self.upright)
        elif math.isfinite(height):
            striped = self.hatched and row.get(self.hatched)
            hatch = {"hatch": "/////", "edgecolor": "white"} if striped else {}
            ax.bar(place, height, width=_BAR, color=colour, linewidth=0, zorder=2, **hatch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strip(_Categories):
    """Points and spans beside each other, lying: what is compared stands at the left."""

    upright = False


def _levels(
    ax: Axes, levels: Sequence[Level], rows: Sequence[Row], unit: float, upright: bool
) -> None:
    line = ax.axhline if upright else ax.axvline
    for level in levels:
        at = finite(rows[0], level.at, unit) if isinstance(level.at, str) else level.at
        if math.isfinite(at):
            style_of = (0, (4, 3)) if level.dashed else "-"
            line(at, color=level.colour, linewidth=0.9, linestyle=style_of, zorder=1)


def _span(ax: Axes, row: Row, span: Span, place: float, unit: float, upright: bool) -> None:
    low, high = finite(row, span.low, unit), finite(row, span.high, unit)
    if not math.isfinite(low + high):
        return
    spot = place + span.shift
    if span.width:
        corner = (spot - span.width / 2, low) if upright else (low, spot - span.width / 2)
        size = (span.width, high - low) if upright else (high - low, span.width)
        # An edge, because a span is often thinner than a pixel.
        box = {"facecolor": span.colour, "edgecolor": span.colour, "linewidth": 1.0, "zorder": 1.5}
        ax.add_patch(Rectangle(corner, *size, **box))
        return
    draw = ax.vlines if upright else ax.hlines
    line = draw(spot, low, high, color=span.colour, linewidth=span.line, zorder=4)
    halo = patheffects.withStroke(linewidth=span.line + 1.7, foreground=style.PAGE)
    line.set_path_effects([halo])


def _lost(ax: Axes, place: float, upright: bool) -> None:
    """A cross at the far edge: not finite."""
    pair = (ax.transData, ax.transAxes) if upright else (ax.transAxes, ax.transData)
    xy = (place, 0.96) if upright else (0.98, place)
    edge = transforms.blended_transform_factory(*pair)
    ax.plot(*xy, "x", color=style.CROSS, transform=edge, markeredgewidth=2, markersize=7)


def _look(mark: Mark, colour: str) -> Mapping[str, Any]:
    own = mark.colour or colour
    thick = 1.6 if mark.marker in "_|" else 0.8
    inside = {"markerfacecolor": "none"} if mark.hollow else {}
    size = 8 if mark.marker in "_|" else 5
    look = {"marker": mark.marker, "linestyle": "", "color": own, "markersize": size}
    return look | {"markeredgewidth": 1.2 if mark.hollow else thick} | inside


def _mark_handle(mark: Mark) -> Line2D:
    return Line2D([], [], label=mark.label, **_look(mark, style.MUTED))


def _span_handle(span: Span) -> Line2D | Patch:
    if span.width:
        return Patch(facecolor=span.colour, label=span.label)
    return Line2D([], [], color=span.colour, linewidth=span.line, label=span.label)


def _level_handle(level: Level) -> Line2D:
    dashes = (0, (4, 3)) if level.dashed else "-"
    return Line2D([], [], color=level.colour, linestyle=dashes, linewidth=0.9, label=level.label)

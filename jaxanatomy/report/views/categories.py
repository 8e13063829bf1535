"""Bars and strips: one place for each thing compared, upright along x or lying along y."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from matplotlib import patheffects
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
    cross,
    ends,
    finite,
    line_handle,
    places,
    set_axis,
    value,
)

_BAR = 0.78
_NEAR = 2.5  # words over a bar cover marks up to this many times higher
_HATCHED = {"edgecolor": "white", "hatch": "/////"}
_LEAST_PER_PLACE = 0.15  # inches


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
      per_place: Inches for each of them where a panel lies.
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
    per_place: float = 0.4
    share: bool = True

    upright = True

    @property
    def _fields(self) -> list[str]:
        return [self.measure.field, *(mark.field for mark in self.marks)]

    def draw(self, ax: Axes, rows: Sequence[Row], everything: Sequence[Row], pair: None) -> None:
        """One panel.

        Args:
          ax: Where to draw.
          rows: Its rows.
          everything: The rows of all panels, which share the scale of values.
          pair: Nothing: a facet has one panel.
        """
        del pair
        at = places(rows, self.place)
        across, along = ("x", "y") if self.upright else ("y", "x")
        set_axis(ax, along, self.measure, self._extent(everything if self.share else rows), {})
        set_axis(ax, across, self.place, at.values(), at)
        if not self.upright:
            ax.invert_yaxis()
        for level in self.levels:
            level.draw(ax.axhline if self.upright else ax.axvline, rows, self.measure.unit)
        colours = self.palette.of(everything)
        for row in rows:
            spot = at[row[self.place.field]] + row.get(self.spread, 0.0)
            self._draw_row(ax, row, spot, colours[row.get(self.palette.field)])

    def handles(self, rows: Sequence[Row]) -> list[Any]:
        """What the legend names: only what some row has."""
        handles: list[Any] = []
        for found, colour in self.palette.of(rows).items() if self.palette.field else ():
            if found is not None:
                handles.append(Patch(facecolor=colour, label=self.palette.words(found)))
        for span in self.spans:
            if span.label and any(math.isfinite(ends(row, span.field)[0]) for row in rows):
                handles.append(_span_handle(span))
        for mark in self.marks:
            if mark.label and any(mark.field in row for row in rows):
                handles.append(line_handle(mark.label, **_look(mark, style.MUTED)))
        handles += [line_handle(each.label, **each.look) for each in self.levels if each.label]
        if any(math.isinf(value(row, field)) for row in rows for field in self._fields):
            look = {"marker": "x", "linestyle": "", "color": style.CROSS, "markeredgewidth": 2}
            handles.append(line_handle("not finite", **look))
        return handles

    def panel_size(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Inches of one panel."""
        count = len(places(rows, self.place))
        if self.upright:
            return self.size or (max(style.layers_width(count), 7.5), 3.6)
        if self.size:  # names must not lie on each other
            return self.size[0], max(self.size[1], 0.9 + _LEAST_PER_PLACE * count)
        return 9.6, 1.3 + self.per_place * count

    def _extent(self, rows: Sequence[Row]) -> list[float]:
        unit = self.measure.unit
        found = [finite(row, field, unit) for row in rows for field in self._fields]
        spans = [span for span in self.spans if not span.cut]
        found += [end for row in rows for span in spans for end in ends(row, span.field, unit)]
        return found + [level.at for level in self.levels if not isinstance(level.at, str)]

    def _draw_row(self, ax: Axes, row: Row, place: float, colour: str) -> None:
        self._bar(ax, row, place, colour)
        for span in self.spans:
            self._span(ax, row, span, place + span.shift)
        for mark in self.marks:
            found = value(row, mark.field, self.measure.unit)
            spot = place + mark.shift
            if math.isinf(found):
                cross(ax, spot, upright=self.upright)
            elif math.isfinite(found):
                xy = (spot, found) if self.upright else (found, spot)
                ax.plot(*xy, **_look(mark, colour), zorder=5)
        self._words(ax, row, place)

    def _bar(self, ax: Axes, row: Row, place: float, colour: str) -> None:
        """Drawn by `Bars` alone."""

    def _span(self, ax: Axes, row: Row, span: Span, spot: float) -> None:
        low, high = ends(row, span.field, self.measure.unit)
        if not math.isfinite(low):
            return
        if span.width:
            corner, size = (spot - span.width / 2, low), (span.width, high - low)
            order = slice(None) if self.upright else slice(None, None, -1)
            # An edge, because a span is often thinner than a pixel.
            look = {"facecolor": span.colour, "edgecolor": span.colour, "linewidth": 1.0}
            ax.add_patch(Rectangle(corner[order], *size[order], **look, zorder=1.5))
            return
        draw = ax.vlines if self.upright else ax.hlines
        line = draw(spot, low, high, color=span.colour, linewidth=span.line, zorder=4)
        halo = patheffects.withStroke(linewidth=span.line + 1.7, foreground=style.PAGE)
        line.set_path_effects([halo])

    def _words(self, ax: Axes, row: Row, place: float) -> None:
        unit = self.measure.unit
        if self.write and row.get(self.write):
            tops = [finite(row, self.measure.field, unit)]
            tops += [ends(row, span.field, unit)[1] for span in self.spans]
            top = max(filter(math.isfinite, tops), default=0.0)
            marks = [finite(row, mark.field, unit) for mark in self.marks]
            for mark in sorted(filter(math.isfinite, marks)):
                # One further off is left alone: the words would seem to be the mark's.
                top = max(top, mark) if mark < _NEAR * top else top
            spot, offset = ((place, top), (0, 5)) if self.upright else ((top, place), (6, 0))
            aligned = {"ha": "center"} if self.upright else {"ha": "left", "va": "center"}
            words = {"textcoords": "offset points", "fontsize": 7, **aligned}
            ax.annotate(str(row[self.write]), spot, xytext=offset, **words)
        if self.beside and row.get(self.beside):
            words = {"va": "center", "fontsize": 7.5, "color": style.MUTED}
            frame = ax.get_yaxis_transform()
            ax.text(1.01, place, str(row[self.beside]), transform=frame, **words)


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
        if any(row.get(self.hatched) for row in rows):
            handles.append(Patch(facecolor="#8A939C", label=self.hatch_label, **_HATCHED))
        return handles

    def _bar(self, ax: Axes, row: Row, place: float, colour: str) -> None:
        height = value(row, self.measure.field, self.measure.unit)
        if math.isinf(height):
            cross(ax, place)
        elif math.isfinite(height):
            look = _HATCHED if row.get(self.hatched) else {}
            ax.bar(place, height, width=_BAR, color=colour, linewidth=0, zorder=2, **look)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strip(_Categories):
    """Points with their intervals and spans, lying: what is compared stands at the left.

    Without marks there is one of the measure. A mark has a span of its own interval unless another
    one is given for its field.
    """

    upright = False

    def __post_init__(self):
        colour = "" if self.palette.field else style.INK
        marks = self.marks or (Mark(self.measure.field, colour=colour),)
        given = {span.field for span in self.spans}
        own = (
            Span(mark.field, colour=mark.colour or style.INK, shift=mark.shift)
            for mark in marks
            if mark.field not in given
        )
        object.__setattr__(self, "marks", marks)
        object.__setattr__(self, "spans", (*self.spans, *own))


def _look(mark: Mark, colour: str) -> dict[str, Any]:
    is_stroke = mark.marker in "_|"
    look = {"marker": mark.marker, "linestyle": "", "color": mark.colour or colour}
    look |= {"markersize": 8 if is_stroke else 5}
    if mark.hollow:
        return look | {"markeredgewidth": 1.2, "markerfacecolor": "none"}
    return look | {"markeredgewidth": 1.6 if is_stroke else 0.8}


def _span_handle(span: Span) -> Line2D | Patch:
    if span.width:
        return Patch(facecolor=span.colour, label=span.label)
    return line_handle(span.label, color=span.colour, linewidth=span.line)

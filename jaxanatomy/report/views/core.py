"""What all views share: where their rows come from, how they are split into panels, their axes.

A view is data: it names the fields of tidy rows that it shows. It finds no rows and computes no
figures; a function of the run does, so that what is drawn can be read, tested and downloaded. A
field that has an interval holds an `Estimate`: tables write its ends, spans and bands draw them.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import Row
from jaxanatomy.report import style

RUN = "run"  # field that names the run of a row on a page of several
_DASHES = ("-", "--", ":", "-.")


@dataclasses.dataclass(frozen=True)
class Axis:
    """A field along an axis.

    Attributes:
      field: Its name in the rows.
      label: What is written at the axis, with the unit.
      scale: "linear", "log", "percent" (linear within 10 %, logarithmic beyond), "layer", or
        "names" for values that are words, in the order of the rows.
      unit: Values are divided by it.
      write: Makes words of the values of a "names" axis.
      limits: Fixed ends of the axis.
      holds: Share of the values, the lowest, that the axis has to hold; others may leave the frame.
    """

    field: str
    label: str = ""
    scale: str = "linear"
    unit: float = 1.0
    write: Callable[[Any], str] = str
    limits: tuple[float | None, float | None] = (None, None)
    holds: float = 1.0


@dataclasses.dataclass(frozen=True)
class Mark:
    """A point for each row that has the field.

    Attributes:
      field: Its name.
      label: Words for the legend.
      marker: As matplotlib has it: "o", "D", "s", "_", "|".
      colour: A colour; "" for that of the view's palette.
      shift: How far beside the row's place, in parts of a row.
      hollow: Whether only its outline is drawn.
    """

    field: str
    label: str = ""
    marker: str = "o"
    colour: str = style.INK
    shift: float = 0.0
    hollow: bool = False


@dataclasses.dataclass(frozen=True)
class Span:
    """A bar or a line over the interval of a field, where it has one.

    Attributes:
      field: Its name.
      label: Words for the legend.
      colour: Its colour.
      width: In parts of a row; 0 for a line.
      shift: As of `Mark`.
      cut: Whether the frame may cut it: it does not widen the axis.
      line: Width in points where it is a line.
    """

    field: str
    label: str = ""
    colour: str = style.INK
    width: float = 0.0
    shift: float = 0.0
    cut: bool = False
    line: float = 1.3


@dataclasses.dataclass(frozen=True)
class Level:
    """A line across a panel, at a number or at a field that all its rows agree on.

    Attributes:
      at: The number, or the name of the field.
      label: Words for the legend; empty for none.
      colour: Its colour.
      dashed: Whether it is dashed.
    """

    at: float | str
    label: str = ""
    colour: str = style.INK
    dashed: bool = False

    @property
    def look(self) -> dict[str, Any]:
        """How matplotlib draws it."""
        dashes = (0, (4, 3)) if self.dashed else "-"
        return {"color": self.colour, "linestyle": dashes, "linewidth": 0.9}

    def draw(self, line: Callable[..., Any], rows: Sequence[Row], unit: float) -> None:
        """Draws it with `axhline` or `axvline` of a panel."""
        at = finite(rows[0], self.at, unit) if isinstance(self.at, str) else self.at
        if math.isfinite(at):
            line(at, zorder=1, **self.look)


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours for the values of a field.

    Attributes:
      field: Its name; "" for one colour.
      colours: By value; values without one take the next of `style.SERIES` that is like none of
        those shown.
      names: Words for the legend, by value; others stand as they are.
    """

    field: str = ""
    colours: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    names: Mapping[Any, str] = dataclasses.field(default_factory=dict)

    def of(self, rows: Iterable[Row]) -> dict[Any, str]:
        """A colour for each value, in the order of the rows."""
        values = dict.fromkeys(row.get(self.field) for row in rows)
        taken = [self.colours[value] for value in values if value in self.colours]
        unlike = [each for each in style.SERIES if not any(style.alike(each, one) for one in taken)]
        free = unlike or style.SERIES
        rest = [value for value in values if value not in self.colours]
        chosen = {value: free[index % len(free)] for index, value in enumerate(rest)}
        return {value: self.colours.get(value) or chosen[value] for value in values}

    def dashes(self, rows: Iterable[Row]) -> dict[Any, str]:
        """A line style for each value: solid, and others where there are more than colours."""
        seen: collections.Counter[str] = collections.Counter()
        found = {}
        for value, colour in self.of(rows).items():
            found[value] = _DASHES[seen[colour] % len(_DASHES)]
            seen[colour] += 1
        return found

    def words(self, value: Any) -> str:
        """What the legend says of a value."""
        return self.names.get(value) or str(value)


@dataclasses.dataclass(frozen=True)
class View:
    """A picture or a table of a section.

    Attributes:
      name: Of its files: `figures/NAME.png`.
      rows: Makes its tidy rows of a run; none: the view is left out.
      title: Says what is shown; a function makes it of the rows of a panel.
      caption: How to read it, and what it does not say.
      facet: Field whose values have a panel each; one panel where rows lack it.
      columns: Panels side by side.
    """

    name: str
    rows: Callable[[Any], Sequence[Row]]
    title: str | Callable[[Sequence[Row]], str] = ""
    _: dataclasses.KW_ONLY
    caption: str = ""
    facet: str = "panel"
    columns: int = 1

    @property
    def pairs(self) -> Sequence[Any]:
        """What each panel of a facet shows; one panel unless a view has several axes."""
        return (None,)

    def heading(self, rows: Sequence[Row]) -> str:
        """The title over some of its rows."""
        return self.title(rows) if callable(self.title) else self.title

    def facets(self, rows: Sequence[Row]) -> dict[str, list[Row]]:
        """The rows of each panel by the panel's title."""
        found: dict[str, list[Row]] = {}
        for row in rows:
            names = (row.get(RUN), row.get(self.facet))
            title = ", ".join(str(name) for name in names if name not in (None, ""))
            found.setdefault(title, []).append(row)
        if not found:
            raise InputError(
                f"the figure {self.name!r} needs rows; got none; pass rows that have them"
            )
        return found

    def handles(self, rows: Sequence[Row]) -> list[Any]:
        """What the legend names."""
        del rows
        return []

    def finish(self, panels: Sequence[Axes], rows: Sequence[Row]) -> None:
        """Draws what belongs to all panels."""


def value(row: Row, field: str, unit: float = 1.0) -> float:
    """A field as a float: NaN where it is absent, infinite where it is null or not finite."""
    if field not in row:
        return math.nan
    found = _point(row[field])
    if found is None or isinstance(found, str):
        return math.inf
    return float(found) / unit if math.isfinite(found) else math.inf


def finite(row: Row, field: str, unit: float = 1.0) -> float:
    """A field as a float; NaN where there is no finite one."""
    found = value(row, field, unit)
    return found if math.isfinite(found) else math.nan


def ends(row: Row, field: str, unit: float = 1.0) -> tuple[float, float]:
    """The ends of a field's interval; NaN where it has none."""
    found = row.get(field)
    low, high = (isinstance(found, Estimate) and found.ends) or (math.nan, math.nan)
    return low / unit, high / unit


def with_ends(row: Row, fields: Iterable[str]) -> dict[str, Any]:
    """Some fields of a row, the ends of intervals as fields of their own: `ppl_low`, `ppl_high`."""
    found = {}
    for field in fields:
        if field in row:
            found[field] = _point(row[field])
        if isinstance(row.get(field), Estimate) and row[field].ends:
            found[f"{field}_low"], found[f"{field}_high"] = row[field].ends
    return found


def places(rows: Sequence[Row], axis: Axis) -> dict[Any, float]:
    """Where each value of a field stands along its axis."""
    values = dict.fromkeys(row[axis.field] for row in rows)
    if axis.scale == "names":
        return {each: float(index) for index, each in enumerate(values)}
    return {each: float(_point(each)) / axis.unit for each in values}


def set_axis(ax: Axes, which: str, axis: Axis, values: Iterable[float], at: Mapping) -> None:
    """Scale, ticks, label and limits of the "x" or the "y" axis; call it before drawing.

    Limits of plain scales hold all `values`, so that panels with the same ones compare.

    Args:
      ax: The panel.
      which: "x" or "y".
      axis: What runs along it.
      values: Everything that it has to hold.
      at: Of `places`, for layers and names.
    """
    values = [each for each in values if math.isfinite(each)]
    if axis.scale == "percent":
        style.degradation_axis(ax, which, values)
    elif axis.scale == "layer":
        style.layer_axis(ax, int(max(at.values(), default=0)) + 1)
    elif axis.scale == "names":
        getattr(ax, f"set_{which}ticks")(list(at.values()), [axis.write(each) for each in at])
        getattr(ax, f"set_{which}lim")(-0.7, len(at) - 0.3)
        ax.tick_params(axis=which, length=0)
    else:
        (style.log_axis if axis.scale == "log" else style.plain_axis)(ax, which)
        getattr(ax, f"set_{which}lim")(*_limits(axis, values))
        ax.grid(axis=which, color=style.FAINT, linewidth=0.6)
    getattr(ax, f"set_{which}label")(axis.label)


def _point(found: Any) -> Any:
    return found.value if isinstance(found, Estimate) else found


def _limits(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    """Ends that hold all values with a margin, or the fixed ones."""
    is_log = axis.scale == "log"
    values = [each for each in values if not is_log or each > 0] or [1.0 if is_log else 0.0]
    highest = float(np.quantile(values, axis.holds))
    low, high = (math.log(end) if is_log else end for end in (min(values), highest))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    found = [math.exp(end) if is_log else end for end in (low - margin, high + margin)]
    low, high = (end if own is None else own for own, end in zip(axis.limits, found, strict=True))
    return low, high


def line_handle(label: str, **look: Any) -> Line2D:
    """A line or a marker in the legend."""
    return Line2D([], [], label=label, **look)


def cross(ax: Axes, place: float, colour: str = style.CROSS, upright: bool = True) -> None:
    """What is not finite: a cross at the far edge of its place."""
    xy = (place, 0.97) if upright else (0.98, place)
    frame = ax.get_xaxis_transform() if upright else ax.get_yaxis_transform()
    ax.plot(*xy, "x", color=colour, transform=frame, markeredgewidth=2, markersize=7)

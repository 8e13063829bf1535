"""Heatmaps: a cell for each pair of values, with its number where there is room."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.patches import Rectangle

from jaxanatomy.report import style
from jaxanatomy.report.views.core import Axis, Row, View, finite, places, value

_DIVERGING = LinearSegmentedColormap.from_list(
    "diverging", ["#1F5FA8", "#9DC0E2", "#FFFFFF", "#F0A58A", "#AE2320"], N=512
)
_EMPTY = "#EEF0F2"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heatmap(View):
    """Coloured cells.

    Attributes:
      x: What runs across.
      y: What runs down.
      cell: The values; scale "percent" (a colour means the same percentage everywhere),
        "diverging" (symmetric about 0), "log" or "linear".
      numbers: Whether cells hold their numbers.
      dot: Field that is true where a cell holds a dot.
      words: Field of what cells hold in the place of their numbers.
      cell_width: Inches of a cell with its number.
      size: Inches of a panel without numbers.
      rule_below: Value of y below which a line is drawn.
      rule_after: Value of x after which a line is drawn.
    """

    x: Axis
    y: Axis
    cell: Axis
    numbers: bool = True
    dot: str = ""
    words: str = ""
    cell_width: float = 0.345
    size: tuple[float, float] = (3.0, 2.9)
    rule_below: str = ""
    rule_after: str = ""

    def panel_size(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Inches of one panel."""
        across, down = len(places(rows, self.x)), len(places(rows, self.y))
        if not self.numbers:
            return self.size
        return max(style.layers_width(across, self.cell_width), 5.0), 1.25 + 0.255 * max(down, 1)

    def draw(self, ax: Axes, rows: Sequence[Row], everything: Sequence[Row], pair: None) -> None:
        """One panel; all panels have one scale of colours."""
        del pair
        across, down = (_lines(rows, axis) for axis in (self.x, self.y))
        table = np.full((len(down), len(across)), np.nan)
        words: dict[tuple[int, int], str] = {}
        for row in rows:
            place = down[row[self.y.field]], across[row[self.x.field]]
            table[place] = value(row, self.cell.field, self.cell.unit)
            words[place] = row[self.words] if self.words else style.compact(table[place])
        norm, cmap = self._scale(everything)
        gaps = {"edgecolors": style.PAGE, "linewidth": 0.8} if self.numbers else {}
        # Cells without numbers are many: pixels inside an SVG, not shapes.
        look = {"norm": norm, "cmap": cmap, "rasterized": not self.numbers, **gaps}
        shown = np.ma.masked_invalid(table)
        ax.pcolormesh(shown, **look)
        ax.set_facecolor(_EMPTY)
        for which, axis, line in (("x", self.x, across), ("y", self.y, down)):
            step = 1 if self.numbers or axis.scale == "names" else max(1, len(line) // 6)
            ticks = [(0.5 + at, axis.write(each)) for each, at in line.items()][::step]
            getattr(ax, f"set_{which}ticks")(*zip(*ticks, strict=True))
            getattr(ax, f"set_{which}label")(axis.label)
        ax.invert_yaxis()
        ax.tick_params(which="both", length=0)
        ax.spines[:].set_visible(False)
        for rule, at in (
            (ax.axhline, down.get(self.rule_below)),
            (ax.axvline, across.get(self.rule_after)),
        ):
            if at is not None:
                rule(at + 1, color=style.INK, linewidth=0.9)
        # Dark on light, light on dark; the same on dark pages, whose cells are these, too.
        is_dark = cmap(norm(shown))[..., :3] @ (0.299, 0.587, 0.114) < 0.56
        for y, x in np.ndindex(*table.shape):
            is_light_ink = is_dark[y, x] and math.isfinite(table[y, x])
            ink = style.CELL_PAPER if is_light_ink else style.CELL_INK
            self._number(ax, x, y, table[y, x], words.get((y, x), ""), ink)
        dots = [row for row in rows if row.get(self.dot)]
        right, low = (0.9, 0.16) if self.numbers else (0.5, 0.5)  # beside a number
        across_dots = [across[row[self.x.field]] + right for row in dots]
        down_dots = [down[row[self.y.field]] + low for row in dots]
        ax.plot(across_dots, down_dots, ".", color=style.CELL_INK, markersize=2.4)

    def finish(self, panels: Sequence[Axes], rows: Sequence[Row]) -> None:
        """The scale of colours beside all panels."""
        mesh = panels[0].collections[0]
        room = {"pad": 0.012, "fraction": 0.02, "aspect": 18, "shrink": 0.9}
        values = [finite(row, self.cell.field, self.cell.unit) for row in rows]
        highest = max(filter(math.isfinite, values), default=0.0)
        beyond = "max" if highest > mesh.norm.vmax else "neither"
        bar = panels[0].figure.colorbar(mesh, ax=list(panels), extend=beyond, **room)
        if self.cell.scale == "percent":
            ticks = style.degradation_ticks(-10, mesh.norm.vmax)
            ticks = [tick for tick in ticks if tick <= mesh.norm.vmax]
            words = [f"{style.compact(tick).replace('.0', '')} %" for tick in ticks]
            bar.set_ticks(ticks, labels=words)
            bar.minorticks_off()
        else:
            bar.set_label(self.cell.label)
            (style.log_axis if self.cell.scale == "log" else style.plain_axis)(bar.ax, "y")
        bar.ax.tick_params(labelsize=6.5, length=2)
        bar.outline.set_visible(False)

    def _scale(self, rows: Sequence[Row]) -> tuple[Any, Any]:
        values = [finite(row, self.cell.field, self.cell.unit) for row in rows]
        if self.cell.scale == "percent":
            return style.heat_scale(values)
        values = list(filter(math.isfinite, values))
        if self.cell.scale == "diverging":
            largest = max(map(abs, values), default=1.0) or 1.0
            return Normalize(-largest, largest), _DIVERGING
        if self.cell.scale == "log":
            values = [each for each in values if each > 0] or [1.0]
            low, high = min(values), max(values)
            return LogNorm(low, high if high > low else 10 * low), matplotlib.colormaps["viridis"]
        low, high = min(values, default=0.0), max(values, default=1.0)
        return Normalize(low, high if high > low else low + 1), matplotlib.colormaps["viridis"]

    def _number(self, ax: Axes, x: int, y: int, cell: float, words: str, ink: str) -> None:
        if math.isnan(cell):
            return
        if math.isinf(cell):
            cross = {"facecolor": "white", "edgecolor": style.CROSS, "hatch": "xxxx"}
            ax.add_patch(Rectangle((x, y), 1, 1, **cross, linewidth=0, alpha=0.5))
        if self.numbers:
            place = {"ha": "center", "va": "center", "fontsize": 6.4}
            number = ax.text(x + 0.5, y + 0.5, words, color=ink, **place)
            number.set_in_layout(False)  # inside its cell: the layout need not measure it


def _lines(rows: Sequence[Row], axis: Axis) -> dict[Any, int]:
    """Rows or columns: numbers in their order, words in that of the rows."""
    values = dict.fromkeys(row[axis.field] for row in rows)
    ordered = values if axis.scale == "names" else sorted(values)
    return {each: index for index, each in enumerate(ordered)}

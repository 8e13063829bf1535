"""One panel for each text, and cells of degradation: what several figure functions share."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from jaxanatomy.report import style

_EMPTY = "#EEF0F2"


def title(cells: Any, words: str) -> str:
    """A panel's title; it begins with the text where the rows name one."""
    if not cells.name:
        return words[:1].upper() + words[1:]
    return f"{cells.name}, {words}"


def percent_grid(
    ax: Axes,
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    scale: Sequence[float] | None = None,
    bar: bool = True,
) -> Any:
    """Degradation in percent as coloured cells with their numbers.

    Args:
      ax: Where to draw.
      values: By row and column; NaN stays empty, infinite is crossed out.
      rows: Names of the rows.
      columns: Names of the columns; None leaves the x axis to the caller.
      scale: Values that the colours have to hold; by default those shown.
      bar: Whether to draw the scale.

    Returns:
      The image, from which a scale for several panels is made.
    """
    flat = [value for row in values for value in row]
    norm, cmap = style.heat_scale(flat if scale is None else scale)
    shown = np.ma.masked_invalid(np.asarray(values, dtype=float))
    mesh = ax.imshow(shown, norm=norm, cmap=cmap, aspect="auto", interpolation="nearest")
    ax.set_facecolor(_EMPTY)
    ax.set_yticks(range(len(rows)), rows)
    if columns is not None:
        ax.set_xticks(range(len(columns)), columns)
    ax.set_xticks(np.arange(0.5, shown.shape[1] - 1), minor=True)
    ax.set_yticks(np.arange(0.5, len(rows) - 1), minor=True)
    ax.tick_params(which="both", length=0)
    ax.grid(which="minor", color="white", linewidth=1.0)
    ax.spines[:].set_visible(False)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            _number(ax, x, y, value, norm, cmap)
    if bar:
        colour_bar([ax], mesh, flat)
    return mesh


def colour_bar(panels: Sequence[Axes], mesh: Any, values: Sequence[float]) -> None:
    """The scale of degradation beside panels; an arrow where it does not hold all values."""
    norm = mesh.norm
    highest = max((value for value in values if math.isfinite(value)), default=0.0)
    beyond = "max" if highest > norm.vmax else "neither"
    room = {"pad": 0.012, "fraction": 0.02, "aspect": 16, "shrink": 0.9}
    bar = panels[0].figure.colorbar(mesh, ax=list(panels), extend=beyond, **room)
    ticks = [tick for tick in style.degradation_ticks(-10, norm.vmax) if tick <= norm.vmax]
    bar.set_ticks(ticks, labels=[f"{style.compact(tick).replace('.0', '')} %" for tick in ticks])
    bar.ax.tick_params(labelsize=6.5, length=2)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def ink(value: float, norm: Any, cmap: Any) -> str:
    """The colour of a number in its cell: dark on light, light on dark."""
    if math.isinf(value):
        return style.INK
    light = np.dot(cmap(float(norm(value)))[:3], (0.299, 0.587, 0.114))
    return "white" if light < 0.56 else style.INK


def _number(ax: Axes, x: int, y: int, value: float, norm: Any, cmap: Any) -> None:
    if math.isnan(value):
        return
    if math.isinf(value):
        box = {"facecolor": "white", "edgecolor": style.CROSS, "hatch": "xxxx"}
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **box, linewidth=0, alpha=0.5))
    place = {"ha": "center", "va": "center", "fontsize": 6.4}
    ax.text(x, y, style.compact(value), color=ink(value, norm, cmap), **place)

"""Heatmaps of degradation with a layer for each column and readable numbers."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from jaxanatomy.report import style
from jaxanatomy.report.cells import NEIGHBOUR_MEAN, Cells, Row
from jaxanatomy.report.cells import label as name_of
from jaxanatomy.report.panels import draw_texts, title


def scopes(
    rows: Iterable[Row],
    ax: Axes | Sequence[Axes] | None = None,
    *,
    intervention: str = NEIGHBOUR_MEAN,
) -> Axes | style.Panels:
    """Degradation in percent, scope x layer: whole layer, attention, MLP, each matrix.

    Args:
      rows: Rows of an importance run.
      ax: Axes to draw on, one for each text; None for a new figure.
      intervention: Which intervention; scopes it was not applied to are left out.

    Returns:
      The axes, or one for each text.
    """

    def draw(cells: Cells, axes: Axes) -> None:
        names = cells.scopes(intervention)
        values = [cells.profile(intervention, scope) for scope in names]
        words = f"each part of each layer: {name_of(intervention)}"
        _heatmap(cells, axes, values, names, words)
        if "layer" in names and len(names) > 1:
            axes.axhline(names.index("layer") + 0.5, color=style.INK, linewidth=0.8)

    return draw_texts(rows, ax, draw, lambda cells: _size(cells, len(cells.scopes(intervention))))


def heads(
    rows: Iterable[Row], ax: Axes | Sequence[Axes] | None = None, *, intervention: str = "zero"
) -> Axes | style.Panels:
    """Degradation in percent, query head x layer, one head edited at a time."""

    def draw(cells: Cells, axes: Axes) -> None:
        names = cells.heads(intervention)
        values = [cells.profile(intervention, head) for head in names]
        _heatmap(cells, axes, values, names, f"each query head: {name_of(intervention)}")

    return draw_texts(rows, ax, draw, lambda cells: _size(cells, len(cells.heads(intervention))))


def controls(rows: Iterable[Row], ax: Axes | Sequence[Axes] | None = None) -> Axes | style.Panels:
    """Degradation in percent, intervention x layer, whole layers at all positions.

    The neighbour mean stands first and its controls below it (DESIGN section 4): what it
    does beyond removing the layer, shrinking norms and mixing unaligned neurons.
    """

    def draw(cells: Cells, axes: Axes) -> None:
        names = cells.interventions
        values = [cells.profile(name) for name in names]
        _heatmap(cells, axes, values, names, "whole layers: every intervention")
        if NEIGHBOUR_MEAN in names and len(names) > 1:
            axes.axhline(names.index(NEIGHBOUR_MEAN) + 0.5, color=style.INK, linewidth=0.8)

    return draw_texts(rows, ax, draw, lambda cells: _size(cells, len(cells.interventions)))


def _size(cells: Cells, num_rows: int) -> tuple[float, float]:
    return style.layers_width(len(cells.layers), 0.345), 1.25 + 0.255 * max(num_rows, 1)


def _heatmap(
    cells: Cells,
    ax: Axes,
    values: Sequence[Sequence[float]],
    names: Sequence[str],
    words: str,
) -> None:
    ax.set_title(title(cells, words))
    if not names:
        ax.text(0.5, 0.5, "not measured in this run", ha="center", transform=ax.transAxes)
        ax.set_axis_off()
        return
    norm, cmap = style.heat_scale([value for row in values for value in row])
    shown = np.ma.masked_invalid(np.asarray(values, dtype=float))
    mesh = ax.imshow(shown, norm=norm, cmap=cmap, aspect="auto", interpolation="nearest")
    ax.set_facecolor("#EEF0F2")
    ax.set_yticks(range(len(names)), [name_of(name) for name in names])
    style.layer_axis(ax, cells.layers)
    ax.set_xlim(-0.5, len(cells.layers) - 0.5)
    ax.set_xticks(np.arange(0.5, len(cells.layers) - 1), minor=True)
    ax.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
    ax.tick_params(which="both", length=0)
    ax.grid(which="minor", color="white", linewidth=1.0)
    ax.spines[:].set_visible(False)
    _numbers(ax, values, norm, cmap)
    beyond = "max" if np.nanmax(shown.filled(0)) > norm.vmax else "neither"
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.012, fraction=0.02, aspect=14, extend=beyond)
    ticks = [tick for tick in style.degradation_ticks(-10, norm.vmax) if tick <= norm.vmax]
    bar.set_ticks(ticks, labels=[f"{style.compact(tick).replace('.0', '')} %" for tick in ticks])
    bar.ax.tick_params(labelsize=6.5, length=2)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def _numbers(ax: Axes, values: Sequence[Sequence[float]], norm, cmap) -> None:
    """The value in each cell, dark on light and light on dark; not finite: crossed out."""
    colours = cmap(norm(np.nan_to_num(np.asarray(values, dtype=float), posinf=0.0)))
    is_dark = colours[..., :3] @ (0.299, 0.587, 0.114) < 0.56
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if math.isnan(value):
                continue
            ax.text(
                x,
                y,
                style.compact(value),
                ha="center",
                va="center",
                fontsize=6.4,
                color="white" if is_dark[y, x] else style.INK,
            )
            if math.isinf(value):
                box = {"facecolor": "white", "edgecolor": style.CROSS, "hatch": "xxxx"}
                ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **box, linewidth=0, alpha=0.5))

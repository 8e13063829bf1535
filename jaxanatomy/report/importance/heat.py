"""Heatmaps of degradation with a layer for each column and readable numbers."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes

from jaxanatomy.report import style
from jaxanatomy.report.cells import NEIGHBOUR_MEAN, Cells, Row
from jaxanatomy.report.cells import label as name_of
from jaxanatomy.report.panels import draw_texts, percent_grid, title


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
    percent_grid(ax, values, [name_of(name) for name in names])
    style.layer_axis(ax, cells.layers)
    ax.set_xlim(-0.5, len(cells.layers) - 0.5)

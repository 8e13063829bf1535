"""First-token attribution: an edit at the first token alone against all the others."""

import math
from collections.abc import Iterable, Sequence

from matplotlib import transforms
from matplotlib.axes import Axes

from jaxanatomy.report import style
from jaxanatomy.report.cells import NEIGHBOUR_MEAN, Cells, Row
from jaxanatomy.report.cells import label as name_of
from jaxanatomy.report.panels import draw_texts, title

FIRST, OTHERS = "#6A3D9A", "#E08A1E"


def first_token(
    rows: Iterable[Row],
    ax: Axes | Sequence[Axes] | None = None,
    *,
    intervention: str = NEIGHBOUR_MEAN,
    scope: str = "layer",
) -> Axes | style.Panels:
    """Degradation per layer when an edit acts at `first` only and at `others` only.

    A layer whose two marks are far apart with `first` on top matters through the first
    token, as one does that writes an attention sink. Each edit at some positions selects
    outputs there; the unedited layer's outputs stand elsewhere (DESIGN section 1).

    Args:
      rows: Rows of an importance run.
      ax: Axes to draw on, one for each text; None for a new figure.
      intervention: Which intervention.
      scope: Of which part: "layer", "attention", "mlp".

    Returns:
      The axes, or one for each text.
    """

    def draw(cells: Cells, axes: Axes) -> None:
        _draw(cells, axes, intervention, scope)

    return draw_texts(rows, ax, draw, lambda cells: (style.layers_width(len(cells.layers)), 2.9))


def position_cells(cells: Cells) -> list[tuple[str, str]]:
    """The (intervention, scope) pairs that were measured at `first` and at `others`."""
    found = dict.fromkeys(key[:2] for key in cells.cells if key[2] == "first")
    return [pair for pair in found if cells.has(*pair, "others")]


def _draw(cells: Cells, ax: Axes, intervention: str, scope: str) -> None:
    first = cells.profile(intervention, scope, "first")
    others = cells.profile(intervention, scope, "others")
    whole = cells.profile(intervention, scope)
    # One scale for all figures of a text, so that they compare.
    positions = ("all", "first", "others")
    every = [(*pair, where) for pair in position_cells(cells) for where in positions]
    style.degradation_axis(ax, "y", [v for key in every for v in cells.profile(*key)])
    style.layer_axis(ax, cells.layers)
    ax.axhline(0, color=style.INK, linewidth=0.8, zorder=1)
    layers = list(cells.layers)
    pairs = [
        (layer, a, b)
        for layer, a, b in zip(layers, first, others, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    for layer, a, b in pairs:
        colour = FIRST if a > b else OTHERS
        ax.plot([layer, layer], [a, b], color=colour, linewidth=2.4, alpha=0.35, zorder=2)
    everywhere = [value if math.isfinite(value) else math.nan for value in whole]
    ax.plot(layers, everywhere, "_", color=style.INK, markersize=9, label="at all tokens")
    _marks(ax, layers, first, "o", FIRST, "at the first token only")
    _marks(ax, layers, others, "s", OTHERS, "at all other tokens only")
    for layer, a, b in pairs:
        if a >= 100 and a > 3 * max(b, 1.0):
            ax.annotate(
                str(layer),
                (layer, max(a, everywhere[layer]) if math.isfinite(everywhere[layer]) else a),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                fontweight="bold",
                color=FIRST,
            )
    part = "whole layers" if scope == "layer" else name_of(scope)
    ax.set_title(title(cells, f"{part}: {name_of(intervention)}"))
    ax.set_ylabel("change of perplexity (%)")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderpad=0.1)


def _marks(
    ax: Axes, layers: Sequence[int], values: Sequence[float], marker: str, colour: str, words: str
) -> None:
    finite = [value if math.isfinite(value) else math.nan for value in values]
    points = ax.plot(layers, finite, marker, color=colour, markersize=5.2, label=words, zorder=3)
    points[0].set(markeredgecolor="white", markeredgewidth=0.6)
    lost = [layer for layer, value in zip(layers, values, strict=True) if math.isinf(value)]
    top = transforms.blended_transform_factory(ax.transData, ax.transAxes)
    ax.plot(lost, [0.96] * len(lost), "x", color=colour, transform=top, markeredgewidth=2)

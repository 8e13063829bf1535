"""How the neighbour mean compares with its controls, layer by layer."""

import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import transforms
from matplotlib.axes import Axes

from jaxanatomy.report import style
from jaxanatomy.report.cells import NEIGHBOUR_MEAN, Cells, Row, category
from jaxanatomy.report.cells import label as name_of
from jaxanatomy.report.panels import draw_texts, title

_SPREAD = (0.0, 0.16, -0.16, 0.08, -0.08)  # rows of dots, so that near values stay apart


def ratios(cells: Cells, control: str) -> dict[int, float]:
    """Perplexity under a control over perplexity under the neighbour mean, by layer.

    Only layers with two neighbours, and where both perplexities are finite. Of a control that
    is random the median draw's.
    """
    found = {}
    for layer in cells.layers:
        mean, other = cells.row(NEIGHBOUR_MEAN, layer), cells.row(control, layer)
        if mean and other and not mean.get("boundary") and mean.get("ppl") and other.get("ppl"):
            found[layer] = other["ppl"] / mean["ppl"]
    return {layer: ratio for layer, ratio in found.items() if math.isfinite(ratio)}


def draw_ratios(cells: Cells, control: str) -> dict[int, tuple[float, float]]:
    """`ratios` of the mildest and of the worst draw, by layer, of a control that is random."""
    found = {}
    for layer in ratios(cells, control):
        drawn = [row["ppl"] for row in cells.draws(control, layer) if row.get("ppl")]
        if len(drawn) > 1:
            mean = cells.row(NEIGHBOUR_MEAN, layer)["ppl"]
            found[layer] = (min(drawn) / mean, max(drawn) / mean)
    return found


def control_ratios(
    rows: Iterable[Row], ax: Axes | Sequence[Axes] | None = None
) -> Axes | style.Panels:
    """For each control, its perplexity relative to the neighbour mean's, a dot per layer.

    Right of 1 the control does more damage than the neighbour mean, left of 1 less. A
    control that does less damage everywhere says that the neighbour mean measured its own
    side effect there (norms shrunk, unaligned neurons mixed), not the layer's work. A line
    through a dot spans the draws of a control that is random; the dot is their median.

    Args:
      rows: Rows of an importance run.
      ax: Axes to draw on, one for each text; None for a new figure.

    Returns:
      The axes, or one for each text.
    """
    size = 9.6, 1.5
    return draw_texts(
        rows, ax, _draw, lambda cells: (size[0], size[1] + 0.36 * len(_controls(cells)))
    )


def _controls(cells: Cells) -> list[str]:
    return [name for name in cells.interventions if name != NEIGHBOUR_MEAN and ratios(cells, name)]


def _draw(cells: Cells, ax: Axes) -> None:
    names = _controls(cells)
    ax.set_title(title(cells, "whole layers: controls against the neighbour mean"))
    if not names:
        ax.text(0.5, 0.5, "no controls in this run", ha="center", transform=ax.transAxes)
        ax.set_axis_off()
        return
    ax.axvline(1.0, color=style.INK, linewidth=0.9, zorder=1)
    for y, name in enumerate(names):
        _strip(ax, cells, name, y)
    _ratio_axis(ax, [value for name in names for value in ratios(cells, name).values()])
    ax.set_yticks(range(len(names)), [name_of(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(
        "perplexity under the control ÷ perplexity under the neighbour mean "
        "(a dot for each layer with two neighbours, a bar at their median)\n"
        "← less damage than the neighbour mean        more damage →"
    )


def _strip(ax: Axes, cells: Cells, control: str, y: int) -> None:
    """Dots of one control, their median, the outermost layers' numbers, and the count."""
    ratio_of, ends_of = ratios(cells, control), draw_ratios(cells, control)
    ordered = sorted(ratio_of, key=ratio_of.get)
    values = [ratio_of[layer] for layer in ordered]
    offsets = [y + _SPREAD[index % len(_SPREAD)] for index in range(len(ordered))]
    colours = [
        style.CATEGORY_COLOURS[category(cells.row(NEIGHBOUR_MEAN, layer))] for layer in ordered
    ]
    ax.axhline(y, color=style.FAINT, linewidth=0.6, zorder=0)
    for layer, offset in zip(ordered, offsets, strict=True):
        if layer in ends_of:
            ax.plot(ends_of[layer], (offset, offset), color=style.MUTED, linewidth=0.9, zorder=2)
    ax.scatter(values, offsets, s=26, c=colours, edgecolors=style.INK, linewidths=0.5, zorder=3)
    median = statistics.median(values)
    ax.plot([median, median], [y - 0.33, y + 0.33], color=style.PAPER, linewidth=2.2, zorder=4)
    for index, side in _outliers([math.log(value / median) for value in values]):
        ax.annotate(
            str(ordered[index]),
            (values[index], offsets[index]),
            xytext=(6 * side, 0),
            textcoords="offset points",
            ha="right" if side < 0 else "left",
            va="center",
            fontsize=7,
        )
    beside = transforms.blended_transform_factory(ax.transAxes, ax.transData)
    worse = sum(value > 1 for value in values)
    words = f"worse in {worse} of {len(values)}; median ×{median:,.2f}"
    ax.text(1.01, y, words, transform=beside, va="center", fontsize=7.5, color=style.MUTED)


def _outliers(sorted_logs: Sequence[float], reach: float = 0.8, gap: float = 0.45):
    """Up to three (index, side) at each end that lie far out and apart enough for a number."""
    last = len(sorted_logs) - 1
    for side, order in ((-1, range(0, last + 1)), (1, range(last, -1, -1))):
        outer = math.inf
        for index in list(order)[:3]:
            far = abs(sorted_logs[index])
            if side * sorted_logs[index] < reach or outer - far < gap:
                break
            yield index, side
            outer = far


def _ratio_axis(ax: Axes, values: Sequence[float]) -> None:
    low, high = min([*values, 0.5]), max([*values, 2.0])
    ax.set_xscale("log")
    ax.set_xlim(low / 2.0, high * 2.0)
    first, last = math.ceil(math.log10(low / 2.0)), math.floor(math.log10(high * 2.0))
    ticks = [10.0**power for power in range(first, last + 1)]
    if len(ticks) < 3:
        ticks = [tick for tick in (0.2, 0.5, 1.0, 2.0, 5.0) if low / 2 <= tick <= high * 2]
    ax.set_xticks(ticks, [f"×{np.format_float_positional(tick, trim='-')}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.grid(axis="x", color=style.FAINT, linewidth=0.6)

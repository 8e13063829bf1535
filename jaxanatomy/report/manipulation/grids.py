"""Heatmaps of the manipulation experiment: strategies on sets, and pairs of layers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from jaxanatomy.errors import InputError
from jaxanatomy.report import style
from jaxanatomy.report.cells import Row
from jaxanatomy.report.manipulation.figures import draw_trials
from jaxanatomy.report.manipulation.rows import (
    Method,
    Trials,
    by_text,
    least_sets,
    main_sets,
    pair_sets,
    set_label,
)
from jaxanatomy.report.panels import colour_bar, ink, percent_grid, title


def manipulation_sets(
    rows: Iterable[Row], ax: Axes | Sequence[Axes] | None = None
) -> Axes | style.Panels:
    """Degradation in percent, strategy x set of layers.

    Args:
      rows: Rows of a manipulation run.
      ax: Axes to draw on, one for each text; None for a new figure.

    Returns:
      The axes, or one for each text.

    Raises:
      InputError: There are no such rows, or not as many axes as texts.
    """

    def size(trials: Trials) -> tuple[float, float]:
        sets = grid_sets(trials)
        return max(3.4 + 0.5 * len(sets), 7.5), 1.5 + 0.235 * len(trials.measured_on(sets))

    def draw(trials: Trials, axes: Axes) -> None:
        sets = grid_sets(trials)
        methods = trials.measured_on(sets)
        axes.set_title(title(trials, "every strategy on every set of layers"))
        values = [[trials.value(method, name) for name in sets] for method in methods]
        percent_grid(axes, values, [m.label for m in methods], list(map(_column, sets)))
        for y in range(1, len(methods)):
            if methods[y].strategy != methods[y - 1].strategy:
                axes.axhline(y - 0.5, color=style.MUTED, linewidth=0.7)
        edge = len(main_sets(trials))
        if 0 < edge < len(sets):
            axes.axvline(edge - 0.5, color=style.INK, linewidth=0.8)

    return draw_trials(rows, ax, draw, size, grid_sets)


def grid_sets(trials: Trials) -> list[str]:
    """The sets that have a column: the main ones, the user's own, and the k least."""
    return [*main_sets(trials), *least_sets(trials).values()]


def manipulation_pairs(
    rows: Iterable[Row],
    ax: Sequence[Axes] | None = None,
    *,
    paper: Mapping[str, float] | None = None,
) -> style.Panels:
    """Degradation in percent of two layers at once, a triangle for each strategy and text.

    Args:
      rows: Rows of a manipulation run.
      ax: Axes, one for each strategy and text; None for a new figure.
      paper: Published degradation in percent of two unnamed layers, by strategy; it stands
        in the empty half in the colour of its value.

    Returns:
      The axes, text by text.

    Raises:
      InputError: No pair was measured, or not as many axes as triangles.
    """
    shown = [(trials, method) for trials in by_text(rows) for method in paired_methods(trials)]
    if not shown:
        raise InputError(
            "a figure of pairs needs rows of sets like pair_3_5; got none; pass the rows of a "
            "manipulation run that measured pairs"
        )
    values = [
        trials.value(method, name)
        for trials, method in shown
        for name in pair_sets(trials).values()
    ]
    values += (paper or {}).values()
    with style.styled():
        panels = _pair_panels(shown) if ax is None else style.given(ax)
        if len(panels) != len(shown):
            raise InputError(
                f"one axes for each strategy and text was expected; got {len(panels)} for "
                f"{len(shown)}; pass that many, or none"
            )
        for (trials, method), panel in zip(shown, panels, strict=True):
            mesh = _triangle(panel, trials, method, values, (paper or {}).get(method.strategy))
        if ax is None:
            colour_bar(panels, mesh, values)
    return panels


def paired_methods(trials: Trials) -> list[Method]:
    """The methods that were measured on pairs of layers."""
    return trials.measured_on(pair_sets(trials).values())


def _column(name: str) -> str:
    return set_label(name).replace(", inner", ",\ninner").replace("least ", "least\n")


def _pair_panels(shown: Sequence[tuple[Trials, Method]]) -> style.Panels:
    """As many columns as fit a page; the panels that are left over are hidden."""
    columns = min(len(shown), 2 if len(shown) in (2, 4) else 3)
    lines = math.ceil(len(shown) / columns)
    size = {2 + len({layer for pair in pair_sets(trials) for layer in pair}) for trials, _ in shown}
    width = max(0.36 * max(size), 3.2)
    panels = style.new_figure(width * columns + 0.8, (0.75 * width + 0.5) * lines, lines, columns)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    return style.Panels(panels[: len(shown)])


def _triangle(
    ax: Axes, trials: Trials, method: Method, scale: Sequence[float], paper: float | None
) -> Any:
    """One strategy: the first layer of a pair down, the second across."""
    pairs = pair_sets(trials)
    firsts = sorted({first for first, _ in pairs})
    seconds = sorted({second for _, second in pairs})
    values = [
        [trials.value(method, pairs.get((first, second), "")) for second in seconds]
        for first in firsts
    ]
    names = list(map(str, firsts)), list(map(str, seconds))
    mesh = percent_grid(ax, values, *names, scale, bar=False)
    ax.set_facecolor("white")
    where = f"{trials.name}, " if trials.name else ""
    ax.set_title(where + method.label, fontsize=9)
    ax.xaxis.tick_top()
    if paper is not None:
        _published(ax, paper, style.heat_scale(scale), len(firsts))
    return mesh


def _published(ax: Axes, value: float, scale, lines: int) -> None:
    """The paper's figure as a cell in the empty half."""
    norm, cmap = scale
    x, y = 0.0, lines - 1.0
    box = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=cmap(float(norm(value))), zorder=2)
    box.set(edgecolor=style.PAPER, linewidth=1.4)
    ax.add_patch(box)
    number = {"ha": "center", "va": "center", "fontsize": 6.4, "zorder": 3}
    ax.text(x, y, style.compact(value), color=ink(value, norm, cmap), **number)
    words = "AH Table 4:\ntwo layers,\nnot named"
    ax.text(x - 0.45, y - 0.65, words, va="bottom", fontsize=6.4, color=style.PAPER)

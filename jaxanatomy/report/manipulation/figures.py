"""Curves of the manipulation experiment: against the dose, the number of layers, the noise."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import transforms
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics import degradation_percent
from jaxanatomy.report import style
from jaxanatomy.report.cells import Row, interval, number
from jaxanatomy.report.manipulation.rows import (
    Method,
    Trials,
    by_text,
    least_sets,
    main_sets,
    mean_by_count,
    mean_of_one,
    random_sets,
    set_label,
)
from jaxanatomy.report.panels import title

SCALES = {"scale": "-", "scale_output": (0, (4, 2))}
SET_COLOURS = {"measured": "#12856A", "paper": style.PAPER, "paper_inner": "#D9660F"}
_MORE_COLOURS = ("#7B4EA3", "#5B6570", "#A8871B", "#C2437E", "#2B9BB5")
_MARKERS = "os^DvPX*<>"
_STRATEGY_COLOURS = {
    "scale": "#D9660F",
    "scale_output": "#E2A52B",
    "zero": style.INK,
    "clone": "#1F5FA8",
    "clone_high": "#4F93D2",
    "clone_with_norms": "#2BA0B0",
    "blend_2": "#3E8E41",
    "blend_4": "#8DBB3C",
    "low_rank": "#7B4EA3",
    "own_svd": "#C2437E",
    "predicted": "#8C5A3C",
}
# Of the strategies with a dose the curves show the paper's viable one and half of it.
_SHOWN_ALPHAS = (0.9, 0.5)


def manipulation(
    rows: Iterable[Row],
    ax: Axes | Sequence[Axes] | None = None,
    *,
    paper: Mapping[float, float] | None = None,
) -> Axes | style.Panels:
    """Dose-response: degradation against the factor that scales a set's matrices.

    Solid lines scale all seven matrices, dashed ones o_proj and down_proj alone; bands are
    95 % intervals. Protocol: AH section 3.5 and DESIGN section 4.

    Args:
      rows: Rows of a manipulation run.
      ax: Axes to draw on, one for each text; None for a new figure.
      paper: Published degradation in percent by alpha, drawn as hollow diamonds.

    Returns:
      The axes, or one for each text.

    Raises:
      InputError: There are no such rows, or not as many axes as texts.
    """
    texts = by_text(rows)
    extent = [*(paper or {}).values()]
    for trials in texts:
        for name in main_sets(trials):
            for method in _scaled(trials, name):
                extent += [trials.value(method, name), *_ends(trials.row(method, name))]

    def draw(trials: Trials, axes: Axes) -> None:
        # One scale for all texts, so that panels compare at a glance.
        style.degradation_axis(axes, "y", extent)
        _doses(axes, trials, paper or {})

    return draw_trials(texts, ax, draw, lambda trials: (10.4, 4.4), scaled_sets)


def manipulation_layers(
    rows: Iterable[Row], ax: Axes | Sequence[Axes] | None = None
) -> Axes | style.Panels:
    """Degradation against the number of layers, the least important first.

    Args:
      rows: Rows of a manipulation run.
      ax: Axes to draw on, one for each text; None for a new figure.

    Returns:
      The axes, or one for each text.

    Raises:
      InputError: There are no such rows, or not as many axes as texts.
    """
    texts = by_text(rows)
    extent = [
        trials.value(method, name)
        for trials in texts
        for method in typical(trials)
        for name in least_sets(trials).values()
    ]

    def draw(trials: Trials, axes: Axes) -> None:
        style.degradation_axis(axes, "y", extent)
        _counts(axes, trials)

    return draw_trials(texts, ax, draw, lambda trials: (9.6, 4.4), least_sets)


def compounding(
    rows: Iterable[Row], ax: Axes | Sequence[Axes] | None = None
) -> Axes | style.Panels:
    """Degradation against the number of layers with noise, on logarithmic axes.

    Dots are single sets of layers, lines their means, one colour for each size of the
    noise. Dashed lines are what effects that merely add up would give: the mean rise of
    the NLL by one layer times the number of layers. Means are of NLLs, shown as percent.

    Args:
      rows: Rows of a manipulation run.
      ax: Axes to draw on, one for each text; None for a new figure.

    Returns:
      The axes, or one for each text.

    Raises:
      InputError: There are no such rows, or not as many axes as texts.
    """
    return draw_trials(rows, ax, _compounded, lambda trials: (8.8, 4.6), random_sets)


def draw_trials(
    rows: Iterable[Row] | Sequence[Trials],
    ax: Any,
    draw: Callable[[Trials, Axes], None],
    size: Callable[[Trials], tuple[float, float]],
    wanted: Callable[[Trials], Any],
) -> Axes | style.Panels:
    """Draws each text that has what a figure wants onto its own axes.

    Args:
      rows: Rows of a manipulation run, or what `by_text` made of them.
      ax: None for a new figure, axes, or one axes for each text.
      draw: Draws one text's trials onto axes.
      size: Width and height in inches of a new panel.
      wanted: What the figure is about in a text's trials; empty: the text is left out.

    Returns:
      The axes; all of them, in the order of the texts, when there are several texts.

    Raises:
      InputError: No text has what is wanted, or not as many axes as texts.
    """
    texts = [trials for trials in by_text(rows) if wanted(trials)]
    if not texts:
        raise InputError(
            "this figure needs rows of the manipulation experiment on the sets that it shows; "
            "got none; pass the rows of ja.read_run(DIR)"
        )
    with style.styled():
        if ax is None:
            sizes = [size(trials) for trials in texts]
            heights = [height for _, height in sizes]
            width = max(width for width, _ in sizes)
            panels = style.new_figure(width, sum(heights), len(texts), height_ratios=heights)
        else:
            panels = style.given(ax)
        if len(panels) != len(texts):
            raise InputError(
                f"one axes for each text was expected; got {len(panels)} for {len(texts)} texts "
                f"({', '.join(trials.name for trials in texts)}); pass that many"
            )
        for trials, panel in zip(texts, panels, strict=True):
            draw(trials, panel)
    return panels[0] if len(panels) == 1 else style.Panels(panels)


def _scaled(trials: Trials, name: str) -> list[Method]:
    return [method for strategy in SCALES for method in trials.doses(strategy, name)]


def scaled_sets(trials: Trials) -> list[str]:
    """The main sets that were scaled: those with a line in the dose-response figure."""
    return [name for name in main_sets(trials) if _scaled(trials, name)]


def _doses(ax: Axes, trials: Trials, paper: Mapping[float, float]) -> None:
    names = scaled_sets(trials)
    more = iter(_MORE_COLOURS * len(names))
    colours = {name: SET_COLOURS.get(name) or next(more) for name in names}
    for name, colour in colours.items():
        for strategy, dashes in SCALES.items():
            methods = trials.doses(strategy, name)
            rows = [trials.row(method, name) for method in methods]
            _curve(ax, [m.dose for m in methods], rows, color=colour, linestyle=dashes)
    points = ax.plot(list(paper), list(paper.values()), "D", label="paper")
    points[0].set(color=style.PAPER, markerfacecolor="none", markersize=6, zorder=6)
    ax.axhline(0, color=style.INK, linewidth=0.8, zorder=1)
    ax.invert_xaxis()
    ax.set_xlabel("α, the factor of the matrices (1: unedited, 0: the layers skipped)")
    ax.set_ylabel("change of perplexity (%)\nlinear within ±10 %, log beyond")
    ax.set_title(title(trials, "layers scaled by α"), pad=26)
    _dose_legend(ax, trials, colours, paper)


def _curve(ax: Axes, x: Sequence[float], rows: Sequence[Row], **look: Any) -> None:
    """A line with its 95 % band; crosses at the top edge where a perplexity is not finite."""
    values = [number(row, "degradation_percent") for row in rows]
    finite = [value if math.isfinite(value) else math.nan for value in values]
    ends = [_ends(row) or (math.nan, math.nan) for row in rows]
    lows, highs = zip(*ends, strict=True) if ends else ((), ())
    ax.plot(x, finite, marker="o", markersize=3, linewidth=1.5, zorder=4, **look)
    ax.fill_between(x, lows, highs, color=look["color"], alpha=0.12, linewidth=0, zorder=2)
    top = transforms.blended_transform_factory(ax.transData, ax.transAxes)
    lost = [each for each, value in zip(x, values, strict=True) if math.isinf(value)]
    cross = {"color": look["color"], "markeredgewidth": 2, "markersize": 7}
    ax.plot(lost, [0.97] * len(lost), "x", transform=top, **cross)


def _dose_legend(ax: Axes, trials: Trials, colours, paper) -> None:
    handles = []
    for name, colour in colours.items():
        count = len(_layers(trials, name))
        handles.append(Line2D([], [], color=colour, label=f"{set_label(name)} ({count} layers)"))
    words = {"scale": "all seven matrices", "scale_output": "o and down alone"}
    for strategy, dashes in SCALES.items():
        if any(method.strategy == strategy for method in trials.methods):
            line = {"color": style.INK, "linestyle": dashes}
            handles.append(Line2D([], [], **line, label=words[strategy]))
    if paper:
        mark = {"marker": "D", "linestyle": "", "color": style.PAPER, "markerfacecolor": "none"}
        handles.append(Line2D([], [], **mark, label="AH Table 4"))
    _legend(ax, handles, 6)


def _layers(trials: Trials, name: str) -> list[int]:
    found = (row for (_, other), row in trials.rows.items() if other == name)
    return list(next(found)["layers"])


def _legend(ax: Axes, handles: Sequence[Line2D], columns: int) -> None:
    """Above the panel, below its title."""
    above = {"loc": "lower left", "bbox_to_anchor": (-0.005, 1.0), "borderpad": 0.2}
    ax.legend(handles=handles, ncols=columns, columnspacing=1.6, handletextpad=0.6, **above)


def typical(trials: Trials) -> list[Method]:
    """The methods of the curves against the number of layers: few doses of each strategy."""
    methods = trials.measured_on(least_sets(trials).values())
    shown = []
    for method in methods:
        doses = [m.dose for m in methods if m.strategy == method.strategy]
        if method.strategy in SCALES:
            nearest = [min(doses, key=lambda dose: abs(dose - near)) for near in _SHOWN_ALPHAS]
        else:
            nearest = doses[:1]
        if method.dose in nearest and method.strategy != "perturb":
            shown.append(method)
    return shown


def _counts(ax: Axes, trials: Trials) -> None:
    sets, handles = least_sets(trials), []
    for index, method in enumerate(typical(trials)):
        points = {k: trials.value(method, name) for k, name in sets.items()}
        points = {k: value for k, value in points.items() if math.isfinite(value)}
        look = {"color": _STRATEGY_COLOURS.get(method.strategy, style.MUTED), "markersize": 4}
        look |= {"marker": _MARKERS[index % len(_MARKERS)], "linewidth": 1.3}
        handles += ax.plot(*_xy(points), label=method.label, **look)
    ax.axhline(0, color=style.INK, linewidth=0.8, zorder=1)
    ax.set_xticks(list(sets))
    ax.set_xlabel("number of layers changed, the least important first")
    ax.set_ylabel("change of perplexity (%)\nlinear within ±10 %, log beyond")
    ax.set_title(title(trials, "how many layers"))
    beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    order = sorted(handles, key=lambda line: -max(line.get_ydata(), default=0.0))
    ax.legend(handles=order, **beside)


def _compounded(trials: Trials, ax: Axes) -> None:
    counts, handles = random_sets(trials), []
    methods = trials.measured_on(counts)
    for colour, method in zip(dose_colours(len(methods)), methods, strict=True):
        dots = [(count, trials.value(method, name)) for name, count in counts.items()]
        dots = [(count, value) for count, value in dots if math.isfinite(value)]
        x, y = zip(*dots, strict=True) if dots else ((), ())
        ax.scatter(x, y, s=10, color=colour, alpha=0.5, linewidths=0, zorder=3)
        means = mean_by_count(trials, method)
        positive = {
            count: degradation_percent(mean) if mean > 0 else math.nan
            for count, mean in means.items()
        }
        look = {"color": colour, "marker": "o", "markersize": 3.5, "linewidth": 1.6}
        handles += ax.plot(*_xy(positive), label=method.label, **look)
        _at_lower_edge(ax, [count for count, mean in means.items() if mean <= 0], colour)
        one = mean_of_one(trials, method)
        if one > 0 and math.isfinite(one):
            additive = {"color": colour, "linewidth": 1.0, "linestyle": (0, (3, 3)), "zorder": 2}
            ax.plot(list(means), [degradation_percent(one * k) for k in means], **additive)
    ticks = sorted(set(counts.values()))
    ax.set_xscale("log")
    ax.set_yscale("log", nonpositive="mask")
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g} %")
    ax.yaxis.set_minor_formatter(lambda value, _: "")
    ax.grid(color=style.FAINT, linewidth=0.6)
    ax.set_xlabel("number of layers with noise (random orders, nested sets)")
    ax.set_ylabel("change of perplexity (%), log")
    ax.set_title(title(trials, "does a small error compound?"), pad=28)
    line = {"color": style.MUTED, "linestyle": (0, (3, 3)), "linewidth": 1.0}
    words = "if effects add up"
    _legend(ax, [*handles, Line2D([], [], **line, label=words)], 5)


def _at_lower_edge(ax: Axes, x: Sequence[float], colour: Any) -> None:
    """Open triangles: a mean that is not above 0, which a logarithmic axis cannot show."""
    edge = transforms.blended_transform_factory(ax.transData, ax.transAxes)
    mark = {"color": colour, "markerfacecolor": "none", "markersize": 6, "clip_on": False}
    marks = ax.plot(x, [0.02] * len(x), "v", transform=edge, **mark)
    # Outside the data, and often empty: the layout would make room for it anywhere.
    marks[0].set_in_layout(False)


def dose_colours(count: int) -> list:
    """As many colours, in the order of their lightness."""
    import matplotlib

    return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.86, max(count, 1))))[:count]


def _xy(points: Mapping[int, float]) -> tuple[list[int], list[float]]:
    return list(points), list(points.values())


def _ends(row: Row) -> tuple[float, float] | tuple[()]:
    return interval(row) or ()

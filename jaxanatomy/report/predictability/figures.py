"""Figures of the predictability experiment: rows in, matplotlib axes out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib import transforms
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from jaxanatomy import tree
from jaxanatomy.report import style
from jaxanatomy.report.cells import interval, number

Row = Mapping[str, Any]
NULL, ORDER = "#B9C1C9", "#8C6BB1"
READING_TITLES = {
    "extrapolate": "extrapolate: fit l < t, score t",
    "in_sample": "in_sample: fit l < t, score l < t",
    "target_included": "target_included: fit l ≤ t, score t",
    "sorted": "sorted: values sorted, extrapolated",
    "sorted_weak": "sorted_weak: sorted, penalty near 0",
    "statistics": "statistics: mean, deviation, quantiles",
}
ELEMENTWISE = ("extrapolate", "in_sample", "target_included")
STRATEGIES = {
    "predicted": ("#D4512C", "o", "predicted"),
    "zero": (style.PAPER, "s", "deleted"),
    "predicted_noise": (style.MUTED, "^", "noise as large as the error of the prediction"),
}
_SHIFT = {"predicted": -0.22, "zero": 0.0, "predicted_noise": 0.22}
_LINES = {
    "extrapolate": "#AE2320",
    "in_sample": "#1F5FA8",
    "target_included": "#3B8C5A",
    "sorted": "#C98A12",
}


def components_of(rows: Iterable[Row]) -> list[str]:
    """The components that the rows of the weights have, in the usual order."""
    found = {row.get("component") for row in rows}
    return [name for name in tree.MATRICES if name in found]


def mean_rows(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """The rows of means over targets by (component, reading)."""
    return {
        (row["component"], row["reading"]): row
        for row in rows
        if row.get("reading") in READING_TITLES and row.get("target") is None
    }


def readings(rows: Sequence[Row], paper: Mapping[str, Sequence[float]] | None = None):
    """Mean R2 over targets: a panel for each reading, components along x.

    Args:
      rows: Of a predictability run.
      paper: (average, best) of each component, as AH Table 2 has them, to show beside.

    Returns:
      The axes.
    """
    means, names = mean_rows(rows), components_of(rows)
    with style.styled():
        panels = style.new_figure(11.4, 5.6, rows=2, columns=3)
        for ax, (reading, title) in zip(panels, READING_TITLES.items(), strict=True):
            for x, name in enumerate(names):
                if (name, reading) in means:
                    _mean_mark(ax, x, means[name, reading])
                if paper and name in paper:
                    mark = {"marker": "D", "markerfacecolor": "none", "color": style.PAPER}
                    ax.plot(x - 0.34, paper[name][0], linestyle="", markersize=4.5, **mark)
            ax.set_title(title)
            ax.set_xticks(range(len(names)), [name.removesuffix("_proj") for name in names])
            ax.set_xlim(-0.7, len(names) - 0.3)
            ax.tick_params(axis="x", length=0)
            ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
            ax.axhline(0, color=style.INK, linewidth=0.7, zorder=1)
        for ax in (panels[0], panels[3]):
            ax.set_ylabel("R², mean over targets")
        _readings_legend(panels[0], bool(paper))
    return panels


def targets(rows: Sequence[Row]):
    """R2 by target layer: a panel for each component, a line for each reading.

    Args:
      rows: Of a predictability run.

    Returns:
      The axes.
    """
    names = components_of(rows)
    columns = min(4, len(names))
    with style.styled():
        lines = math.ceil(len(names) / columns)
        panels = style.new_figure(
            1.2 + 2.6 * columns, 0.7 + 2.2 * lines, rows=lines, columns=columns, sharey=True
        )
        for ax, name in zip(panels, names, strict=False):
            for reading, colour in _LINES.items():
                _target_line(ax, rows, name, reading, colour)
            ax.set_title(name)
            ax.axhline(0, color=style.INK, linewidth=0.7, zorder=1)
            ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
            ax.set_xlabel("target layer t")
        for ax in panels[len(names) :]:
            ax.set_axis_off()
        for ax in panels[::columns]:
            ax.set_ylabel("R²")
        handles = [
            Line2D([], [], color=colour, marker="o", linestyle="", markersize=4, label=reading)
            for reading, colour in _LINES.items()
        ]
        handles.append(Line2D([], [], color=style.INK, linewidth=0.9, label="Gaussian noise"))
        place = {"loc": "outside upper left", "ncols": len(handles)}
        panels[0].figure.legend(handles=handles, **place)
    return panels


def function_test(rows: Sequence[Row], text: str):
    """Perplexity with predicted layers against the same layers deleted or noised, on one text.

    Args:
      rows: Of a predictability run.
      text: The text's name.

    Returns:
      The axes: single layers, and sets of layers.
    """
    rows = [row for row in rows if row.get("reading") == "function" and row["text"] == text]
    baseline = next((row for row in rows if row["strategy"] == "none"), None)
    tested = sorted(
        (row for row in rows if row["set"]), key=lambda row: (len(row["layers"]), row["layers"])
    )
    named = {row["set"]: row["layers"] for row in tested}
    single = {name: layers[0] for name, layers in named.items() if len(layers) == 1}
    several = {name: x for x, name in enumerate(name for name in named if name not in single)}
    depth = 1 + max(single.values(), default=0)
    with style.styled():
        width = style.layers_width(depth)
        widths = [width, 1.2 + 0.6 * len(several)]
        panels = style.new_figure(sum(widths), 3.8, columns=2, width_ratios=widths)
        for ax, places in zip(panels, (single, several), strict=True):
            if baseline and baseline["ppl"]:
                ax.axhline(baseline["ppl"], color=style.INK, linewidth=0.9, zorder=1)
            for strategy in _tested(rows):
                shown = [r for r in rows if r["strategy"] == strategy and r["set"] in places]
                _losses(ax, shown, places, strategy, baseline)
            ax.set_yscale("log")
            ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
        style.layer_axis(panels[0], range(depth))
        panels[0].set_title(f"{text}, one layer")
        panels[0].set_ylabel("perplexity")
        panels[1].set_title("sets of layers")
        panels[1].set_xticks(list(several.values()), list(several), rotation=35, ha="right")
        panels[1].set_xlim(-0.7, len(several) - 0.3)
        _function_legend(panels[0], baseline, _tested(rows))
    return panels


def _tested(rows: Sequence[Row]) -> list[str]:
    """The strategies of the function test that were measured."""
    found = {row["strategy"] for row in rows}
    return [strategy for strategy in STRATEGIES if strategy in found]


def _mean_mark(ax: Axes, x: int, row: Row) -> None:
    """The weights' R2 on the noise's band, with the range of random orders beside it."""
    low, high = number(row, "null_low"), number(row, "null_high")
    if math.isfinite(low) and math.isfinite(high):
        band = Rectangle((x - 0.24, low), 0.48, high - low, facecolor=NULL, zorder=2)
        # An edge, because the band is often thinner than a pixel.
        band.set(edgecolor=NULL, linewidth=3.0, joinstyle="miter")
        ax.add_patch(band)
    ends = [number(row, "shuffled_low"), number(row, "shuffled_high")]
    if all(map(math.isfinite, ends)):
        ax.plot([x + 0.36] * 2, ends, color=ORDER, linewidth=2.2, solid_capstyle="butt", zorder=2)
    if math.isfinite(number(row, "r2")):
        ax.plot(x, row["r2"], "o", color=style.CROSS, markersize=4.2, zorder=4)


def _readings_legend(ax: Axes, paper: bool) -> None:
    handles = [
        Line2D([], [], color=style.CROSS, marker="o", linestyle="", markersize=4.2, label="weights")
    ]
    handles.append(Patch(facecolor=NULL, label="Gaussian noise of the same moments, 95 %"))
    handles.append(Line2D([], [], color=ORDER, linewidth=2.2, label="layers in random order, 95 %"))
    if paper:
        mark = {"marker": "D", "linestyle": "", "color": style.PAPER, "markerfacecolor": "none"}
        words = "paper (AH Table 2, average)"
        handles.append(Line2D([], [], **mark, markersize=4.5, label=words))
    ax.figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))


def _target_line(ax: Axes, rows: Sequence[Row], component: str, reading: str, colour: str) -> None:
    """Dots for the weights on a line for the noise."""
    found = [
        row
        for row in rows
        if (row.get("component"), row.get("reading")) == (component, reading)
        and row["target"] is not None
    ]
    layers = [row["target"] for row in found]
    for field, how in (
        ("null_r2", {"color": style.INK, "linewidth": 0.9, "zorder": 2}),
        ("r2", {"color": colour, "marker": "o", "linestyle": "", "markersize": 2.6, "zorder": 3}),
    ):
        values = [number(row, field) for row in found]
        ax.plot(layers, [v if math.isfinite(v) else math.nan for v in values], **how)


def _losses(
    ax: Axes,
    rows: Sequence[Row],
    places: Mapping[str, int],
    strategy: str,
    baseline: Row | None,
) -> None:
    """One strategy's perplexities with their intervals; crosses where not finite."""
    colour, marker, _ = STRATEGIES[strategy]
    top = transforms.blended_transform_factory(ax.transData, ax.transAxes)
    for row in rows:
        x, ppl, ends = places[row["set"]] + _SHIFT[strategy], number(row, "ppl"), interval(row)
        if not math.isfinite(ppl):
            ax.plot(x, 0.97, "x", color=colour, transform=top, markeredgewidth=2)
            continue
        if ends and baseline and baseline["ppl"]:
            limits = [baseline["ppl"] * (1 + end / 100) for end in ends]
            ax.plot([x, x], limits, color=colour, linewidth=1.0, alpha=0.7, zorder=2)
        mark = {"markersize": 4.6, "markeredgecolor": "white", "markeredgewidth": 0.5}
        ax.plot(x, ppl, marker, color=colour, zorder=3, **mark)


def _function_legend(ax: Axes, baseline: Row | None, strategies: Sequence[str]) -> None:
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=4.6, label=words)
        for colour, marker, words in (STRATEGIES[strategy] for strategy in strategies)
    ]
    handles.append(Line2D([], [], color=style.MUTED, linewidth=1.0, label="95 % interval"))
    if baseline and baseline["ppl"]:
        words = f"baseline {baseline['ppl']:.2f}"
        handles.append(Line2D([], [], color=style.INK, linewidth=0.9, label=words))
    ax.figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))

"""Figures of the recovery experiment: rows in, matplotlib axes out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxanatomy.measures.recovery import curves
from jaxanatomy.report import style

Row = Mapping[str, Any]
NOISED, CONTROL, SEEDS, BUDGET = "#D4512C", "#3B8C5A", "#B9C1C9", "#BFD3E6"
LEVEL = "#C9D0D6"
_COLUMNS = 6


def recovery_curves(rows: Sequence[Row], baseline_ppl: float, thresholds: Sequence[str]):
    """Perplexity over steps: a panel for each layer, with noise and without.

    Args:
      rows: Of a recovery run.
      baseline_ppl: Perplexity of the undamaged model.
      thresholds: Multiples of it, drawn as lines.

    Returns:
      The axes, by layer.
    """
    found = {key: curve for key, curve in curves(rows).items() if len(curve) > 1}
    layers = sorted({layer for layer, _ in found})
    columns = min(_COLUMNS, len(layers))
    lines = math.ceil(len(layers) / columns)
    with style.styled():
        panels = style.new_figure(
            *(1.0 + 1.85 * columns, 0.9 + 1.9 * lines),
            **{"rows": lines, "columns": columns, "sharex": True, "sharey": True},
        )
        for ax, layer in zip(panels, layers, strict=False):
            for threshold in thresholds:
                level = float(threshold) * baseline_ppl
                ax.axhline(level, color=LEVEL, linewidth=0.8, zorder=1)
            ax.axhline(baseline_ppl, color=style.INK, linewidth=0.8, zorder=1)
            for (own, seed), curve in found.items():
                if own == layer:
                    _curve(ax, curve, CONTROL if seed is None else NOISED)
            style.log_axis(ax, "y")
            ax.set_title(f"layer {layer}", fontsize=8.5)
            ax.minorticks_off()
        for ax in panels[len(layers) :]:
            ax.set_axis_off()
        for ax in panels[max(0, len(layers) - columns) : len(layers)]:
            ax.set_xlabel("step")
            ax.tick_params(labelbottom=True)
        for ax in panels[::columns]:
            ax.set_ylabel("perplexity")
        _legend(
            panels[0],
            _line(NOISED, "noise, then training of this layer"),
            _line(CONTROL, "the same training without noise"),
            _line(style.INK, f"undamaged, {baseline_ppl:.2f}"),
            _line(LEVEL, ", ".join(f"{value}×" for value in thresholds) + " of it"),
        )
    return panels


def gaps(by_layer: Mapping[int, Row]):
    """Gap of each layer to the same training without noise, with its spread over noise seeds.

    Args:
      by_layer: Of `measures.recovery.gaps_to_control`.

    Returns:
      The axes.
    """
    last = max(by_layer)
    with style.styled():
        (ax,) = style.new_figure(style.layers_width(last + 1), 2.8)
        ax.axhline(0, color=style.INK, linewidth=0.8, zorder=1)
        for layer, gap in by_layer.items():
            if gap["ci95"]:
                ax.plot([layer] * 2, gap["ci95"], color=LEVEL, linewidth=1, zorder=1)
            seeds = [gap["low"], gap["high"]]
            ax.plot([layer] * 2, seeds, color=NOISED, linewidth=4, alpha=0.35, zorder=2)
            ax.plot(layer, gap["mean"], "o", color=NOISED, markersize=4.5, zorder=3)
        # An interval of two seeds may be so wide that it would hide the rest.
        seeds = [0, *(gap[end] for gap in by_layer.values() for end in ("low", "high"))]
        margin = 0.15 * (max(seeds) - min(seeds)) or 1.0
        ax.set_ylim(min(seeds) - margin, max(seeds) + margin)
        ax.set_ylabel("gap (nats per token)")
        ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
        style.layer_axis(ax, range(last + 1))
        handles = [
            _mark(NOISED, "mean over noise seeds"),
            _line(LEVEL, "95 %, seeds and documents"),
            _line(style.INK, "recovered: the same training without noise"),
        ]
        _legend(ax, *handles)
    return ax


def damage_and_recovery(
    rows: Sequence[Row],
    finals: Sequence[Row],
    baseline_ppl: float,
    paper: Mapping[str, Sequence[float | None]] | None = None,
):
    """By layer: perplexity with noise, of all seeds, and after training.

    Args:
      rows: Of a recovery run.
      finals: Its final rows.
      baseline_ppl: Perplexity of the undamaged model.
      paper: The layers of AH Table 5, to show the noised perplexity beside.

    Returns:
      The axes.
    """
    start = {key: curve[0] for key, curve in curves(rows).items()}
    last = max(layer for layer, _ in start)
    with style.styled():
        (ax,) = style.new_figure(style.layers_width(last + 1), 3.6)
        ax.axhline(baseline_ppl, color=style.INK, linewidth=0.8, zorder=1)
        for (layer, seed), row in start.items():
            if seed is not None and row["ppl"]:
                ax.plot(layer - 0.12, row["ppl"], "o", color=SEEDS, markersize=4, zorder=2)
        for row in finals:
            if row["best_ppl"] is None:
                continue
            colour = NOISED if row["noise"] else CONTROL
            x = row["layer"] + (0.1 if row["noise"] else 0.3)
            ax.plot(x, row["best_ppl"], "o", color=colour, markersize=4, zorder=3)
        for layer, values in (paper or {}).items():
            mark = {"marker": "D", "markerfacecolor": "none", "color": style.PAPER}
            ax.plot(int(layer) - 0.35, values[0], linestyle="", markersize=4.5, **mark)
        style.log_axis(ax, "y")
        ax.set_ylabel("perplexity")
        ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
        style.layer_axis(ax, range(last + 1))
        words = [
            _mark(SEEDS, "with noise, each seed"),
            _mark(NOISED, "lowest after noise and training"),
            _mark(CONTROL, "lowest without noise"),
            _line(style.INK, f"undamaged, {baseline_ppl:.2f}"),
        ]
        if paper:
            words.append(
                Line2D(
                    *([], []),
                    **{"marker": "D", "linestyle": "", "markerfacecolor": "none"},
                    **{"color": style.PAPER, "markersize": 4.5},
                    label="with noise (AH Table 5)",
                )
            )
        _legend(ax, *words)
    return ax


def against_importance(finals: Sequence[Row], degradation: Mapping[int, float], threshold: str):
    """What noise does to a layer, and how long it takes to recover, against its importance.

    Args:
      finals: Final rows.
      degradation: Degradation in percent of each layer's neighbour mean.
      threshold: Which of `steps_to_control` to show.

    Returns:
      The axes: noised perplexity, and steps.
    """
    shown = [row for row in finals if row["noise"] and row["layer"] in degradation]
    longest = max((row["steps"] for row in shown), default=1)
    with style.styled():
        panels = style.new_figure(9.6, 3.8, columns=2)
        for row in shown:
            x = degradation[row["layer"]]
            if row["noised_ppl"] is not None:
                _labelled(panels[0], x, row["noised_ppl"], row["layer"])
            step = (row["steps_to_control"] or {}).get(threshold)
            _labelled(panels[1], x, 1.08 * longest if step is None else step, row["layer"])
        style.log_axis(panels[0], "y")
        panels[0].set_ylabel("perplexity with noise")
        panels[1].set_ylabel(f"steps to {threshold}× of no noise (top: never)")
        panels[1].set_ylim(-0.06 * longest, 1.2 * longest)
        for ax in panels:
            style.degradation_axis(ax, "x", list(degradation.values()))
            ax.tick_params(axis="x", labelrotation=30)
            ax.set_xlabel("degradation with the neighbour mean")
    return panels


def budgets(shares: Mapping[int, float], groups: Sequence[Row]):
    """R(l) from recovery for each layer, over the range that the paper gives it.

    Args:
      shares: R(l) by layer.
      groups: Of AH Table 10; none for another model.

    Returns:
      The axes.
    """
    last = max(shares)
    with style.styled():
        (ax,) = style.new_figure(style.layers_width(last + 1), 2.8)
        for group in groups:
            for layer in group["layers"]:
                height = max(group["high"] - group["low"], 0.015)
                ax.bar(layer, height, 0.8, bottom=group["low"], color=BUDGET, zorder=2)
        for layer, share in shares.items():
            ax.plot(layer, share, "o", color=NOISED, markersize=5, zorder=3)
        ax.set_ylabel("share of the steps, R(l)")
        ax.set_ylim(-0.06, 1.1)
        ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
        style.layer_axis(ax, range(last + 1))
        handles = [_mark(NOISED, "from recovery, measured")]
        if groups:
            handles.append(Patch(facecolor=BUDGET, label="AH Table 10"))
        _legend(ax, *handles)
    return ax


def _curve(ax: Axes, curve: Sequence[Row], colour: str) -> None:
    known = [row for row in curve if row["ppl"] is not None]
    steps, values = [row["step"] for row in known], [row["ppl"] for row in known]
    ax.plot(steps, values, color=colour, linewidth=1.3, zorder=3)
    if len(known) < len(curve) and known:
        ax.plot(steps[-1], values[-1], "x", color=style.CROSS, markeredgewidth=2, zorder=4)


def _labelled(ax: Axes, x: float, y: float, layer: int) -> None:
    ax.plot(x, y, "o", color=NOISED, markersize=4, zorder=3)
    place = {"xytext": (3, 3), "textcoords": "offset points", "fontsize": 6.5}
    ax.annotate(str(layer), (x, y), color=style.MUTED, **place)


def _line(colour: str, words: str) -> Line2D:
    return Line2D([], [], color=colour, linewidth=1.3, label=words)


def _mark(colour: str, words: str) -> Line2D:
    return Line2D([], [], color=colour, marker="o", linestyle="", markersize=4, label=words)


def _legend(ax: Axes, *handles) -> None:
    ax.figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))

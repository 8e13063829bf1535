"""Figures of the developmental experiment: loss against steps, FLOPs and seconds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxanatomy.measures.tuning import CURVE, of_purpose
from jaxanatomy.report import style

Row = Mapping[str, Any]
COLOURS = {
    "uniform_100": "#1B2026",
    "growth_50": "#F0A23B",
    "growth_100": "#AE2320",
    "clone_init_uniform": "#1F5FA8",
    "uniform_restarts": "#6B4E9B",
    "shuffled_phases": "#7FA9D2",
    "reversed_phases": "#4E9DB3",
    "core_first_phases": "#9BBF85",
    "core_third_phases": "#C98BB9",
    "equal_flops": "#8A939C",
    "core_alone": "#5B8C5A",
}
_AXES: tuple[tuple[str, float, str], ...] = (
    ("step", 1.0, "steps"),
    ("flops", 1e12, "TFLOP of matrix products"),
    ("seconds", 1.0, "seconds of training for one seed, on this machine"),
)


def curves(rows: Iterable[Row], arms: Sequence[str]) -> style.Panels:
    """Validation loss against steps, FLOPs and seconds: means and ranges over seeds.

    Args:
      rows: Of a developmental run.
      arms: Which to draw, in the order of the legend.
    """
    found = of_purpose(rows, CURVE)
    with style.styled():
        panels = style.new_figure(10.4, 4.2, 1, len(_AXES), sharey=True)
        for ax, (field, unit, label) in zip(panels, _AXES, strict=True):
            for arm in arms:
                _curve(ax, found, arm, "eval_nll", lambda row, f=field, u=unit: row[f] / u)
            ax.set_xlabel(label)
            ax.set_xlim(left=0)
            ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
        panels[0].set_ylabel("validation loss (nats per token)")
        _mark_phases(panels[0], found)
        _limit(panels[0], found)
        handles = [Line2D([], [], color=_colour(arm), linewidth=2, label=arm) for arm in arms]
        columns = -(-len(handles) // -(-len(handles) // 7))  # rows as long as each other
        panels[0].figure.legend(
            handles=handles, loc="outside upper left", ncols=columns, borderpad=0.2
        )
    return panels


def training_curves(rows: Iterable[Row], arms: Sequence[str]) -> style.Panels:
    """Training and validation loss of each arm against steps: where it overfits."""
    found = of_purpose(rows, CURVE)
    columns = min(3, len(arms))
    lines = -(-len(arms) // columns)
    with style.styled():
        panels = style.new_figure(10.4, 0.5 + 2.5 * lines, lines, columns, sharey=True)
        for ax, arm in zip(panels, arms, strict=False):
            _curve(ax, found, arm, "eval_nll", lambda row: row["step"])
            _curve(ax, found, arm, "loss", lambda row: row["step"], linestyle=":")
            ax.set_title(arm)
            ax.set_xlabel("steps")
            ax.set_xlim(left=0)
            ax.tick_params(labelleft=True)
            ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
        for ax in panels[len(arms) :]:
            ax.set_axis_off()
        for ax in panels[::columns]:
            ax.set_ylabel("nats per token")
        handles = [
            Line2D([], [], color=style.INK, label="validation"),
            Line2D([], [], color=style.INK, linestyle=":", label="training, mean since last point"),
        ]
        panels[0].figure.legend(handles=handles, loc="outside upper left", ncols=2, borderpad=0.2)
    return panels


def _curve(
    ax: Axes,
    rows: Sequence[Row],
    arm: str,
    field: str,
    place: Callable[[Row], float],
    linestyle: str = "-",
) -> None:
    """Mean and range over seeds; points at which a seed has no value are left out."""
    seeds: dict[int, list[Row]] = {}
    for row in rows:
        if row["arm"] == arm and row[field] is not None:
            seeds.setdefault(row["seed"], []).append(row)
    most = max(map(len, seeds.values()), default=0)
    complete = [each for each in seeds.values() if len(each) == most]
    if not most:
        return
    x_E = np.mean([[place(row) for row in each] for each in complete], axis=0)
    y_ME = np.array([[row[field] for row in each] for each in complete])
    colour = _colour(arm)
    ax.fill_between(x_E, y_ME.min(0), y_ME.max(0), color=colour, alpha=0.15, linewidth=0)
    ax.plot(x_E, y_ME.mean(0), color=colour, linewidth=1.4, linestyle=linestyle)


def _mark_phases(ax: Axes, rows: Sequence[Row]) -> None:
    """Where growth_100 enters each phase."""
    starts: dict[str, int] = {}
    for row in rows:
        if row["arm"] == "growth_100":
            starts.setdefault(row["stage"], row["step"])
    for number, (stage, step) in enumerate(starts.items(), start=1):
        ax.axvline(step, color=style.MUTED, linewidth=0.6, linestyle="--", zorder=0)
        ax.text(
            step,
            0.985,
            f" {number} {stage}",
            transform=ax.get_xaxis_transform(),
            rotation=90,
            va="top",
            fontsize=6,
            color=style.MUTED,
        )


def _limit(ax: Axes, rows: Sequence[Row]) -> None:
    """Leaves the first, untrained losses above the frame."""
    values = [row["eval_nll"] for row in rows if row["eval_nll"] is not None and row["step"]]
    if values:
        ax.set_ylim(0, 1.35 * float(np.percentile(values, 90)))


def _colour(arm: str) -> str:
    return COLOURS.get(arm, style.PAPER)

"""Figures of depth growth: loss against steps, FLOPs and seconds; every step; primitives."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxanatomy.growth.depth_arms import BASELINE, EQUAL_FLOPS, LN_SCALING, MEAN_DEPTH, SHALLOW
from jaxanatomy.measures.depth_growth import guessing, stopped
from jaxanatomy.measures.tuning import CURVE, of_purpose
from jaxanatomy.report import style

Row = Mapping[str, Any]
# By operator; then by LN-scaling, and equal FLOPs.
COLOURS = {
    "": "#1B2026",
    SHALLOW: "#9AA3AD",
    MEAN_DEPTH: "#C2855A",
    "midas": "#AE2320",
    "lidas": "#1F5FA8",
    "stack_top": "#5B8C5A",
    "stack_last": "#8A6FB0",
    "insert_zero": "#F0A23B",
}
_STYLES = {(False, False): "-", (True, False): "--", (False, True): ":", (True, True): "-."}
_CHANCE = {"color": style.MUTED, "linewidth": 1}
_GUESSING = {**_CHANCE, "linestyle": ":"}
_AXES = (
    ("step", 1.0, "steps"),
    ("tokens", 1e6, "million tokens"),
    ("flops", 1e12, "TFLOP of matrix products"),
    ("seconds", 1.0, "seconds of training for one seed"),
)
_TRAINING = (
    ("loss", 1.0, "training loss (nats per token)"),
    ("gradient_norm", 1.0, "gradient norm before clipping"),
    ("learning_rate", 1.0, "learning rate"),
    ("tokens_per_second", 1e3, "thousand tokens per second"),
)


def curves(rows: Iterable[Row], arms: Sequence[str]) -> style.Panels:
    """Held-out loss against steps, tokens, FLOPs and seconds: means and ranges over seeds.

    A mark stands where a model has just grown. A seed that has diverged is in no line.

    Args:
      rows: Of a run.
      arms: Which to draw, in the order of the legend.
    """
    found = of_purpose(rows, CURVE)
    lost = stopped(found)
    found = [
        row
        for row in found
        if (row["arm"], row["seed"]) not in lost and row["eval_nll"] is not None
    ]
    with style.styled():
        panels = style.new_figure(11.0, 4.2, 1, len(_AXES), sharey=True)
        for ax, (field, unit, label) in zip(panels, _AXES, strict=True):
            for arm in arms:
                _curve(ax, [row for row in found if row["arm"] == arm], arm, field, unit)
            ax.set_xlabel(label)
            ax.set_xlim(left=0)
            ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
        panels[0].set_ylabel("held-out loss (nats per token)")
        last = [row["eval_nll"] for row in found if row["step"]]
        if last:
            panels[0].set_ylim(0.97 * min(last), 1.05 * float(np.percentile(last, 92)))
        _legend(panels, arms)
    return panels


def training(lines: Iterable[Row], arms: Sequence[str]) -> style.Panels:
    """Loss, gradient norm, learning rate and tokens per second of every step, means over seeds.

    A mark stands where a model has just grown. A seed that has diverged is in no line.

    Args:
      lines: Of `train.metrics.read_metrics`; a hundredth of the steps is drawn as one.
      arms: Which to draw, in the order of the legend.
    """
    by_arm: dict[str, dict[int, list[Row]]] = {arm: {} for arm in arms}
    for line in lines:
        if line["arm"] in by_arm:
            by_arm[line["arm"]].setdefault(line["seed"], []).append(line)
    with style.styled():
        panels = style.new_figure(11.0, 3.6, 1, len(_TRAINING))
        for arm, seeds in by_arm.items():
            for ax, (field, unit, _) in zip(panels, _TRAINING, strict=True):
                _steps(ax, [own for own in seeds.values() if _lives(own)], arm, field, unit)
        for ax, (_, _, label) in zip(panels, _TRAINING, strict=True):
            ax.set_xlabel("steps")
            ax.set_ylabel(label)
            ax.set_xlim(left=0)
            ax.grid(axis="y", color=style.FAINT, linewidth=0.6)
        for ax in panels[1:]:
            ax.set_ylim(bottom=0)
        _legend(panels, arms)
    return panels


def primitives(finals: Sequence[Row], arms: Sequence[str]) -> style.Panels:
    """Accuracy of each reasoning primitive, a point for each seed, beside chance and guessing."""
    tasks = list(finals[0]["accuracy_by_task"])
    with style.styled():
        row = max(0.34, 0.07 * len(arms))  # inches; points of one arm clear those of the next
        panels = style.new_figure(9.0, 1.1 + row * len(tasks))
        ax = panels[0]
        for place, task in enumerate(tasks):
            chance = finals[0]["accuracy_by_task"][task]["chance"]
            for level, look in ((guessing(task, chance), _GUESSING), (chance, _CHANCE)):
                ax.plot([level] * 2, [place - 0.4, place + 0.4], **look)
            for at, arm in enumerate(arms):
                found = [row["accuracy_by_task"][task] for row in finals if row["arm"] == arm]
                values = [each["accuracy"] for each in found if each["accuracy"] is not None]
                y = place + 0.7 * ((at + 0.5) / len(arms) - 0.5)
                ax.plot(values, [y] * len(values), clip_on=False, **_point(arm))
        ax.set_yticks(range(len(tasks)), tasks)
        ax.invert_yaxis()
        ax.set_xlim(0, 1)
        ax.set_xlabel("share of questions answered")
        handles = [Line2D([], [], label=arm, **_point(arm)) for arm in arms]
        handles.append(Line2D([], [], label="chance", **_CHANCE))
        handles.append(Line2D([], [], label="guessing at best", **_GUESSING))
        _place_legend(panels, handles)
    return panels


def _curve(ax: Axes, rows: Sequence[Row], arm: str, field: str, unit: float) -> None:
    seeds: dict[int, list[Row]] = {}
    for row in rows:
        seeds.setdefault(row["seed"], []).append(row)
    most = max(map(len, seeds.values()), default=0)
    complete = [each for each in seeds.values() if len(each) == most]
    if not most:
        return
    x_E = np.mean([[row[field] / unit for row in each] for each in complete], axis=0)
    y_ME = np.array([[row["eval_nll"] for row in each] for each in complete])
    line = _line(arm)
    ax.fill_between(x_E, y_ME.min(0), y_ME.max(0), color=line["color"], alpha=0.12, linewidth=0)
    ax.plot(x_E, y_ME.mean(0), linewidth=1.4, **line)
    stages = [row["stage"] for row in complete[0]]
    grown = [at for at in range(1, most) if stages[at] != stages[at - 1]]
    ax.plot(x_E[grown], y_ME.mean(0)[grown], "o", markersize=3, color=line["color"])


def _lives(lines: Sequence[Row]) -> bool:
    """Whether a seed has not diverged; its loss may stay finite where its gradient did not."""
    # Not by the reason of a line, which also says why there is no MFU.
    return all(None not in (line["loss"], line["gradient_norm"]) for line in lines)


def _steps(ax: Axes, seeds: Sequence[Sequence[Row]], arm: str, field: str, unit: float) -> None:
    most = max(map(len, seeds), default=0)
    complete = [each for each in seeds if len(each) == most]
    if not complete:
        return
    first = complete[0]
    y_E = np.mean([[line[field] / unit for line in each] for each in complete], axis=0)
    starts = np.arange(0, most, max(1, most // 100))
    x_P = [first[at]["step"] for at in starts]
    y_P = np.add.reduceat(y_E, starts) / np.diff([*starts, most])
    line = _line(arm)
    ax.plot(x_P, y_P, linewidth=1.2, **line)
    grown = [at for at in range(1, most) if first[at]["stage"] != first[at - 1]["stage"]]
    x_G = [first[at]["step"] for at in grown]
    ax.plot(x_G, np.interp(x_G, x_P, y_P), "o", markersize=3, color=line["color"])


def _legend(panels: style.Panels, arms: Sequence[str]) -> None:
    handles = [Line2D([], [], label=arm, linewidth=1.6, **_line(arm)) for arm in arms]
    handles.append(
        Line2D([], [], color=style.MUTED, marker="o", markersize=3, linewidth=0, label="grown")
    )
    _place_legend(panels, handles)


def _place_legend(panels: style.Panels, handles: Sequence[Line2D]) -> None:
    columns = -(-len(handles) // -(-len(handles) // 6))  # rows as long as each other
    panels[0].figure.legend(handles=handles, loc="outside upper left", ncols=columns, borderpad=0.2)


def _point(arm: str) -> dict[str, Any]:
    """Of one seed: hollow with LN-scaling, a diamond at equal FLOPs."""
    return {
        "color": _line(arm)["color"],
        "marker": "D" if arm.endswith(EQUAL_FLOPS) else "o",
        "fillstyle": "none" if arm.startswith(LN_SCALING) else "full",
        "markersize": 3,
        "linestyle": "none",
    }


def _line(arm: str) -> dict[str, str]:
    kind = arm.startswith(LN_SCALING), arm.endswith(EQUAL_FLOPS)
    operator = arm.removesuffix(EQUAL_FLOPS).removeprefix(LN_SCALING).removeprefix("_")
    operator = "" if operator == BASELINE else operator
    return {"color": COLOURS.get(operator, style.MUTED), "linestyle": _STYLES[kind]}

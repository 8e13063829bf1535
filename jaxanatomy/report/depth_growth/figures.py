"""Figures of depth growth: held-out loss against steps, FLOPs and seconds; primitives."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxanatomy.measures.depth_growth import CURVE
from jaxanatomy.report import style

Row = Mapping[str, Any]
# By operator; an arm with LN-scaling is dashed, one of equal FLOPs dotted.
COLOURS = {"midas": "#AE2320", "lidas": "#1F5FA8", "": "#1B2026"}
_OTHER = "#5B8C5A"
_AXES = (
    ("step", 1.0, "steps"),
    ("tokens", 1e6, "million tokens"),
    ("flops", 1e12, "TFLOP of matrix products"),
    ("seconds", 1.0, "seconds of training for one seed"),
)


def curves(rows: Iterable[Row], arms: Sequence[str]) -> style.Panels:
    """Held-out loss against steps, tokens, FLOPs and seconds: means and ranges over seeds.

    A mark stands where a model has just grown.

    Args:
      rows: Of a run.
      arms: Which to draw, in the order of the legend.
    """
    found = [row for row in rows if row.get("kind") == CURVE and row["eval_nll"] is not None]
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
        handles = [Line2D([], [], label=arm, linewidth=1.6, **_line(arm)) for arm in arms]
        handles.append(
            Line2D([], [], color=style.MUTED, marker="o", markersize=3, linewidth=0, label="grown")
        )
        panels[0].figure.legend(
            handles=handles, loc="outside upper left", ncols=min(5, len(handles)), borderpad=0.2
        )
    return panels


def primitives(finals: Sequence[Row], arms: Sequence[str]) -> style.Panels:
    """Accuracy of each reasoning primitive, a point for each seed, beside chance."""
    tasks = list(finals[0]["accuracy_by_task"])
    with style.styled():
        panels = style.new_figure(9.0, 0.9 + 0.34 * len(tasks))
        ax = panels[0]
        for place, task in enumerate(tasks):
            chance = finals[0]["accuracy_by_task"][task]["chance"]
            ax.plot([chance] * 2, [place - 0.4, place + 0.4], color=style.MUTED, linewidth=1)
            for at, arm in enumerate(arms):
                values = [
                    row["accuracy_by_task"][task]["accuracy"] for row in finals if row["arm"] == arm
                ]
                y = place + 0.7 * ((at + 0.5) / len(arms) - 0.5)
                ax.plot(
                    *(values, [y] * len(values)),
                    marker="o",
                    markersize=3,
                    linestyle="none",
                    color=_line(arm)["color"],
                    fillstyle="full" if _line(arm)["linestyle"] == "-" else "none",
                )
        ax.set_yticks(range(len(tasks)), tasks)
        ax.invert_yaxis()
        ax.set_xlim(0, 1)
        ax.set_xlabel("share of questions answered; grey: chance")
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


def _line(arm: str) -> dict[str, str]:
    equal = arm.endswith("_equal_flops")
    scaled = arm.startswith("ln_scaling")
    name = arm.removesuffix("_equal_flops").removeprefix("ln_scaling").removeprefix("_")
    name = "" if name == "baseline" else name
    return {
        "color": COLOURS.get(name, _OTHER),
        "linestyle": ":" if equal else "--" if scaled else "-",
    }

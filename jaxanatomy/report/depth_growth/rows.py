"""The tidy rows of depth growth: what its tables and figures are made of."""

from collections.abc import Collection
from typing import Any

import numpy as np

from jaxanatomy.data.corpora import TASKS
from jaxanatomy.growth.depth_arms import shallow_beside
from jaxanatomy.measures.arms.depth_growth import summarise
from jaxanatomy.measures.arms.tuning import FINAL, of_purpose
from jaxanatomy.measures.guessing import guessing
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report.arms import arm_order, cost_fields, looks
from jaxanatomy.report.common import (
    complete,
    estimate,
    flat,
    flattened,
    once,
)
from jaxanatomy.report.views import Row
from jaxanatomy.train.metrics import read_metrics

TRAINING = ("loss", "gradient_norm", "learning_rate", "tokens_per_second")


@once
def summary(record: RunRecord) -> dict[str, Any]:
    """What `measures.depth_growth.summarise` has of a run."""
    return summarise(record.rows)


def arms(record: RunRecord) -> list[Row]:
    """What each arm comes to: means over seeds, differences from the baseline, costs."""
    rows = []
    for name, arm in summary(record)["arms"].items():
        row = {**cost_fields(name, arm), "level": summary(record)["level"]}
        tasks = arm["accuracy_by_task"].items()
        guessed = [guessing(task, each["chance"]) for task, each in tasks]
        row |= {"chance": arm["chance"], "guessing": float(np.mean(guessed))}
        rows.append(row | _measured(arm))
    return rows


def beside_shallow(record: RunRecord) -> list[Row]:
    """What grown arms lose less than the one that never has more layers than at their start."""
    level = summary(record)["level"]
    return [
        {"arm": name, "control": shallow_beside(name), "level": level} | _measured(arm)
        for name, arm in summary(record)["arms"].items()
        if arm["eval_nll"]["less_shallow"]
    ]


def _measured(arm: Row) -> Row:
    """Loss and accuracy of an arm, and what they are less those of others."""
    return flattened({measure: arm[measure] for measure in ("eval_nll", "accuracy")})


def training(record: RunRecord) -> list[Row]:
    """Every step of each arm: means over living seeds, and over each hundredth of the steps."""
    lines = read_metrics(record.folder)
    # Not by the reason of a line, which also says why there is no MFU.
    broken = {
        (line["arm"], line["seed"])
        for line in lines
        if None in (line["loss"], line["gradient_norm"])
    }
    lines = [line for line in lines if (line["arm"], line["seed"]) not in broken]
    found = []
    for arm in arm_order(lines):
        seeds = complete(line for line in lines if line["arm"] == arm)
        stages = np.array([line["stage"] for line in seeds[0]])
        grown = np.flatnonzero(np.diff(stages)) + 1
        starts = np.union1d(np.arange(0, len(stages), max(1, len(stages) // 100)), grown)
        for start, end in zip(starts, [*starts[1:], len(stages)], strict=True):
            steps = [line for own in seeds for line in own[start:end]]
            found.append(
                {"step": seeds[0][start]["step"], "grown": bool(start in grown)}
                | {field: _mean(steps, field) for field in TRAINING}
                | looks(arm)
            )
    return found


def answers(record: RunRecord) -> list[Row]:
    """Chance and guessing at each task, and what each seed answers, in a field for its look.

    Points of an arm stand off their place by `spread`, in parts of a row.
    """
    finals = of_purpose(record.rows, FINAL)
    order = arm_order(finals)
    found: list[Row] = [
        {"task": row["task"]}
        # A stroke across the row: no interval, a level of its own.
        | {name: Estimate(row[name], row[name], row[name]) for name in ("chance", "guessing")}
        for row in answered(record)
    ]
    for row in finals:
        look = looks(row["arm"])
        spread = 0.7 * ((order.index(row["arm"]) + 0.5) / len(order) - 0.5)
        for task, own in row["accuracy_by_task"].items():
            if own["accuracy"] is not None:
                share = {look["look"]: own["accuracy"], "spread": spread}
                found.append({"task": task, **look, **share})
    return found


def answered(record: RunRecord) -> list[Row]:
    """How well each arm answers each task, beside chance and what guessing reaches.

    By arm `mean.ARM` with its interval; `above.ARM` is "better" where the whole interval lies
    above guessing, "minor" where it lies above chance alone.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, arm in summary(record)["arms"].items():
        for task, own in arm["accuracy_by_task"].items():
            chance, guessed = own["chance"], guessing(task, own["chance"])
            row = {"task": task, "questions": own["questions"], "chance": chance}
            row = rows.setdefault(task, row | {"guessing": guessed})
            if own["mean"] is not None:
                low = own["ci95"][0]
                side = "better" if low > guessed else "minor" if low > chance else ""
                found = estimate(own["mean"], own["ci95"])
                row |= {f"mean.{name}": found, f"above.{name}": side}
    order = {task: at for at, task in enumerate(TASKS)}
    return sorted(rows.values(), key=lambda row: order.get(row["task"], len(order)))


def sources(record: RunRecord) -> list[Row]:
    """The held-out loss of each arm by source of the mixture, mean over living seeds."""
    finals = of_purpose(record.rows, FINAL)
    found = []
    for arm in arm_order(finals):
        own = [row["eval_nll_by_source"] for row in finals if row["arm"] == arm]
        known_of = {name: [each[name] for each in own if each[name] is not None] for name in own[0]}
        means = {name: float(np.mean(each)) for name, each in known_of.items() if each}
        found.append({"arm": arm, **flat({"loss": means}, "loss")})
    return found


def _mean(rows: Collection[Row], field: str) -> float:
    return float(np.mean([row[field] for row in rows]))

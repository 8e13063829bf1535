"""The tidy rows of depth growth: what its tables and figures are made of."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.growth.depth_arms import (
    ARMS,
    BASELINE,
    EQUAL_FLOPS,
    LN_SCALING,
)
from jaxanatomy.measures.depth_growth import TUNED_BY, guessing, stopped, summarise
from jaxanatomy.measures.tuning import CURVE, FINAL, of_purpose
from jaxanatomy.records import RunRecord
from jaxanatomy.report.common import flat, known, tuned, with_ends
from jaxanatomy.report.views import Row
from jaxanatomy.train.metrics import read_metrics

MEASURES = {"eval_nll": "loss", "accuracy": "accuracy"}
COSTS = (
    *("learning_rate", "steps", "tokens", "flops", "seconds", "tokens_per_second", "mfu"),
    "chance",
)
TRAINING = ("loss", "gradient_norm", "learning_rate", "tokens_per_second")
PLAIN, SCALED, EQUAL, BOTH = "plain", "LN-scaling", "equal FLOPs", "LN-scaling, equal FLOPs"


def looks(arm: str) -> Row:
    """What tells an arm's lines and points from others': its colour, and its line style."""
    kinds = {(False, False): PLAIN, (True, False): SCALED, (False, True): EQUAL, (True, True): BOTH}
    look = kinds[arm.startswith(LN_SCALING), arm.endswith(EQUAL_FLOPS)]
    operator = arm.removesuffix(EQUAL_FLOPS).removeprefix(LN_SCALING).removeprefix("_")
    return {"arm": arm, "operator": operator or BASELINE, "look": look}


def arms(record: RunRecord) -> list[Row]:
    """What each arm comes to: means over seeds, differences from the baseline, costs."""
    found = summarise(record.rows)
    rows = []
    for name, arm in found["arms"].items():
        row = {"arm": name, "level": found["level"], "mfu": "not known"}
        row |= known({field: arm[field] for field in COSTS})
        row["kept"] = len(arm["seeds"]) - len(arm["diverged"])
        for field, short in MEASURES.items():
            own = {short: arm[field]["mean"], "ci95": arm[field]["ci95"]}
            row |= with_ends(known(own), names=(f"{short}_low", f"{short}_high"))
            row |= _less(short, arm[field]["less_baseline"])
        rows.append(row)
    return rows


def beside_shallow(record: RunRecord) -> list[Row]:
    """What grown arms lose less than the one that never has more layers than at their start."""
    found = summarise(record.rows)
    return [
        {"arm": name, "level": found["level"]}
        | _less("loss", arm["eval_nll"]["less_shallow"])
        | _less("accuracy", arm["accuracy"]["less_shallow"])
        for name, arm in found["arms"].items()
        if arm["eval_nll"]["less_shallow"]
    ]


def meaning(record: RunRecord) -> list[Row]:
    """What each arm is."""
    more = "; as many steps as the baseline's FLOPs buy"
    return [
        {"arm": arm, "what": ARMS[base] + (more if base != arm else "")}
        for arm in arm_order(of_purpose(record.rows, CURVE))
        for base in [arm.removesuffix(EQUAL_FLOPS)]
    ]


def curves(record: RunRecord) -> list[Row]:
    """The held-out loss of each arm along its way: means and ranges over living seeds."""
    lost = stopped(record.rows)
    rows = [
        row
        for row in of_purpose(record.rows, CURVE)
        if (row["arm"], row["seed"]) not in lost and row["eval_nll"] is not None
    ]
    found = []
    for arm in arm_order(rows):
        seeds = _complete(row for row in rows if row["arm"] == arm)
        for at, first in enumerate(seeds[0]):
            points = [own[at] for own in seeds]
            losses = [point["eval_nll"] for point in points]
            found.append(
                {field: _mean(points, field) for field in ("step", "tokens", "flops", "seconds")}
                | {"loss": float(np.mean(losses)), "low": min(losses), "high": max(losses)}
                | {"grown": at > 0 and first["stage"] != seeds[0][at - 1]["stage"]}
                | looks(arm)
            )
    return found


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
        seeds = _complete(line for line in lines if line["arm"] == arm)
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
    """Chance and guessing at each primitive, and what each seed answers, in a field for its look.

    Points of an arm stand off their place by `spread`, in parts of a row.
    """
    finals = of_purpose(record.rows, FINAL)
    order = arm_order(finals)
    found = [
        {field: row[field] for field in ("task", "chance", "guessing")}
        for row in primitives(record)
    ]
    for row in finals:
        look = looks(row["arm"])
        spread = 0.7 * ((order.index(row["arm"]) + 0.5) / len(order) - 0.5)
        for task, own in row["accuracy_by_task"].items():
            if own["accuracy"] is not None:
                found.append(
                    {"task": task, **look, look["look"]: own["accuracy"], "spread": spread}
                )
    return found


def primitives(record: RunRecord) -> list[Row]:
    """How well each arm answers each primitive, beside chance and what guessing reaches.

    By arm `mean.ARM` with its interval; `above.ARM` is "better" where the whole interval lies
    above guessing, "minor" where it lies above chance alone.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, arm in summarise(record.rows)["arms"].items():
        for task, own in arm["accuracy_by_task"].items():
            chance, guessed = own["chance"], guessing(task, own["chance"])
            row = {"task": task, "questions": own["questions"], "chance": chance}
            row = rows.setdefault(task, row | {"guessing": guessed})
            if own["mean"] is not None:
                low, high = own["ci95"]
                side = "better" if low > guessed else "minor" if low > chance else ""
                row |= {f"mean.{name}": own["mean"], f"above.{name}": side}
                row |= {f"low.{name}": low, f"high.{name}": high}
    order = {task: at for at, task in enumerate(PRIMITIVES)}
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


def rates(record: RunRecord) -> list[Row]:
    """The loss of each learning rate that was tried."""
    found = summarise(record.rows)["arms"]
    taken = {name: arm["learning_rate"] for name, arm in found.items()}
    at_edge = [name for name, arm in found.items() if arm["rate_at_edge"]]
    return tuned(record.rows, TUNED_BY, taken, at_edge)


def arm_order(rows: Iterable[Row]) -> list[str]:
    """The arms of some rows, in their order."""
    return list(dict.fromkeys(row["arm"] for row in rows))


def _mean(rows: Collection[Row], field: str) -> float:
    return float(np.mean([row[field] for row in rows]))


def _complete(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each seed that has come as far as any."""
    seeds: dict[int, list[Row]] = {}
    for row in rows:
        seeds.setdefault(row["seed"], []).append(row)
    most = max(map(len, seeds.values()))
    return [own for own in seeds.values() if len(own) == most]


def _less(short: str, found: Mapping[str, Any] | None) -> Row:
    """A difference and its interval as fields; none for what is compared with itself."""
    fields = {"mean": f"{short}_less", "low": f"{short}_less_low", "high": f"{short}_less_high"}
    return known({name: found[key] for key, name in fields.items()}) if found else {}

"""Summary of growth on tasks where depth matters: losses of arms against each other, and by hop."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.growth.depth_arms import Arm, comparisons
from jaxanatomy.measures.arms.computed_depth import summarise_depth
from jaxanatomy.measures.arms.depth_edits import summarise_edits, summarise_loops
from jaxanatomy.measures.arms.finals import (
    Finals,
    Losses,
    account,
    difference_fields,
    family_level,
    finals_by_arm,
    living,
    seed_range,
)
from jaxanatomy.measures.arms.tuning import losses_by_rate
from jaxanatomy.records import Row

TUNED_BY = "eval_nll"
# At the last hop; two arms that both answer more than this share differ in nothing but how sure
# they are.
SATURATED = 0.99
BUDGETS = {"": "equal steps", "flops": "equal FLOPs", "seconds": "equal seconds"}


def is_flat(arm: str) -> bool:
    """Whether an arm has one depth from the first step to the last, at equal steps, unscaled."""
    parsed = Arm.parse(arm)
    return not (parsed.grows or parsed.equal or parsed.ln_scaling)


def is_saturated(finals: Iterable[Row]) -> bool:
    """Whether an arm's living seeds answer nearly everything at the last hop, on average."""
    last = [row["accuracy_by_hop"][-1] for row in finals]
    return bool(last) and float(np.mean(last)) > SATURATED


def accuracies(by_arm: Finals) -> dict[str, dict[int, float]]:
    """The accuracy, the mean over hops, by arm and seed."""
    return {
        arm: {seed: row["accuracy"] for seed, row in living(seeds).items()}
        for arm, seeds in by_arm.items()
    }


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures that the experiment is about.

    Returns:
      `arms`: for each arm what `arms.account` has; its number of `layers` at the end; of
      `eval_nll`, `accuracy` and each of `accuracy_by_hop` the `mean`, `low` and `high` over living
      seeds; `saturated`; `loops` and `edits`, of `depth_edits`.
      `comparisons`: `arm`, `other`, `at`, the budget at which they are equal, and how many times
      the loss of the one is that of the other: `mean` (geometric, over seeds), `low`, `high`,
      `seeds`; and whether both are `saturated`. Intervals are of `level`, so that all hold at
      once with 95 %, and are as wide as the choice of the arms' rates leaves them.
      `smallest_difference_percent`: of the loss; half the width of the median interval, of pairs
      that are not saturated. A difference of this size is told in about half of all such runs.
      `depth`: how deep arms compute, of `computed_depth.summarise_depth`.
      `guessing_by_hop`: what `depth_tasks.guessing` answers. `tuning`: losses by arm and
      learning rate, in pairs.
    """
    rows = list(rows)
    by_arm, found = finals_by_arm(rows), {}
    loops, edits = summarise_loops(by_arm), summarise_edits(by_arm)
    for arm, seeds in by_arm.items():
        alive = list(living(seeds).values())
        found[arm] = {
            **account(rows, arm, seeds, TUNED_BY),
            "layers": max(row["layers"] for row in seeds.values()),
            "eval_nll": seed_range([row["eval_nll"] for row in alive]),
            "accuracy": seed_range([row["accuracy"] for row in alive]),
            "saturated": is_saturated(alive),
            "accuracy_by_hop": _accuracies(alive),
            "loops": loops[arm],
            "edits": edits[arm],
        }
    tuning = {arm: list(rates.items()) for arm, rates in losses_by_rate(rows, TUNED_BY).items()}
    guessed = next((row["guessing_by_hop"] for own in by_arm.values() for row in own.values()), [])
    return {
        "arms": found,
        **_compared(Losses.of(rows, TUNED_BY), found),
        "depth": summarise_depth(by_arm),
        "guessing_by_hop": guessed,
        "tuning": tuning,
    }


def _compared(losses: Losses, arms: Mapping[str, Any]) -> dict[str, Any]:
    pairs = comparisons(losses.by_arm)
    level = family_level(len(pairs))
    rows, widths = [], []
    for arm, other in pairs:
        log, seeds = losses.log_ratio((arm, other), level)
        saturated = arms[arm]["saturated"] and arms[other]["saturated"]
        widths += [(log.high - log.low) / 2] if not saturated else []
        ratio = difference_fields((log.map(np.exp), seeds))
        names = {"arm": arm, "other": other, "at": BUDGETS[Arm.parse(arm).equal]}
        rows.append({**names, **ratio, "saturated": saturated})
    known = [width for width in widths if math.isfinite(width)]
    smallest = 100 * math.expm1(float(np.median(known))) if known else None
    return {"comparisons": rows, "level": level, "smallest_difference_percent": smallest}


def _accuracies(alive: Sequence[Row]) -> list[dict[str, float | None]]:
    by_hop = zip(*(row["accuracy_by_hop"] for row in alive), strict=True)
    return [seed_range(values) for values in by_hop]

"""Summary of growth on tasks where depth matters: losses of arms against each other, and by hop."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.growth.depth_arms import BASELINE, SHALLOW, grows
from jaxanatomy.measures.arms import (
    Spread,
    account,
    by_seed,
    difference_fields,
    family_level,
    log_ratio,
    pooled_interval,
    pooled_spread,
)
from jaxanatomy.measures.statistics import wilson_interval
from jaxanatomy.measures.tuning import FINAL, losses_by_rate, of_purpose
from jaxanatomy.records import Row

TUNED_BY = "eval_nll"
# At the last hop; two arms that both answer more than this share differ in nothing but how sure
# they are.
SATURATED = 0.99
BUDGETS = {"_equal_flops": "equal FLOPs", "_equal_seconds": "equal seconds", "": "equal steps"}

Finals = Mapping[str, Mapping[int, Row]]  # by arm and seed


def finals_by_arm(rows: Iterable[Row]) -> dict[str, dict[int, Row]]:
    """The final rows of results."""
    finals = of_purpose(rows, FINAL)
    return {arm: by_seed(finals, arm) for arm in dict.fromkeys(row["arm"] for row in finals)}


def budget(arm: str) -> tuple[str, str]:
    """(Suffix, words) of what an arm has as much of as the baseline."""
    return next(each for each in BUDGETS.items() if arm.endswith(each[0]))


def comparisons(arms: Collection[str]) -> list[tuple[str, str]]:
    """All arms with the baseline; those that grow with the shallow one of the same budget."""
    pairs = [(arm, BASELINE) for arm in arms if arm != BASELINE and BASELINE in arms]
    grown = [(arm, SHALLOW + budget(arm)[0]) for arm in arms if grows(arm)]
    return pairs + [pair for pair in grown if pair[1] in arms]


def is_saturated(finals: Iterable[Row]) -> bool:
    """Whether an arm answers nearly everything at the last hop, mean over living seeds."""
    last = [row["accuracy_by_hop"][-1] for row in finals if not row["reason"]]
    return bool(last) and float(np.mean(last)) > SATURATED


def loss_spread(by_arm: Finals) -> Spread:
    """What seeds do to the difference of two log losses, pooled over arms (`pooled_spread`).

    Of the seeds that all arms finished, and of the arms of which no seed diverged.
    """
    living = [arm for arm in by_arm.values() if not any(row["reason"] for row in arm.values())]
    shared = sorted(set.intersection(*map(set, living))) if living else []
    logs_AS = [[math.log(arm[seed]["eval_nll"]) for seed in shared] for arm in living]
    return pooled_spread(logs_AS, True) if min(len(living), len(shared)) > 1 else (math.nan, 0)


def loop_changes(finals: Iterable[Row], name: str) -> list[float]:
    """The log of how many times the loss is with a loop what it is without, by living seed."""
    return [
        math.log(loop["eval_nll"] / row["eval_nll"])
        for row in finals
        for loop in row.get("looped") or ()
        if loop["name"] == name
    ]


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures that the experiment is about.

    Returns:
      `arms`: for each arm what `arms.account` has; its number of `layers` at the end; of
      `eval_nll` `mean`, `low` and `high` over living seeds; whether it `is_saturated`;
      `accuracy_by_hop`, for each hop the `mean` over living seeds with `low` and `high`,
      Wilson's interval for as many answers as one seed was asked for; `loops`, by name, `layers`,
      `passes`, `factor` and the `change`: `mean`, `low` and `high` of how many times the loss is
      what it is without.
      `comparisons`: `arm`, `other`, `at`, the budget at which they are equal, and how many times
      the loss of the one is that of the other: `mean` (geometric, over seeds), `low`, `high`,
      `seeds`; and whether both are `saturated`. Intervals are of `level`, so that all hold at
      once with 95 %.
      `smallest_difference_percent`: of the loss; half the width of the median interval, of pairs
      that are not saturated. A difference of this size is told in about half of all such runs.
      `guessing_by_hop`: what guessing by the symbol alone answers. `tuning`: losses by arm and
      learning rate, in pairs.
    """
    rows = list(rows)
    by_arm, found = finals_by_arm(rows), {}
    loops = _loops(by_arm)
    for arm, seeds in by_arm.items():
        living = [row for row in seeds.values() if not row["reason"]]
        losses = [row["eval_nll"] for row in living]
        found[arm] = {
            **account(rows, arm, seeds, TUNED_BY),
            "layers": max(row["layers"] for row in seeds.values()),
            "eval_nll": _range(losses),
            "saturated": is_saturated(living),
            "accuracy_by_hop": _accuracies(living),
            "loops": loops.get(arm, {}),
        }
    tuning = {arm: list(rates.items()) for arm, rates in losses_by_rate(rows, TUNED_BY).items()}
    guessed = next((row["guessing_by_hop"] for own in by_arm.values() for row in own.values()), [])
    return {"arms": found, **_compared(by_arm, found), "guessing_by_hop": guessed, "tuning": tuning}


def _compared(by_arm: Finals, arms: Mapping[str, Any]) -> dict[str, Any]:
    pairs, spread = comparisons(by_arm), loss_spread(by_arm)
    level = family_level(len(pairs))
    rows, widths = [], []
    for arm, other in pairs:
        log, seeds = log_ratio(by_arm[arm], by_arm[other], spread, level)
        saturated = arms[arm]["saturated"] and arms[other]["saturated"]
        widths += [log.high - log.value] if not saturated else []
        ratio = difference_fields((log.map(np.exp), seeds))
        names = {"arm": arm, "other": other, "at": budget(arm)[1]}
        rows.append({**names, **ratio, "saturated": saturated})
    known = [width for width in widths if math.isfinite(width)]
    smallest = 100 * math.expm1(float(np.median(known))) if known else None
    return {"comparisons": rows, "level": level, "smallest_difference_percent": smallest}


def _range(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return dict.fromkeys(("mean", "low", "high"))
    return {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}


def _accuracies(living: Sequence[Row]) -> list[dict[str, float]]:
    if not living:
        return []
    mean_K = np.mean([row["accuracy_by_hop"] for row in living], axis=0)
    found = []
    for mean, answered in zip(mean_K.tolist(), living[0]["answered_by_hop"], strict=True):
        low, high = wilson_interval(mean, answered).ends
        found.append({"mean": mean, "low": low, "high": high})
    return found


def _loops(by_arm: Finals) -> dict[str, dict[str, Any]]:
    """By arm and name of the loop; intervals from the spread of seeds pooled over arms."""
    named: dict[str, dict[str, list[float]]] = {}
    first: dict[tuple[str, str], Row] = {}
    for arm, seeds in by_arm.items():
        for row in seeds.values():
            for loop in row.get("looped") or ():
                first.setdefault((arm, loop["name"]), loop)
    for arm, name in first:
        named.setdefault(name, {})[arm] = loop_changes(by_arm[arm].values(), name)
    level = family_level(len(first))
    found: dict[str, dict[str, Any]] = {}
    for name, changes in named.items():
        most = max(map(len, changes.values()))
        whole = [values for values in changes.values() if len(values) == most]
        spread = pooled_spread(whole, False)
        for arm, values in changes.items():
            change = pooled_interval(np.array(values), spread, level).map(np.exp)
            more = {field: first[arm, name][field] for field in ("layers", "passes", "factor")}
            found.setdefault(arm, {})[name] = more | {
                "change": difference_fields((change, len(values)))
            }
    return found

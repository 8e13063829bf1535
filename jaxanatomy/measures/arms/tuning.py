"""Learning rates tuned for each arm, on seeds of their own, before its results are trained.

Rows of training have `kind` ("curve", "final", "alarm" or "roles"), `arm`, `seed`,
`learning_rate` and `purpose`: "tuning" where the seed only chooses a rate, "main" for results.

A rate is the best of a few draws, one for each tuning seed, so that another may be better. An
interval over the seeds of the results knows nothing of that: of runs in which all arms are equal
at their best rates, it tells some apart in up to a third (five arms, five seeds, one tuning seed,
three rates; `tests/measures/arms/test_tuning.py`). Hence `regrets`.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.seed_spread import SeedSpread
from jaxanatomy.records import Row

CURVE, FINAL, ALARM, ROLES = "curve", "final", "alarm", "roles"
TUNING, MAIN = "tuning", "main"
LEVEL = 0.95  # of what a rate that was not taken may still be


def require_seeds(**seeds: Sequence[int]) -> None:
    """Refuses what is no seed of JAX, and results from seeds that something was chosen on.

    Args:
      **seeds: Those of each use, by the name of their field; no two may share a seed.
    """
    for name, values in seeds.items():
        for seed in values:
            if not isinstance(seed, int) or not 0 <= seed < 2**32:
                raise InputError(
                    f"{name} must be whole numbers, 0 or above, below 2^32; got {seed!r}"
                )
    for one, other in itertools.combinations(seeds, 2):
        if common := set(seeds[one]) & set(seeds[other]):
            raise InputError(
                f"{one} and {other} must have none in common; got {sorted(common)} in both"
            )


def of_purpose(rows: Iterable[Row], kind: str, purpose: str = MAIN) -> list[Row]:
    """Rows of one kind and purpose."""
    return [row for row in rows if row.get("kind") == kind and row.get("purpose") == purpose]


def diverged(rows: Iterable[Row], arm: str) -> set[int]:
    """The seeds of an arm's results that ended because a loss or a gradient was not finite."""
    finals = (row for row in of_purpose(rows, FINAL) if row["arm"] == arm)
    return {row["seed"] for row in finals if row["reason"]}


def losses_by_rate(rows: Iterable[Row], measure: str) -> dict[str, dict[float, float | None]]:
    """The loss that each learning rate came to, by arm and rate, ascending.

    Args:
      rows: Of a run.
      measure: Field of the loss at the end.

    Returns:
      Means over the tuning seeds; None where one of them diverged.
    """
    found: dict[str, dict[float, list[float | None]]] = {}
    for row in of_purpose(rows, FINAL, TUNING):
        found.setdefault(row["arm"], {}).setdefault(row["learning_rate"], []).append(row[measure])
    return {
        arm: {
            rate: None if None in rates[rate] else float(np.mean(rates[rate]))
            for rate in sorted(rates)
        }
        for arm, rates in found.items()
    }


def choose_rate(rows: Iterable[Row], arm: str, measure: str) -> float | None:
    """The learning rate of lowest final loss, the mean of the tuning seeds.

    Args:
      rows: Of a run.
      arm: Whose tuning rows are read.
      measure: Field of the loss at the end.

    Returns:
      The rate; of equal ones the lower. None where no tuning run stayed finite.
    """
    means = losses_by_rate(rows, measure).get(arm, {})
    finite = {rate: mean for rate, mean in means.items() if mean is not None}
    return min(finite, key=lambda rate: (finite[rate], rate)) if finite else None


def rate_at_edge(rows: Iterable[Row], arm: str, measure: str) -> bool:
    """Whether an arm took the lowest or highest rate that was tried: another may be better.

    A rate that diverged was tried, so the highest that did not is not at the edge.
    """
    rows = list(rows)
    rates = losses_by_rate(rows, measure).get(arm, {})
    return len(rates) > 1 and choose_rate(rows, arm, measure) in (min(rates), max(rates))


def regrets(rows: Iterable[Row], measure: str, spread: SeedSpread) -> dict[str, float]:
    """By how much less the log of each arm's loss may be at another of the rates that were tried.

    What tuning leaves open: for each other rate the upper end, at 95 %, of how far the loss at the
    arm's rate lies above that at the other; the largest of these, not below 0. A rate that diverged
    is none. Intervals of arms at their best rates are wider by this much: see `arms.Losses`.

    Args:
      rows: Of a run.
      measure: Field of the loss.
      spread: What seeds do to its log in the results, `of_difference`: rates are tried on the
        same seeds.

    Returns:
      By arm with tuning rows and results; NaN where two results of a seed have no spread.
    """
    rows = list(rows)
    tuned, found = of_purpose(rows, FINAL, TUNING), {}
    taken = {row["arm"]: row["learning_rate"] for row in of_purpose(rows, FINAL)}
    for arm, by_rate in losses_by_rate(rows, measure).items():
        if by_rate.get(taken.get(arm)) is None or arm not in spread.own:
            continue
        seeds = len({row["seed"] for row in tuned if row["arm"] == arm})
        own, noise = by_rate[taken[arm]], spread.half_width((arm, arm), seeds, LEVEL)
        gaps = [
            math.log(own / other) + noise
            for rate, other in by_rate.items()
            if rate != taken[arm] and other is not None
        ]
        found[arm] = float(np.max([0.0, *gaps]))  # `max` would pass over NaN
    return found

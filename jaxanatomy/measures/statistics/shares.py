"""Shares: of runs that come several to a seed, and how far two of the same items differ."""

import math

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics import ratio
from jaxanatomy.measures.statistics.estimates import Estimate, student_quantile, wilson_interval

# A standard error below this is rounding: seeds do not differ.
ROUNDED = 1e-12


def clustered_share(hits_S: np.ndarray, runs_S: np.ndarray, level: float = 0.95) -> Estimate:
    """A share of runs, its interval for other seeds: runs of one seed are not independent.

    Wilson's, with as many trials as have the variance between seeds (the runs over their design
    effect: Rao and Scott 1992, Biometrics 48), fewer as that is known of few seeds (the squared
    ratio of the normal quantile to Student's: Korn and Graubard 1998, Survey Methodology 24). No
    more than there are runs; no fewer than if all runs of a seed came out alike (Kish 1965), which
    is taken where seeds do not differ. Holds in 91 to 98 % of simulated worlds of 10 and 20 seeds
    (shares of 0.5 to 0.95, correlations in a seed of 0 to 0.8), without Student's quantile in as
    few as 87 %, Wilson's over runs in as few as 73 %.

    Args:
      hits_S: Runs of each seed that succeeded; fractions where a run is looked at repeatedly.
      runs_S: Runs of each seed, or layers of its model.
      level: Coverage.
    """
    runs_S = np.asarray(runs_S, np.float64)
    (share,), (error,), _ = ratio.linearise(np.asarray(hits_S)[None], runs_S)
    trials = fewest = runs_S.sum() ** 2 / (runs_S**2).sum()
    if error > ROUNDED:
        known = student_quantile(level, math.inf) / student_quantile(level, len(runs_S) - 1)
        trials = np.clip(known**2 * share * (1 - share) / error**2, fewest, runs_S.sum())
    return wilson_interval(float(share), int(trials), level)


def paired_share_difference(
    right_I: np.ndarray, other_I: np.ndarray, level: float = 0.95
) -> Estimate:
    """How much larger one share is than another of the same items.

    Newcombe's interval (1998, Statistics in Medicine 17: 2635, method 10): the two Wilson
    intervals added in squares, less what the items have in common. Other than Student's on the
    differences it keeps a width where no item changed.

    Args:
      right_I: Whether each item is right, of one.
      other_I: Of the other.
      level: Coverage.

    Raises:
      InputError: Different items, or none.
    """
    right_I, other_I = np.asarray(right_I, bool), np.asarray(other_I, bool)
    if right_I.shape != other_I.shape or right_I.ndim != 1 or not len(right_I):
        raise InputError(
            f"shares of the same items can be compared; got {right_I.shape} and {other_I.shape} of "
            "them; measure both on one task"
        )
    count = len(right_I)
    own, other = (wilson_interval(float(each.mean()), count, level) for each in (right_I, other_I))
    shared = _correlation(right_I, other_I)

    def reach(one: float, two: float) -> float:
        return math.sqrt(max(one * one + two * two - 2 * shared * one * two, 0.0))

    difference = own.value - other.value
    return Estimate(
        difference,
        difference - reach(own.value - own.low, other.high - other.value),
        difference + reach(own.high - own.value, other.value - other.low),
    )


def _correlation(right_I: np.ndarray, other_I: np.ndarray) -> float:
    """Of two yes-or-no readings of the same items, with Newcombe's continuity correction."""
    count = len(right_I)
    both = int((right_I & other_I).sum())
    own, other = int(right_I.sum()), int(other_I.sum())
    spread = math.sqrt(own * (count - own) * other * (count - other))
    if not spread:
        return 0.0
    covariance = both * (count - own - other + both) - (own - both) * (other - both)
    return (max(covariance - count / 2, 0.0) if covariance > 0 else covariance) / spread

"""Improvements among many variants that were tried: one in forty is better by chance."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxanatomy.measures.calibration import TOLERANCE_PERCENT
from jaxanatomy.measures.statistics import degradation_percent
from jaxanatomy.report.cells import Row
from jaxanatomy.report.claims.claim import Answer, reaches

LEVEL = 0.05  # of the interval; by chance one side of it is missed half as often
RULE = (
    f"whole interval below −{TOLERANCE_PERCENT} %; Student's interval over documents at level "
    f"1 − {LEVEL} / K, as the best of K is looked for"
)


def student_difference(
    row: Mapping[str, Any], other: Mapping[str, Any], level: float
) -> tuple[float, float, float]:
    """How much more a variant loses than another one, with Student's interval over units.

    The bootstrap of the rows cannot serve far out in the tails: ten documents, resampled,
    give percentiles that are as narrow as if their spread were known, at level 1 - 0.05 / 135
    missed by chance 20 times as often as they should. Here the mean over tokens is linearised:
    the residuals of the units are d - m t, with d their differences, t their tokens and
    m = sum(d) / sum(t); its variance is U / (U - 1) sum((d - m t)^2) / sum(t)^2, and the
    quantile that of U - 1 degrees of freedom.

    Args:
      row: With `unit_nll` and `unit_tokens` [U].
      other: Likewise, on the same text.
      level: Coverage of the interval.

    Returns:
      (difference, low, high) of the mean NLLs in nats per token; NaN where a loss is not finite,
      the texts differ or there is one unit only.
    """
    from scipy.stats import t

    if row["unit_tokens"] != other["unit_tokens"] or len(row["unit_tokens"]) < 2:
        return math.nan, math.nan, math.nan
    tokens_U = np.asarray(row["unit_tokens"], np.float64)
    own_U, other_U = (np.array(each["unit_nll"], np.float64) for each in (row, other))
    difference_U, units = own_U - other_U, len(tokens_U)
    mean = difference_U.sum() / tokens_U.sum()
    squares = ((difference_U - mean * tokens_U) ** 2).sum()
    half = t.ppf((1 + level) / 2, units - 1) * math.sqrt(units / (units - 1) * squares)
    half /= tokens_U.sum()
    return float(mean), float(mean - half), float(mean + half)


def gains(row: Row, baseline: Row, tried: int) -> bool:
    """Whether a variant is better than the baseline, as the best of so many; see `RULE`."""
    _, _, high = student_difference(row, baseline, 1 - LEVEL / tried)
    return bool(degradation_percent(high) < -TOLERANCE_PERCENT)


def improves(row: Row, baseline: Row | None, tried: int) -> Answer:
    """True if a variant `gains`, False if its own 95 % interval lies at or above 0."""
    if reaches(row, 0.0):
        return False
    return True if baseline and "unit_nll" in row and gains(row, baseline, tried) else None

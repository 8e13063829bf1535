"""Several draws of one random change: which one stands for them, and how far apart they lie.

Losses over draws have heavy tails (a layer of noise may or may not write the attention sink),
so a median stands for them. The range of n draws holds the median of all possible draws with
probability 1 - 2 ** (1 - n), whatever their distribution: 7 in 8 for four.
"""

import math
from collections.abc import Sequence

import numpy as np

from jaxanatomy.measures.losses import mean_nll
from jaxanatomy.measures.statistics.estimates import Estimate, degradation_percent, draws_interval
from jaxanatomy.records import Row


def median_draw(rows: Sequence[Row]) -> Row:
    """The row in the middle by its loss; of an even number the milder one of the two there.

    A row and no average, so that its interval over documents goes with it.

    Args:
      rows: The draws of one change on one text, at least one.
    """
    if len(rows) == 1:
        return rows[0]
    return sorted(rows, key=mean_nll)[(len(rows) - 1) // 2]


def draws_range(rows: Sequence[Row], baseline: Row) -> Estimate:
    """Degradation in percent of the median draw, from the mildest to the worst draw.

    Infinite where a loss is not finite.
    """
    nll_S = np.array([mean_nll(row) for row in rows]) - mean_nll(baseline)
    ends = float(nll_S.min()), float(nll_S.max())
    return Estimate(mean_nll(median_draw(rows)) - mean_nll(baseline), *ends).map(
        degradation_percent
    )


def draws_degradation(rows: Sequence[Row], baseline: Row) -> Estimate:
    """Degradation in percent, with the interval for other draws and other documents at once.

    The mean over draws of the NLL, that is on the scale of the logarithm of perplexity, where
    draws are least skewed; see `statistics.draws_interval`.

    Args:
      rows: The draws of one change on one text.
      baseline: The unchanged model on it.
    """
    sums_SU = np.array([row["unit_nll"] for row in rows], np.float64)
    sums_SU = sums_SU - np.array(baseline["unit_nll"], np.float64)
    found = draws_interval(sums_SU, np.array(baseline["unit_tokens"]))
    return found.degradation_percent()


def spread_over_draws(rows: Sequence[Row]) -> float:
    """The worst draw's perplexity over the mildest one's; NaN for a single draw."""
    if len(rows) < 2:
        return math.nan
    nll_S = [mean_nll(row) for row in rows]
    return math.exp(min(max(nll_S) - min(nll_S), 700.0)) if math.isfinite(max(nll_S)) else math.inf

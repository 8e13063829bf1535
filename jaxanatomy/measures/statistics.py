"""Perplexity, intervals, null comparisons and rank correlations.

Per-token negative log-likelihoods (NLL) come as float32 and are summed and
exponentiated in float64.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.errors import InputError

MIN_DOCUMENTS = 5
BLOCK_TOKENS = 64

# Variants are resampled in groups of this many, which bounds memory.
_GROUP = 64


def perplexity(nll: float, tokens: int) -> tuple[float | None, str | None]:
    """exp(nll / tokens) in float64.

    Args:
      nll: Summed negative log-likelihood in nats.
      tokens: Number of predicted tokens.

    Returns:
      (perplexity, None), or (None, reason) where it is not finite.
    """
    if tokens < 1:
        return None, "no token is predicted"
    if not math.isfinite(nll):
        return None, f"the summed NLL is {nll}"
    try:
        return math.exp(nll / tokens), None
    except OverflowError:
        return None, f"a mean NLL of {nll / tokens:.6g} nats overflows float64"


def degradation_percent(difference):
    """100 (PPL / PPL_baseline - 1) from the difference of mean NLLs (AH section 3.2).

    Args:
      difference: Mean NLL of a variant minus that of the baseline, in nats per token; a
        number or an array.
    """
    with np.errstate(over="ignore"):
        return 100 * np.expm1(np.asarray(difference, np.float64))[()]


def bootstrap_units(document_P: np.ndarray) -> np.ndarray:
    """The units that a bootstrap resamples: documents, or blocks where there are few.

    Args:
      document_P: Document index of each predicted token, in the order of the text.

    Returns:
      Unit index of each predicted token, int [P], 0 .. U-1. With fewer than five
      documents a unit is a block of 64 predicted tokens of one document (its last one
      may be shorter).
    """
    documents, unit_P = np.unique(document_P, return_inverse=True)
    if len(documents) >= MIN_DOCUMENTS:
        return unit_P
    block_P = np.empty_like(unit_P)
    for document in range(len(documents)):
        inside = unit_P == document
        block_P[inside] = np.arange(inside.sum()) // BLOCK_TOKENS
    _, unit_P = np.unique(np.stack([unit_P, block_P]), axis=1, return_inverse=True)
    return unit_P.reshape(-1)


def paired_bootstrap(
    nll_VP: np.ndarray,
    baseline_P: np.ndarray,
    unit_P: np.ndarray,
    *,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> np.ndarray:
    """Percentile intervals of the difference of mean NLLs, paired over units.

    A resample draws as many units as there are, with replacement, and divides the sum of
    the differences by the number of tokens that it drew (units differ in length). All
    variants see the same resamples, which depend on the seed and the number of units
    alone; so variants may come in portions.

    Args:
      nll_VP: NLL of each variant (V here) and predicted token.
      baseline_P: NLL of the unedited model.
      unit_P: From `bootstrap_units`.
      samples: Number of resamples.
      seed: Seed of `numpy.random.default_rng`.
      level: Coverage.

    Returns:
      (low, high) of each variant in nats per token, float64 [V, 2]; NaN where a
      variant's NLL is not finite, and everywhere if there is one unit only. `exp` is
      monotone, so `degradation_percent` of the ends is the interval of degradation.
    """
    nll_VP = np.atleast_2d(nll_VP)
    order_P = np.argsort(unit_P, kind="stable")
    tokens_U = np.bincount(unit_P)
    start_U = np.cumsum(tokens_U) - tokens_U
    sums_VU = np.empty((len(nll_VP), len(tokens_U)))
    for start in range(0, len(nll_VP), _GROUP):
        group = slice(start, start + _GROUP)
        # In float64 before the difference is taken: it may be a small part of either.
        difference_VP = nll_VP[group].astype(np.float64) - baseline_P.astype(np.float64)
        difference_VP[~np.isfinite(difference_VP).all(axis=1)] = np.nan
        sums_VU[group] = np.add.reduceat(difference_VP[:, order_P], start_U, axis=1)
    return _bootstrap(sums_VU, tokens_U, samples, seed, level)


def paired_difference(
    row: Mapping[str, Any],
    other: Mapping[str, Any],
    *,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """How much more a variant loses than another one, from their rows alone.

    Args:
      row: A row of a sweep, with `unit_nll` and `unit_tokens` (`losses.loss_rows`).
      other: Another row on the same text.
      samples: Resamples of the paired bootstrap over units.
      seed: Its seed.
      level: Coverage of the interval.

    Returns:
      (difference, low, high) of the mean NLLs in nats per token; NaN where a loss is not
      finite, and without an interval if there is one unit only.

    Raises:
      InputError: The rows are not of the same text.
    """
    if row["unit_tokens"] != other["unit_tokens"]:
        raise InputError(
            f"rows of one text can be compared; {row['variant']!r} and {other['variant']!r} have "
            f"{sum(row['unit_tokens'])} and {sum(other['unit_tokens'])} tokens in "
            f"{len(row['unit_tokens'])} and {len(other['unit_tokens'])} units; name one text"
        )
    tokens_U = np.asarray(row["unit_tokens"])
    own_U, other_U = (np.array(each["unit_nll"], np.float64) for each in (row, other))
    difference_U = own_U - other_U
    ((low, high),) = _bootstrap(difference_U[None], tokens_U, samples, seed, level)
    return float(difference_U.sum() / tokens_U.sum()), float(low), float(high)


def _bootstrap(
    sums_VU: np.ndarray, tokens_U: np.ndarray, samples: int, seed: int, level: float
) -> np.ndarray:
    """Percentile intervals [V, 2] of the mean over tokens, from sums over units."""
    if samples < 1:
        raise InputError(f"the bootstrap needs at least one sample; got {samples}")
    intervals_V2 = np.full((len(sums_VU), 2), np.nan)
    num_units = len(tokens_U)
    if num_units < 2:
        return intervals_V2
    weight_SU = _resamples(num_units, samples, seed)
    tokens_S = weight_SU @ tokens_U.astype(np.float64)
    tail = 50 * (1 - level)
    for start in range(0, len(sums_VU), _GROUP):
        group = slice(start, start + _GROUP)
        finite_V = np.isfinite(sums_VU[group]).all(axis=1)
        # Always products of the same shape: with others the last bit could change with
        # the number of variants, and a resumed run must write the same rows.
        padded_VU = np.zeros((_GROUP, num_units))
        padded_VU[np.flatnonzero(finite_V)] = sums_VU[group][finite_V]
        mean_VS = padded_VU @ weight_SU.T / tokens_S
        ends_2V = np.percentile(mean_VS[: len(finite_V)], [tail, 100 - tail], axis=1)
        intervals_V2[group] = np.where(finite_V[:, None], ends_2V.T, np.nan)
    return intervals_V2


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN if all of one are equal.

    Infinite values rank first or last; a NaN makes the result NaN.
    """
    x, y = _paired(x, y)
    return float(_rank_correlation(x[None], y[None])[0])


def spearman_interval(
    x: np.ndarray, y: np.ndarray, *, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of Spearman's correlation over resampled pairs."""
    x, y = _paired(x, y)
    rows = np.random.default_rng(seed).integers(len(x), size=(samples, len(x)))
    correlation = _rank_correlation(x[rows], y[rows])
    # A resample of one value repeated has no correlation.
    correlation = correlation[np.isfinite(correlation)]
    if not len(correlation):
        return float("nan"), float("nan")
    tail = 50 * (1 - level)
    low, high = np.percentile(correlation, [tail, 100 - tail])
    return float(low), float(high)


def z_score(value: float, null_sample: np.ndarray) -> float:
    """How many standard deviations (ddof 1) a value lies above the mean of its null sample.

    NaN where the null sample does not vary.

    Raises:
      InputError: fewer than two null values.
    """
    null_sample = np.asarray(null_sample, np.float64)
    if null_sample.size < 2:
        raise InputError(f"a z-score needs at least two null values; got {null_sample.size}")
    spread = null_sample.std(ddof=1)
    return float((value - null_sample.mean()) / spread) if spread > 0 else float("nan")


def _resamples(num_units: int, samples: int, seed: int) -> np.ndarray:
    """How often each resample draws each unit, float64 [samples, U]."""
    generator = np.random.default_rng(seed)
    even = np.full(num_units, 1 / num_units)
    return generator.multinomial(num_units, even, size=samples).astype(np.float64)


def _paired(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2:
        raise InputError(
            "a rank correlation needs two lists of one length of at least 2; got shapes "
            f"{x.shape} and {y.shape}"
        )
    return x, y


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson correlation of ranks along the last axis."""
    from scipy.stats import rankdata

    x, y = (rankdata(values, axis=1) for values in (x, y))
    x, y = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (x, y))
    spread = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.divide((x * y).sum(axis=1), spread, out=np.full(len(x), np.nan), where=spread > 0)


def paired_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of differences over seeds; NaN for fewer than two.

    Seeds are few, so this is no bootstrap: mean -+ t s / sqrt(n), s with n - 1.
    """
    from scipy.stats import t

    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    half = t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def wilson_interval(share: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share: where the true one may lie, inside 0 to 1.

    Other than mean -+ z s / sqrt(n) it keeps a width where all of a few trials came out alike.

    Args:
      share: Of the trials that succeeded; may be a mean of several such shares.
      count: How many trials.
      level: Coverage of the interval.

    Raises:
      InputError: There is no trial.
    """
    if count < 1:
        raise InputError(f"the interval of a share needs at least one trial; got {count}")
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low, high = ((middle + side * half) / (1 + z * z / count) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


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

"""The mean over tokens as a ratio of two sums over units: its error, skewness and quantiles.

Units (documents) differ in length, so a mean over tokens is sum(d) / sum(t), d the sums of
the units and t their tokens. Linearised, it is a mean of the residuals d - m t.
"""

import functools
import math

import numpy as np

# Draws behind the quantile of max |t|, a portion at a time, and the key they come from.
_DRAWS, _PORTION, _KEY = 4000, 500, 0
# More units than this change the quantile by less than 1 %.
_MOST_UNITS = 60


def linearise(
    sums_VU: np.ndarray, tokens_U: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, their standard errors, and the residuals of the units.

    The variance of m = sum(d) / sum(t) is U / (U - 1) sum((d - m t)^2) / sum(t)^2.

    Args:
      sums_VU: What is averaged, summed over the tokens of each unit.
      tokens_U: Tokens of each unit.

    Returns:
      Means [V], standard errors [V] (NaN for one unit) and residuals [V, U]; NaN where a sum
      is not finite.
    """
    sums_VU, tokens_U = np.asarray(sums_VU, np.float64), np.asarray(tokens_U, np.float64)
    units, total = len(tokens_U), tokens_U.sum()
    sums_VU = np.where(np.isfinite(sums_VU).all(axis=1, keepdims=True), sums_VU, np.nan)
    mean_V = sums_VU.sum(axis=1) / total
    residual_VU = sums_VU - mean_V[:, None] * tokens_U
    if units < 2:
        return mean_V, np.full(len(mean_V), np.nan), residual_VU
    variance_V = (residual_VU**2).sum(axis=1) * units / (units - 1)
    return mean_V, np.sqrt(variance_V) / total, residual_VU


def skewness(residual_VU: np.ndarray) -> np.ndarray:
    """Skewness of the residuals of each variant [V]; 0 where they do not vary."""
    second_V, third_V = (residual_VU**2).mean(axis=1), (residual_VU**3).mean(axis=1)
    return np.divide(third_V, second_V**1.5, out=np.zeros_like(third_V), where=second_V > 0)


def ends(
    mean_V: np.ndarray,
    error_V: np.ndarray,
    low_skewness_V: np.ndarray,
    high_skewness_V: np.ndarray,
    units: int,
    quantile: float,
) -> np.ndarray:
    """Student's interval, each end moved outwards where the skewness asks for it.

    Of skewed units (a few documents carry most of a loss) Student's interval ends too early
    on the side of the long tail, as the mean and its error are small together where the few
    are missing. Hall's transformation of t (1992, J. R. Statist. Soc. B 54, 221) puts that
    right, and shortens the other side, which so few units do not justify: of the two ends the
    outer one counts.

    Args:
      mean_V: From `linearise`.
      error_V: Likewise.
      low_skewness_V: Of the residuals, for the lower end.
      high_skewness_V: For the upper end.
      units: Their number.
      quantile: Of Student's t, or of max |t|.

    Returns:
      (low, high) of each variant [V, 2].
    """
    low_V = mean_V - error_V * np.maximum(quantile, _unskewed(low_skewness_V, units, quantile))
    high_V = mean_V - error_V * np.minimum(-quantile, _unskewed(high_skewness_V, units, -quantile))
    return np.stack([low_V, high_V], axis=1)


def band(sums_VU: np.ndarray, tokens_U: np.ndarray, quantile: float) -> np.ndarray:
    """Means with intervals for a quantile of max |t|.

    Ten units show too little of a variant's skewness: where the few documents of its long tail
    are missing, there is none to see. So the mean over the variants stands in wherever it
    asks for a wider interval.

    Returns:
      (value, low, high) of each variant [V, 3].
    """
    mean_V, error_V, residual_VU = linearise(sums_VU, tokens_U)
    skewness_V, varies_V = skewness(residual_VU), error_V > 0
    typical = skewness_V[varies_V].mean() if varies_V.any() else 0.0
    low_V, high_V = np.minimum(skewness_V, typical), np.maximum(skewness_V, typical)
    ends_V2 = ends(mean_V, error_V, low_V, high_V, len(tokens_U), quantile)
    return np.concatenate([mean_V[:, None], ends_V2], axis=1)


def _unskewed(skewness_V: np.ndarray, units: int, quantile: float) -> np.ndarray:
    """Inverse of Hall's g(t) = t + a t^2 / 3 + a^2 t^3 / 27 + a / 6, a = skewness / sqrt(U)."""
    a_V = skewness_V / math.sqrt(units)
    is_skewed_V = np.abs(a_V) > 1e-6  # the limit at 0 is the quantile itself
    a_V = np.where(is_skewed_V, a_V, 1.0)
    return np.where(is_skewed_V, 3 / a_V * (np.cbrt(1 + a_V * (quantile - a_V / 6)) - 1), quantile)


def largest_t(residual_VU: np.ndarray, level: float) -> float:
    """The quantile of max |t| over variants whose units are correlated as these residuals are.

    Units are drawn from a normal law of the residuals' correlation, and each variant's t from
    its own mean and spread among them (a parametric bootstrap, fixed key): with ten units a
    resampling of the units themselves, or one shared chi for all t, is too narrow.

    Args:
      residual_VU: From `linearise`; variants whose residuals do not vary or are NaN are
        passed over.
      level: Probability that no |t| is larger.

    Returns:
      NaN for one unit; 0 if no variant varies.
    """
    units = residual_VU.shape[1]
    norm_V = np.sqrt((residual_VU**2).sum(axis=1))
    known_V = norm_V > 0
    if units < 2 or not known_V.any():
        return math.nan if units < 2 else 0.0
    direction_VU = residual_VU[known_V] / norm_V[known_V, None]
    # A factor of the correlation matrix with as few columns as it has ranks. Their signs are those
    # of units, so that variants in another order have the same draws.
    left_VK, value_K, right_KU = np.linalg.svd(direction_VU, full_matrices=False)
    largest_K = np.abs(right_KU).argmax(axis=1)
    sign_K = np.sign(right_KU[np.arange(len(value_K)), largest_K])
    factor_KV = (left_VK * value_K * sign_K).T.astype(np.float32)
    units = min(units, _MOST_UNITS)
    largest = []
    for portion in range(_DRAWS // _PORTION):
        drawn_USV = _normal(portion, units, len(factor_KV)) @ factor_KV
        drawn_USV = drawn_USV.reshape(units, _PORTION, -1)
        mean_SV = drawn_USV.mean(axis=0)
        square_SV = np.square(drawn_USV, out=drawn_USV).mean(axis=0)
        variance_SV = (square_SV - mean_SV**2) / (units - 1)
        largest.append((mean_SV**2 / variance_SV).max(axis=1))
    return math.sqrt(np.quantile(np.concatenate(largest), level))


@functools.lru_cache(maxsize=2 * _DRAWS // _PORTION)
def _normal(portion: int, units: int, ranks: int) -> np.ndarray:
    """[units * _PORTION, ranks]: for one product of matrices, and means over the first axis."""
    generator = np.random.default_rng([_KEY, portion, units, ranks])
    drawn_SUK = generator.standard_normal((_PORTION, units, ranks), np.float32)
    return drawn_SUK.swapaxes(0, 1).reshape(-1, ranks)

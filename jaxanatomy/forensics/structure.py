"""The structure of weights over layers, and what it would be by chance (AH sections 3.4, 4.3).

Every metric is a formula of the moments of one component (`gram.Moments`), so a thousand
random orders or Gaussian draws cost little more than one. AH reads a delta correlation of
-0.5 as an oscillation of weights from layer to layer; it is what independent layers give,
since consecutive deltas share a layer with opposite signs. So no reading stands alone:

| null | the metric of |
| --- | --- |
| closed_form | the expected moments of independent layers with these means and spreads |
| gaussian | independent Gaussian layers with these means and spreads, many draws |
| shuffled_layers | these layers in random order, many draws |
| random_init | the same architecture as it is initialised |
| standardised | these layers, each shifted and scaled to mean 0 and standard deviation 1 |

Cosine and PCA do not depend on the order of layers, so they are not shuffled. PCA has no
closed form here: the eigenvalues of an expected matrix are not the expected eigenvalues.

Axes: L layers, S draws of a null, M layers for which a delta correlation is defined.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxanatomy.errors import require_whole
from jaxanatomy.forensics.gram import ROUNDING, Moments

DRAWS = 1000
ORDER_METRICS = {
    "delta_correlation": "Pearson correlation of W[l+1] - W[l] with W[l+2] - W[l+1]",
    "lag2_delta_correlation": "Pearson correlation of W[l+1] - W[l] with W[l+3] - W[l+2]",
}
OTHER_METRICS = {
    "mean_cosine": "cosine of two layers' parameters, mean over all pairs",
    "pca_top1": "share of the variance over layers on the first principal component",
    "pca_top5": "share of the variance over layers on the first five principal components",
    "pca_effective_rank": "exp(entropy) of the shares of all principal components",
}
METRICS = {**ORDER_METRICS, **OTHER_METRICS}
NULLS = {
    "closed_form": "independent layers with each layer's mean and variance, exact; not for PCA",
    "gaussian": "independent Gaussians with each layer's mean and std, 95 % of the draws",
    "shuffled_layers": "the layers in random order, 95 % of the draws; delta correlations only",
    "random_init": "the model as it is initialised, one draw",
    "standardised": "each layer shifted and scaled to mean 0 and standard deviation 1",
}
INTERVAL = (2.5, 97.5)  # percentiles of a null's draws

MetricKey = tuple[str, int | None, str]  # metric, layer, null


def require_draws(samples: Any, seed: Any, name: str = "samples") -> None:
    """Checks the number of draws of the nulls, and their seed.

    Args:
      samples: Draws S.
      seed: Of the draws.
      name: What `samples` is called where the user wrote it.

    Raises:
      InputError: Fewer than two draws, a seed below 0, or no whole numbers.
    """
    require_whole(name, samples, least=2, remedy=f"{DRAWS} is usual")
    require_whole("seed", seed, least=0)


def reading_keys(num_layers: int, has_initial: bool) -> list[MetricKey]:
    """Metric, layer and null of everything that `analyse` gives for a component, in order.

    Args:
      num_layers: L.
      has_initial: Whether there is a randomly initialised model beside it.
    """
    nulls = [null for null in NULLS if has_initial or null != "random_init"]
    keys: list[MetricKey] = []
    for lag, metric in enumerate(ORDER_METRICS, start=1):
        layers = (None, *range(num_layers - 1 - lag))
        keys += [(metric, layer, null) for layer in layers for null in nulls]
    for metric in OTHER_METRICS:
        absent = {"shuffled_layers"} | ({"closed_form"} if metric.startswith("pca") else set())
        keys += [(metric, None, null) for null in nulls if null not in absent]
    return keys


def delta_correlation(moments: Moments, lag: int = 1) -> np.ndarray:
    """Pearson correlation of delta_l with delta_(l + lag), delta_l = W_(l+1) - W_l (AH 3.4).

    Parameters are the sample; each delta is centred over them.

    Args:
      moments: Of L layers.
      lag: 1 or more.

    Returns:
      [..., L - 1 - lag], entry l for deltas l and l + lag; NaN where two layers are equal.
    """
    covariance_LL = moments.covariance
    row_LL = np.diff(covariance_LL, axis=-2)
    delta_LL = np.diff(row_LL, axis=-1)
    variance_L = np.diagonal(delta_LL, axis1=-2, axis2=-1)
    before_L = np.diagonal(moments.gram_LL, axis1=-2, axis2=-1) / moments.count
    is_rounding = variance_L <= ROUNDING * (before_L[..., 1:] + before_L[..., :-1])
    std_L = np.sqrt(np.where(is_rounding, np.nan, variance_L))
    lagged_M = np.diagonal(delta_LL, offset=lag, axis1=-2, axis2=-1)
    return lagged_M / (std_L[..., :-lag] * std_L[..., lag:])


def cosine(moments: Moments) -> np.ndarray:
    """Cosine of every two layers, not centred [..., L, L]; NaN with a layer of zeros."""
    square_L = np.diagonal(moments.gram_LL, axis1=-2, axis2=-1)
    norm_L = np.sqrt(np.where(square_L > 0, square_L, np.nan))
    return moments.gram_LL / (norm_L[..., :, None] * norm_L[..., None, :])


def mean_cosine(moments: Moments) -> np.ndarray:
    """Mean cosine over all pairs of two different layers [...]."""
    above = np.triu_indices(moments.num_layers, k=1)
    return cosine(moments)[..., *above].mean(-1)


def pca_shares(moments: Moments) -> np.ndarray:
    """Explained shares of the principal components over layers, largest first [..., L].

    The data matrix has a row for each layer and a column for each parameter. As usual in
    PCA, each column is centred, that is, the mean layer is taken away from every layer; a
    layer's own mean over its parameters is not. So at most L - 1 shares are above 0.
    NaN where all layers are equal.
    """
    centre_LL = np.eye(moments.num_layers) - 1 / moments.num_layers
    centred_LL = centre_LL @ moments.gram_LL @ centre_LL
    total = np.trace(centred_LL, axis1=-2, axis2=-1)
    whole = np.trace(moments.gram_LL, axis1=-2, axis2=-1)
    is_defined = total > ROUNDING * whole  # False for NaN
    # eigvalsh refuses NaN: any finite matrix stands in for what is undefined.
    usable_LL = np.where(is_defined[..., None, None], centred_LL, centre_LL)
    value_L = np.clip(np.linalg.eigvalsh(usable_LL)[..., ::-1], 0.0, None)
    share_L = value_L / value_L.sum(-1, keepdims=True)
    return np.where(is_defined[..., None], share_L, np.nan)


def effective_rank(share_L: np.ndarray) -> np.ndarray:
    """exp(H) of shares that add up to 1 [..., L] -> [...]; 1 for one component, L for even ones."""
    log_L = np.log(np.where(share_L == 0, 1.0, share_L))
    return np.exp(-(share_L * log_L).sum(-1))


def order_readings(moments: Moments) -> dict[str, np.ndarray]:
    """The metrics that depend on the order of layers, each [..., M]."""
    return {
        "delta_correlation": delta_correlation(moments),
        "lag2_delta_correlation": delta_correlation(moments, lag=2),
    }


def other_readings(moments: Moments, share_L: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics that do not depend on it, each [...]; `share_L` is `pca_shares(moments)`."""
    return {
        "mean_cosine": mean_cosine(moments),
        "pca_top1": share_L[..., 0],
        "pca_top5": share_L[..., :5].sum(-1),
        "pca_effective_rank": effective_rank(share_L),
    }


def gaussian_moments(moments: Moments, samples: int, rng: np.random.Generator) -> Moments:
    """Moments of independent Gaussian layers with these means, spreads and count.

    The N parameters are never drawn. Sums are Gaussian; independently of them, inner
    products of centred Gaussian vectors follow a Wishart law with N - 1 degrees of freedom,
    which is the law of A A^T for a lower triangular A with independent entries: standard
    normal below the diagonal, chi with N - 1 - l degrees of freedom on it (Bartlett 1933).
    With fewer degrees of freedom than layers the last columns of A are zero.

    Args:
      moments: Gives the means, standard deviations and count.
      samples: Number of draws S.
      rng: Where the numbers come from.

    Returns:
      Moments with S draws: gram_LL [S, L, L], sum_L [S, L].
    """
    num_layers, count = moments.num_layers, moments.count
    freedom_L = np.clip(count - 1 - np.arange(num_layers), 0, None)
    factor_SLL = np.tril(rng.standard_normal((samples, num_layers, num_layers)), -1)
    factor_SLL *= freedom_L > 0
    # A chi-square variable with k degrees of freedom is twice a gamma one of shape k / 2.
    chi_SL = np.sqrt(2 * rng.standard_gamma(freedom_L / 2, (samples, num_layers)))
    factor_SLL += chi_SL[:, :, None] * np.eye(num_layers)
    scaled_SLL = moments.std[:, None] * factor_SLL
    noise_SL = rng.standard_normal((samples, num_layers))
    sum_SL = moments.sum_L + moments.std * np.sqrt(count) * noise_SL
    scatter_SLL = scaled_SLL @ scaled_SLL.swapaxes(-1, -2)
    gram_SLL = scatter_SLL + sum_SL[:, :, None] * sum_SL[:, None, :] / count
    return Moments(gram_SLL, sum_SL, count)


def random_orders(num_layers: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Permutations of the layers, int [S, L]."""
    return rng.permuted(np.tile(np.arange(num_layers), (samples, 1)), axis=1)


@dataclasses.dataclass(frozen=True)
class BesideNull:
    """A metric beside one null, ready to become a row.

    Attributes:
      layer: The first layer that a delta correlation involves; None for the mean over them,
        and for metrics of all layers.
      metric: A key of `METRICS`.
      value: Its value; None where it is undefined.
      null: A key of `NULLS`.
      null_value: The null's value; the mean over its draws where it has draws.
      null_low: Lower end of the 95 % interval of the draws, or None.
      null_high: Upper end.
      z: (value - null_value) / standard deviation of the draws, or None.
    """

    layer: int | None
    metric: str
    value: float | None
    null: str
    null_value: float | None
    null_low: float | None
    null_high: float | None
    z: float | None


@dataclasses.dataclass(frozen=True)
class Structure:
    """What is known about one component.

    Attributes:
      readings: Every metric beside every null that it has.
      cosine_LL: Cosines of the layers.
      share_L: Explained shares of PCA.
      gaussian_share_L: The mean of those of the Gaussian draws.
    """

    readings: tuple[BesideNull, ...]
    cosine_LL: np.ndarray
    share_L: np.ndarray
    gaussian_share_L: np.ndarray

    def __repr__(self) -> str:
        return f"Structure({len(self.readings)} readings of {len(self.cosine_LL)} layers)"


def analyse(moments: Moments, initial: Moments | None, samples: int, seed: Any) -> Structure:
    """All metrics of a component beside all nulls.

    Args:
      moments: Of the component.
      initial: Of the same component of the randomly initialised model; None leaves that
        null out.
      samples: Draws of the null models that have draws.
      seed: Of `numpy.random.default_rng`: a number or a sequence of them.
    """
    rng = np.random.default_rng(seed)
    draws = gaussian_moments(moments, samples, rng)
    shuffled = moments.permuted(random_orders(moments.num_layers, samples, rng))
    drawn_share_SL = pca_shares(draws)
    share_L = pca_shares(moments)
    nulls = {
        "closed_form": _all_readings(moments.independent()),
        "gaussian": order_readings(draws) | other_readings(draws, drawn_share_SL),
        "shuffled_layers": order_readings(shuffled),
        "random_init": _all_readings(initial) if initial else {},
        "standardised": _all_readings(moments.standardised()),
    }
    values = _with_means(order_readings(moments) | other_readings(moments, share_L))
    found = {name: _with_means(readings) for name, readings in nulls.items()}
    return Structure(
        tuple(
            beside_null(metric, layer, values[metric, layer], null, found[null][metric, layer])
            for metric, layer, null in reading_keys(moments.num_layers, initial is not None)
        ),
        cosine(moments),
        share_L,
        drawn_share_SL.mean(0),
    )


def _all_readings(moments: Moments) -> dict[str, np.ndarray]:
    return order_readings(moments) | other_readings(moments, pca_shares(moments))


def _with_means(readings: dict[str, np.ndarray]) -> dict[tuple[str, int | None], np.ndarray]:
    """Readings by metric and layer; a delta correlation also as its mean over layers."""
    found = {}
    for metric, value in readings.items():
        if metric in ORDER_METRICS:
            found[metric, None] = _mean_of_defined(value)
            found |= {(metric, layer): value[..., layer] for layer in range(value.shape[-1])}
        else:
            found[metric, None] = value
    return found


def _mean_of_defined(x_M: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is left."""
    is_defined = np.isfinite(x_M)
    number = is_defined.sum(-1)
    total = np.where(is_defined, x_M, 0.0).sum(-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def beside_null(
    metric: str, layer: int | None, value: np.ndarray, null: str, draws: np.ndarray
) -> BesideNull:
    """One metric beside one null: a number, or S draws of it [S]."""
    defined = draws[np.isfinite(draws)]
    low = high = z = None
    if draws.ndim and defined.size:
        low, high = map(float, np.percentile(defined, INTERVAL))
        spread = defined.std(ddof=1) if defined.size > 1 else 0.0
        # Draws that agree to rounding (two layers to shuffle, say) have no spread.
        if np.isfinite(value) and spread > ROUNDING * max(1.0, abs(defined.mean())):
            z = float((value - defined.mean()) / spread)
    centre = float(defined.mean()) if defined.size else None
    return BesideNull(layer, metric, _finite(value), null, centre, low, high, z)


def _finite(value: np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None

"""How well earlier layers' weights predict a later layer's (AH section 3.3).

The predictor is ridge regression on features of the layer index alone, so it is the same
for every parameter, and a predicted layer is a fixed linear combination of earlier ones:
W_t ~ sum_l a_l W_l, whose weights `ridge_weights` gives. The paper does not say which
layers it fits and where it scores, so each reading of its text has a name (`READINGS`).

Letters here: L layers, T the targets 2 .. L-1, N values of a layer (its sampled parameters).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.components import MIN_LAYERS

FIRST_TARGET = 2
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
WEAK_PENALTY = 1e-6


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well each target is predicted.

    Attributes:
      r2_T: 1 - sum of squared errors / sum of squares about the mean, float64 [T]; NaN
        where the target does not vary.
      cosine_T: Cosine of the predicted and the actual values, float64 [T]; NaN likewise.
    """

    r2_T: np.ndarray
    cosine_T: np.ndarray


def targets(num_layers: int) -> range:
    """The layers that are predicted: 2 .. L-1 (AH section 3.3)."""
    return range(FIRST_TARGET, num_layers)


def layer_features(layers: Iterable[int], num_layers: int) -> np.ndarray:
    """[l, l^2, sin(l pi / N), cos(l pi / N)] for each layer, float64 [layers, 4].

    AH section 3.3, with N the number of layers; features as they are, not standardised.
    """
    l = np.fromiter(layers, np.float64)  # noqa: E741, the paper's letter
    angle = l * np.pi / num_layers
    return np.stack([l, l**2, np.sin(angle), np.cos(angle)], axis=1)


def ridge_weights(
    fitted_layers: Sequence[int], target: int, num_layers: int, penalty: float = 1.0
) -> np.ndarray:
    """The weights a of the ridge prediction W_target ~ sum_l a_l W_l.

    Ridge regression of the values w (one for each fitted layer) on `layer_features`, with
    an intercept that is not penalised, predicts at x the value
    mean(w) + (x - mean(X)) (Xc'Xc + penalty I)^-1 Xc' w, where Xc = X - mean(X). That is
    linear in w, and the weights sum to 1.

    Args:
      fitted_layers: The layers whose values are known, at least one.
      target: The layer to predict; it may be one of them.
      num_layers: N, layers of the model.
      penalty: Above 0.

    Returns:
      float64 [fitted layers].

    Raises:
      InputError: No layers, or a penalty that is not above 0.
    """
    if not len(fitted_layers):
        raise InputError("a prediction needs at least one fitted layer; got none")
    if not penalty > 0:
        raise InputError(f"the penalty of ridge regression must be above 0; got {penalty!r}")
    X = layer_features(fitted_layers, num_layers)
    x = layer_features([target], num_layers)[0]
    # By the singular values of Xc: squaring it would lose half of the digits, which a
    # small penalty needs.
    U, s, Vt = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    slope = U @ (s / (s**2 + penalty) * (Vt @ (x - X.mean(axis=0))))
    return 1 / len(X) + slope


def as_they_are(values_LN: np.ndarray) -> np.ndarray:
    """The values themselves."""
    return values_LN


def in_order(values_LN: np.ndarray) -> np.ndarray:
    """Each layer's values in order of size.

    The k-th smallest value of a layer is no parameter: this compares distributions.
    """
    return np.sort(values_LN, axis=1)


def layer_statistics(values_LN: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and `QUANTILES` of each layer, [L, 9], in units of the weights."""
    rows = [values_LN.mean(axis=1), values_LN.std(axis=1)]
    return np.stack([*rows, *np.quantile(values_LN, QUANTILES, axis=1)], axis=1)


@dataclasses.dataclass(frozen=True)
class PredictionReading:
    """One reading of "predict layer t from the layers before it": [L, N] values to `Scores`.

    Attributes:
      help: One line on what it does.
      transform: What is done to each layer's values first, [L, N] to [L, any].
      with_target: Fit on l <= t instead of l < t: the regression has seen what it predicts.
      pooled: Scored on the fitted layers instead of t: one R2 over all their values, about
        the mean of them all, and one cosine.
      penalty: Of the ridge regression.
    """

    help: str
    transform: Callable[[np.ndarray], np.ndarray] = as_they_are
    with_target: bool = False
    pooled: bool = False
    penalty: float = 1.0

    def __call__(self, values_LN: np.ndarray) -> Scores:
        """Scores of every target.

        Raises:
          InputError: Fewer than four layers.
        """
        return self.score(self.transform(values_LN))

    def score(self, values_LN: np.ndarray) -> Scores:
        """The same for values that are transformed already."""
        values_LN = np.asarray(values_LN, np.float64)
        # Sums over the values need only the products of layers: with w the layers, one in
        # each row, |w - Aw|^2 is the sum of (I - A) ww' * (I - A).
        gram_LL, sum_L = values_LN @ values_LN.T, values_LN.sum(axis=1)
        scores = [
            _score(gram_LL, sum_L, values_LN.shape[1], layers, weights_kL)
            for layers, weights_kL in _predictions(
                len(values_LN), self.penalty, self.with_target, self.pooled
            )
        ]
        return Scores(*np.array(scores).T)


READINGS = {
    "extrapolate": PredictionReading("fit on layers l < t, R2 over the parameters of t"),
    "in_sample": PredictionReading(
        "fit on layers l < t, R2 on the fitted layers, pooled", pooled=True
    ),
    "target_included": PredictionReading("fit on layers l <= t, R2 at t", with_target=True),
    "sorted": PredictionReading("each layer's values sorted first, then extrapolate", in_order),
    "sorted_weak": PredictionReading(
        "the same with hardly any penalty, so that the polynomial is free",
        in_order,
        penalty=WEAK_PENALTY,
    ),
    "statistics": PredictionReading(
        "extrapolate mean, deviation and quantiles of a layer instead of its parameters",
        layer_statistics,
    ),
}


def gaussian_like(values_LN: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Independent Gaussians with each layer's mean and population standard deviation."""
    mean_L1 = values_LN.mean(axis=1, keepdims=True)
    std_L1 = values_LN.std(axis=1, keepdims=True)
    return mean_L1 + std_L1 * generator.standard_normal(values_LN.shape)


def sample_component(
    blocks: Sequence[tree.BlockParams], component: str, samples: int, seed: int
) -> np.ndarray:
    """The same parameters of one matrix in every layer, float64 [L, N].

    Positions are drawn without replacement (AH section 3.3 takes 10,000); all parameters,
    in order, where the matrix has no more than `samples`.

    Args:
      blocks: The layers.
      component: The matrix.
      samples: N.
      seed: Of the positions, which differ between components and do not depend on which
        others are read.
    """
    size = tree.get(blocks[0], component).size
    position_N = np.arange(size)
    if size > samples:
        generator = np.random.default_rng([seed, tree.MATRICES.index(component)])
        position_N = np.sort(generator.choice(size, samples, replace=False))
    rows = [np.asarray(tree.get(block, component)).reshape(-1)[position_N] for block in blocks]
    return np.stack(rows).astype(np.float64)


@functools.cache
def _predictions(
    num_layers: int, penalty: float, with_target: bool, pooled: bool
) -> tuple[tuple[range, np.ndarray], ...]:
    """For each target the layers to score and the weights of their predictions, [k, L]."""
    if num_layers < MIN_LAYERS:
        raise InputError(f"predictability needs at least {MIN_LAYERS} layers; got {num_layers}")
    predictions = []
    for target in targets(num_layers):
        fitted = range(target + with_target)
        scored = fitted if pooled else range(target, target + 1)
        weights_kL = np.zeros((len(scored), num_layers))
        for row, layer in enumerate(scored):
            weights_kL[row, : len(fitted)] = ridge_weights(fitted, layer, num_layers, penalty)
        predictions.append((scored, weights_kL))
    return tuple(predictions)


def _score(
    gram_LL: np.ndarray, sum_L: np.ndarray, count: int, layers: range, weights_kL: np.ndarray
) -> tuple[float, float]:
    """(R2, cosine) of predicted layers over all their values together."""
    rows = slice(layers.start, layers.stop)
    error_kL = np.eye(len(gram_LL))[rows] - weights_kL
    squares = np.trace(gram_LL[rows, rows])
    about_mean = squares - sum_L[rows].sum() ** 2 / (count * len(layers))
    predicted = ((weights_kL @ gram_LL) * weights_kL).sum()
    # What is left of a constant by rounding is no variance.
    if about_mean <= 1e-12 * squares or predicted <= 0:
        return np.nan, np.nan
    r2 = 1 - ((error_kL @ gram_LL) * error_kL).sum() / about_mean
    return r2, (weights_kL * gram_LL[rows]).sum() / np.sqrt(predicted * squares)

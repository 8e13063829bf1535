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
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError

FIRST_TARGET = 2
MIN_LAYERS = 4
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
WEAK_PENALTY = 1e-6


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well each target is predicted.

    Attributes:
      r2_T: 1 - sum of squared errors / sum of squares about the mean, float64 [T]; NaN
        where the target does not vary.
      cosine_T: Cosine of the predicted and the actual values, float64 [T]; NaN where
        either is zero.
    """

    r2_T: np.ndarray
    cosine_T: np.ndarray


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


def extrapolate(values_LN: np.ndarray, penalty: float = 1.0) -> Scores:
    """Fit on layers l < t, scored over the values of t about their mean."""
    return _at_targets(values_LN, _combinations(len(values_LN), penalty, with_target=False))


def target_included(values_LN: np.ndarray, penalty: float = 1.0) -> Scores:
    """Fit on layers l <= t, scored at t: the regression has seen what it predicts."""
    return _at_targets(values_LN, _combinations(len(values_LN), penalty, with_target=True))


def in_sample(values_LN: np.ndarray, penalty: float = 1.0) -> Scores:
    """Fit on layers l < t, scored on those same layers.

    Pooled: one R2 over all values of all fitted layers, about the mean of them all; one
    cosine of all fitted values with all actual ones.
    """
    values_LN = np.asarray(values_LN, np.float64)
    # Sums over the values need only the products of layers: with w the layers and H the
    # fit, |w - Hw|^2 = sum (I - H)' (I - H) * ww'.
    gram_LL, sum_L = values_LN @ values_LN.T, values_LN.sum(axis=1)
    r2, cosine = [], []
    for hat in _fits(len(values_LN), penalty):
        t = len(hat)
        gram, rest = gram_LL[:t, :t], np.eye(t) - hat
        count = t * values_LN.shape[1]
        total = np.trace(gram)
        r2.append(1 - _ratio(((rest @ gram) * rest).sum(), total - sum_L[:t].sum() ** 2 / count))
        fitted = ((hat @ gram) * hat).sum()
        cosine.append(_ratio((hat * gram).sum(), np.sqrt(max(fitted, 0.0) * total)))
    return Scores(np.array(r2), np.array(cosine))


def sorted_values(values_LN: np.ndarray, penalty: float = 1.0) -> Scores:
    """Each layer's values in order of size first, then `extrapolate`.

    It compares distributions: the k-th smallest value of a layer is no parameter, and two
    layers of noise with equal moments agree almost exactly.
    """
    return extrapolate(np.sort(values_LN, axis=1), penalty)


def sorted_weak(values_LN: np.ndarray) -> Scores:
    """`sorted_values` with hardly any penalty, so that the polynomial is free."""
    return sorted_values(values_LN, WEAK_PENALTY)


def statistics(values_LN: np.ndarray) -> Scores:
    """`extrapolate` on mean, standard deviation and quantiles of each layer.

    The nine statistics (`QUANTILES`; all in units of the weights) stand in place of the
    parameters: R2 is over the nine about their mean.
    """
    rows = [values_LN.mean(axis=1), values_LN.std(axis=1)]
    return extrapolate(np.stack([*rows, *np.quantile(values_LN, QUANTILES, axis=1)], axis=1))


READINGS: dict[str, Callable[[np.ndarray], Scores]] = {
    "extrapolate": extrapolate,
    "in_sample": in_sample,
    "target_included": target_included,
    "sorted": sorted_values,
    "sorted_weak": sorted_weak,
    "statistics": statistics,
}


def gaussian_like(values_LN: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Independent Gaussians with each layer's mean and population standard deviation."""
    mean_L1 = values_LN.mean(axis=1, keepdims=True)
    std_L1 = values_LN.std(axis=1, keepdims=True)
    return mean_L1 + std_L1 * generator.standard_normal(values_LN.shape)


def shuffled_layers(values_LN: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The same layers in random order: what does not depend on depth stays."""
    return values_LN[generator.permutation(len(values_LN))]


def sample_component(
    blocks: Sequence[tree.Block], component: str, samples: int, generator: np.random.Generator
) -> np.ndarray:
    """The same parameters of one matrix in every layer, float64 [L, N].

    Positions are drawn without replacement (AH section 3.3 takes 10,000); all parameters,
    in order, where the matrix has no more than `samples`.
    """
    size = tree.get(blocks[0], component).size
    position_N = np.arange(size)
    if size > samples:
        position_N = np.sort(generator.choice(size, samples, replace=False))
    rows = [np.asarray(tree.get(block, component)).reshape(-1)[position_N] for block in blocks]
    return np.stack(rows).astype(np.float64)


def require_predictable(config: ModelConfig, components: Iterable[str]) -> None:
    """Checks that a model's layers can be predicted from each other.

    Raises:
      InputError: Fewer than four layers, or a component whose shape differs.
    """
    if config.num_layers < MIN_LAYERS:
        raise InputError(
            f"predictability needs at least {MIN_LAYERS} layers (targets start at layer "
            f"{FIRST_TARGET}); this model has {config.num_layers}; take a deeper model"
        )
    shapes = [tree.block_shapes(config, layer) for layer in range(config.num_layers)]
    for name in components:
        for layer, shape in enumerate(shapes):
            if shape[name] != shapes[0][name]:
                raise InputError(
                    f"predictability needs {name} of one shape in all layers; layer 0 has "
                    f"{shapes[0][name]}, layer {layer} has {shape[name]}; leave {name} out of "
                    "the config field components, naming those to keep"
                )


@functools.cache
def _combinations(num_layers: int, penalty: float, with_target: bool) -> np.ndarray:
    """The weights of each target's prediction, float64 [T, L], zero where not fitted."""
    if num_layers < MIN_LAYERS:
        raise InputError(f"predictability needs at least {MIN_LAYERS} layers; got {num_layers}")
    weights_TL = np.zeros((num_layers - FIRST_TARGET, num_layers))
    for row, target in enumerate(range(FIRST_TARGET, num_layers)):
        fitted = range(target + with_target)
        weights_TL[row, : len(fitted)] = ridge_weights(fitted, target, num_layers, penalty)
    weights_TL.setflags(write=False)
    return weights_TL


@functools.cache
def _fits(num_layers: int, penalty: float) -> tuple[np.ndarray, ...]:
    """For each target t the fit of layers l < t on themselves, float64 [t, t]."""
    _combinations(num_layers, penalty, with_target=False)  # refuses too few layers
    return tuple(
        np.stack([ridge_weights(range(t), layer, num_layers, penalty) for layer in range(t)])
        for t in range(FIRST_TARGET, num_layers)
    )


def _at_targets(values_LN: np.ndarray, weights_TL: np.ndarray) -> Scores:
    """Scores of linear combinations of layers against the targets."""
    values_LN = np.asarray(values_LN, np.float64)
    actual_TN, predicted_TN = values_LN[FIRST_TARGET:], weights_TL @ values_LN
    errors_T = ((actual_TN - predicted_TN) ** 2).sum(axis=1)
    total_T = ((actual_TN - actual_TN.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    norms_T = np.linalg.norm(actual_TN, axis=1) * np.linalg.norm(predicted_TN, axis=1)
    return Scores(
        1 - _ratio(errors_T, total_T), _ratio((actual_TN * predicted_TN).sum(axis=1), norms_T)
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; NaN where the whole is not above 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)

"""What the optimiser still does to each matrix: its momentum against the weight, and what is stuck.

    features = momentum_features(params, *moments_of(state))      # of any optax state
    features = momentum_features(params, *probed_moments(gradients, params))

Adam's moments are running means of the gradient and of its square (LR sections 3 and 4); its step
goes against the first. LR reads a positive cosine as "still being pushed the way it has grown",
which is that of the *step* with the weight, and that is what stands here. Where nothing pulls, the
cosine of N entries is 0 with standard deviation 1 / sqrt(N); under decoupled decay a settled weight
is pushed outwards as much as it decays.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from jaxanatomy import tree
from jaxanatomy.forensics.layer_features import Feature

MOMENTUM_FEATURES = {
    "momentum_cosine": "of a matrix: cosine of the next step, minus the first moment, with it",
    "stuck_share": "of a matrix: share of entries whose moments are below 0.01 of their rms",
}
SMALL = 0.01  # of the root mean square over the matrix and its peers
FIRST, SECOND = ("mu", "trace"), ("nu",)  # optax's names


def moments_of(state: Any) -> tuple[Any, Any]:
    """(first, second) moments in any optax state, or in one that Orbax has read without its types.

    None for what the optimiser does not keep: SGD and Lion have no second moment.
    """
    return _named(state, FIRST), _named(state, SECOND)


def probed_moments(
    gradients: Iterable[tree.Params], params: tree.Params, beta1: float = 0.9, beta2: float = 0.999
) -> tuple[tree.Params, tree.Params]:
    """The moments that Adam would have after gradients at frozen weights, bias corrected.

    Args:
      gradients: One for each batch of a probe text.
      params: The weights, which stay as they are.
      beta1: Decay of the first moment.
      beta2: Decay of the second.
    """
    adam, count = optax.scale_by_adam(beta1, beta2), 0
    state, update = adam.init(params), jax.jit(adam.update)
    for gradient in gradients:
        _, state = update(gradient, state)
        count += 1
    corrected = optax.tree.bias_correction
    return corrected(state.mu, beta1, count), corrected(state.nu, beta2, count)


def momentum_features(
    params: tree.Params, first: tree.Params | None, second: tree.Params | None = None
) -> list[dict[Feature, float]]:
    """Features of each layer's matrices, by component and metric; empty where moments are not kept.

    Args:
      params: Weights, one block for each layer or stacked.
      first: First moments, of the same form; None: not kept. Where some layers do not train, they
        have None, and nothing compares the layers.
      second: Second moments; None: not kept, and nothing is said to be stuck.

    Returns:
      For each layer "momentum_cosine", of minus the first moment with the weight, NaN where either
      is zero; and "stuck_share", the share of entries of which both |m| and sqrt(v) are below a
      hundredth of their root mean square over the component in all layers; NaN before the first
      gradient.
    """
    blocks = _blocks(params)
    found: list[dict[Feature, float]] = [{} for _ in blocks]
    if first is None or any(stack is None for stack in first["layers"]):
        return found
    steps, squares = _blocks(first), None if second is None else _blocks(second)
    for name in tree.MATRICES:
        weights = [np.asarray(tree.get(block, name), np.float64) for block in blocks]
        moments = [np.asarray(tree.get(block, name), np.float64) for block in steps]
        for own, weight, moment in zip(found, weights, moments, strict=True):
            norms = np.linalg.norm(weight) * np.linalg.norm(moment)
            cosine = -float((weight * moment).sum() / norms) if norms else np.nan
            own[name, "momentum_cosine"] = cosine
        if squares is not None:
            roots = [np.sqrt(np.asarray(tree.get(block, name), np.float64)) for block in squares]
            is_known = any(map(np.any, roots))  # a gradient has been seen
            for own, *both in zip(found, _small(moments), _small(roots), strict=True):
                own[name, "stuck_share"] = float(np.mean(both[0] & both[1])) if is_known else np.nan
    return found


def _small(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Of each layer's entries, whether they are small beside those of all layers."""
    total = sum(np.square(each).sum() for each in arrays) / sum(each.size for each in arrays)
    return [np.abs(each) < SMALL * np.sqrt(total) for each in arrays]


def _blocks(params: Mapping[str, Any]) -> list[tree.BlockParams]:
    """One block for each layer; of trees that Orbax has read, too, whose layers are a list."""
    layers = tuple(params["layers"])
    return list(tree.unstack(layers) if np.ndim(tree.get(layers[0], "q_proj")) == 3 else layers)


def _named(state: Any, names: Iterable[str]) -> Any:
    """The first part of a state under one of these names; None where there is none."""
    if hasattr(state, "_asdict"):
        state = state._asdict()
    if isinstance(state, Mapping):
        for name in names:
            if state.get(name) is not None:
                return state[name]
        state = list(state.values())
    found = (_named(part, names) for part in state) if isinstance(state, list | tuple) else ()
    return next((each for each in found if each is not None), None)

"""What alarms read of a run: each layer's size and next update against its peers', by kind.

What is computed on the devices is one program, of which one small array comes to the host. Letters
here: C watched tensors of a layer, R readings of one.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import tree
from jaxanatomy.forensics.layer_features import SATURATED
from jaxanatomy.growth.clone import co_magnitude
from jaxanatomy.train.callbacks import RunState
from jaxanatomy.train.loss import merge
from jaxanatomy.train.optimiser import COLUMNS
from jaxanatomy.tree import PyTree

KINDS = {
    "spectral": "spectral norm of a matrix, or largest gain of a norm, over the median of its "
    "peers: the same component of all layers",
    "update_growth": "norm of a layer's next update over the largest of any at earlier checks",
    "update_size": "norm of a tensor's next update over its own, or its peers' if larger",
    "cv": "coefficient of variation of the FFN's co-magnitude over the median of the peers'",
    "saturated": "share of FFN neurons above the layer's mean co-magnitude plus 3 std; at most 0.1",
    "dead": "how many times weaker than its peers' a layer's update is, or what it writes",
    "loss_jump": "loss of a step, in standard deviations of its log over 50 steps before",
    "gradient_jump": "the same of the gradient's norm, before clipping",
    "update_jump": "the same of the norm of what the step changes",
}
NON_FINITE = "non_finite"
DEAD = "dead"
MIN_PEERS = 3  # of two layers one is never far from their median
PEER_KINDS = ("spectral", "cv", DEAD)
ITERATIONS = 8

# [M, L] by kind and tensor; L is 1 for what is of no layer.
Readings = dict[tuple[str, str], np.ndarray]


def readings(
    state: RunState, largest_M: np.ndarray | None = None
) -> tuple[Readings, np.ndarray | None]:
    """What weights and moments say of each layer; without updates where a stage begins.

    The next update is the one that the moments alone would make at the next step's learning rate:
    the optimiser is asked for its update by a gradient of zero, whichever optimiser it is.

    Args:
      state: Of a run.
      largest_M: Norm of the largest update of a layer at the checks before; None: the first.

    Returns:
      The readings, and the norm of each layer's next update, [M, L]; None where a stage begins.
    """
    setup, stage = state.setup, state.stage
    trained, frozen = setup.split(stage, state.params)
    optimiser, whole = setup.transformation(stage), setup.placement.whole
    with setup.precision():
        raw = _measure(optimiser, trained, frozen, state.moments, setup.replicas, whole)
    raw_MRL = np.asarray(raw, np.float64).reshape(len(setup.seeds), *raw.shape[-2:])
    names = watched(state.params["layers"])
    size_MCL, norm_MCL, change_MCL = np.split(raw_MRL[:, :-2], 3, axis=1)
    cv_ML, saturated_ML = raw_MRL[:, -2], raw_MRL[:, -1]
    found = {("cv", ""): _over_peers(cv_ML), ("saturated", ""): saturated_ML}
    with np.errstate(invalid="ignore", divide="ignore"):
        for at, name in enumerate(names):
            found["spectral", name] = _over_peers(size_MCL[:, at])
            finite_ML = np.isfinite(raw_MRL[:, at :: len(names)][:, :3]).all(axis=1)
            found[NON_FINITE, name] = np.where(finite_ML, 0.0, np.inf)
        if state.steps is None:
            return found, None
        rates_EM = setup.rates()
        change_MCL = change_MCL * rates_EM[min(state.step, len(rates_EM) - 1)][:, None, None]
        floor_MC1 = np.median(np.nan_to_num(norm_MCL), axis=2, keepdims=True)
        relative_MCL = change_MCL / np.maximum(norm_MCL, floor_MC1)
        found |= {("update_size", name): relative_MCL[:, at] for at, name in enumerate(names)}
        change_ML = np.sqrt((change_MCL**2).sum(axis=1))
        trains_L = np.isin(stage.layers, stage.train)
        # Not slower because an alarm has slowed it: that alarm would never end.
        own_ML = np.sqrt(((change_MCL / _slowed(state, names, stage.layers)) ** 2).sum(axis=1))
        quiet_ML = np.where(trains_L, 1 / _over_peers(np.where(trains_L, own_ML, np.nan)), 0.0)
        written = [_over_peers(size_MCL[:, names.index(name)]) for name in tree.WRITING]
        found |= {(DEAD, "update"): quiet_ML, (DEAD, "write"): 1 / np.fmax(*written)}
        if largest_M is not None:
            # Where no layer has learnt before, as at a rate of 0, there is nothing to compare with.
            before_M = np.where(largest_M > 0, largest_M, np.nan)
            found["update_growth", ""] = change_ML / before_M[:, None]
    return found, change_ML


def _slowed(state: RunState, names: Sequence[str], layers: Sequence[int]) -> np.ndarray:
    """The factors on the learning rate of watched tensors, [M, C, L]; ones without any."""
    rates = optax.tree.get(state.moments, "layer_rates")
    if rates is None:
        return np.ones((1, len(names), len(layers)))
    rate_MNK = np.asarray(rates, np.float64).reshape(-1, *rates.shape[-2:])
    column_C = [COLUMNS.index(name) if name in COLUMNS else -1 for name in names]
    return rate_MNK[:, : len(layers), column_C].swapaxes(1, 2)


def watched(stacks: Sequence[tree.BlockParams]) -> list[str]:
    """The matrices and norms that all layers have."""
    named = [tree.components(stack) for stack in stacks]
    return [name for name in named[0] if "." not in name and all(name in own for own in named)]


def spectral_norms(kernel_LIO: jax.Array, iterations: int = ITERATIONS) -> jax.Array:
    """The largest singular value of each matrix of a stack, from below, [L].

    Power iterations from a fixed start, so that a run that goes on reads what it would have read:
    within 10 % for a matrix of noise, exact for one that stands out. Two products with a vector
    for each iteration are nothing beside those with a batch of a step.
    """
    matrix_LIO = kernel_LIO.astype(jnp.float32)
    start_O = jax.random.normal(jax.random.key(0), matrix_LIO.shape[2:])

    def times(vector_LO: jax.Array) -> jax.Array:
        return jnp.einsum("lio,lo->li", matrix_LIO, vector_LO)

    def body(_: int, vector_LO: jax.Array) -> jax.Array:
        vector_LO = jnp.einsum("lio,li->lo", matrix_LIO, times(vector_LO))
        return vector_LO / jnp.maximum(_norms(vector_LO), 1e-30)[:, None]

    start_LO = jnp.broadcast_to(start_O, (len(matrix_LIO), *start_O.shape))
    return _norms(times(jax.lax.fori_loop(0, iterations, body, start_LO)))


@functools.partial(jax.jit, static_argnames=("optimiser", "replicas", "whole"))
def _measure(
    optimiser: optax.GradientTransformation,
    trained: PyTree,
    frozen: PyTree,
    moments: PyTree,
    replicas: bool,
    whole: jax.sharding.Sharding,
) -> jax.Array:
    """Of each layer, [R, L]: of the C watched tensors sizes, norms, norms of updates; CV, share.

    Updates are those of a learning rate of 1.
    """

    def one(trained: PyTree, frozen: PyTree, moments: PyTree) -> jax.Array:
        update, _ = optimiser.update(jax.tree.map(jnp.zeros_like, trained), moments, trained)
        layers = merge(trained, frozen)["layers"]
        changes = merge(update, jax.tree.map(jnp.zeros_like, frozen))["layers"]
        names, parts = watched(layers), []
        for stack, change in zip(_joined(layers), _joined(changes), strict=True):
            own, step = (tree.components(each, names) for each in (stack, change))
            size_CL = [_size(own[name]) for name in names]
            norm_CL = [_norms(own[name]) for name in names]
            change_CL = [_norms(step[name]) for name in names]
            neuron_LF = jax.vmap(co_magnitude)(stack)
            mean_L1 = neuron_LF.mean(axis=1, keepdims=True)
            std_L1 = neuron_LF.std(axis=1, keepdims=True)
            share_L = (neuron_LF > mean_L1 + SATURATED * std_L1).mean(axis=1)
            cv_L = (std_L1 / mean_L1)[:, 0]
            parts.append(jnp.stack([*size_CL, *norm_CL, *change_CL, cv_L, share_L]))
        return jnp.concatenate(parts, axis=1)

    found = (jax.vmap(one) if replicas else one)(trained, frozen, moments)
    return jax.lax.with_sharding_constraint(found, whole)


def _size(leaf: jax.Array) -> jax.Array:
    """Of each layer: the spectral norm of a matrix, the largest magnitude of a norm's gains."""
    return spectral_norms(leaf) if leaf.ndim == 3 else jnp.abs(leaf).max(axis=-1)


def _norms(leaf: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(leaf).sum(axis=tuple(range(1, leaf.ndim))))


def _joined(stacks: Sequence[tree.BlockParams]) -> list[tree.BlockParams]:
    """Stacks of equal layers made one, however the trainer holds them."""

    def layer(stack: tree.BlockParams) -> Mapping[str, tuple[int, ...]]:
        return {path: leaf.shape[1:] for path, leaf in tree.to_leaves(stack).items()}

    runs = itertools.groupby(stacks, key=layer)
    return [jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *run) for _, run in runs]


def _over_peers(value_ML: np.ndarray) -> np.ndarray:
    """Values over their median over layers; NaN where there are too few, or the median is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        there_M1 = np.isfinite(value_ML).sum(axis=1, keepdims=True) >= MIN_PEERS
        median_M1 = np.nanmedian(np.where(there_M1, value_ML, 0.0), axis=1, keepdims=True)
        return np.where(there_M1 & (median_M1 > 0), value_ML / median_M1, np.nan)

"""The compiled parts of training many single layers at once, as pure functions of one lane.

Streams live in a pool, `pool_XRTD`, one slot for each replica. On the way forward a slot
holds the replica's residual stream, from the head on backwards the gradient of it.
`clean_LRTD[l]` is the stream of the unedited model before layer l. Calls may be padded;
padding reads what does not matter and writes to slot X, which is dropped.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.measures.nll import nll
from jaxanatomy.sweep.programs import Context, TextArrays, apply_block
from jaxanatomy.train.tape import Reversible

Fixed = tuple[tree.BlockParams, TextArrays]


def reversible_block(config: ModelConfig, shape: LayerShape, dtype: jnp.dtype) -> Reversible:
    """A layer of a shape, forward and back, that keeps the results of its products alone."""

    def block(fixed: Fixed, x_CRTD: jax.Array) -> jax.Array:
        params, text = fixed
        return apply_block(config, shape, dtype, params, x_CRTD, text)

    # Norms, softmax and products with gates are cheap to do again, and twice the memory.
    return Reversible(jax.checkpoint(block, policy=jax.checkpoint_policies.dots_saveable))


def advance(
    config: ModelConfig,
    shape: LayerShape,
    dtype: jnp.dtype,
    params: tree.BlockParams,
    clean_LRTD: jax.Array,
    layer: jax.Array,
    text: TextArrays,
) -> jax.Array:
    """The clean streams with the one after `layer` filled in."""
    y_CRTD = apply_block(config, shape, dtype, params, clean_LRTD[layer][None], text)
    return clean_LRTD.at[layer + 1].set(y_CRTD[0])


def start(
    config: ModelConfig,
    shape: LayerShape,
    dtype: jnp.dtype,
    params: tree.BlockParams,
    pool_XRTD: jax.Array,
    clean_LRTD: jax.Array,
    layer_slot: jax.Array,
    text: TextArrays,
) -> jax.Array:
    """The pool with a replica's stream after its own layer in its slot."""
    layer, slot = layer_slot
    y_CRTD = apply_block(config, shape, dtype, params, clean_LRTD[layer][None], text)
    return pool_XRTD.at[slot].set(y_CRTD[0], mode="drop")


def through(
    config: ModelConfig,
    shape: LayerShape,
    dtype: jnp.dtype,
    params: tree.BlockParams,
    pool_XRTD: jax.Array,
    slot_C: jax.Array,
    text: TextArrays,
) -> jax.Array:
    """Takes C streams through a frozen layer, with no way back."""
    y_CRTD = apply_block(config, shape, dtype, params, _streams(pool_XRTD, slot_C), text)
    return pool_XRTD.at[slot_C].set(y_CRTD, mode="drop")


def forward(
    block: Reversible,
    params: tree.BlockParams,
    pool_XRTD: jax.Array,
    slot_C: jax.Array,
    text: TextArrays,
) -> tuple[jax.Array, list[jax.Array]]:
    """Takes C streams through a frozen layer; also returns what `back` needs."""
    y_CRTD, kept = block.forward((params, text), _streams(pool_XRTD, slot_C))
    return pool_XRTD.at[slot_C].set(y_CRTD, mode="drop"), kept


def back(
    block: Reversible,
    params: tree.BlockParams,
    kept: list[jax.Array],
    pool_XRTD: jax.Array,
    slot_C: jax.Array,
    text: TextArrays,
) -> jax.Array:
    """Takes the gradients of C streams back through a frozen layer."""
    dx_CRTD = block.back((params, text), kept, _streams(pool_XRTD, slot_C))
    return pool_XRTD.at[slot_C].set(dx_CRTD, mode="drop")


def turn(
    config: ModelConfig,
    dtype: jnp.dtype,
    head: tree.Params,
    pool_XRTD: jax.Array,
    slot_C: jax.Array,
    weight_P: jax.Array,
    text: TextArrays,
) -> tuple[jax.Array, jax.Array]:
    """Replaces C streams by the gradients of their losses.

    Args:
      config: The architecture.
      dtype: Of the operands of products.
      head: Parameters without layers.
      pool_XRTD: All streams.
      slot_C: The slots.
      weight_P: Weight of each prediction in the loss; 0 for padding.
      text: The text.

    Returns:
      (pool, loss_C), the loss being the weighted sum of the predictions' losses.
    """
    x_CRTD = _streams(pool_XRTD, slot_C)
    C, R, T, D = x_CRTD.shape
    x_PD = x_CRTD.reshape(C, R * T, D)[:, text.predict_P].reshape(-1, D)
    h_PD, pull = jax.vjp(lambda x_PD: model.final_norm(config, head, x_PD), x_PD)
    target_P, weight_P = jnp.tile(text.target_P, C), jnp.tile(weight_P, C)
    nll_P, dh_PD = model.token_nll_and_gradient(h_PD, tree.unembedding(head), target_P, dtype)
    (dx_PD,) = pull(dh_PD * weight_P[:, None])
    # Added, not set: padding points at position 0, which may be predicted from as well.
    flat = jnp.zeros_like(x_CRTD).reshape(C, R * T, D)
    flat = flat.at[:, text.predict_P].add(dx_PD.reshape(C, -1, D))
    pool_XRTD = pool_XRTD.at[slot_C].set(flat.reshape(x_CRTD.shape), mode="drop")
    return pool_XRTD, (nll_P * weight_P).reshape(C, -1).sum(axis=-1)


def read(
    config: ModelConfig,
    dtype: jnp.dtype,
    head: tree.Params,
    pool_XRTD: jax.Array,
    slot_C: jax.Array,
    text: TextArrays,
) -> jax.Array:
    """The loss of each prediction of C streams, nll_CP."""
    return nll((_streams(pool_XRTD, slot_C),), Context(config, dtype, head, text))


def update(
    config: ModelConfig,
    shape: LayerShape,
    dtype: jnp.dtype,
    optimiser: optax.GradientTransformation,
    params: tree.BlockParams,
    moments: Any,
    pool_XRTD: jax.Array,
    clean_LRTD: jax.Array,
    layer_slot: jax.Array,
    text: TextArrays,
) -> tuple[tree.BlockParams, Any]:
    """One step of a replica's own layer, whose output has its gradient in the pool."""
    layer, slot = layer_slot
    x_CRTD = clean_LRTD[layer][None]
    _, pull = jax.vjp(lambda own: apply_block(config, shape, dtype, own, x_CRTD, text), params)
    (gradient,) = pull(pool_XRTD[slot][None])
    updates, moments = optimiser.update(gradient, moments, params)
    return optax.apply_updates(params, updates), moments


def prediction_weights(batch: TextBatch) -> np.ndarray:
    """Weights that make a sum over predictions a mean over those that are no padding."""
    valid_P = batch.document_P >= 0
    return (valid_P / valid_P.sum()).astype(np.float32)


def _streams(pool_XRTD: jax.Array, slot_C: jax.Array) -> jax.Array:
    """The streams of some slots; ones where padded, so that no norm divides by zero."""
    return pool_XRTD.at[slot_C].get(mode="fill", fill_value=1.0)

"""From the residual stream to logits and to the loss of each predicted token."""

import jax
import jax.numpy as jnp

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.model.modules import RMSNorm

VOCABULARY_CHUNK = 2048


def final_norm(config: ModelConfig, params: tree.Params, x: jax.Array) -> jax.Array:
    """The norm before the head, over the last axis of x."""
    return RMSNorm(config.norm_epsilon).apply({"params": params["final_norm"]}, x)


def logits(
    config: ModelConfig, params: tree.Params, x_BTD: jax.Array, dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Scores of every token of the vocabulary, float32 [B, T, V]."""
    h_BTD = final_norm(config, params, x_BTD)
    return _scores(h_BTD, tree.unembedding(params), dtype)


def token_nll(
    h_PD: jax.Array,
    unembedding_VD: jax.Array,
    target_P: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    chunk: int = VOCABULARY_CHUNK,
) -> jax.Array:
    """Negative log-likelihood of each target, in nats, without the [P, V] logits.

    Streams over chunks of the vocabulary with a running log-sum-exp: whole logits
    leave the processor's cache, chunks of about 2,048 rows do not.

    Args:
      h_PD: Streams after the final norm, at the predicted positions.
      unembedding_VD: The head's matrix; V need not be a multiple of `chunk`.
      target_P: The tokens to predict.
      dtype: Of the operands of the product; it accumulates in float32.
      chunk: Rows of the vocabulary in one product.

    Returns:
      nll_P, float32.
    """
    # Built from data, so that the carry varies over devices as h does.
    total_P = jnp.zeros_like(h_PD[:, 0])
    top_P, total_P = _over_vocabulary(_accumulate, total_P, h_PD, unembedding_VD, dtype, chunk)
    # The two scores are subtracted first: both may be large, their difference is not.
    return jnp.log(total_P) + (top_P - _target_scores(h_PD, unembedding_VD, target_P, dtype))


def token_nll_at(
    h_PD: jax.Array,
    unembedding_VD: jax.Array,
    target_P: jax.Array,
    inverse_temperature_Q: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    chunk: int = VOCABULARY_CHUNK,
) -> jax.Array:
    """The loss of each target at several temperatures, from one product with the head.

    At temperature tau the model says softmax(scores / tau). Arguments as `token_nll`, and:

    Args:
      inverse_temperature_Q: 1 / tau, above 0, float32.

    Returns:
      nll_QP in nats, float32.
    """
    each = jax.vmap(_accumulate, in_axes=((None, 0), None, None, 0), out_axes=(None, 0))

    def accumulate(carry, score_PW, chunk_WD):
        return each(carry, score_PW, chunk_WD, inverse_temperature_Q)

    shape_QP = (len(inverse_temperature_Q), len(h_PD))
    total_QP = jnp.broadcast_to(jnp.zeros_like(h_PD[:, 0])[None], shape_QP)
    top_P, total_QP = _over_vocabulary(accumulate, total_QP, h_PD, unembedding_VD, dtype, chunk)
    below_P = top_P - _target_scores(h_PD, unembedding_VD, target_P, dtype)
    return jnp.log(total_QP) + inverse_temperature_Q[:, None] * below_P[None]


def token_nll_and_gradient(
    h_PD: jax.Array,
    unembedding_VD: jax.Array,
    target_P: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    chunk: int = VOCABULARY_CHUNK,
) -> tuple[jax.Array, jax.Array]:
    """The loss of each target and its gradient, from one pass over the vocabulary.

    The gradient of a token's loss with respect to its own h is the mean of the head's
    rows under the model's distribution, less the target's row; the running sums gather
    the weighted rows beside their total. Arguments as `token_nll`.

    Returns:
      (nll_P, gradient_PD), float32.
    """

    def accumulate(carry, score_PW, chunk_WD):
        top_P, (total_P, rows_PD) = carry
        new_top_P, total_P = _accumulate((top_P, total_P), score_PW, chunk_WD)
        weight_PW = jnp.exp(score_PW - new_top_P[:, None])
        rows_PD = rows_PD * jnp.exp(top_P - new_top_P)[:, None]
        return new_top_P, (total_P, rows_PD + _weighted_rows(weight_PW, chunk_WD, dtype))

    sums = (jnp.zeros_like(h_PD[:, 0]), jnp.zeros_like(h_PD))
    top_P, (total_P, rows_PD) = _over_vocabulary(
        accumulate, sums, h_PD, unembedding_VD, dtype, chunk
    )
    below_P = top_P - _target_scores(h_PD, unembedding_VD, target_P, dtype)
    target_PD = unembedding_VD[target_P].astype(dtype).astype(jnp.float32)
    return jnp.log(total_P) + below_P, rows_PD / total_P[:, None] - target_PD


def _over_vocabulary(accumulate, total, h_PD, unembedding_VD, dtype, chunk):
    """The largest score, and the sum that `accumulate` forms over chunks of the vocabulary."""
    V, D = unembedding_VD.shape
    full = V // chunk * chunk

    def step(carry, chunk_WD):
        return accumulate(carry, _scores(h_PD, chunk_WD, dtype), chunk_WD), None

    carry = (jnp.full_like(h_PD[:, 0], -jnp.inf), total)
    carry, _ = jax.lax.scan(step, carry, unembedding_VD[:full].reshape(-1, chunk, D))
    if full < V:
        carry, _ = step(carry, unembedding_VD[full:])
    return carry


def _accumulate(carry, score_PW, chunk_WD, inverse_temperature=1.0):
    """Takes more scores into a running sum of exp((score - top) / tau), top the largest yet."""
    top_P, total_P = carry
    new_top_P = jnp.maximum(top_P, score_PW.max(axis=-1))
    chunk_P = jnp.exp(inverse_temperature * (score_PW - new_top_P[:, None])).sum(axis=-1)
    return new_top_P, total_P * jnp.exp(inverse_temperature * (top_P - new_top_P)) + chunk_P


def _target_scores(h_PD, unembedding_VD, target_P, dtype):
    target_PD = unembedding_VD[target_P].astype(dtype).astype(jnp.float32)
    return (h_PD.astype(dtype).astype(jnp.float32) * target_PD).sum(axis=-1)


def _weighted_rows(weight_PW: jax.Array, rows_WD: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return jax.lax.dot_general(
        weight_PW.astype(dtype),
        rows_WD.astype(dtype),
        (((1,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )


def _scores(h: jax.Array, rows_VD: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return jax.lax.dot_general(
        h.astype(dtype),
        rows_VD.astype(dtype),
        (((h.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=jnp.float32,
    )

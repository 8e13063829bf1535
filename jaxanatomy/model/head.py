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
    V, D = unembedding_VD.shape
    full = V // chunk * chunk

    def accumulate(carry, chunk_WD):
        top_P, total_P = carry
        score_PW = _scores(h_PD, chunk_WD, dtype)
        new_top_P = jnp.maximum(top_P, score_PW.max(axis=-1))
        chunk_P = jnp.exp(score_PW - new_top_P[:, None]).sum(axis=-1)
        return (new_top_P, total_P * jnp.exp(top_P - new_top_P) + chunk_P), None

    # Built from data, so that the carry varies over devices as h does.
    carry = (jnp.full_like(h_PD[:, 0], -jnp.inf), jnp.zeros_like(h_PD[:, 0]))
    chunks_NWD = unembedding_VD[:full].reshape(-1, chunk, D)
    carry, _ = jax.lax.scan(accumulate, carry, chunks_NWD)
    if full < V:
        carry, _ = accumulate(carry, unembedding_VD[full:])
    top_P, total_P = carry
    target_PD = unembedding_VD[target_P].astype(dtype).astype(jnp.float32)
    target_score_P = (h_PD.astype(dtype).astype(jnp.float32) * target_PD).sum(axis=-1)
    # The two scores are subtracted first: both may be large, their difference is not.
    return jnp.log(total_P) + (top_P - target_score_P)


def _scores(h: jax.Array, rows_VD: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return jax.lax.dot_general(
        h.astype(dtype),
        rows_VD.astype(dtype),
        (((h.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=jnp.float32,
    )

"""From the residual stream to logits and to the loss of each predicted token."""

import functools

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
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

    For a gradient the exponentials of every chunk are kept, [P, V] in `dtype`. What they are
    still to be multiplied by is one number for each position and chunk, and goes onto h or
    its gradient: the way back is two products for each chunk and no pass over [P, V].

    Args:
      h_PD: Streams after the final norm, at the predicted positions.
      unembedding_VD: The head's matrix; V need not be a multiple of `chunk`.
      target_P: The tokens to predict.
      dtype: Of the operands of the product; it accumulates in float32.
      chunk: Rows of the vocabulary in one product.

    Returns:
      nll_P, float32.
    """
    top_P, total_P = _over_vocabulary(
        _accumulate, jnp.zeros_like(h_PD[:, 0]), h_PD, unembedding_VD, dtype, chunk
    )
    # The two scores are subtracted first: both may be large, their difference is not.
    return jnp.log(total_P) + (top_P - _target_scores(h_PD, unembedding_VD, target_P, dtype))


def _nll_forward(h, unembedding, target, dtype, chunk):
    """`token_nll`, and what its gradient needs."""
    h_PD, unembedding_VD, target_P = h.value, unembedding.value, target.value

    def step(carry, chunk_WD):
        top_P, total_P = carry
        top_P, weight_PW, shrink_P = _weights(top_P, _scores(h_PD, chunk_WD, dtype))
        total_P = total_P * shrink_P + weight_PW.sum(axis=-1)
        return (top_P, total_P), (weight_PW.astype(dtype), top_P)

    carry = (_no_score(h_PD), jnp.zeros_like(h_PD[:, 0]))
    (top_P, total_P), kept = _scan(step, carry, *_chunks(unembedding_VD, chunk))
    below_P = top_P - _target_scores(h_PD, unembedding_VD, target_P, dtype)
    # A head that is frozen has no products of its own on the way back.
    trains = h_PD if unembedding.perturbed else None
    return jnp.log(total_P) + below_P, (trains, unembedding_VD, target_P, top_P, total_P, kept)


def _nll_backward(dtype, chunk, residuals, above_P):
    """Gradients of h and of the head's matrix, from that of each loss."""
    h_PD, unembedding_VD, target_P, top_P, total_P, (whole, rest) = residuals
    share_P = above_P / total_P

    def step(dh_PD, inputs):
        chunk_WD, (weight_PW, chunk_top_P) = inputs
        factor_P1 = (share_P * jnp.exp(chunk_top_P - top_P))[:, None]
        dh_PD = dh_PD + factor_P1 * _product(weight_PW, chunk_WD, (1, 0), dtype)
        if h_PD is None:
            return dh_PD, None
        return dh_PD, _product(weight_PW, factor_P1 * h_PD, (0, 0), dtype)

    whole_WD, rest_WD = _chunks(unembedding_VD, chunk)
    rest = None if rest is None else (rest_WD, rest)
    # Less the target's own row, both ways.
    above_P1 = above_P[:, None]
    dh_PD = -above_P1 * _rounded(unembedding_VD[target_P], dtype)
    dh_PD, (rows_CWD, rows_WD) = _scan(step, dh_PD, (whole_WD, whole), rest)
    if h_PD is None:
        return dh_PD, None, None
    rows_VD = rows_CWD.reshape(-1, h_PD.shape[1])
    if rows_WD is not None:
        rows_VD = jnp.concatenate([rows_VD, rows_WD])
    rows_VD = rows_VD.at[target_P].add(-above_P1 * _rounded(h_PD, dtype))
    return dh_PD, rows_VD.astype(unembedding_VD.dtype), None


token_nll.defvjp(_nll_forward, _nll_backward, symbolic_zeros=True)


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


def token_nll_and_best(
    h_PD: jax.Array,
    unembedding_VD: jax.Array,
    target_P: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    chunk: int = VOCABULARY_CHUNK,
) -> tuple[jax.Array, jax.Array]:
    """The loss of each target and the likeliest token, of equally likely ones the first.

    Arguments as `token_nll`.

    Returns:
      (nll_P, best_P), float32 and int32.
    """

    def accumulate(carry, score_PW, chunk_WD):
        before_P, (total_P, best_P, start_P) = carry
        own_P = start_P + score_PW.argmax(axis=-1)
        top_P, total_P = _accumulate((before_P, total_P), score_PW, chunk_WD)
        best_P = jnp.where(top_P > before_P, own_P, best_P)
        return top_P, (total_P, best_P, start_P + len(chunk_WD))

    none_P = jnp.zeros_like(target_P)
    sums = (jnp.zeros_like(h_PD[:, 0]), none_P, none_P)
    top_P, (total_P, best_P, _) = _over_vocabulary(
        accumulate, sums, h_PD, unembedding_VD, dtype, chunk
    )
    below_P = top_P - _target_scores(h_PD, unembedding_VD, target_P, dtype)
    return jnp.log(total_P) + below_P, best_P


def token_nll_and_gradient(
    h_PD: jax.Array,
    unembedding_VD: jax.Array,
    target_P: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    chunk: int = VOCABULARY_CHUNK,
    weight_dtype: jnp.dtype | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The loss of each target and its gradient, from one pass over the vocabulary.

    The gradient of a token's loss with respect to its own h is the mean of the head's
    rows under the model's distribution, less the target's row; the running sums gather
    the weighted rows beside their total. Arguments as `token_nll`, and:

    Args:
      weight_dtype: Of the weights in that mean; None: `dtype`.

    Returns:
      (nll_P, gradient_PD), float32.
    """

    def accumulate(carry, score_PW, chunk_WD):
        top_P, (total_P, rows_PD) = carry
        top_P, weight_PW, shrink_P = _weights(top_P, score_PW)
        total_P = total_P * shrink_P + weight_PW.sum(axis=-1)
        mean_PD = _product(weight_PW, chunk_WD.astype(dtype), (1, 0), weight_dtype or dtype)
        return top_P, (total_P, rows_PD * shrink_P[:, None] + mean_PD)

    sums = (jnp.zeros_like(h_PD[:, 0]), jnp.zeros_like(h_PD))
    top_P, (total_P, rows_PD) = _over_vocabulary(
        accumulate, sums, h_PD, unembedding_VD, dtype, chunk
    )
    below_P = top_P - _target_scores(h_PD, unembedding_VD, target_P, dtype)
    target_PD = _rounded(unembedding_VD[target_P], dtype)
    return jnp.log(total_P) + below_P, rows_PD / total_P[:, None] - target_PD


def _over_vocabulary(accumulate, total, h_PD, unembedding_VD, dtype, chunk):
    """The largest score, and the sum that `accumulate` forms over chunks of the vocabulary."""

    def step(carry, chunk_WD):
        return accumulate(carry, _scores(h_PD, chunk_WD, dtype), chunk_WD), None

    carry, _ = _scan(step, (_no_score(h_PD), total), *_chunks(unembedding_VD, chunk))
    return carry


def _chunks(unembedding_VD, chunk):
    """Whole chunks of the vocabulary, [C, W, D], and the rows that are left over, or None."""
    V, D = unembedding_VD.shape
    full = V // chunk * chunk
    return unembedding_VD[:full].reshape(-1, chunk, D), unembedding_VD[full:] if full < V else None


def _scan(step, carry, whole, rest):
    """A scan over whole chunks, then a step on what is left over, if anything is."""
    carry, outputs = jax.lax.scan(step, carry, whole)
    last = None
    if rest is not None:
        carry, last = step(carry, rest)
    return carry, (outputs, last)


def _no_score(h_PD):
    """Below every score; built from data, so that the carry varies over devices as h does."""
    return jnp.full_like(h_PD[..., 0], -jnp.inf)


def _accumulate(carry, score_PW, chunk_WD, inverse_temperature=1.0):
    """Takes more scores into a running sum of exp((score - top) / tau), top the largest yet."""
    top_P, total_P = carry
    top_P, weight_PW, shrink_P = _weights(top_P, score_PW, inverse_temperature)
    return top_P, total_P * shrink_P + weight_PW.sum(axis=-1)


def _weights(top_P, score_PW, inverse_temperature=1.0):
    """The largest score yet, exponentials below it, and what sums so far are to shrink by."""
    new_top_P = jnp.maximum(top_P, score_PW.max(axis=-1))
    weight_PW = jnp.exp(inverse_temperature * (score_PW - new_top_P[..., None]))
    return new_top_P, weight_PW, jnp.exp(inverse_temperature * (top_P - new_top_P))


def _target_scores(h_PD, unembedding_VD, target_P, dtype):
    """The score of each target."""
    return (_rounded(h_PD, dtype) * _rounded(unembedding_VD[target_P], dtype)).sum(axis=-1)


def _rounded(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Float32, rounded as an operand of a product in `dtype` is."""
    return x.astype(dtype).astype(jnp.float32)


def _scores(h: jax.Array, rows_VD: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return _product(h, rows_VD, (h.ndim - 1, 1), dtype)


def _product(left: jax.Array, right: jax.Array, axes: tuple[int, int], dtype: jnp.dtype):
    """Sums over an axis of each; operands in `dtype`, result in float32."""
    return jax.lax.dot_general(
        left.astype(dtype),
        right.astype(dtype),
        (((axes[0],), (axes[1],)), ((), ())),
        preferred_element_type=jnp.float32,
    )

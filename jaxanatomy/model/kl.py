"""How far the predictions of streams are from those of a clean one, from losses and gradients.

KL(p || q) is what the loss rises beyond first order, whatever the target: see `token_nll_and_kl`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxanatomy.model.head import VOCABULARY_CHUNK, token_nll, token_nll_and_gradient

# Of float32 products where a KL is read: the dot product that it takes is not rounded as a
# faster product would round the scores.
KL_PRECISION = "highest"


class Reference(NamedTuple):
    """What KLs from one model to others need of it, at the predicted positions.

    Attributes:
      h_PD: Its streams after the final norm, rounded as the head's product takes them.
      nll_P: Its losses.
      gradient_PD: Of each loss with respect to its own h: the mean of the head's rows under
        the model's distribution, less the target's row.
    """

    h_PD: jax.Array
    nll_P: jax.Array
    gradient_PD: jax.Array


def reference(
    h_PD: jax.Array,
    unembedding_VD: jax.Array,
    target_P: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    chunk: int = VOCABULARY_CHUNK,
) -> Reference:
    """The model that `token_nll_and_kl` compares others with; arguments as `token_nll`.

    The gradient is that of the scores as they are: the head's rows are rounded to `dtype`, the
    probabilities that weigh them are not.
    """
    h_PD = _operand(h_PD, dtype)
    with jax.default_matmul_precision(KL_PRECISION):
        nll_P, gradient_PD = token_nll_and_gradient(
            h_PD, unembedding_VD, target_P, dtype, chunk, weight_dtype=jnp.float32
        )
    return Reference(h_PD, nll_P, gradient_PD)


def token_nll_and_kl(
    h_CPD: jax.Array,
    clean: Reference,
    unembedding_VD: jax.Array,
    target_P: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    chunk: int = VOCABULARY_CHUNK,
) -> tuple[jax.Array, jax.Array]:
    """Losses of C streams, and how far the predictions of each are from a clean one's.

    KL(p || q) = sum_v p_v (log p_v - log q_v) over the whole vocabulary, p from the clean
    stream and q from another. Scores are linear in h, so it is what the loss rises beyond
    first order, whatever the target (the Bregman divergence of the log-normaliser; Amari,
    Information Geometry and Its Applications, section 2.1):

        KL = nll(h) - nll(h') - (h - h') . gradient of nll at h',  h' the clean stream.

    So a KL costs a dot product beside the loss. Its error is absolute, that of the two losses:
    float32 rounding of the scores, 1e-6 nats for scores near 10 and 7e-6 (at most 4e-5) for a
    model whose scores are sums of terms that cancel. A KL of that size may come out below 0;
    cutting each at 0 would turn rounding that averages out over tokens into a bias.

    Args:
      h_CPD: Streams after the final norm, at the predicted positions.
      clean: The clean stream there, from `reference` with the same head, targets and dtype.
      unembedding_VD: The head's matrix.
      target_P: The tokens to predict.
      dtype: Of the operands of products.
      chunk: Rows of the vocabulary in one product.

    Returns:
      (nll_CP, kl_CP) in nats, float32.
    """
    C, P, D = h_CPD.shape
    h_CPD = _operand(h_CPD, dtype)
    with jax.default_matmul_precision(KL_PRECISION):
        nll_P = token_nll(
            h_CPD.reshape(C * P, D), unembedding_VD, jnp.tile(target_P, C), dtype, chunk
        )
    nll_CP = nll_P.reshape(C, P)
    change_CPD = h_CPD - clean.h_PD[None]
    first_order_CP = (change_CPD * clean.gradient_PD[None]).sum(axis=-1)
    return nll_CP, (nll_CP - clean.nll_P[None]) - first_order_CP


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def kl_to(
    h_PD: jax.Array,
    clean: Reference,
    unembedding_VD: jax.Array,
    target_P: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    chunk: int = VOCABULARY_CHUNK,
) -> jax.Array:
    """The KL of `token_nll_and_kl` for one stream, to be trained by: differentiable in h alone.

    Its gradient is the mean of the head's rows under the stream's distribution, less that under
    the clean one's. One pass over the vocabulary gives both; nothing of [P, V] is kept.

    Args:
      h_PD: The stream after the final norm, at the predicted positions.
      clean: The clean stream there.
      unembedding_VD: The head's matrix.
      target_P: The tokens to predict; no result depends on them, beyond rounding.
      dtype: Of the operands of products.
      chunk: Rows of the vocabulary in one product.

    Returns:
      kl_P in nats, float32.
    """
    return _kl_forward(h_PD, clean, unembedding_VD, target_P, dtype, chunk)[0]


def _kl_forward(h_PD, clean, unembedding_VD, target_P, dtype, chunk):
    h_PD = _operand(h_PD, dtype)
    nll_P, gradient_PD = token_nll_and_gradient(h_PD, unembedding_VD, target_P, dtype, chunk)
    first_order_P = ((h_PD - clean.h_PD) * clean.gradient_PD).sum(axis=-1)
    return (nll_P - clean.nll_P) - first_order_P, gradient_PD - clean.gradient_PD


def _kl_backward(dtype, chunk, gradient_PD, above_P):
    return above_P[:, None] * gradient_PD, None, None, None


kl_to.defvjp(_kl_forward, _kl_backward)


def _operand(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Float32, rounded to `dtype` once: XLA may not form it anew, a bit apart, for another use."""
    return jax.lax.optimization_barrier(x.astype(dtype)).astype(jnp.float32)

"""Negative log-likelihood of each predicted token."""

import jax

from jaxanatomy import model, tree
from jaxanatomy.sweep.programs import Context


def nll(streams: tuple[jax.Array, ...], context: Context) -> jax.Array:
    """A measure of the sweep: the loss at each predicted position, in nats.

    Args:
      streams: One array, the streams [C, R, T, D] after the last step.
      context: The head and the text.

    Returns:
      nll_CP, float32.
    """
    h_PD, target_P = predictions(streams, context)
    matrix_VD = tree.unembedding(context.head)
    nll_P = model.token_nll(h_PD, matrix_VD, target_P, context.dtype)
    return nll_P.reshape(len(streams[0]), -1)


def predictions(streams: tuple[jax.Array, ...], context: Context) -> tuple[jax.Array, jax.Array]:
    """The normed streams [C * P, D] at the predicted positions, and the targets [C * P]."""
    (x_CRTD,) = streams
    C, R, T, D = x_CRTD.shape
    x_CPD = x_CRTD.reshape(C, R * T, D)[:, context.text.predict_P]
    h_CPD = model.final_norm(context.config, context.head, x_CPD)
    return h_CPD.reshape(-1, D), jax.numpy.tile(context.text.target_P, C)

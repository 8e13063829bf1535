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
    (x_CRTD,) = streams
    config, dtype, head, text = context
    C, R, T, D = x_CRTD.shape
    x_CPD = x_CRTD.reshape(C, R * T, D)[:, text.predict_P]
    h_CPD = model.final_norm(config, head, x_CPD)
    P = x_CPD.shape[1]
    target = jax.numpy.tile(text.target_P, C)
    nll = model.token_nll(h_CPD.reshape(C * P, D), tree.unembedding(head), target, dtype)
    return nll.reshape(C, P)

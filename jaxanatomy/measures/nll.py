"""What the sweep reads of each predicted token: its loss, and how far the prediction moved."""

import jax
import jax.numpy as jnp

from jaxanatomy import model, tree
from jaxanatomy.sweep.programs import BesideClean, Context


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


def nll_and_kl(streams: tuple[jax.Array, ...], context: Context) -> dict[str, jax.Array]:
    """A measure beside the clean stream: the loss, and KL(unchanged model || variant).

    A change that a text happens to like lowers the loss; the KL says that it is a change.

    Args:
      streams: The streams [C, R, T, D] after the last step, and the unedited model's
        [1, R, T, D].
      context: The head and the text.

    Returns:
      `nll` and `kl`, each [C, P], float32, in nats.
    """
    x_CRTD, clean_1RTD = streams
    h_CPD = _predicted(x_CRTD, context)
    (clean_PD,) = _predicted(clean_1RTD, context)
    nll_CP, kl_CP = model.token_nll_and_kl(
        h_CPD, clean_PD, tree.unembedding(context.head), context.text.target_P, context.dtype
    )
    return {"nll": nll_CP, "kl": kl_CP}


# What every sweep of variants reads.
LOSSES = {"losses": BesideClean(nll_and_kl)}


def predictions(streams: tuple[jax.Array, ...], context: Context) -> tuple[jax.Array, jax.Array]:
    """The normed streams [C * P, D] at the predicted positions, and the targets [C * P]."""
    (x_CRTD,) = streams
    h_CPD = _predicted(x_CRTD, context)
    return h_CPD.reshape(-1, h_CPD.shape[-1]), jnp.tile(context.text.target_P, len(x_CRTD))


def _predicted(x_CRTD: jax.Array, context: Context) -> jax.Array:
    """The streams after the final norm at the predicted positions, [C, P, D]."""
    C, R, T, D = x_CRTD.shape
    x_CPD = x_CRTD.reshape(C, R * T, D)[:, context.text.predict_P]
    return model.final_norm(context.config, context.head, x_CPD)

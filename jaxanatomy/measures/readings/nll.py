"""What the sweep reads of each predicted token: its loss, and how far the prediction moved."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxanatomy import model, tree
from jaxanatomy.sweep import Beside, Context, Reading


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


class Clean(NamedTuple):
    """The end of the unedited model: its stream [1, P, D], and its predictions."""

    x_1PD: jax.Array
    predictions: model.Reference


def clean(streams: tuple[jax.Array, ...], context: Context) -> Clean:
    """What `nll_and_kl` needs of the unedited model, whose last stream is [1, R, T, D]."""
    x_1PD = predicted_streams(streams[0], context)
    (h_PD,) = model.final_norm(context.config, context.head, x_1PD)
    matrix_VD = tree.unembedding(context.head)
    return Clean(x_1PD, model.reference(h_PD, matrix_VD, context.text.target_P, context.dtype))


def nll_and_kl(streams: tuple[jax.Array, Clean], context: Context) -> dict[str, jax.Array]:
    """A measure beside the clean stream: the loss, and KL(unchanged model || variant).

    A change that a text happens to like lowers the loss; the KL says that it is a change. It is
    exactly 0 where the stream equals the clean one to the bit, and carries the rounding of
    `model.token_nll_and_kl` elsewhere.

    Args:
      streams: The streams [C, R, T, D] after the last step, and what `clean` returned.
      context: The head and the text.

    Returns:
      `nll` and `kl`, each [C, P], float32, in nats.
    """
    x_CRTD, unedited = streams
    x_CPD = predicted_streams(x_CRTD, context)
    nll_CP, kl_CP = model.token_nll_and_kl(
        model.final_norm(context.config, context.head, x_CPD),
        unedited.predictions,
        tree.unembedding(context.head),
        context.text.target_P,
        context.dtype,
    )
    # Two programs may round equal streams differently on the way to the loss.
    equal_CP = (x_CPD - unedited.x_1PD == 0).all(axis=-1)
    return {"nll": nll_CP, "kl": jnp.where(equal_CP, 0.0, kl_CP)}


_BOTH = Beside(nll_and_kl, clean)
# What every sweep of variants reads.
LOSSES = {"nll": Reading(_BOTH, part="nll"), "kl": Reading(_BOTH, part="kl")}


def predictions(streams: tuple[jax.Array, ...], context: Context) -> tuple[jax.Array, jax.Array]:
    """The normed streams [C * P, D] at the predicted positions, and the targets [C * P]."""
    (x_CRTD,) = streams
    h_CPD = model.final_norm(context.config, context.head, predicted_streams(x_CRTD, context))
    return h_CPD.reshape(-1, h_CPD.shape[-1]), jnp.tile(context.text.target_P, len(x_CRTD))


def predicted_streams(x_CRTD: jax.Array, context: Context) -> jax.Array:
    """The streams at the predicted positions, [C, P, D]."""
    C, R, T, D = x_CRTD.shape
    return x_CRTD.reshape(C, R * T, D)[:, context.text.predict_P]

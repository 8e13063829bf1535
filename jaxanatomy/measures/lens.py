"""The logit lens: what the head makes of the residual stream after each layer.

nostalgebraist (2020); DG section 4.1. The lens has the model's own final norm and head, and is read
at the predicted positions, beside the final distribution of the unedited model.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model
from jaxanatomy.measures.layer_means import layer_means
from jaxanatomy.records import Row
from jaxanatomy.sweep import Beside, Context, Measured, Reading
from jaxanatomy.sweep.reading import END

TOP = 5
METRICS = {
    "kl": "KL(final || lens), nats",
    "kl_reverse": "KL(lens || final), nats",
    "top_1": "share of predictions whose likeliest token is the final one",
    "top_5": "share of the final five likeliest tokens among the lens's five",
    "entropy": "of the lens, nats",
    "perplexity": "of the text, as the lens predicts it",
}


class Final(NamedTuple):
    """The end of the unedited model: streams, log probabilities, the likeliest tokens."""

    x_1PD: jax.Array
    log_p_1PV: jax.Array
    best_1P5: jax.Array


def final(streams: Sequence[jax.Array], context: Context) -> Final:
    """What `lens` needs of the unedited model, whose last stream is [1, R, T, D]."""
    x_1PD, log_p_1PV = _read_out(streams[0], context)
    return Final(x_1PD, log_p_1PV, jax.lax.top_k(log_p_1PV, TOP)[1])


def lens(streams: tuple[jax.Array, Final], context: Context) -> dict[str, jax.Array]:
    """A measure beside the unedited end: the metrics of each prediction, [C, P] by name.

    A token is among the lens's five if fewer than five others are likelier: that takes no sorting.
    Where a stream is the final one to the bit, both KLs are 0. `nll` stands for the perplexity.
    """
    x_CRTD, unedited = streams
    log_p_PV, best_P5 = unedited.log_p_1PV[0], unedited.best_1P5[0]

    def of_one(x_RTD: jax.Array) -> dict[str, jax.Array]:
        x_1PD, log_q_1PV = _read_out(x_RTD[None], context)
        log_q_PV = log_q_1PV[0]
        ratio_PV = log_q_PV - log_p_PV
        differs_P = (x_1PD != unedited.x_1PD).any(axis=-1)[0]
        of_best_P5 = jnp.take_along_axis(log_q_PV, best_P5, axis=-1)
        rank_P5 = (log_q_PV[:, None] > of_best_P5[:, :, None]).sum(axis=-1)
        return {
            "kl": differs_P * _divergence(log_p_PV, ratio_PV),
            "kl_reverse": differs_P * _divergence(log_q_PV, -ratio_PV),
            "top_1": (rank_P5[:, 0] == 0).astype(jnp.float32),
            "top_5": (rank_P5 < TOP).mean(axis=-1),
            "entropy": -(jnp.exp(log_q_PV) * log_q_PV).sum(axis=-1),
            "nll": -jnp.take_along_axis(log_q_PV, context.text.target_P[:, None], axis=-1)[:, 0],
        }

    return jax.lax.map(of_one, x_CRTD)


def _read_out(x_CRTD: jax.Array, context: Context) -> tuple[jax.Array, jax.Array]:
    """Streams [C, P, D] and log probabilities [C, P, V] at the predicted positions."""
    C, R, T, D = x_CRTD.shape
    x_CPD = x_CRTD.reshape(C, R * T, D)[:, context.text.predict_P]
    scores_CPV = model.logits(context.config, context.head, x_CPD, context.dtype)
    return x_CPD, jax.nn.log_softmax(scores_CPV, axis=-1)


def _divergence(log_p_PV: jax.Array, ratio_PV: jax.Array) -> jax.Array:
    """KL(p || q) of log(q / p); each term is 0 or above, so that a small sum keeps its digits."""
    terms_PV = jnp.exp(log_p_PV + ratio_PV) - jnp.exp(log_p_PV) * (1 + ratio_PV)
    small_PV = jnp.exp(log_p_PV) * (jnp.expm1(ratio_PV) - ratio_PV)
    return jnp.where(ratio_PV < 1, small_PV, terms_PV).sum(axis=-1)


_MEASURE = Beside(lens, final, at=END)
READINGS = {
    f"lens_{name}": Reading(_MEASURE, "block_out", part="nll" if name == "perplexity" else name)
    for name in METRICS
}


def lens_rows(measured: Mapping[str, Measured], variant: str) -> list[Row]:
    """Rows of kind "lens", by metric and layer: means over predictions."""
    return [
        row
        for name in METRICS
        for row in layer_means(
            measured[f"lens_{name}"],
            variant,
            {"kind": "lens", "metric": name},
            of=np.exp if name == "perplexity" else None,
        )
    ]

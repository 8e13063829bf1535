"""Lenses: what the head makes of the residual stream after each layer.

The logit lens reads the stream as it is (nostalgebraist 2020; DG section 4.1), a tuned lens after
an affine map of the layer's own (Belrose et al. 2023, section 3; `train.tuned_lens` trains it).
Both have the model's own final norm and head, and are read at the predicted positions, beside the
final distribution of the unedited model.
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model
from jaxanatomy.errors import InputError
from jaxanatomy.measures.readings.layer_means import layer_means
from jaxanatomy.measures.readings.nll import predicted_streams
from jaxanatomy.records import Row, read_run
from jaxanatomy.reprs import repr_in_one_line
from jaxanatomy.sweep import Beside, Context, Measure, Measured, Parametric, Reading
from jaxanatomy.sweep.reading import END, MeasureFunction

TOP = 5
METRICS = {
    "kl": "KL(final || lens), nats",
    "kl_reverse": "KL(lens || final), nats",
    "top_1": "share of predictions whose likeliest token is the final one",
    "top_5": "share of the final five likeliest tokens among the lens's five",
    "entropy": "of the lens, nats",
    "perplexity": "of the text, as the lens predicts it",
}


def _share(mean: np.ndarray) -> np.ndarray:
    return np.clip(mean, 0.0, 1.0)


def _not_negative(mean: np.ndarray) -> np.ndarray:
    return np.maximum(mean, 0.0)


# What a metric is of its mean over predictions; the ends of intervals stay where it can be.
OF_MEAN = dict.fromkeys(("kl", "kl_reverse", "entropy"), _not_negative)
OF_MEAN |= {"top_1": _share, "top_5": _share, "perplexity": np.exp}


class TunedLens(NamedTuple):
    """A tuned lens: of each layer the affine map x + x kernel + bias; zeros are the logit lens.

    Attributes:
      kernel: [L, D, D], of one layer [D, D].
      bias: [L, D], of one layer [D].
    """

    kernel: jax.Array
    bias: jax.Array

    __repr__ = repr_in_one_line

    def __call__(self, x: jax.Array) -> jax.Array:
        """Streams [..., D] through the lens of their layer."""
        return x + x @ self.kernel + jnp.expand_dims(self.bias, range(x.ndim - 1))


class Final(NamedTuple):
    """The end of the unedited model: streams, log probabilities, the likeliest tokens."""

    x_1PD: jax.Array
    log_p_1PV: jax.Array
    best_1P5: jax.Array


def final(streams: Sequence[jax.Array], context: Context) -> Final:
    """What `lens_metrics` needs of the unedited model, whose last stream is [1, R, T, D]."""
    x_1PD, log_p_1PV = read_out(streams[0], context)
    return Final(x_1PD, log_p_1PV, jax.lax.top_k(log_p_1PV, TOP)[1])


def lens_metrics(streams: tuple[jax.Array, Final], context: Context) -> dict[str, jax.Array]:
    """A measure beside the unedited end: the metrics of each prediction, [C, P] by name.

    A token is among the lens's five if fewer than five others are likelier: that takes no sorting.
    Where a stream is the final one to the bit, both KLs are 0. `nll` stands for the perplexity.
    """
    x_CRTD, unedited = streams
    log_p_PV, best_P5 = unedited.log_p_1PV[0], unedited.best_1P5[0]

    def of_one(x_RTD: jax.Array) -> dict[str, jax.Array]:
        x_1PD, log_q_1PV = read_out(x_RTD[None], context)
        log_q_PV = log_q_1PV[0]
        ratio_PV = log_q_PV - log_p_PV
        differs_P = (x_1PD != unedited.x_1PD).any(axis=-1)[0]
        rank_P5 = ranks(log_q_PV, best_P5)
        return {
            "kl": differs_P * _divergence(log_p_PV, ratio_PV),
            "kl_reverse": differs_P * _divergence(log_q_PV, -ratio_PV),
            "top_1": (rank_P5[:, 0] == 0).astype(jnp.float32),
            "top_5": (rank_P5 < TOP).mean(axis=-1),
            "entropy": -(jnp.exp(log_q_PV) * log_q_PV).sum(axis=-1),
            "nll": -jnp.take_along_axis(log_q_PV, context.text.target_P[:, None], axis=-1)[:, 0],
        }

    return jax.lax.map(of_one, x_CRTD)


def ranks(log_q_PV: jax.Array, token_PK: jax.Array) -> jax.Array:
    """How many tokens come before each of some, [P, K]: likelier ones, and of equals the first.

    Of what is NaN `TOP`.
    """
    own_PK = jnp.take_along_axis(log_q_PV, token_PK, axis=-1)
    other_P1V, own_PK1 = log_q_PV[:, None], own_PK[:, :, None]
    first_PKV = jnp.arange(log_q_PV.shape[1])[None, None] < token_PK[:, :, None]
    ahead_PKV = (other_P1V > own_PK1) | ((other_P1V == own_PK1) & first_PKV)
    rank_PK = ahead_PKV.sum(axis=-1)
    return jnp.where(jnp.isnan(own_PK), TOP, rank_PK)  # nothing is likelier than NaN


def read_out(x_CRTD: jax.Array, context: Context) -> tuple[jax.Array, jax.Array]:
    """Streams [C, P, D] and log probabilities [C, P, V] at the predicted positions."""
    x_CPD = _predicted(x_CRTD, context)
    scores_CPV = model.logits(context.config, context.head, x_CPD, context.dtype)
    return x_CPD, jax.nn.log_softmax(scores_CPV, axis=-1)


def _predicted(x_CRTD: jax.Array, context: Context) -> jax.Array:
    """Streams [C, P, D] at the predicted positions, through the layer's lens if there is one."""
    x_CPD = predicted_streams(x_CRTD, context)
    return x_CPD if context.params is None else context.params(x_CPD)


def _divergence(log_p_PV: jax.Array, ratio_PV: jax.Array) -> jax.Array:
    """KL(p || q) of log(q / p); each term is 0 or above, so that a small sum keeps its digits."""
    terms_PV = jnp.exp(log_p_PV + ratio_PV) - jnp.exp(log_p_PV) * (1 + ratio_PV)
    small_PV = jnp.exp(log_p_PV) * (jnp.expm1(ratio_PV) - ratio_PV)
    return jnp.where(ratio_PV < 1, small_PV, terms_PV).sum(axis=-1)


def likeliest(streams: Sequence[jax.Array], context: Context) -> dict[str, jax.Array]:
    """A measure: at every token the likeliest next one and its probability, [C, R, T] by name."""
    (x_CRTD,) = streams
    x_CRTD = x_CRTD if context.params is None else context.params(x_CRTD)
    scores_CRTV = model.logits(context.config, context.head, x_CRTD, context.dtype)
    best_CRT = scores_CRTV.max(axis=-1)
    probability_CRT = jnp.exp(best_CRT - jax.nn.logsumexp(scores_CRTV, axis=-1))
    return {"token": scores_CRTV.argmax(axis=-1), "probability": probability_CRT}


def require_same_weights(own: str | None, weights_sha256: str) -> None:
    """Refuses a lens of another model: `own` is the hash of the weights that it was trained on."""
    if own != weights_sha256:
        raise InputError(
            f"a tuned lens reads the model that it was trained on, weights {own!s:.12}; got "
            f"weights {weights_sha256:.12}; train one on this model with experiments.tuned_lens"
        )


def load_lens(folder: str | os.PathLike, weights_sha256: str) -> TunedLens:
    """The lens that a run of `experiments.tuned_lens` has left in its folder.

    Args:
      folder: The run.
      weights_sha256: Of the model that is to be read with it (`Checkpoint.sha256`).

    Raises:
      InputError: No finished run of that experiment; a lens of another model.
    """
    record = read_run(folder)
    arrays = record.arrays
    if record.experiment != "tuned_lens" or "kernel" not in arrays:
        raise InputError(
            f"expected a run of tuned_lens that has trained its lens; got {folder}, of "
            f"{record.experiment or 'nothing'}; run experiments.tuned_lens there to its end"
        )
    require_same_weights(record.provenance.get("weights_sha256"), weights_sha256)
    return TunedLens(arrays["kernel"], arrays["bias"])


def through(measure: MeasureFunction | Beside, lens: TunedLens | None) -> Measure:
    """A measure that reads `context.params`, given a tuned lens; None: the logit lens."""
    return measure if lens is None else Parametric(measure, lens)


def lens_readings(lens: TunedLens | None = None) -> dict[str, Reading]:
    """The metrics of a tuned lens at each layer and prediction; without one of the logit lens."""
    measure = through(_MEASURE, lens)
    return {
        name: Reading(measure, "block_out", part="nll" if name == "perplexity" else name)
        for name in METRICS
    }


def likeliest_readings(lens: TunedLens | None = None) -> dict[str, Reading]:
    """The likeliest next token at each layer and token, and its probability; as `lens_readings`."""
    measure = through(likeliest, lens)
    return {name: Reading(measure, "block_out", part=name) for name in ("token", "probability")}


_MEASURE = Beside(lens_metrics, final, at=END)
READINGS = {f"lens_{name}": reading for name, reading in lens_readings().items()}


def lens_rows(measured: Mapping[str, Measured], variant: str) -> list[Row]:
    """Rows of kind "lens", by metric and layer: means over predictions."""
    return [
        row
        for name in METRICS
        for row in layer_means(
            measured[f"lens_{name}"],
            variant,
            {"kind": "lens", "metric": name},
            of=OF_MEAN[name],
        )
    ]

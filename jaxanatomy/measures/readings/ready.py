"""Readings that are ready to use: `ja.read(model, None, text, ja.readings.residual())`.

Each is a function of a few lines over a measure: what to write for a reading of one's own.
"""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp

from jaxanatomy import model
from jaxanatomy.measures.readings.lens import TunedLens, lens_readings
from jaxanatomy.measures.readings.nll import clean, nll, nll_and_kl
from jaxanatomy.sweep import EVERYTHING, Beside, Context, Reading, Reduction, mean
from jaxanatomy.sweep.reading import END, themselves

Layers = str | int | Iterable[int | str] | None
OVER_ALL, OVER_PREDICTED = mean(), mean("predicted")


def residual(
    point: str = "block_out", layers: Layers = None, reduction: Reduction = EVERYTHING
) -> Reading:
    """What stands at a point of the residual stream, or is written into it: [..., feature].

    Args:
      point: "block_in", "attention_out", "mlp_out", "block_out", or "end".
      layers: Which layers; None: all.
      reduction: What is kept.
    """
    return Reading(themselves, point, reduction, layers, axes=("feature",))


def logits() -> Reading:
    """Scores of the whole vocabulary at every position: [variant, position, vocabulary]."""
    return Reading(_logits, END, axes=("vocabulary",))


def attention(layers: Layers = None) -> Reading:
    """Attention weights: [variant, layer, position, head, key].

    Keys count from the start of the query's window, as positions do; no window sees another.
    """
    return Reading(_attention, "attention", EVERYTHING, layers, axes=("head", "key"))


def losses() -> Reading:
    """The loss of every prediction in nats: [variant, prediction]."""
    return Reading(nll, END)


def lens_kl(layers: Layers = None, reduction: Reduction = OVER_PREDICTED) -> Reading:
    """The logit lens: KL(final distribution || what the head makes of a layer's stream), in nats.

    The final distribution is the unedited model's; the lens has the model's own final norm
    (nostalgebraist 2020; DG section 4). Read at the predicted positions.
    """
    return Reading(Beside(nll_and_kl, clean, at=END), "block_out", reduction, layers, part="kl")


def lenses(lens: TunedLens | None = None) -> dict[str, Reading]:
    """What the head makes of each layer's stream, each [variant, layer, prediction].

    By name `kl` and `kl_reverse` from and to the unedited model's final distribution, `top_1` and
    `top_5` (its likeliest tokens among those of the lens), `entropy`, and `nll`, in nats.

    Args:
      lens: A tuned lens (`ja.load_lens`); None: the logit lens.
    """
    found = lens_readings(lens)
    return {"nll" if name == "perplexity" else name: each for name, each in found.items()}


def contributions(layers: Layers = None, reduction: Reduction = OVER_ALL) -> dict[str, Reading]:
    """How large each sublayer's writing is, and which way it points (DG section 4).

    With h the stream before the layer, a what attention writes and m what the MLP writes:

    | name | what |
    | --- | --- |
    | `attention_norm`, `attention_cosine` | |a| / |h|, and the cosine of a and h |
    | `mlp_norm`, `mlp_cosine` | the same of m and h |
    | `mlp_norm_after_attention`, `mlp_cosine_after_attention` | the same of m and h + a |
    """
    points = ("block_in", "attention_out", "mlp_out")
    return {
        name: Reading(_contributions, points, reduction, layers, part=name)
        for name in _CONTRIBUTIONS
    }


_CONTRIBUTIONS = (
    "attention_norm",
    "attention_cosine",
    "mlp_norm",
    "mlp_cosine",
    "mlp_norm_after_attention",
    "mlp_cosine_after_attention",
)


def _contributions(streams: Sequence[jax.Array], context: Context) -> dict[str, jax.Array]:
    h_CRTD, a_CRTD, m_CRTD = streams
    pairs = ((a_CRTD, h_CRTD), (m_CRTD, h_CRTD), (m_CRTD, h_CRTD + a_CRTD))
    found = [value for part, whole in pairs for value in _relative(part, whole)]
    return dict(zip(_CONTRIBUTIONS, found, strict=True))


def _relative(part_CRTD: jax.Array, whole_CRTD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Norm against norm, not finite for a stream of zeros, and cosine, 0 then; [C, R, T]."""
    part, whole = (jnp.linalg.norm(x, axis=-1) for x in (part_CRTD, whole_CRTD))
    inner = (part_CRTD * whole_CRTD).sum(axis=-1)
    return part / whole, inner / jnp.maximum(part * whole, 1e-30)


def _logits(streams: Sequence[jax.Array], context: Context) -> jax.Array:
    return model.logits(context.config, context.head, streams[0], context.dtype)


def _attention(streams: Sequence[jax.Array], context: Context) -> jax.Array:
    """Weights [C, R, T, H, S] with the keys counted from the start of each query's window."""
    weight_CRHTS = streams[0]
    T = weight_CRHTS.shape[-1]
    position_RT1, key_11S = context.text.position_RT[..., None], jnp.arange(T)[None, None]
    start_1T1 = jnp.arange(T)[None, :, None] - position_RT1
    index_RTS = jnp.clip(start_1T1 + key_11S, 0, T - 1)
    found = jnp.take_along_axis(weight_CRHTS, index_RTS[None, :, None], axis=-1)
    seen_RTS = key_11S <= position_RT1
    return jnp.where(seen_RTS[None, :, None], found, 0.0).transpose(0, 1, 3, 2, 4)

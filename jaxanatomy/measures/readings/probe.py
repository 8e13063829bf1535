"""What layers do on a short text: a few features of roles that weights do not tell (LR section 4).

Read of the unedited model in one pass. LR names these features but not their formulas; those here
leave out the first token of each window, where most models keep their sink and which outweighs all
others.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy.interventions.variants import Variant
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import Estimate, ratio_intervals, sampling_units
from jaxanatomy.records import Row
from jaxanatomy.sweep import Context, Measured, Reading

PROBE_FEATURES = {
    "sink_mass": "attention on the first token of the window, mean over heads",
    "copy_density": (
        "attention on tokens that follow an earlier occurrence of the query's token (prefix "
        "matching, Olsson et al. 2022), mean over heads, of queries that have such"
    ),
    "write_attention": "norm of what attention writes",
    "write_mlp": "norm of what the MLP writes",
    "write_total": "norm of what both write",
    "write_relative": "the same over the norm of the stream before the layer",
    "activation_alignment": "cosine of the stream before and after the layer",
}
_HAS_COPIES = "has_copies"


def attended(streams: Sequence[jax.Array], context: Context) -> dict[str, jax.Array]:
    """A measure of attention weights: mass on the sink, and on what may be copied [C, R, T]."""
    weight_CRTS = streams[0].mean(axis=2)
    text, T = context.text, streams[0].shape[-1]
    start_RT1 = (jnp.arange(T)[None] - text.position_RT)[..., None]
    sink_CRT = jnp.take_along_axis(weight_CRTS, start_RT1[None], axis=-1)[..., 0]
    before_RS = jnp.roll(text.token_RT, 1, axis=1)  # of the first key of a window it does not count
    is_copy_RTS = text.token_RT[:, :, None] == before_RS[:, None, :]
    is_copy_RTS &= (text.position_RT > 0)[:, None, :]
    is_copy_RTS &= text.segment_RT[:, :, None] == text.segment_RT[:, None, :]
    is_copy_RTS &= jnp.tri(T, dtype=bool)[None]
    copy_CRT = (weight_CRTS * is_copy_RTS[None]).sum(axis=-1)
    has_CRT = jnp.broadcast_to(is_copy_RTS.any(axis=-1)[None], copy_CRT.shape)
    return {
        "sink_mass": sink_CRT,
        "copy_density": copy_CRT,
        _HAS_COPIES: has_CRT.astype(jnp.float32),
    }


def written(streams: Sequence[jax.Array], context: Context) -> dict[str, jax.Array]:
    """A measure of what a layer writes into the stream [C, R, T]."""
    before, attention, mlp = streams
    total, after = attention + mlp, before + attention + mlp
    norm = {
        name: jnp.linalg.norm(x, axis=-1)
        for name, x in {
            "attention": attention,
            "mlp": mlp,
            "total": total,
            "before": before,
            "after": after,
        }.items()
    }
    size = jnp.maximum(norm["before"], 1e-30)
    cosine = (before * after).sum(axis=-1) / (size * jnp.maximum(norm["after"], 1e-30))
    return {
        "write_attention": norm["attention"],
        "write_mlp": norm["mlp"],
        "write_total": norm["total"],
        "write_relative": norm["total"] / size,
        "activation_alignment": cosine,
    }


_WRITTEN = ("block_in", "attention_out", "mlp_out")
READINGS = {
    name: Reading(attended, "attention", part=name)
    for name in ("sink_mass", "copy_density", _HAS_COPIES)
} | {
    name: Reading(written, _WRITTEN, part=name)
    for name in PROBE_FEATURES
    if name not in ("sink_mass", "copy_density")
}


def probe_units(variant: Variant, num_layers: int) -> list[str]:
    """What `probe_rows` has rows of, in their order."""
    return [f"{name} {layer}" for name in PROBE_FEATURES for layer in range(num_layers)]


def probe_rows(
    measured: Mapping[str, Measured], variants: Sequence[Variant], *, text: str
) -> list[Row]:
    """Rows of kind "feature": the mean over tokens of each feature at each layer.

    `unit_sums` and `unit_tokens` hold what each document adds to it (blocks of tokens where
    documents are few), `ci95` the interval over these; `value` is None where no token counts.
    """
    (variant,) = variants
    places = measured["sink_mass"]
    unit_N, inner_N = np.full(len(places.positions), -1), places.positions > 0
    unit_N[inner_N] = sampling_units(places.documents[inner_N])
    has_copies_N = measured[_HAS_COPIES][variant.name][0] > 0
    rows = []
    for name in PROBE_FEATURES:
        counted_N = inner_N & has_copies_N if name == "copy_density" else inner_N
        value_LN = measured[name][variant.name][:, counted_N].astype(np.float64)
        tokens_U, *sums_LU = (
            np.bincount(unit_N[counted_N], each_N, minlength=unit_N.max() + 1)
            for each_N in (np.ones(counted_N.sum()), *value_LN)
        )
        with np.errstate(invalid="ignore"):  # no token counts
            intervals_L3 = ratio_intervals(np.stack(sums_LU), tokens_U)
        for layer, (sums_U, found) in enumerate(zip(sums_LU, intervals_L3, strict=True)):
            estimate = Estimate(*map(float, found))
            rows.append(
                {
                    "kind": "feature",
                    "layer": layer,
                    "component": "",
                    "metric": name,
                    "value": finite(estimate.value),
                    "ci95": estimate.ends,
                    "unit_sums": sums_U.tolist(),
                    "unit_tokens": tokens_U.tolist(),
                    "text": text,
                }
            )
    return rows

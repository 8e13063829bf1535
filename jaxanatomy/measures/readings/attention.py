"""How far noise in a query or key matrix moves attention.

Puts to the test that "a 1% perturbation in Q or K matrices can completely redirect
attention from correct to incorrect tokens" (AH section 5.3).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.noise import add_noise, generator_of, noise_like
from jaxanatomy.interventions.variants import Edit, Step, Variant, baseline_steps
from jaxanatomy.records import Row
from jaxanatomy.sweep import Beside, Context, Measured, Reading, maximum, mean

COMPONENTS = ("q_proj", "k_proj")
LOCAL, PROPAGATED = "local", "propagated"


@dataclasses.dataclass(frozen=True)
class AttentionNoise:
    """What is done to the query or key matrix of layers.

    Attributes:
      component: "q_proj" or "k_proj".
      alpha: Noise as in `interventions.noise.perturb`: that of a seed and layer is the
        same there and here. None: nothing but noise, with the matrix's mean and std, what
        an ever larger alpha tends to; the other end of the scale.
      seed: Of the noise.
    """

    component: str
    alpha: float | None
    seed: int

    def __post_init__(self):
        choose("component", self.component, COMPONENTS)
        if not ((self.alpha is None or 0 <= self.alpha < math.inf) and self.seed >= 0):
            raise InputError(
                "noise needs an alpha (or None) and a seed of 0 or above; got "
                f"{self.alpha} and {self.seed}"
            )


def shift(streams: Sequence[jax.Array], context: Context) -> dict[str, jax.Array]:
    """A measure beside the unedited model: how far the attention of each query has moved.

    Returns:
      [C, R, T, H] each: `variation`, the total variation between the two distributions (half
      the sum of |p - p'|: the share of attention that has moved, 0 to 1), and `changed`,
      whether the key of most weight is another one.
    """
    after_CRHTS, before_1RHTS = streams
    variation_CRHT = jnp.abs(after_CRHTS - before_1RHTS).sum(axis=-1) / 2
    changed_CRHT = after_CRHTS.argmax(axis=-1) != before_1RHTS.argmax(axis=-1)
    return {
        "variation": variation_CRHT.swapaxes(2, 3),
        "changed": changed_CRHT.swapaxes(2, 3).astype(jnp.float32),
    }


def _reading(reduction, part: str) -> Reading:
    return Reading(Beside(shift), "attention", reduction, part=part, axes=("head",))


# Of the queries that have at least two keys to choose from: others than the first of a window.
SHIFTS = {
    "total_variation": _reading(mean("others"), "variation"),
    "max_total_variation": _reading(maximum("others"), "variation"),
    "argmax_changed": _reading(mean("others"), "changed"),
}


def attention_variants(config: ModelConfig, settings: Sequence[AttentionNoise]) -> list[Variant]:
    """For each setting and layer the model up to this layer, with noise in it.

    Labels are fields of `attention_rows`. `spread` "local": the matrix of this layer alone is
    perturbed; "propagated": those of all layers up to this one.
    """
    variants, clean = [], baseline_steps(config.num_layers)
    for noise in settings:
        label = "matched_noise" if noise.alpha is None else "perturb"
        change = label if noise.alpha is None else f"{label}_{noise.alpha:g}"
        edits = tuple(_noisy(noise, layer) for layer in range(config.num_layers))
        for layer in range(config.num_layers):
            labels = {
                "kind": "attention",
                "label": label,
                "component": noise.component,
                "layer": layer,
                "alpha": noise.alpha,
                "seed": noise.seed,
            }
            for spread, before in ((LOCAL, clean[:layer]), (PROPAGATED, edits[:layer])):
                name = f"{change}#{noise.seed}/{noise.component}/{layer}/{spread}"
                steps = (*before, edits[layer])
                variants.append(Variant(name, steps, labels={**labels, "spread": spread}))
    return variants


def attention_rows(
    measured: Mapping[str, Measured],
    variants: Sequence[Variant],
    *,
    text: str,
    batches: Sequence[TextBatch],
) -> list[Row]:
    """Rows of kind "attention".

    Args:
      measured: What `Sweep.run` returned of `SHIFTS`.
      variants: Of `attention_variants`.
      text: Name of the text.
      batches: The text.

    Returns:
      One row for each variant. Over the heads and the query positions of the text with at
      least two keys (`queries` of them): `total_variation` (mean), `max_total_variation`
      (over both) and `argmax_changed` (share); the same for each head, lists [H], as
      `heads_total_variation` and `heads_argmax_changed`, the largest of which is
      `max_head_argmax_changed`. `tokens` are those of the text, and `label` is "perturb" or
      "matched_noise".
    """
    tokens = sum(int((batch.segment_RT >= 0).sum()) for batch in batches)
    queries = sum(
        int(((batch.segment_RT >= 0) & (batch.position_RT > 0)).sum()) for batch in batches
    )
    rows = []
    for variant in variants:
        layer = variant.labels["layer"]
        found = {name: each[variant.name][layer] for name, each in measured.items()}
        # Layers with fewer heads than others are filled up.
        heads = {name: value_H[~np.isnan(value_H)] for name, value_H in found.items()}
        rows.append(
            {
                **variant.labels,
                "tokens": tokens,
                "queries": queries,
                "total_variation": float(heads["total_variation"].mean()),
                "max_total_variation": float(heads["max_total_variation"].max()),
                "argmax_changed": float(heads["argmax_changed"].mean()),
                "max_head_argmax_changed": float(heads["argmax_changed"].max()),
                "heads_total_variation": heads["total_variation"].tolist(),
                "heads_argmax_changed": heads["argmax_changed"].tolist(),
                "text": text,
            }
        )
    return rows


def perturb_matrix(
    own: tree.BlockParams, *, component: str, alpha: float | None, layer: int, seed: int
) -> tree.BlockParams:
    """A block with noise in one matrix, as `AttentionNoise` says. Works on NumPy arrays."""
    kernel = np.asarray(tree.get(own, component))
    generator = generator_of(seed, layer, component)
    noisy = noise_like(kernel, generator) if alpha is None else add_noise(kernel, alpha, generator)
    return tree.replace(own, {component: noisy})


def _noisy(noise: AttentionNoise, layer: int) -> Step:
    arguments = {**dataclasses.asdict(noise), "layer": layer}
    edit = Edit(
        "perturb_matrix",
        perturb_matrix,
        scope=(noise.component,),
        arguments=tuple(sorted(arguments.items())),
        on_host=True,
    )
    return Step(layer, edit)

"""Massive activations, and the single weights that make them.

Massive activations (Sun et al. 2024, arXiv 2402.17762): a few entries of the residual stream, at
few tokens and always the same neurons, thousands of times as large as the median.

Super weights (Yu et al. 2024, arXiv 2411.07191): a single entry of a down_proj through which one
hidden neuron writes such an activation; without it alone the model is lost. Candidates are found in
one pass: at the token where the MLP writes most, the output neuron that it writes to and the hidden
neuron that is largest. Whether they are super weights shows their removal, beside that of other
weights of their size in the same matrix.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.interventions.variants import BASELINE, Edit, Step, Variant, baseline_steps
from jaxanatomy.measures.losses import finite
from jaxanatomy.records import Row
from jaxanatomy.sweep import Context, Measured, Reading

TOP = 3  # entries of a layer that have a row
MASSIVE, TIMES_MEDIAN = 100.0, 1000.0  # Sun et al., section 2
CONTROLS = 4  # other weights that are removed for each candidate
CLOSEST = 1000  # weights of nearest size that controls are drawn from


def largest(streams: Sequence[jax.Array], context: Context) -> dict[str, jax.Array]:
    """A measure: the entries of largest magnitude of a token, [C, R, T, 3], and the median."""
    x_CRTD = streams[0]
    neuron_CRTK = jax.lax.top_k(jnp.abs(x_CRTD), TOP)[1]
    value_CRTK = jnp.take_along_axis(x_CRTD, neuron_CRTK, axis=-1)
    median_CRT = jnp.median(jnp.abs(x_CRTD), axis=-1)
    return {"value": value_CRTK, "neuron": neuron_CRTK, "median": median_CRT}


def strongest(streams: Sequence[jax.Array], context: Context) -> dict[str, jax.Array]:
    """A measure: the largest entry of what down_proj reads and of what it writes, [C, R, T]."""
    found = {}
    for name, x in zip(("hidden", "out"), streams, strict=True):
        neuron_CRT = jnp.abs(x).argmax(axis=-1)
        value_CRT = jnp.take_along_axis(x, neuron_CRT[..., None], axis=-1)[..., 0]
        found |= {f"{name}_neuron": neuron_CRT, f"{name}_value": value_CRT}
    return found


_LARGEST = ("value", "neuron", "median")
_STRONGEST = ("hidden_neuron", "hidden_value", "out_neuron", "out_value")
READINGS = {f"largest_{name}": Reading(largest, "block_out", part=name) for name in _LARGEST} | {
    name: Reading(strongest, ("mlp_hidden", "mlp_out"), part=name) for name in _STRONGEST
}


def massive_rows(measured: Mapping[str, Measured], variant: str) -> list[Row]:
    """Rows of kind "massive": of each layer's stream the tokens' largest entries, by rank.

    Fields: `layer`, `rank`, `document`, `position`, `neuron`, `value`, `median` (of magnitudes,
    over the entries of a token and then over tokens) and `massive`, whether the magnitude is above
    100 and 1,000 medians.
    """
    value_LNK, neuron_LNK, median_LN = (measured[f"largest_{name}"][variant] for name in _LARGEST)
    places = measured["largest_value"]
    rows = []
    for layer, (value_NK, neuron_NK, median_N) in enumerate(
        zip(value_LNK, neuron_LNK, median_LN, strict=True)
    ):
        median = float(np.median(median_N))
        for rank, index in enumerate(np.argsort(-np.abs(value_NK), axis=None, kind="stable")[:TOP]):
            token, entry = np.unravel_index(index, value_NK.shape)
            size = abs(float(value_NK[token, entry]))
            rows.append(
                {
                    "kind": "massive",
                    "layer": layer,
                    "rank": rank,
                    "document": int(places.documents[token]),
                    "position": int(places.positions[token]),
                    "neuron": int(neuron_NK[token, entry]),
                    "value": finite(float(value_NK[token, entry])),
                    "median": finite(median),
                    "massive": size > max(MASSIVE, TIMES_MEDIAN * median),
                }
            )
    return rows


def candidate_rows(measured: Mapping[str, Measured], variant: str) -> list[Row]:
    """Rows of kind "candidate": for each layer the weight of down_proj that may be a super weight.

    Fields: `layer`, `document` and `position` of the token at which the MLP writes most;
    `hidden_neuron` and `out_neuron`, the row and the column of the weight; `hidden_value` and
    `out_value`, what stands there.
    """
    places, rows = measured["out_value"], []
    for layer, out_N in enumerate(places[variant]):
        token = int(np.abs(out_N).argmax())
        found = {name: measured[name][variant][layer, token] for name in _STRONGEST}
        rows.append(
            {
                "kind": "candidate",
                "layer": layer,
                "document": int(places.documents[token]),
                "position": int(places.positions[token]),
                **{
                    name: int(value) if name.endswith("neuron") else finite(float(value))
                    for name, value in found.items()
                },
            }
        )
    return rows


def without_weight(own: tree.BlockParams, *, row: int, column: int) -> tree.BlockParams:
    """A block with one entry of down_proj zero. Works on NumPy arrays."""
    kernel_FD = np.array(tree.get(own, "down_proj"))
    kernel_FD[row, column] = 0
    return tree.replace(own, {"down_proj": kernel_FD})


def removals(candidates: Sequence[Row], count: int) -> int:
    """How many rows the removal of so many candidates makes, the baseline's among them."""
    return 1 + min(count, len(candidates)) * (1 + CONTROLS)


def removal_variants(
    params: tree.Params, candidates: Sequence[Row], count: int, seed: int
) -> list[Variant]:
    """The model without each of the likeliest candidates, and without each of its controls.

    Args:
      params: The model's.
      candidates: Of `candidate_rows`, of one model and text.
      count: How many are tried: those of the largest `out_value`.
      seed: Of the controls, drawn from the 1,000 weights of the matrix nearest in magnitude.

    Returns:
      A baseline, and variants with labels `kind` "removal", `layer`, `row`, `column`, `weight`,
      `contribution` (the share of what the MLP wrote to that neuron that came through the weight)
      and `control`, None or the number of the draw.
    """
    clean = baseline_steps(len(params["layers"]))
    variants = [Variant(BASELINE, clean, labels={"kind": "removal"})]
    ranked = sorted(candidates, key=lambda row: -abs(row["out_value"] or 0.0))
    for found in ranked[:count]:
        layer, place = found["layer"], (found["hidden_neuron"], found["out_neuron"])
        kernel_FD = np.asarray(tree.get(params["layers"][layer], "down_proj"), np.float32)
        places = [place, *_controls(kernel_FD, place, (seed, layer))]
        share = found["hidden_value"] * float(kernel_FD[place]) / found["out_value"]
        for draw, (row, column) in enumerate(places):
            labels = {
                "kind": "removal",
                "layer": layer,
                "row": row,
                "column": column,
                "weight": float(kernel_FD[row, column]),
                "contribution": None if draw else share,
                "control": draw - 1 if draw else None,
            }
            steps = (*clean[:layer], _without(layer, row, column), *clean[layer + 1 :])
            variants.append(Variant(f"without_weight/{layer}/{row},{column}", steps, labels))
    return variants


def _controls(
    kernel_FD: np.ndarray, place: tuple[int, int], seed: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Other entries of nearly the same magnitude, drawn at random."""
    nearest = np.abs(np.abs(kernel_FD) - abs(kernel_FD[place])).ravel().argsort(kind="stable")
    nearest = nearest[nearest != np.ravel_multi_index(place, kernel_FD.shape)][:CLOSEST]
    drawn = np.random.default_rng(seed).permutation(nearest)[:CONTROLS]
    return [divmod(index, kernel_FD.shape[1]) for index in drawn.tolist()]


def _without(layer: int, row: int, column: int) -> Step:
    arguments = (("column", column), ("row", row))
    scope = ("down_proj",)
    return Step(layer, Edit("without_weight", without_weight, (), scope, arguments, on_host=True))

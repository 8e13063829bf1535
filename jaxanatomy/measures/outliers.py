"""Massive activations, and the single weights that make them.

Massive activations (Sun et al. 2024, arXiv 2402.17762): a few entries of the residual stream, at
few tokens and always the same neurons, thousands of times as large as the median.

Super weights (Yu et al. 2024, arXiv 2411.07191): a single entry of a down_proj through which one
hidden neuron writes such an activation; without it alone the model is lost. Candidates are found in
one pass: at the token where the MLP writes most, the output neuron that it writes to and the hidden
neuron that is largest. Whether they are super weights shows their removal, beside that of other
weights of their size in the same matrix.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.interventions.variants import BASELINE, Edit, Step, Variant, baseline_steps
from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics import paired_difference
from jaxanatomy.records import Row
from jaxanatomy.sweep import Context, Measured, Reading

TOP = 3  # entries of a layer that have a row
MASSIVE, TIMES_MEDIAN = 100.0, 1000.0  # Sun et al., section 2
NEAREST, LARGEST = "nearest", "largest"
CONTROLS = {
    NEAREST: 4,  # of each candidate: the weights of its matrix next to it by magnitude
    LARGEST: 4,  # of all together: the largest weights of layers of which no candidate is tried
}
RUINED_PERCENT = THRESHOLDS_PERCENT[-1]  # a model is lost whose perplexity has doubled
ERROR = 0.05  # of all candidates together


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


def _tried(candidates: Sequence[Row], count: int) -> list[Row]:
    """The likeliest, of the layers whose MLP writes something finite."""
    writing = [row for row in candidates if row["out_value"] and row["hidden_value"] is not None]
    return sorted(writing, key=lambda row: -abs(row["out_value"]))[:count]


def removals(candidates: Sequence[Row], count: int) -> int:
    """How many rows the removal of so many candidates makes; there is a candidate of each layer."""
    tried = len(_tried(candidates, count))
    return 1 + tried * (1 + CONTROLS[NEAREST]) + min(CONTROLS[LARGEST], len(candidates) - tried)


def removal_variants(params: tree.Params, candidates: Sequence[Row], count: int) -> list[Variant]:
    """The model without each of the likeliest candidates, and without each of their controls.

    Args:
      params: The model's.
      candidates: Of `candidate_rows`, of one model and text.
      count: How many are tried: those of the largest `out_value`.

    Returns:
      A baseline, and variants with labels `kind` "removal", `layer`, `row`, `column`, `weight`,
      `contribution` (the share of what the MLP wrote to that neuron that came through the weight)
      and `control`: None, `NEAREST` or `LARGEST`.
    """
    kernels = [np.asarray(tree.get(own, "down_proj"), np.float32) for own in params["layers"]]
    tried, removed = _tried(candidates, count), []
    for found in tried:
        layer, place = found["layer"], (found["hidden_neuron"], found["out_neuron"])
        share = found["hidden_value"] * float(kernels[layer][place]) / found["out_value"]
        removed.append((layer, place, share, None))
        near = _nearest(kernels[layer], place, CONTROLS[NEAREST])
        removed += [(layer, each, None, NEAREST) for each in near]
    others = {*range(len(kernels))} - {found["layer"] for found in tried}
    largest = {layer: _largest(kernels[layer]) for layer in sorted(others)}
    by_size = sorted(largest, key=lambda layer: -abs(kernels[layer][largest[layer]]))
    removed += [(layer, largest[layer], None, LARGEST) for layer in by_size[: CONTROLS[LARGEST]]]
    clean = baseline_steps(len(kernels))
    variants = [Variant(BASELINE, clean, labels={"kind": "removal"})]
    for layer, (row, column), share, control in removed:
        labels = {
            "kind": "removal",
            "layer": layer,
            "row": row,
            "column": column,
            "weight": float(kernels[layer][row, column]),
            "contribution": share,
            "control": control,
        }
        steps = (*clean[:layer], _without(layer, row, column), *clean[layer + 1 :])
        variants.append(Variant(f"without_weight/{layer}/{row},{column}", steps, labels))
    return variants


def super_weights(rows: Sequence[Row]) -> list[Row]:
    """Each candidate that was removed, and whether it is a super weight.

    It is if the model without it has at least twice the perplexity and loses more than without any
    control, by the lower ends of intervals that hold for all candidates together.

    Args:
      rows: Of kind "removal", of one model and text; all of them.

    Returns:
      The candidates' rows with `is_super`, None where a loss is not finite or not there, and
      `controls`, the rows of theirs.
    """
    whole = [row for row in rows if row["variant"] == BASELINE]
    removed = [row for row in rows if row["variant"] != BASELINE]
    candidates = [row for row in removed if row["control"] is None]
    level = 1 - 2 * ERROR / max(len(candidates), 1)  # one side of each interval is looked at
    found = []
    for row in candidates:
        controls = [
            other
            for other in removed
            if other["control"] == LARGEST
            or (other["control"], other["layer"]) == (NEAREST, row["layer"])
        ]
        lost = [paired_difference(row, each, level).degradation_percent().low for each in whole]
        beyond = [paired_difference(row, other, level).low for other in controls]
        is_known = bool(lost) and all(map(math.isfinite, (*lost, *beyond)))
        is_super = all(low >= RUINED_PERCENT for low in lost) and all(low > 0 for low in beyond)
        found.append({**row, "controls": controls, "is_super": is_super if is_known else None})
    return found


def _nearest(kernel_FD: np.ndarray, place: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """The entries nearest in magnitude, the entry itself left out."""
    apart = np.abs(np.abs(kernel_FD) - abs(kernel_FD[place])).ravel()
    apart[np.ravel_multi_index(place, kernel_FD.shape)] = np.inf
    nearest = apart.argsort(kind="stable")[:count]
    return [divmod(index, kernel_FD.shape[1]) for index in nearest.tolist()]


def _largest(kernel_FD: np.ndarray) -> tuple[int, int]:
    """The entry of largest magnitude."""
    return divmod(int(np.abs(kernel_FD).argmax()), kernel_FD.shape[1])


def _without(layer: int, row: int, column: int) -> Step:
    arguments = (("column", column), ("row", row))
    scope = ("down_proj",)
    return Step(layer, Edit("without_weight", without_weight, (), scope, arguments, on_host=True))

"""Massive activations, and the single weights that make them.

Massive activations (Sun et al. 2024, arXiv 2402.17762): a few entries of the residual stream, at
few tokens and always the same neurons, thousands of times as large as the median.

Super weights (Yu et al. 2024, arXiv 2411.07191): a single entry of a down_proj through which one
hidden neuron writes such an activation; without it alone the model is lost. Candidates are found in
one pass: at the token where the MLP writes most, the output neuron that it writes to and the hidden
neuron that is largest. Whether they are super weights shows their removal, beside that of random
weights of their size, of any layer's down_proj.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.interventions.variants import BASELINE, Edit, Step, Variant, baseline_steps
from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import paired_difference
from jaxanatomy.records import Row
from jaxanatomy.sweep import Context, Measured, Reading

Place = tuple[int, int, int]  # layer, row, column

TOP = 3  # entries of a layer that have a row
MASSIVE, TIMES_MEDIAN = 100.0, 1000.0  # Sun et al., section 2
SIMILAR, NEAREST, LARGEST = "similar", "nearest", "largest"
CONTROLS = {
    SIMILAR: 4,  # of each candidate: random weights of its size; `NEAREST` where there are none
    LARGEST: 4,  # of all together: the largest weights of layers of which no candidate is tried
}
SIMILAR_PERCENT = 10  # by which the magnitude of a weight of similar size may differ
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
    return 1 + tried * (1 + CONTROLS[SIMILAR]) + min(CONTROLS[LARGEST], len(candidates) - tried)


def removal_variants(
    params: tree.Params, candidates: Sequence[Row], count: int, seed: int
) -> list[Variant]:
    """The model without each of the likeliest candidates, and without each of their controls.

    Args:
      params: The model's.
      candidates: Of `candidate_rows`, of one model and text.
      count: How many are tried: those of the largest `out_value`.
      seed: Of the draw of controls.

    Returns:
      A baseline, and variants with labels `kind` "removal", `layer`, `row`, `column`, `weight`,
      `contribution` (the share of what the MLP wrote to that neuron that came through the weight),
      `control`: None, `SIMILAR`, `NEAREST` or `LARGEST`, and `control_of`, the layer of the
      candidate that it is a control of; None of those of all, and of candidates. No weight is
      removed twice.
    """
    kernels = [np.asarray(tree.get(own, "down_proj"), np.float32) for own in params["layers"]]
    tried, rng = _tried(candidates, count), np.random.default_rng(seed)
    places = [(found["layer"], found["hidden_neuron"], found["out_neuron"]) for found in tried]
    largest = _largest(kernels, {layer for layer, _, _ in places})
    taken, removed = [*places, *largest], []
    for found, place in zip(tried, places, strict=True):
        written = found["hidden_value"] * float(kernels[place[0]][place[1:]])
        share = {"contribution": written / found["out_value"]}
        removed.append((place, share))
        for control, kind in _controls(kernels, place, taken, CONTROLS[SIMILAR], rng):
            removed.append((control, {"control": kind, "control_of": place[0]}))
            taken.append(control)
    removed += [(place, {"control": LARGEST}) for place in largest]
    clean = baseline_steps(len(kernels))
    variants = [Variant(BASELINE, clean, labels={"kind": "removal"})]
    for (layer, row, column), more in removed:
        labels = {"kind": "removal", "layer": layer, "row": row, "column": column}
        labels |= {"weight": float(kernels[layer][row, column]), "contribution": None}
        labels |= {"control": None, "control_of": None, **more}
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
            if other["control"] == LARGEST or other["control_of"] == row["layer"]
        ]
        lost = [paired_difference(row, each, level).degradation_percent().low for each in whole]
        beyond = [paired_difference(row, other, level).low for other in controls]
        is_known = bool(lost) and all(map(math.isfinite, (*lost, *beyond)))
        is_super = all(low >= RUINED_PERCENT for low in lost) and all(low > 0 for low in beyond)
        found.append({**row, "controls": controls, "is_super": is_super if is_known else None})
    return found


def _controls(
    kernels: Sequence[np.ndarray],
    place: Place,
    taken: Sequence[Place],
    count: int,
    rng: np.random.Generator,
) -> list[tuple[Place, str]]:
    """Random weights of the magnitude of one, of all layers, each with `SIMILAR`.

    None is of its column, the neuron of the stream that it writes to, in any layer, nor of its row
    in its own layer. Where fewer than `count` are within `SIMILAR_PERCENT`, those next to it in
    magnitude fill up, with `NEAREST`.
    """
    size = abs(kernels[place[0]][place[1:]])
    within = size * SIMILAR_PERCENT / 100
    pools = [
        np.flatnonzero(_apart(layer, kernel_FD, size, place, taken) <= within)
        for layer, kernel_FD in enumerate(kernels)
    ]
    ends, found = np.cumsum([len(pool) for pool in pools]), []
    for each in rng.choice(ends[-1], min(count, ends[-1]), replace=False).tolist():
        layer = int(np.searchsorted(ends, each, side="right"))
        at = int(pools[layer][each - ends[layer]])  # counted from the pool's end
        found.append((layer, *divmod(at, kernels[layer].shape[1])))
    rest, missing = [], count - len(found)
    for layer, kernel_FD in enumerate(kernels if missing else ()):
        apart = _apart(layer, kernel_FD, size, place, [*taken, *found]).ravel()
        nearest = apart.argsort(kind="stable")[:missing].tolist()
        rest += [(apart[at], (layer, *divmod(at, kernel_FD.shape[1]))) for at in nearest]
    nearest = [control for apart, control in sorted(rest)[:missing] if np.isfinite(apart)]
    return [(control, SIMILAR) for control in found] + [(control, NEAREST) for control in nearest]


def _apart(
    layer: int, kernel_FD: np.ndarray, size: float, place: Place, taken: Sequence[Place]
) -> np.ndarray:
    """How far each weight is from a magnitude [F, D]; infinite for what is no control."""
    apart_FD = np.abs(np.abs(kernel_FD) - size)
    apart_FD[:, place[2]] = np.inf
    if layer == place[0]:
        apart_FD[place[1]] = np.inf
    for _, row, column in (each for each in taken if each[0] == layer):
        apart_FD[row, column] = np.inf
    return apart_FD


def _largest(kernels: Sequence[np.ndarray], without: Collection[int]) -> list[Place]:
    """The entries of largest magnitude of layers, of the largest layers first."""
    found = []
    for layer, kernel_FD in enumerate(kernels):
        row, column = divmod(int(np.abs(kernel_FD).argmax()), kernel_FD.shape[1])
        found.append((layer, row, column))
    found = [place for place in found if place[0] not in without]
    return sorted(found, key=lambda place: -abs(kernels[place[0]][place[1:]]))[: CONTROLS[LARGEST]]


def _without(layer: int, row: int, column: int) -> Step:
    arguments = (("column", column), ("row", row))
    scope = ("down_proj",)
    return Step(layer, Edit("without_weight", without_weight, (), scope, arguments, on_host=True))

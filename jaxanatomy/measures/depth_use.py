"""What a run of depth use comes to: scores, matrices and the summary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.forensics.blocks import repeats
from jaxanatomy.interventions.variants import Variant
from jaxanatomy.measures.depth_score import depth_difference_rows, depth_score_rows
from jaxanatomy.measures.readings import contribution, lens, outliers
from jaxanatomy.measures.readings.effects import heatmaps
from jaxanatomy.records import Row
from jaxanatomy.sweep import Measured

# What tells rows of kind "depth_score", and of kind "periodicity", of one model and text apart.
SCORE_KEY = ("kind", "convention", "part", "effect", "over", "example")
DIFFERENCE_KEY = ("kind", "convention", "part", "effect")
PERIOD_KEY = ("kind", "metric", "positions", "block")
SUPER_WEIGHT = ("layer", "row", "column", "degradation_percent", "ci95", "is_super")
UNTRAINED = "random:"
# What is read of the model as it is, in one pass.
PROFILE = {**contribution.READINGS, **lens.READINGS, **outliers.READINGS}


def profile_units(variant: Variant, num_layers: int) -> list[str]:
    """What `profile_rows` has rows of, in their order."""
    contributions = [
        f"contribution {name} {positions}"
        for name in contribution.READINGS
        for positions in contribution.POSITIONS
    ]
    lenses = [f"lens {name}" for name in lens.METRICS]
    found = [f"{each} {layer}" for each in contributions + lenses for layer in range(num_layers)]
    found += [
        f"massive {layer} {rank}" for layer in range(num_layers) for rank in range(outliers.TOP)
    ]
    return found + [f"candidate {layer}" for layer in range(num_layers)]


def profile_rows(
    measured: Mapping[str, Measured], variants: Sequence[Variant], *, text: str
) -> list[Row]:
    """Contributions, the logit lens, massive activations and candidates for super weights."""
    (variant,) = variants
    rows = contribution.contribution_rows(measured, variant.name)
    rows += lens.lens_rows(measured, variant.name)
    rows += outliers.massive_rows(measured, variant.name)
    rows += outliers.candidate_rows(measured, variant.name)
    return [row | {"text": text} for row in rows]


def of_model(rows: Sequence[Row], model: str) -> list[Row]:
    """The rows of one model."""
    return [row for row in rows if row["model"] == model]


def score_rows(rows: Sequence[Row], model: str) -> list[Row]:
    """The rows of kind "depth_score" of a model."""
    return [{"model": model, **row} for row in depth_score_rows(of_model(rows, model))]


def difference_rows(rows: Sequence[Row], model: str, others: Sequence[str]) -> list[Row]:
    """The rows of kind "depth_difference": of other models against a model."""
    beside = {one: of_model(rows, one) for one in others}
    return depth_difference_rows(of_model(rows, model), beside)


def period_rows(
    rows: Sequence[Row], model: str, sizes: Sequence[int], samples: int, seed: int
) -> list[Row]:
    """The rows of kind "periodicity" of a model."""
    own = [row for row in of_model(rows, model) if row["kind"] == "contribution"]
    texts = dict.fromkeys(row["text"] for row in own)
    labels = {"model": model, "text": next(iter(texts))}
    return [labels | row for row in contribution.period_rows(own, sizes, samples, seed)]


def removed_weights(rows: Sequence[Row]) -> list[Row]:
    """`outliers.super_weights` of the rows of a model; none where none was removed."""
    removed = [row for row in rows if row["kind"] == "removal"]
    return outliers.super_weights(removed) if removed else []


def arrays(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """The heatmaps [source, target] by name, those of the untrained model after `untrained_`, of
    other models after `other_0_`, `other_1_`, in their order.

    `paper_layer_propagated_future` is the largest effect, `paper_layer_propagated_future_mean` the
    mean; NaN where the target does not come after the source.
    """
    found = {}
    given, *more = dict.fromkeys(row["model"] for row in rows)
    null = f"{UNTRAINED}{given}"
    others = [model for model in more if model != null]
    prefixes = {given: "", null: "untrained_"}
    prefixes |= {model: f"other_{at}_" for at, model in enumerate(others)}
    for model in (given, *more):
        prefix = prefixes[model]
        for key, matrices in heatmaps(of_model(rows, model)).items():
            name = prefix + "_".join(key)
            found |= {name: matrices["value"], f"{name}_mean": matrices["mean"]}
    return found


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """By model scores, contributions that repeat, removed weights and a digest of each heatmap."""
    found = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        own = of_model(rows, model)
        found[model] = {
            "depth_score": [
                {name: value for name, value in row.items() if name not in ("hash", "model")}
                for row in own
                if row["kind"] == "depth_score" and row["example"] is None
            ],
            "repeats": [
                {name: row[name] for name in ("metric", "positions", "block", "value", "p")}
                for row in repeats([row for row in own if row["kind"] == "periodicity"])
            ],
            "super_weights": [
                {name: row[name] for name in SUPER_WEIGHT} for row in removed_weights(own)
            ],
            "effects": [_digest(key, matrices) for key, matrices in heatmaps(own).items()],
        }
    return {"models": found}


def _digest(key: tuple[str, ...], matrices: dict[str, np.ndarray]) -> dict[str, Any]:
    value_LL = matrices["value"]
    place = np.unravel_index(np.nanargmax(value_LL), value_LL.shape)
    numbers = {"largest": value_LL[place], "median": np.nanmedian(value_LL)}
    numbers |= {"median_mean": np.nanmedian(matrices["mean"])}
    return {
        **dict(zip(("convention", "part", "spread", "when"), key, strict=True)),
        "source": int(place[0]),
        "target": int(place[1]),
        **{name: float(each) if np.isfinite(each) else None for name, each in numbers.items()},
    }

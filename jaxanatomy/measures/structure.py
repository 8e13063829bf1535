"""Rows of the structure experiment, and its summary."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy import tree
from jaxanatomy.forensics.blocks import (
    FFN,
    FFN_PARTS,
    PERIODICITY,
    analyse_blocks,
    repeats,
    sizes_of,
)
from jaxanatomy.forensics.gram import Moments
from jaxanatomy.forensics.structure import DRAWS, BesideNull, Structure, analyse, require_draws
from jaxanatomy.records import Row

_UNDEFINED = "two of the layers are equal, or a layer has no spread"


def component_structure(
    component: str,
    moments: Moments,
    initial: Moments | None = None,
    *,
    samples: int = DRAWS,
    seed: int = 0,
) -> Structure:
    """`forensics.structure.analyse` of a component; every component has draws of its own.

    Args:
      component: Its name.
      moments: Of its layers.
      initial: Of the same component of the randomly initialised model, or None.
      samples: Draws of each null.
      seed: Of the draws; a component's do not depend on which others are read.

    Raises:
      InputError: as `require_draws`.
    """
    require_draws(samples, seed)
    return analyse(moments, initial, samples, (seed, tree.MATRICES.index(component)))


def structure_rows(component: str, structure: Structure) -> list[dict[str, Any]]:
    """A row for each metric, layer and null of a component, without its hash.

    `value` or `null_value` is None where it is undefined, and `reason` says why; low, high
    and z are None where the null has no draws.
    """
    return _rows(component, structure.readings)


def _rows(component: str, readings: Iterable[BesideNull]) -> list[dict[str, Any]]:
    rows = []
    for reading in readings:
        row = {"component": component, **dataclasses.asdict(reading)}
        if reading.value is None or reading.null_value is None:
            row["reason"] = _UNDEFINED
        rows.append(row)
    return rows


def ffn_blocks(
    moments: Mapping[str, Moments],
    initial: Mapping[str, Moments] | None,
    sizes: Sequence[int],
    *,
    samples: int = DRAWS,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Blocks of layers by their FFN weights: rows without their hashes, and arrays.

    Args:
      moments: Of gate_proj, up_proj and down_proj, and perhaps others.
      initial: Those of the randomly initialised model, or None.
      sizes: Layers in a block (`blocks.sizes_of`).
      samples: Draws of each null.
      seed: Of the draws.

    Returns:
      (rows with `component` "ffn", `block` and `p` beside the fields of `structure_rows`;
      `block_similarity_SIZE` [first layer, first layer]).
    """
    require_draws(samples, seed)
    whole, beside = (
        functools.reduce(Moments.end_to_end, (each[name] for name in FFN_PARTS)) if each else None
        for each in (moments, initial)
    )
    scores, similarity = analyse_blocks(whole, beside, sizes, samples, (seed, len(tree.MATRICES)))
    arrays = {f"block_similarity_{size}": matrix_BB for size, matrix_BB in similarity.items()}
    return _rows(FFN, scores), arrays


def all_rows(
    moments: Mapping[str, Moments], initial: Mapping[str, Moments], *, samples: int, seed: int
) -> list[dict[str, Any]]:
    """The rows of all components, and of blocks where the FFN is among them; without hashes."""
    draws = {"samples": samples, "seed": seed}
    rows = []
    for name, own in moments.items():
        rows += structure_rows(name, component_structure(name, own, initial.get(name), **draws))
    if set(FFN_PARTS) <= moments.keys():
        sizes = sizes_of((), next(iter(moments.values())).num_layers)
        rows += ffn_blocks(moments, initial, sizes, **draws)[0]
    return rows


def repeating(rows: Iterable[Row]) -> list[int]:
    """The sizes of blocks at which the FFN weights repeat themselves, against random orders."""
    wanted = {"metric": PERIODICITY, "null": "shuffled_layers"}
    return [row["block"] for row in repeats([row for row in rows if wanted.items() <= row.items()])]


def structure_arrays(component: str, structure: Structure) -> dict[str, Any]:
    """Cosines, PCA shares and those of the Gaussian null, under the component's name."""
    return {
        f"cosine_{component}": structure.cosine_LL,
        f"pca_{component}": structure.share_L,
        f"pca_gaussian_{component}": structure.gaussian_share_L,
    }


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """Every metric over all layers beside its nulls.

    Returns:
      A dict ready for JSON: `components`, and in it by component and metric `value` and
      `nulls`, which has `value`, `low`, `high` and `z` of each null. `outside_gaussian`
      names the components whose mean delta correlation lies outside the 95 % interval of
      independent Gaussian layers, and on which side. Scores of blocks are those of component
      "ffn", with the size of a block behind their names; `repeats_every` has the sizes at which
      layers repeat themselves (`repeating`).
    """
    rows = list(rows)
    components: dict[str, Any] = {}
    outside = {}
    for row in rows:
        if row["layer"] is not None:
            continue
        metrics = components.setdefault(row["component"], {})
        name = f"{row['metric']}_{row['block']}" if "block" in row else row["metric"]
        metric = metrics.setdefault(name, {"value": row["value"], "nulls": {}})
        metric["nulls"][row["null"]] = {
            "value": row["null_value"],
            "low": row["null_low"],
            "high": row["null_high"],
            "z": row["z"],
        }
        if (row["metric"], row["null"]) == ("delta_correlation", "gaussian"):
            outside[row["component"]] = side_of(row)
    return {
        "components": components,
        "outside_gaussian": {name: side for name, side in outside.items() if side},
        "repeats_every": repeating(rows),
    }


def side_of(row: Row) -> str | None:
    """Where a value lies outside the draws of its null.

    Args:
      row: A row; an empty one stands for what was not measured.

    Returns:
      "below" or "above" the 95 % interval; None inside it, or where there is none.
    """
    if row.get("value") is None or row.get("null_low") is None:
        return None
    if row["value"] < row["null_low"]:
        return "below"
    return "above" if row["value"] > row["null_high"] else None

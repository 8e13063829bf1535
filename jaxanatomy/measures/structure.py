"""Rows of the structure experiment, and its summary."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from jaxanatomy import tree
from jaxanatomy.forensics.gram import Moments
from jaxanatomy.forensics.structure import DRAWS, Structure, analyse, require_draws
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
    rows = []
    for reading in structure.readings:
        row = {"component": component, **dataclasses.asdict(reading)}
        if reading.value is None or reading.null_value is None:
            row["reason"] = _UNDEFINED
        rows.append(row)
    return rows


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
      independent Gaussian layers, and on which side.
    """
    components: dict[str, Any] = {}
    outside = {}
    for row in rows:
        if row["layer"] is not None:
            continue
        metrics = components.setdefault(row["component"], {})
        metric = metrics.setdefault(row["metric"], {"value": row["value"], "nulls": {}})
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

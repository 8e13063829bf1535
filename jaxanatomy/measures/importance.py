"""How much worse the model gets without a layer: rows of the importance experiment."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.interventions.variants import BASELINE, Variant
from jaxanatomy.measures.losses import degradation, loss_rows
from jaxanatomy.records import Row

CATEGORIES = ("redundant", "minor", "important", "critical")
THRESHOLDS_PERCENT = (10.0, 30.0, 100.0)
LABELS = ("intervention", "scope", "positions", "layer", "draw")


def categorise(degradation: float | None) -> str | None:
    """The category of a degradation in percent (AH section 3.2).

    Redundant below 10 %, minor below 30, important below 100, critical from there on
    (infinite too); None for None or NaN.
    """
    if degradation is None or math.isnan(degradation):
        return None
    return CATEGORIES[sum(degradation >= threshold for threshold in THRESHOLDS_PERCENT)]


def importance_rows(
    results: Mapping[str, np.ndarray],
    variants: Sequence[Variant],
    *,
    baseline_P: np.ndarray,
    **settings: Any,
) -> list[Row]:
    """One row for each variant, with the fields of the importance experiment.

    Args:
      results: Per-token NLL of each variant by its name, float32 [P].
      variants: The variants to report, in order.
      baseline_P: Per-token NLL of the unedited model.
      **settings: The others of `losses.loss_rows`.

    Returns:
      The rows of `loss_rows` with `LABELS` (None where a variant has none), `category`,
      `anti_layer` and `boundary`. `anti_layer` is pointwise, for a layer that was named
      before looking: of 28 layers that do nothing one in forty has it by chance. What a whole
      map says, `many_looks.look_at_map` does.

    Raises:
      InputError: as `loss_rows`.
    """
    rows = loss_rows(results, variants, baseline_P=baseline_P, **settings)
    return [
        {"variant": variant.name, **dict.fromkeys(LABELS), **row}
        | {
            "category": _category(variant, np.asarray(results[variant.name]), baseline_P),
            # Without an interval nothing is claimed.
            "anti_layer": row["ci95"] is not None and row["ci95"][1] < 0,
            "boundary": bool(variant.labels.get("boundary", False)),
        }
        for variant, row in zip(variants, rows, strict=True)
    ]


def _category(variant: Variant, nll_P: np.ndarray, baseline_P: np.ndarray) -> str | None:
    return None if variant.name == BASELINE else categorise(degradation(nll_P, baseline_P))

"""Means over tokens of what a reading gives at each layer, with intervals over documents."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import (
    Estimate,
    ratio_intervals,
    sampling_units,
    simultaneous_intervals,
)
from jaxanatomy.records import Row
from jaxanatomy.sweep import Measured


def layer_means(
    measured: Measured,
    variant: str,
    labels: Mapping[str, Any],
    counted_N: np.ndarray | None = None,
    of: Callable[[np.ndarray], np.ndarray] | None = None,
    together: bool = False,
) -> list[Row]:
    """One row for each layer.

    Args:
      measured: Every value of a reading, [variant, layer, N] over tokens or predictions.
      variant: Which one.
      labels: Fields of the rows.
      counted_N: Which of the N count; None: all.
      of: An increasing function of the mean, such as the exponential of a loss.
      together: Whether the intervals of all layers hold at once.

    Returns:
      Rows with the labels, `layer`, `value` and `ci95` (`statistics.ratio_intervals`, or
      `simultaneous_intervals`), None where a value is not finite.
    """
    counted_N = np.ones(len(measured.documents), bool) if counted_N is None else counted_N
    value_LN = measured[variant][:, counted_N].astype(np.float64)
    unit_N = sampling_units(measured.documents[counted_N])
    tokens_U = np.bincount(unit_N)
    sums_LU = np.stack([np.bincount(unit_N, weights=value_N) for value_N in value_LN])
    rows = []
    intervals = simultaneous_intervals if together else ratio_intervals
    found_L3 = intervals(sums_LU, tokens_U)
    for layer, found in zip(measured.layers.tolist(), found_L3, strict=True):
        estimate = Estimate(*map(float, found))
        estimate = estimate if of is None else estimate.map(of)
        figures = {"value": finite(estimate.value), "ci95": estimate.ends}
        rows.append({**labels, "layer": layer, **figures})
    return rows

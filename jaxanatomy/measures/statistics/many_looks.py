"""What a map of many layers says once it has been looked at whole.

Of thirty layers that do nothing, some look better than the unedited model, one looks best, and
one looks worst. Everything here pays for that: bands that hold for all layers at once, sets of
layers that may be the most or the least important one, the number of layers that chance would
call better, and the smallest effect that the text can show.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.importance import categorise
from jaxanatomy.measures.statistics import ratio
from jaxanatomy.measures.statistics.estimates import (
    Estimate,
    degradation_percent,
    ratio_intervals,
    simultaneous_intervals,
)

LEVEL = 0.95
_FLIPS, _KEY = 1000, 0


@dataclasses.dataclass(frozen=True)
class SmallestEffect:
    """Half the width of the interval of the median layer: smaller effects stay undecided.

    An effect of this size has its interval clear of 0 in about half of all texts like this one.

    Attributes:
      pointwise: For a layer named before looking, nats per token.
      simultaneous: For a layer picked from the map.
    """

    pointwise: float
    simultaneous: float


@dataclasses.dataclass(frozen=True)
class MapLooks:
    """A map of layers, looked at whole. All at level 0.95.

    Attributes:
      units: The number of documents (or blocks) of the text.
      band: By layer the change of the mean NLL (nats per token), with intervals that hold
        for all layers at once; NaN where a loss is not finite.
      anti_layers: Layers that are better replaced: their part of the band lies below 0.
      settled: Layers whose part of the band lies in one category.
      most: Layers that may be the most important one; told apart from the others if one.
      least: Layers that may be the least important one.
      chance_better: How many layers have their own interval below 0 where none does
        anything, on average.
      smallest_effect: What the text can show; None where no layer has an interval.
    """

    units: int
    band: Mapping[int, Estimate]
    anti_layers: tuple[int, ...]
    settled: tuple[int, ...]
    most: tuple[int, ...]
    least: tuple[int, ...]
    chance_better: float
    smallest_effect: SmallestEffect | None


def look_at_map(rows: Sequence[Mapping[str, Any]], baseline: Mapping[str, Any]) -> MapLooks | None:
    """Looks at the rows of one intervention on one text.

    Args:
      rows: One row for each layer, with `layer`, `unit_nll` and `unit_tokens`.
      baseline: The unedited model's row on the same text.

    Returns:
      None unless there are two layers and all rows have the losses of the same units.
    """
    tokens = baseline.get("unit_tokens")
    if len(rows) < 2 or not tokens or any(row.get("unit_tokens") != tokens for row in rows):
        return None
    layers = [row["layer"] for row in rows]
    sums_VU, tokens_U = differences(rows, baseline)
    band_V3 = simultaneous_intervals(sums_VU, tokens_U, LEVEL)

    def chosen(is_V: np.ndarray) -> tuple[int, ...]:
        return tuple(layer for layer, is_it in zip(layers, is_V, strict=True) if is_it)

    return MapLooks(
        units=len(tokens),
        band={
            layer: Estimate(*map(float, ends)) for layer, ends in zip(layers, band_V3, strict=True)
        },
        anti_layers=chosen(band_V3[:, 2] < 0),
        settled=chosen(np.array([_is_settled(ends) for ends in band_V3])),
        most=chosen(may_be_largest(sums_VU, tokens_U, LEVEL)),
        least=chosen(may_be_smallest(sums_VU, tokens_U, LEVEL)),
        chance_better=chance_better(sums_VU, tokens_U, LEVEL),
        smallest_effect=smallest_effect(sums_VU, tokens_U, LEVEL),
    )


def differences(
    rows: Sequence[Mapping[str, Any]], baseline: Mapping[str, Any], field: str = "unit_nll"
) -> tuple[np.ndarray, np.ndarray]:
    """What rows of a text have more than the baseline, [V, U], by unit, and the units' tokens [U].

    Args:
      rows: One row for each variant.
      baseline: The unedited model's row on the same text.
      field: `unit_nll` or `unit_kl`; NaN where it is not finite.
    """
    own_VU = np.array([row[field] for row in rows], np.float64)
    return own_VU - np.array(baseline[field], np.float64), np.array(baseline["unit_tokens"])


def _is_settled(ends: np.ndarray) -> bool:
    found = {categorise(degradation_percent(each)) for each in ends}
    return len(found) == 1 and None not in found


def may_be_largest(sums_VU: np.ndarray, tokens_U: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The variants that may have the largest mean: a confidence set of the best (Hsu 1984).

    A variant is out if another one is larger by the one-sided band of all differences from
    it. So the largest is in the set with probability `level`; where all are equal the set
    holds one alone in at most 1 - level of cases.

    Args:
      sums_VU: As in `simultaneous_intervals`; a sum that is not finite is larger than any.
      tokens_U: Tokens of each unit.
      level: Probability that the largest is in the set.

    Returns:
      bool [V].
    """
    lost_V = ~np.isfinite(sums_VU).all(axis=1)
    return lost_V if lost_V.any() else _may_be_largest(sums_VU, tokens_U, level)


def may_be_smallest(sums_VU: np.ndarray, tokens_U: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The variants that may have the smallest mean; see `may_be_largest`."""
    known_V = np.isfinite(sums_VU).all(axis=1)
    may_V = np.zeros(len(sums_VU), bool)
    may_V[known_V] = _may_be_largest(-sums_VU[known_V], tokens_U, level)
    return may_V


def _may_be_largest(sums_VU: np.ndarray, tokens_U: np.ndarray, level: float) -> np.ndarray:
    from scipy.stats import t

    units, others = len(tokens_U), len(sums_VU) - 1
    if units < 2 or others < 1:
        return np.ones(len(sums_VU), bool)
    # Max |t| lies between these two; only what they leave open needs its quantile drawn.
    alone, bonferroni = t.ppf([level, 1 - (1 - level) / others], units - 1)

    def is_out(own: int) -> bool:
        others_VU = np.delete(sums_VU, own, axis=0) - sums_VU[own]

        def some_larger(quantile: float) -> bool:
            return bool((ratio.band(others_VU, tokens_U, quantile)[:, 1] > 0).any())

        if some_larger(bonferroni) or not some_larger(alone):
            return some_larger(bonferroni)
        _, _, residual_VU = ratio.linearise(others_VU, tokens_U)
        # The upper half of the band is not looked at: all of 1 - level is spent below.
        return some_larger(ratio.largest_t(residual_VU, 2 * level - 1))

    return np.array([not is_out(own) for own in range(len(sums_VU))])


def chance_better(sums_VU: np.ndarray, tokens_U: np.ndarray, level: float = LEVEL) -> float:
    """How many variants' intervals lie below 0 if none does anything, by relabelling.

    The residuals of each unit get a random sign, the same for all variants, from a fixed
    key: variants keep their spread and correlation, and their means are 0.

    Args:
      sums_VU: Differences from the baseline, summed over the tokens of each unit.
      tokens_U: Tokens of each unit.
      level: Coverage of the intervals that are counted, two-sided.

    Returns:
      The mean count.
    """
    known_VU = sums_VU[np.isfinite(sums_VU).all(axis=1)]
    _, _, residual_VU = ratio.linearise(known_VU, tokens_U)
    signs_FU = np.random.default_rng(_KEY).choice([-1.0, 1.0], size=(_FLIPS, len(tokens_U)))
    flipped_FVU = signs_FU[:, None] * residual_VU
    found = ratio_intervals(flipped_FVU.reshape(-1, len(tokens_U)), tokens_U, level)
    return float((found[:, 2] < 0).sum() / _FLIPS)


def smallest_effect(
    sums_VU: np.ndarray, tokens_U: np.ndarray, level: float = LEVEL
) -> SmallestEffect | None:
    """Half the width of the median variant's interval, alone and among all."""
    widths = []
    for intervals in (ratio_intervals, simultaneous_intervals):
        found_V3 = intervals(sums_VU, tokens_U, level)
        half_V = (found_V3[:, 2] - found_V3[:, 1]) / 2
        widths.append(float(np.median(half_V[np.isfinite(half_V)])) if len(half_V) else math.nan)
    return SmallestEffect(*widths) if all(map(math.isfinite, widths)) else None


def looks_summary(looks: MapLooks) -> dict[str, Any]:
    """A map's looks for JSON, changes in percent as everywhere in a summary.

    Returns:
      `units` (documents, or blocks of few), `band` (layer, `ci95`), `settled`,
      `may_be_most_important`, `may_be_least_important`, `chance_better` and
      `smallest_effect` (`nats`, `percent`, `nats_any_layer`, `percent_any_layer`: for a layer
      picked from the map).
    """
    least = looks.smallest_effect
    return {
        "units": looks.units,
        "band": [
            {"layer": layer, "ci95": found.degradation_percent().ends}
            for layer, found in looks.band.items()
        ],
        "settled": list(looks.settled),
        "may_be_most_important": list(looks.most),
        "may_be_least_important": list(looks.least),
        "chance_better": looks.chance_better,
        "smallest_effect": least
        and {
            "nats": least.pointwise,
            "percent": float(degradation_percent(least.pointwise)),
            "nats_any_layer": least.simultaneous,
            "percent_any_layer": float(degradation_percent(least.simultaneous)),
        },
    }

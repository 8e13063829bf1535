"""Where along the depth specialist layers stand, and whether the widths of layers decide it (LR 6).

LR's figure of specialization is the coefficient of variation (CV) of co-magnitudes. Shared out over
layers it gives two numbers: the place at which it stands on average, and over how many layers it is
spread. What widths do is read three ways: both numbers against those of equal layers on the same
seeds, and the slope of what a layer's CV gains on how wide it is.

Roles are z-scores over the layers of a model, and every model has some. So the strips of two arms
differ only if they are further from each other than seeds of one arm are.

Axes: S seeds, L layers.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.forensics.structure import effective_rank
from jaxanatomy.measures.arms.finals import (
    Finals,
    difference_fields,
    family_level,
    finals_by_arm,
    living,
)
from jaxanatomy.measures.arms.registers import summarise_registers
from jaxanatomy.measures.arms.skips import summarise_skips
from jaxanatomy.measures.statistics.estimates import Estimate, seeds_interval
from jaxanatomy.measures.statistics.seed_spread import seed_spread
from jaxanatomy.records import Row

CV = "co_magnitude_cv"
SHAPES = {
    "centre": "where the CV stands on average: 0 the first layer, 1 the last",
    "spread": "over how many layers it is spread",
}
MOST_SPLITS = 20_000
_KEY = 0


def centre(value_L: Sequence[float]) -> float:
    """The place in the depth at which a value stands on average: 0 the first layer, 1 the last."""
    value_L = np.asarray(value_L, np.float64)
    return float(value_L @ np.linspace(0, 1, len(value_L)) / value_L.sum())


def spread(value_L: Sequence[float]) -> float:
    """Over how many layers a value is spread: exp of the entropy of their shares, 1 to L."""
    return float(effective_rank(np.asarray(value_L, np.float64) / np.sum(value_L)))


def width_slope(own_L: Sequence[float], even_L: Sequence[float], width_L: Sequence[float]) -> float:
    """What a value gains where layers are wider: the slope of own / even - 1 on the widths.

    Args:
      own_L: Of a model of these widths.
      even_L: Of one whose layers are equal, so that what depth alone does falls out.
      width_L: Relative to their mean, not all equal.
    """
    change_L = np.asarray(own_L, np.float64) / np.asarray(even_L, np.float64) - 1
    width_L = np.asarray(width_L) - np.mean(width_L)
    return float((change_L @ width_L) / (width_L @ width_L))


def strip_distance(own_L: Sequence[str], other_L: Sequence[str]) -> float:
    """The share of layers that have another role."""
    return float(np.mean([one != other for one, other in zip(own_L, other_L, strict=True)]))


def strips_differ(
    own_SL: Sequence[Sequence[str]], other_SL: Sequence[Sequence[str]]
) -> dict[str, float | None]:
    """Whether the roles of two arms differ more than those of seeds of one arm do.

    Returns:
      `between`, the mean distance of a strip of one and a strip of the other; `within`, of two of
      the same arm; and `p`, the share of splits of all strips into two such groups that have as
      large an excess of the first over the second: of all splits, or of many where all are too
      many. None where an arm has fewer than two strips.
    """
    strips, size = [*own_SL, *other_SL], len(own_SL)
    count = len(strips)
    if min(size, count - size) < 2:
        return dict.fromkeys(("between", "within", "p"))
    distance_NN = np.array([[strip_distance(one, other) for other in strips] for one in strips])
    own_KN = np.zeros((1, count))
    own_KN[0, :size] = 1
    between, within = _distances(distance_NN, own_KN)
    if math.comb(count, size) <= MOST_SPLITS:
        chosen_KS = np.array(list(itertools.combinations(range(count), size)))
    else:
        own_KN = np.tile(own_KN, (MOST_SPLITS, 1))
        own_KN[1:] = np.random.default_rng(_KEY).permuted(own_KN[1:], axis=1)
        chosen_KS = np.nonzero(own_KN)[1].reshape(MOST_SPLITS, size)
    split_KN = np.zeros((len(chosen_KS), count))
    np.put_along_axis(split_KN, chosen_KS, 1, axis=1)
    excess_K = np.subtract(*_distances(distance_NN, split_KN))
    p = float((excess_K >= between - within - 1e-12).mean())
    return {"between": float(between[0]), "within": float(within[0]), "p": p}


def _distances(distance_NN: np.ndarray, own_KN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean distances between the two groups of each split, and within them, [K] each."""
    sums_2K2 = [
        [np.einsum("kn,nm,km->k", one, distance_NN, other) for other in (own_KN, 1 - own_KN)]
        for one in (own_KN, 1 - own_KN)
    ]
    own, other = own_KN[0].sum(), (1 - own_KN[0]).sum()
    within_K = sums_2K2[0][0] / (own * (own - 1)) + sums_2K2[1][1] / (other * (other - 1))
    return sums_2K2[0][1] / (own * other), within_K / 2


def summarise_widths(by_arm: Finals, uniform: str) -> dict[str, Any] | None:
    """What the widths of layers do to where specialist layers stand.

    Args:
      by_arm: Final rows by arm and seed, with `features`, `roles`, and `widths` where layers are
        not equal.
      uniform: The arm of equal layers.

    Returns:
      `arms`, by name: `widths`; `centre` and `spread`, each with what it is less that of equal
      layers on the same seeds (`mean`, `low`, `high`, `seeds`); `strips` (`strips_differ`).
      `slope`, of the CV on the widths, mean over arms and its interval over seeds. All these
      intervals hold at once. None where no arm has other widths.
    """
    even = living(by_arm.get(uniform, {}))
    uneven = {
        arm: living(seeds)
        for arm, seeds in by_arm.items()
        if any("widths" in row for row in seeds.values())
    }
    if not uneven or not even:
        return None
    level = family_level(len(SHAPES) * len(uneven) + 1)
    found: dict[str, dict[str, Any]] = {
        arm: {
            "widths": next((row["widths"] for row in seeds.values()), None),
            "strips": strips_differ(_strips(seeds), _strips(even)),
        }
        for arm, seeds in uneven.items()
    }
    for name, of in (("centre", centre), ("spread", spread)):
        values = {
            arm: {seed: of(row["features"][CV]) for seed, row in seeds.items()}
            for arm, seeds in {uniform: even, **uneven}.items()
        }
        over_seeds = seed_spread(values, of_difference=True)
        for arm in uneven:
            less = over_seeds.difference(values, (arm, uniform), level)
            found[arm][name] = difference_fields(less)
    return {"arms": found, "slope": difference_fields(_slope(uneven, even, level))}


def _strips(seeds: Mapping[int, Row]) -> list[list[str]]:
    return [row["roles"] for row in seeds.values()]


def _slope(
    uneven: Mapping[str, Mapping[int, Row]], even: Mapping[int, Row], level: float
) -> tuple[Estimate, int]:
    """The slope of the CV on the widths, mean over the arms, over seeds that all arms have."""
    seeds = sorted(set(even).intersection(*uneven.values()))
    slopes = [
        float(
            np.mean(
                [
                    width_slope(
                        own[seed]["features"][CV], even[seed]["features"][CV], own[seed]["widths"]
                    )
                    for own in uneven.values()
                ]
            )
        )
        for seed in seeds
    ]
    return (seeds_interval(slopes, level), len(seeds)) if slopes else (Estimate(math.nan), 0)


def summarise_shapes(rows: Sequence[Row], uniform: str) -> dict[str, Any]:
    """`widths` (`summarise_widths`), `registers` and `skips` (of the measures of that name)."""
    by_arm = finals_by_arm(rows)
    return {
        "widths": summarise_widths(by_arm, uniform),
        "registers": summarise_registers(rows, by_arm),
        "skips": summarise_skips(by_arm, uniform),
    }

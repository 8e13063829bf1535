"""How deep trained arms compute: against the baseline, seed by seed (DG section 4)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.growth.depth_arms import BASELINE
from jaxanatomy.growth.depth_edits import EXIT
from jaxanatomy.measures.arms.depth_edits import BySeed, knows
from jaxanatomy.measures.arms.finals import (
    Finals,
    difference_fields,
    family_level,
    living,
    seed_range,
)
from jaxanatomy.measures.statistics.seed_spread import seed_spread
from jaxanatomy.records import Row

SCORE = "depth score"
EXITS = "agreement of late exits"
OVERLAP = "overlap of late exits"
SIMILARITY = "mean cosine of blocks"
SYMMETRY = "symmetry of blocks"
PERIOD = "periodicity of FFN weights"
FIRST_ATTENTION = "effect of first attention"
# Of what attention adds, a, to the stream before the layer, h.
NORM_PERIOD = "periodicity of |a| / |h|"
COSINE_PERIOD = "periodicity of cos(a, h)"
FIRST_COSINE = "cos(a, h) of first attention"
NORM_RISE = "rise of |a| / |h| within blocks"


def _of_depth(field: str) -> Callable[[Row], float | None]:
    return lambda row: (row.get("depth") or {}).get(field)


def _of_inner_blocks(
    field: str, of: Callable[[Sequence[float]], float]
) -> Callable[[Row], float | None]:
    """What is read of a field of the layers of each block but the first and the last, on average.

    A model that was read in blocks of n of its L layers has similarities of L - n + 1. Blocks of
    one layer have no first one.
    """

    def read(row: Row) -> float | None:
        value_L, similarity = (_of_depth(name)(row) for name in (field, "similarity"))
        if value_L is None or not similarity:
            return None
        size = len(value_L) - len(similarity) + 1
        inner = range(size, len(value_L) - size, size) if size > 1 else ()
        found = [of(value_L[first : first + size]) for first in inner]
        return float(np.mean(found)) if found else None

    return read


def _of_late_exits(field: str) -> Callable[[Row], float | None]:
    """A share that exits after layers of the second half have, on average."""

    def read(row: Row) -> float | None:
        own = [
            edit[field]
            for edit in row.get("edited") or ()
            if edit["kind"] == EXIT and 2 * edit["layers"][0] >= row["layers"] and field in edit
        ]
        return float(np.mean(own)) if own else None

    return read


# By name what is read of a final row, and whether only of a model that has learnt its task.
READINGS: Mapping[str, tuple[Callable[[Row], float | None], bool]] = {
    SCORE: (_of_depth("depth_score"), True),
    EXITS: (_of_late_exits("agreement"), True),
    OVERLAP: (_of_late_exits("overlap"), True),
    SIMILARITY: (_of_depth("block_similarity"), False),
    SYMMETRY: (_of_depth("block_symmetry"), False),
    PERIOD: (_of_depth("block_periodicity"), False),
    NORM_PERIOD: (_of_depth("attention_norm_periodicity"), True),
    COSINE_PERIOD: (_of_depth("attention_cosine_periodicity"), True),
    FIRST_ATTENTION: (_of_depth("first_attention"), True),
    FIRST_COSINE: (_of_inner_blocks("attention_cosine", lambda own: own[0]), True),
    NORM_RISE: (_of_inner_blocks("attention_norm", lambda own: own[-1] - own[0]), True),
}


def depth_readings(by_arm: Finals) -> dict[str, BySeed]:
    """Each of `READINGS` by arm and seed, of the arms that are as deep as the deepest.

    Depth scores of models of different depth do not compare, and an arm that answers little says
    nothing of how models that can do the task use their depth (`edited.knows`).
    """
    found: dict[str, BySeed] = {name: {} for name in READINGS}
    layers = {arm: max(row["layers"] for row in own.values()) for arm, own in by_arm.items()}
    deepest = {arm: by_arm[arm] for arm in layers if layers[arm] == max(layers.values())}
    for arm, seeds in deepest.items():
        for seed, row in living(seeds).items():
            for name, (read, of_what_knows) in READINGS.items():
                value = read(row) if knows(row) or not of_what_knows else None
                if value is not None:
                    found[name].setdefault(arm, {})[seed] = value
    return found


def summarise_depth(by_arm: Finals) -> list[dict[str, Any]]:
    """Each reading of each arm, and how far it is from the baseline's.

    Returns:
      Rows with `reading`, `arm`, `value` (`mean`, `low` and `high` over seeds) and, but of the
      baseline, `difference` (`mean`, `low`, `high`, `seeds`), whose intervals hold for all arms of
      a reading at once.
    """
    rows = []
    for name, own in depth_readings(by_arm).items():
        spread = seed_spread(own, of_difference=True)
        level = family_level(sum(arm != BASELINE for arm in own))
        for arm, seeds in own.items():
            row = {"reading": name, "arm": arm, "value": seed_range([*seeds.values()])}
            if arm != BASELINE:
                less = spread.difference(own, (arm, BASELINE), level)
                row["difference"] = difference_fields(less)
            rows.append(row)
    return rows

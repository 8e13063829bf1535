"""Trained arms against each other: the same seeds, the same held-out units, intervals over both.

Final rows have `unit_nll`, the summed loss of each held-out unit (a sentence, a row of packed
text), and `unit_tokens`, its predictions. Another run has other seeds and another text
other units; each moves all losses that share it, so an interval over seeds alone takes one
text for all text.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics import Estimate, draws_interval
from jaxanatomy.records import Row


def family_level(comparisons: int, level: float = 0.95) -> float:
    """The level of each of several intervals that are to hold at once (Bonferroni)."""
    return 1 - (1 - level) / max(comparisons, 1)


def by_seed(finals: Iterable[Row], arm: str) -> dict[int, Row]:
    """The final rows of an arm, by seed."""
    return {row["seed"]: row for row in finals if row["arm"] == arm}


def difference(
    own: Mapping[int, Row],
    other: Mapping[int, Row],
    level: float = 0.95,
    values: str = "unit_nll",
    sizes: str = "unit_tokens",
) -> tuple[Estimate, int]:
    """An arm less another, over the seeds of both that have not diverged.

    Args:
      own: Final rows of the arm, by seed.
      other: Of the other.
      level: Coverage; for several comparisons on one run that of `family_level`.
      values: Field of the sums of the units; None where a seed has diverged.
      sizes: Field of what they are divided by.

    Returns:
      (mean difference, number of seeds); NaN where there is none, and without ends for fewer
      than two seeds.
    """
    pairs = [
        (own[seed], other[seed])
        for seed in own
        if seed in other and None not in (own[seed][values], other[seed][values])
    ]
    if not pairs:
        return Estimate(float("nan")), 0
    sums_SU = [np.subtract(one[values], two[values]) for one, two in pairs]
    return draws_interval(np.array(sums_SU), np.asarray(pairs[0][0][sizes]), level), len(pairs)


def difference_fields(found: tuple[Estimate, int]) -> dict[str, Any]:
    """`mean`, `low`, `high` and `seeds` of a `difference`, for a summary; None where unknown."""
    estimate, seeds = found
    ends = {name: finite(getattr(estimate, name)) for name in ("low", "high")}
    return {"mean": finite(estimate.value), **ends, "seeds": seeds}

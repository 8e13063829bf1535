"""Trained arms against each other: the same seeds, the same held-out units, intervals over both.

Final rows have `unit_nll`, the summed loss of each held-out unit (a sentence, a document, a row of
packed text), and `unit_tokens`, its predictions. Another run has other seeds and another text
other units; each moves all losses that share it, so an interval over seeds alone takes one
text for all text.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.arms.tuning import CURVE, FINAL, of_purpose, rate_at_edge, regrets
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics import ratio
from jaxanatomy.measures.statistics.estimates import Estimate, draws_interval, student_quantile
from jaxanatomy.measures.statistics.seed_spread import SeedSpread, seed_spread
from jaxanatomy.records import Row

Finals = Mapping[str, Mapping[int, Row]]  # final rows by arm and seed


def family_level(comparisons: int, level: float = 0.95) -> float:
    """The level of each of several intervals that are to hold at once (Bonferroni)."""
    return 1 - (1 - level) / max(comparisons, 1)


def by_seed(finals: Iterable[Row], arm: str) -> dict[int, Row]:
    """The final rows of an arm, by seed."""
    return {row["seed"]: row for row in finals if row["arm"] == arm}


def finals_by_arm(rows: Iterable[Row]) -> dict[str, dict[int, Row]]:
    """The final rows of results, by arm and seed."""
    finals = of_purpose(rows, FINAL)
    return {arm: by_seed(finals, arm) for arm in dict.fromkeys(row["arm"] for row in finals)}


def living(seeds: Mapping[int, Row]) -> dict[int, Row]:
    """The final rows of an arm's seeds that did not diverge."""
    return {seed: row for seed, row in seeds.items() if not row["reason"]}


def seed_range(values: Sequence[float]) -> dict[str, float | None]:
    """`mean`, and `low` and `high`, the lowest and the highest seed; None where there is none."""
    if not len(values):
        return dict.fromkeys(("mean", "low", "high"))
    return {"mean": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}


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
    pairs = living_pairs(own, other, values)
    if not pairs:
        return Estimate(math.nan), 0
    sums_2SU = [[row[values] for row in side] for side in zip(*pairs, strict=True)]
    less_SU = np.subtract(*np.array(sums_2SU, np.float64))
    return draws_interval(less_SU, np.asarray(pairs[0][0][sizes]), level), len(pairs)


def living_pairs(
    own: Mapping[int, Row], other: Mapping[int, Row], field: str = "unit_nll"
) -> list[tuple[Row, Row]]:
    """The rows of two arms on the same seed, where neither lacks a field."""
    return [
        (own[seed], other[seed])
        for seed in own
        if seed in other and None not in (own[seed][field], other[seed][field])
    ]


def difference_fields(found: tuple[Estimate, int]) -> dict[str, Any]:
    """`mean`, `low`, `high` and `seeds` of a `difference`, for a summary; None where unknown."""
    estimate, seeds = found
    ends = {name: finite(getattr(estimate, name)) for name in ("low", "high")}
    return {"mean": finite(estimate.value), **ends, "seeds": seeds}


def stopped(rows: Iterable[Row]) -> set[tuple[str, int]]:
    """Arm and seed of all results that have diverged so far.

    Beside seeds that go on, one that has stopped has rows to the end, with the finite losses of
    parameters that no longer change: they say nothing about its arm.
    """
    rows = list(rows)
    results = (*of_purpose(rows, CURVE), *of_purpose(rows, FINAL))
    return {(row["arm"], row["seed"]) for row in results if row.get("reason")}


def account(rows: Iterable[Row], arm: str, seeds: Mapping[int, Row], measure: str) -> dict:
    """What an arm took, of its final rows by seed.

    Args:
      rows: Of the run.
      arm: Its name.
      seeds: Its final rows.
      measure: Field by which its learning rate was chosen.

    Returns:
      `seeds`, `diverged`, `learning_rate` and whether it is `rate_at_edge` of those that were
      tried, `steps`, `tokens`, `flops`, of one seed; means over the seeds of `seconds`,
      `tokens_per_second` and `mfu`, None where unknown. A seed that has diverged counts in no
      mean; where all have, they count.
    """
    first = max(seeds.values(), key=lambda row: row["step"])
    return {
        "seeds": sorted(seeds),
        "diverged": sorted(seed for seed, row in seeds.items() if row["reason"]),
        "learning_rate": first["learning_rate"],
        "rate_at_edge": rate_at_edge(rows, arm, measure),
        "steps": first["step"],
        "tokens": first["tokens"],
        "flops": first["flops"],
        **{field: _mean(field, seeds) for field in ("seconds", "tokens_per_second", "mfu")},
    }


def _mean(field: str, seeds: Mapping[int, Row]) -> float | None:
    # One that stops early has taken less time than those whose steps stand beside it.
    values = [row[field] for row in (living(seeds) or seeds).values()]
    return None if None in values else float(np.mean(values))


def log_ratio_sums(own_SU: np.ndarray, other_SU: np.ndarray, tokens_U: np.ndarray) -> np.ndarray:
    """The log of the ratio of two mean losses, linearised in the units: sums by seed and unit.

    Args:
      own_SU: Summed losses of an arm.
      other_SU: Of the other, on the same seeds and units.
      tokens_U: What they are divided by.

    Returns:
      [S, U]; summed over units, and divided by all tokens, they are log(own) - log(other).
    """
    own_S1, other_S1 = (
        each.sum(axis=1, keepdims=True) / np.sum(tokens_U) for each in (own_SU, other_SU)
    )
    return own_SU / own_S1 - other_SU / other_S1 + np.log(own_S1 / other_S1) * tokens_U


@dataclasses.dataclass(frozen=True)
class Losses:
    """Held-out losses of arms, for comparisons of arms at their best rates.

    Attributes:
      by_arm: Final rows by arm and seed.
      spread: What seeds do to the log of the loss.
      regret: Of arms whose rate was tuned, how much less that log may be at another rate.
    """

    by_arm: Finals
    spread: SeedSpread
    regret: Mapping[str, float]

    @classmethod
    def of(
        cls, rows: Iterable[Row], measure: str = "eval_nll", among: Iterable[str] | None = None
    ) -> "Losses":
        """Of the rows of a run.

        Args:
          rows: Those of tuning among them.
          measure: Field of the loss.
          among: Arms that are alike, over which variances are pooled; by default all.
        """
        rows = list(rows)
        by_arm = finals_by_arm(rows)
        logs = {
            arm: {
                seed: math.log(row[measure])
                for seed, row in by_arm[arm].items()
                if row[measure] is not None
            }
            for arm in (by_arm if among is None else among)
        }
        spread = seed_spread(logs, of_difference=True)
        return cls(by_arm, spread, regrets(rows, measure, spread))

    def log_ratio(
        self, arms: tuple[str, str], level: float = 0.95, values: str = "unit_nll"
    ) -> tuple[Estimate, int]:
        """The log of how many times another's loss an arm has, over seeds and units.

        The interval is that of `seed_spread`. Held-out units add what they make of the difference
        in all seeds alike; what seed and unit make together stands in the seeds' spread already.
        It reaches further by what either arm may gain at another rate. Where no variance can be
        pooled it is that of the pair, as of `difference`.

        Args:
          arms: The arm, and the other.
          level: Coverage.
          values: Field of the summed losses of units, which `unit_tokens` divides.

        Returns:
          (log ratio, number of seeds that did not diverge in either); NaN where there is none.
        """
        pairs = self._pairs(arms, values)
        if not pairs:
            return Estimate(math.nan), 0
        sides = zip(*pairs, strict=True)
        nll_2SU = np.array([[row[values] for row in side] for side in sides], np.float64)
        tokens_U = np.asarray(pairs[0][0]["unit_tokens"], np.float64)
        sums_SU = log_ratio_sums(*nll_2SU, tokens_U)
        seeds, units = sums_SU.shape
        mean = float(sums_SU.sum() / seeds / tokens_U.sum())
        if min(seeds, units) < 2:
            return Estimate(mean), seeds
        if self.spread.pooled[1] < 1:  # all arms but one lack a seed
            found = draws_interval(sums_SU, tokens_U, level)
        else:
            of_seeds = self.spread.half_width(arms, seeds, level)
            half = math.hypot(of_seeds, _error_of_units(sums_SU, tokens_U, level))
            found = Estimate(mean, mean - half, mean + half)
        own, other = (self.regret.get(arm, 0.0) for arm in arms)
        return Estimate(found.value, found.low - own, found.high + other), seeds

    def difference(
        self, arms: tuple[str, str], level: float = 0.95, values: str = "unit_nll"
    ) -> tuple[Estimate, int]:
        """An arm's loss less another's, in nats per token.

        The interval is that of `log_ratio`, times the mean loss of the two.
        """
        log, seeds = self.log_ratio(arms, level, values)
        if not seeds:
            return log, seeds
        own, other = (
            float(np.array([row[values] for row in side], np.float64).sum(axis=1).mean())
            / sum(side[0]["unit_tokens"])
            for side in zip(*self._pairs(arms, values), strict=True)
        )
        scale = (own + other) / 2
        return log.map(lambda end: own - other + scale * (end - log.value)), seeds

    def _pairs(self, arms: tuple[str, str], values: str) -> list[tuple[Row, Row]]:
        return living_pairs(*(self.by_arm.get(arm, {}) for arm in arms), values)


def _error_of_units(sums_SU: np.ndarray, tokens_U: np.ndarray, level: float) -> float:
    """What held-out units make of a mean over seeds: half the width of its interval."""
    seeds, units = sums_SU.shape
    _, (error,), _ = ratio.linearise(sums_SU.mean(axis=0)[None], tokens_U)
    _, together_S, _ = ratio.linearise(sums_SU - sums_SU.mean(axis=0), tokens_U)
    alone = error**2 - float((together_S**2).sum()) / (seeds * (seeds - 1))
    return student_quantile(level, units - 1) * math.sqrt(max(alone, 0.0))

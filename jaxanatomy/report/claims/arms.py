"""What a run of depth growth has trained, as its claims read it.

Seeds are the unit: an arm is compared with another on the same seeds.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from jaxanatomy.data.primitives import PAPER_PRIMITIVES
from jaxanatomy.growth.maps import depths, lidas, midas
from jaxanatomy.measures.depth_growth import guessing
from jaxanatomy.measures.statistics import seeds_interval
from jaxanatomy.measures.tuning import FINAL, TUNING
from jaxanatomy.report.cells import Row
from jaxanatomy.report.claims.claim import Evidence

SEEDS = 3  # fewer cannot tell
NLL, PRIMITIVES = "eval_nll", "paper_primitives"
_GUESSED = "guessed"

Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run has trained.

    Attributes:
      finals: By arm and seed the row at the end, with the mean accuracy on the five primitives
        of DG Table 6, and what guessing reaches on them at best, as
        `measures.depth_growth.guessing` derives it; None if they were not asked.
      seeds: Those that the run is to have.
      parameters: Of the model at the end; None if the run does not say.
      growth: Layers at the end and layers of a growth step; None if the run does not say.
    """

    finals: Mapping[str, Mapping[int, Row]]
    seeds: tuple[int, ...]
    parameters: int | None
    growth: tuple[int, int] | None

    @classmethod
    def of(cls, evidence: Evidence) -> "Trained":
        """Reads the run."""
        record = evidence.records["depth_growth"]
        finals: dict[str, dict[int, Row]] = {}
        for row in record.rows:
            if row.get("kind") == FINAL and row.get("purpose") != TUNING:
                finals.setdefault(row["arm"], {})[row["seed"]] = {**row, **_papers(row)}
        there = sorted({row["seed"] for row in record.rows if "seed" in row})
        layers = (record.provenance.get("architecture") or {}).get("layers")
        block = record.config.get("block")
        return cls(
            finals,
            tuple(record.config.get("seeds") or there),
            record.provenance.get("parameters"),
            (len(layers), block) if layers and block else None,
        )

    def unfit(self, arms: Iterable[str]) -> str:
        """Why these arms decide nothing; empty if they may."""
        if len(self.seeds) < SEEDS:
            return f"{len(self.seeds)} seeds where the rule needs {SEEDS}"
        for arm in arms:
            own = self.finals[arm]
            for state, seeds in (
                ("is not finished", [seed for seed in self.seeds if seed not in own]),
                ("diverged", [seed for seed, row in own.items() if row["reason"]]),
            ):
                if seeds:
                    words = "seed" if len(seeds) == 1 else "seeds"
                    return f"{arm} {state} for {words} {', '.join(map(str, seeds))}"
        return ""

    def mean(self, arm: str, field: str) -> float:
        """Over the seeds that have a value, and did not diverge unless all did; NaN if none."""
        own = self.finals[arm].values()
        living = [row for row in own if not row["reason"]] or own
        found = [row[field] for row in living if row[field] is not None]
        return float(np.mean(found)) if found else float("nan")

    def difference(self, pair: Pair, field: str) -> tuple[float, float, float]:
        """Low, mean and high of an arm less another on the same seeds; NaN where there is none."""
        own, other = (self.finals[arm] for arm in pair)
        both = [(own[seed][field], other[seed][field]) for seed in own if seed in other]
        less = [one - two for one, two in both if one is not None and two is not None]
        found = seeds_interval(less)
        return found.low, found.value, found.high

    def guessed(self) -> float:
        """The accuracy on the paper's primitives that guessing reaches at best; NaN if unasked."""
        first = next(iter(next(iter(self.finals.values())).values()))
        return float("nan") if first[_GUESSED] is None else first[_GUESSED]

    def leaves_chance(self, arms: Iterable[str]) -> bool:
        """Whether an arm answers more than guessing, with its whole interval over seeds."""
        values = ([row[PRIMITIVES] for row in self.finals[arm].values()] for arm in arms)
        return any(None not in own and seeds_interval(own).low > self.guessed() for own in values)

    def scale(self) -> str:
        """How small the models are, and what the paper's are."""
        tokens = max(row["tokens"] for own in self.finals.values() for row in own.values())
        size = f"{_millions(self.parameters)} million" if self.parameters else "unknown"
        return (
            f"a model of {size} parameters on {_millions(tokens)} million tokens, where the "
            "paper's have 360 and 1,700 million on 200 and 400 billion"
        )

    def unlike(self) -> tuple[int, int] | None:
        """At how many growth steps MIDAS and LIDAS insert other layers, and of how many."""
        if self.growth is None:
            return None
        layers, block = self.growth
        before = depths(block, layers, block)[:-1]
        return sum(midas(depth, block) != lidas(depth, block) for depth in before), len(before)


def _papers(row: Row) -> dict[str, float | None]:
    """Accuracy and level of guessing on the paper's primitives."""
    tasks = row["accuracy_by_task"]
    if not tasks.keys() >= set(PAPER_PRIMITIVES):
        return {PRIMITIVES: None, _GUESSED: None}
    guessed = [guessing(name, tasks[name]["chance"]) for name in PAPER_PRIMITIVES]
    accuracy = [tasks[name]["accuracy"] for name in PAPER_PRIMITIVES]
    mean = None if None in accuracy else float(np.mean(accuracy))  # None: the seed has diverged
    return {PRIMITIVES: mean, _GUESSED: float(np.mean(guessed))}


def _millions(count: float) -> str:
    return f"{count / 1e6:,.1f}" if count >= 1e5 else f"{count / 1e6:.2g}"

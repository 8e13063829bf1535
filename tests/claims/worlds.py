"""Two synthetic worlds for each claim: one where it is true, one where nothing happens.

A world is made of rows as an experiment leaves them. Effects are planted in nats per token;
`Reach` says how small an effect the text can show to a rule. In a world of the first kind the
effect lies twice that far beyond the threshold, in one of the second on the threshold itself, or
all parts are alike.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from jaxanatomy.claims.audit import CLAIMS, error_of
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.config import ModelConfig
from jaxanatomy.records import RunRecord

DEPTH = 30
SMOLLM2 = ModelConfig.uniform(
    DEPTH, 9, 3, 1536, vocab_size=49152, hidden_size=576, head_dim=64, rope_theta=100_000.0
).to_dict()
UNITS, TOKENS = 40, 20
NOISE = 0.05  # of a unit's mean loss, nats: what documents differ in how they take a change
DRAW = 0.02  # likewise of draws
INNER = range(1, DEPTH - 1)
BY_ID = {claim.id: claim for claim in CLAIMS if claim.is_measured}


def percent(value: float) -> float:
    """A change of perplexity in percent as nats."""
    return math.log1p(value / 100)


@dataclasses.dataclass(frozen=True)
class Reach:
    """The half-width of the interval that a rule works with, in nats.

    Attributes:
      error: Of the claim.
    """

    error: float

    def __call__(self, looks: int = 1, draws: int = 1, noise: float = NOISE) -> float:
        """Of `looks` parts of which one must pass, each drawn so often."""
        tail = 1 - self.error / looks / 2
        half = stdtrit(UNITS - 1, tail) * noise / math.sqrt(UNITS)
        if draws == 1:
            return float(half)
        return math.hypot(half, stdtrit(draws - 1, tail) * DRAW / math.sqrt(draws))


class Maker:
    """Makes rows of losses of one text; every variant differs by noise of its own."""

    def __init__(self, generator: np.random.Generator, text: str = "a"):
        self.generator, self.text = generator, text
        self.base_U = 3 + 0.3 * generator.normal(size=UNITS)

    def row(self, effect: float = 0.0, noise: float = NOISE, **labels) -> dict:
        """A row whose loss lies `effect` above the baseline's on average."""
        rise_U = effect + noise * self.generator.normal(size=UNITS)
        variant = "/".join(str(value) for value in labels.values())
        return self.of(self.base_U + rise_U) | {"variant": variant} | labels

    def of(self, mean_U: np.ndarray) -> dict:
        """A row of the mean losses of units."""
        nll_U = TOKENS * mean_U
        return {
            "hash": "",
            "nll": float(nll_U.sum()),
            "tokens": TOKENS * UNITS,
            "degradation_percent": 100 * math.expm1(min(mean_U.mean() - self.base_U.mean(), 600)),
            "unit_nll": nll_U.tolist(),
            "unit_tokens": [TOKENS] * UNITS,
            "text": self.text,
        }

    def baseline(self) -> dict:
        """The unedited model."""
        return self.of(self.base_U) | {"variant": "baseline"}

    def drawn(self, effect: float, count: int, **labels) -> list[dict]:
        """Rows of several draws of one thing."""
        shift = DRAW * self.generator.normal(size=count)
        return [
            self.row(effect + each, seed=at, draw=at, **labels) for at, each in enumerate(shift)
        ]


def record(rows: Sequence[Mapping], summary: Mapping | None = None, **config) -> RunRecord:
    """A finished run of the paper's model."""
    provenance = {"model": "file:x", "architecture": SMOLLM2}
    return RunRecord("run", list(rows), config, provenance, dict(summary or {"done": 1}))


Make = Callable[[np.random.Generator, Reach], Mapping[str, RunRecord]]


@dataclasses.dataclass(frozen=True)
class Worlds:
    """The two worlds of a claim.

    Attributes:
      true: In which it holds.
      nothing: In which it does not, as nothing happens or all is alike.
      is_false: Whether "does not hold" is right in the second.
    """

    true: Make
    nothing: Make
    is_false: bool = False


WORLDS: dict[str, Worlds] = {}


def evidence(claim: Claim, make: Make, seed: int) -> Evidence:
    """A draw of a world."""
    generator = np.random.default_rng([seed, *claim.id.encode()])
    return Evidence(make(generator, Reach(error_of(claim) / len(claim.criteria))))

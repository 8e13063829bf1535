"""Rules: when a claim holds, as intervals against thresholds that pay for every look.

A rule answers True (holds), False (does not hold) or None (cannot tell). Let K be the number of
parts, of which r must lie within bounds. "Holds" needs r intervals wholly inside at level
1 - a / (K - r + 1), "does not hold" K - r + 1 wholly outside at level 1 - a / r: Bonferroni's
test of partial conjunctions (Benjamini and Heller 2008). So "all" is tested without a correction,
because each part must pass, "any" with the full one, and chance says either at most a times.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.words import threshold

Answer = bool | None


@dataclasses.dataclass(frozen=True)
class Measured:
    """A part as a rule sees it.

    Attributes:
      name: For reading.
      at: Its estimate at a level; None if it was not measured.
      missing: Why it was not measured.
    """

    name: str
    at: Callable[[float], Estimate] | None
    missing: str = ""


@dataclasses.dataclass(frozen=True)
class Rule:
    """How many parts must lie within bounds. Made by `ALL`, `ANY` and `MOST`.

    Attributes:
      count: How many.
      low: Lower bound.
      high: Upper bound.
    """

    count: "Count"
    low: float = -math.inf
    high: float = math.inf

    def levels(self, parts: int, error: float) -> tuple[float, float]:
        """The levels of the intervals that "holds" and "does not hold" need."""
        needed = self.count.of(parts)
        return 1 - error / (parts - needed + 1), 1 - error / needed

    def decide(self, parts: Sequence[Measured], error: float) -> Answer:
        """The answer, wrong with probability `error` at most."""
        needed = self.count.of(len(parts))
        holds, fails = self.levels(len(parts), error)
        if self._count(self.meets, parts, holds) >= needed:
            return True
        return False if self._count(self.misses, parts, fails) > len(parts) - needed else None

    def answer(self, estimate: Estimate) -> Answer:
        """Whether a part passes; None if its interval decides nothing."""
        return True if self.meets(estimate) else False if self.misses(estimate) else None

    def meets(self, estimate: Estimate) -> bool:
        """Whether a whole interval lies inside."""
        above = math.isinf(self.low) or estimate.low > self.low
        below = math.isinf(self.high) or estimate.high < self.high
        return above and below and not math.isnan(estimate.low + estimate.high)

    def misses(self, estimate: Estimate) -> bool:
        """Whether a whole interval lies outside."""
        return estimate.high <= self.low or estimate.low >= self.high

    def words(self, unit: str) -> str:
        """The rule as an end of a sentence: "lies below 10 % in each"."""
        low, high = threshold(self.low, unit), threshold(self.high, unit)
        if math.isinf(self.low):
            place = f"below {high}"
        else:
            place = f"above {low}" if math.isinf(self.high) else f"between {low} and {high}"
        return f"lies {place} {self.count.words}"

    @staticmethod
    def _count(test: Callable[[Estimate], bool], parts: Sequence[Measured], level: float) -> int:
        return sum(test(part.at(level)) for part in parts if part.at)


class Differs(Rule):
    """Some part differs from 0; it fails if all are shown to lie within the bounds around it."""

    def meets(self, estimate: Estimate) -> bool:
        """Whether the interval excludes 0."""
        return estimate.low > 0 or estimate.high < 0

    def misses(self, estimate: Estimate) -> bool:
        """Whether the interval lies within the bounds."""
        return super().meets(estimate)

    def words(self, unit: str) -> str:
        """As of `Rule`."""
        bounds = f"{threshold(self.low)} to {threshold(self.high, unit)}"
        return f"excludes 0 {self.count.words}; it fails if each lies within {bounds}"


class NotAbove(Rule):
    """Parts lie below a margin above 0, and none is told to lie above 0, however little."""

    def meets(self, estimate: Estimate) -> bool:
        """Whether the interval ends below the margin, and reaches 0."""
        return super().meets(estimate) and estimate.low <= 0

    def misses(self, estimate: Estimate) -> bool:
        """Whether the whole interval lies above 0, inside the margin or beyond it."""
        return estimate.low > 0

    def words(self, unit: str) -> str:
        """As of `Rule`."""
        return f"{super().words(unit)} and reaches 0; it fails if it lies above 0"


@dataclasses.dataclass(frozen=True)
class Count:
    """How many parts a rule needs.

    Attributes:
      words: For reading.
      of: The number, of the number of parts.
    """

    words: str
    of: Callable[[int], int]

    def below(self, high: float) -> Rule:
        """So many parts lie below a threshold."""
        return Rule(self, high=high)

    def above(self, low: float) -> Rule:
        """So many lie above it."""
        return Rule(self, low=low)

    def within(self, low: float, high: float) -> Rule:
        """So many lie between two."""
        return Rule(self, low, high)


ALL = Count("in each", lambda parts: parts)
ANY = Count("in at least one", lambda parts: 1)
MOST = Count("in more than half", lambda parts: parts // 2 + 1)


def any_differs(low: float, high: float) -> Rule:
    """Some part differs from 0; differences between the bounds mean nothing."""
    return Differs(ANY, low, high)


def not_above(count: Count, margin: float) -> Rule:
    """So many parts are not higher than what they are compared with, to a margin."""
    return NotAbove(count, high=margin)


def every(answers: Iterable[Answer]) -> Answer:
    """False if one is False, None if one cannot tell, else True."""
    answers = list(answers)
    return False if False in answers else None if None in answers else True

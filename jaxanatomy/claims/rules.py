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

from jaxanatomy.claims.words import plainly
from jaxanatomy.measures.statistics import Estimate

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
    """How many parts must lie within bounds.

    Attributes:
      count: "each", "any" or "most".
      low: Lower bound.
      high: Upper bound.
    """

    count: str
    low: float = -math.inf
    high: float = math.inf

    def levels(self, parts: int, error: float) -> tuple[float, float]:
        """The levels of the intervals that "holds" and "does not hold" need."""
        needed = self._needed(parts)
        return 1 - error / (parts - needed + 1), 1 - error / needed

    def decide(self, parts: Sequence[Measured], error: float) -> Answer:
        """The answer, wrong with probability `error` at most."""
        needed = self._needed(len(parts))
        holds, fails = self.levels(len(parts), error)
        if self.answers(parts, holds).count(True) >= needed:
            return True
        return False if self.answers(parts, fails).count(False) > len(parts) - needed else None

    def answers(self, parts: Sequence[Measured], level: float) -> list[Answer]:
        """Of each part whether its interval lies inside (True) or outside (False)."""
        return [None if part.at is None else self._inside(part.at(level)) for part in parts]

    def words(self, unit: str) -> str:
        """The rule as an end of a sentence: "lies below 10 % in each"."""
        low, high = (f"{plainly(end)} {unit}".rstrip() for end in (self.low, self.high))
        if math.isinf(self.low):
            place = f"lies below {high}"
        elif math.isinf(self.high):
            place = f"lies above {low}"
        else:
            place = f"lies between {low} and {high}"
        ends = {"each": "in each", "any": "in at least one", "most": "in more than half"}
        return f"{place} {ends[self.count]}"

    def _needed(self, parts: int) -> int:
        return {"each": parts, "any": 1, "most": parts // 2 + 1}[self.count]

    def _inside(self, estimate: Estimate) -> Answer:
        above = math.isinf(self.low) or estimate.low > self.low
        below = math.isinf(self.high) or estimate.high < self.high
        if above and below and not math.isnan(estimate.low + estimate.high):
            return True
        return False if estimate.high <= self.low or estimate.low >= self.high else None


@dataclasses.dataclass(frozen=True)
class Apart:
    """Some part differs from 0; it fails if all are shown to lie within a margin of it.

    Attributes:
      margin: The largest difference that means nothing, either way.
    """

    low: float
    high: float

    def levels(self, parts: int, error: float) -> tuple[float, float]:
        """As of `Rule`."""
        return 1 - error / parts, 1 - error

    def decide(self, parts: Sequence[Measured], error: float) -> Answer:
        """As of `Rule`."""
        holds, fails = self.levels(len(parts), error)
        if True in self.answers(parts, holds):
            return True
        inside = Rule("each", self.low, self.high).answers(parts, fails)
        return False if inside.count(True) == len(parts) else None

    def answers(self, parts: Sequence[Measured], level: float) -> list[Answer]:
        """Of each part whether it differs from 0."""
        known = [None if part.at is None else part.at(level) for part in parts]
        return [True if each and (each.low > 0 or each.high < 0) else None for each in known]

    def words(self, unit: str) -> str:
        """As of `Rule`."""
        low, high = plainly(self.low), plainly(self.high)
        return f"excludes 0 in at least one; it fails if each lies within {low} to {high} {unit}"


def all_below(threshold: float) -> Rule:
    """Every part lies below a threshold."""
    return Rule("each", high=threshold)


def all_above(threshold: float) -> Rule:
    """Every part lies above it."""
    return Rule("each", low=threshold)


def all_within(low: float, high: float) -> Rule:
    """Every part lies between two thresholds."""
    return Rule("each", low, high)


def any_below(threshold: float) -> Rule:
    """Some part lies below a threshold."""
    return Rule("any", high=threshold)


def any_above(threshold: float) -> Rule:
    """Some part lies above it."""
    return Rule("any", low=threshold)


def any_within(low: float, high: float) -> Rule:
    """Some part lies between two thresholds."""
    return Rule("any", low, high)


def most_below(threshold: float) -> Rule:
    """More than half of the parts lie below a threshold."""
    return Rule("most", high=threshold)


def most_above(threshold: float) -> Rule:
    """More than half of the parts lie above it."""
    return Rule("most", low=threshold)


def every(answers: Iterable[Answer]) -> Answer:
    """False if one is False, None if one cannot tell, else True."""
    answers = list(answers)
    return False if False in answers else None if None in answers else True

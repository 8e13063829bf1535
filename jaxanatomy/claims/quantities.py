"""Quantities: what is read off the rows of the parts of a claim, as estimates with intervals.

A `Quantity` is read of each part, a `Gather` makes one figure of all parts: a rank correlation,
the ratio of extremes. Where there is none to be had, reading raises `MissingError`, which says why.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

import numpy as np

from jaxanatomy.claims.rows import Key, MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import Measured
from jaxanatomy.measures.statistics.estimates import (
    Estimate,
    draws_interval,
    paired_difference,
    seeds_interval,
    spearman_interval,
)
from jaxanatomy.words import COUNT, PERCENT, PLAIN, first

ERROR = 0.05  # of all claims on one run together
Estimates = Sequence[Estimate]


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What is read of each part.

    Attributes:
      words: What it is, for the rule in words.
      unit: Of it; see `jaxanatomy.words`.
      of: The estimate of a part that has rows, at a level.
    """

    words: str
    unit: str
    of: Callable[[Part, float], Estimate]

    def measure(self, parts: Sequence[Part]) -> list[Measured]:
        """Each part, with its estimate at any level."""
        return [_measured(part.name, functools.partial(self._read, part)) for part in parts]

    def _read(self, part: Part, level: float) -> Estimate:
        part.require_rows()
        return self.of(part, level)


@dataclasses.dataclass(frozen=True)
class Gather:
    """One figure of all parts.

    Attributes:
      name: What it is.
      unit: Of it.
      each: What is read of each part.
      of: The figure, of the parts and what was read of them at a level that holds for all at
        once, and the level.
    """

    name: str
    unit: str
    each: Quantity
    of: Callable[[Sequence[Part], Callable[[float], Estimates], float], Estimate]

    @property
    def words(self) -> str:
        """As of `Quantity`."""
        return f"{self.name} ({self.each.words})"

    def measure(self, parts: Sequence[Part]) -> list[Measured]:
        """The figure; it is missing where a part is."""
        found = self.each.measure(parts)
        if not found:
            return []
        missing = [part for part in found if part.at is None]
        if missing:
            names = first([part.name for part in missing])
            return [Measured(self.name, None, f"{names} lacking: {missing[0].missing}")]

        def read(level: float) -> Estimate:
            return self.of(parts, lambda level: [part.at(level) for part in found], level)

        return [_measured(f"{self.name} over {len(parts)} parts", read)]


def _measured(name: str, read: Callable[[float], Estimate]) -> Measured:
    """A part whose estimate can be had, or says why not."""
    at = functools.cache(read)
    try:
        at(1 - ERROR)
    except MissingError as missing:
        return Measured(name, None, str(missing))
    return Measured(name, at)


def certain(value: float) -> Estimate:
    """A value without error."""
    return Estimate(value, value, value)


def degradation(
    to: Rows | None = None, words: str = "the unedited model", spread: Rows | None = None
) -> Quantity:
    """The change of perplexity against the baseline or other rows, in percent.

    The loss decides, not the KL to the unchanged model: that is above 0 for every change, so it
    says how much changes and never that something is better.

    Several rows of a part are draws: then the mean of the log perplexities over draws, with an
    interval over draws and documents together.

    Args:
      to: The rows to compare with, of the same key as the part where they do not say other;
        None: the baseline.
      words: What they are.
      spread: Rows, with parts, over which the variance of draws is pooled, where a part has few
        of its own.
    """

    def read(part: Part, level: float) -> Estimate:
        other = _other(part, to)
        if other is None:
            raise MissingError(f"{words} was not measured")
        drawn = _draws_of(spread, to, part.table) if spread else None
        found = _difference(part.rows, other, level, drawn and drawn.spread)
        return found.degradation_percent()

    return Quantity(f"the change of perplexity against {words}", PERCENT, read)


def of_partners(to: Rows, quantity: Quantity) -> Quantity:
    """What a quantity is of the rows of the same key among others."""

    def read(part: Part, level: float) -> Estimate:
        partner = dataclasses.replace(part, rows=part.partners(to.fields), draws=1)
        partner.require_rows()
        return quantity.of(partner, level)

    return dataclasses.replace(quantity, of=read)


def _other(part: Part, to: Rows | None) -> Row | None:
    """The row that a part is compared with."""
    if to is None:
        return part.table.baseline
    return next(iter(part.partners(to.fields)), None)


def _difference(
    rows: Sequence[Row], other: Row, level: float, spread: tuple[float, int] | None
) -> Estimate:
    """Nats per token that rows lose more than another; what is not finite loses more than all."""
    lost = any(row["nll"] is None for row in rows)
    if lost or other["nll"] is None:
        sign = lost - (other["nll"] is None)
        return certain(sign * math.inf if sign else math.nan)
    if len(rows) == 1:
        return paired_difference(rows[0], other, level)
    return draws_interval(_sums(rows, other), np.asarray(other["unit_tokens"]), level, spread)


def _sums(rows: Sequence[Row], other: Row) -> np.ndarray:
    """Differences of the summed losses, by draw and unit."""
    return np.array([row["unit_nll"] for row in rows]) - np.asarray(other["unit_nll"])


@dataclasses.dataclass(frozen=True)
class _Draws:
    """Differences from the rows to compare with, of all parts that were drawn more than once.

    Attributes:
      sums: By key, [draws, units].
      mean_U: Their mean over draws and parts.
      spread: The variance of the mean difference of a draw, pooled over parts, and its freedom.
    """

    sums: Mapping[Key, np.ndarray]
    mean_U: np.ndarray
    spread: tuple[float, int]


def _drawn(among: Rows, to: Rows | None, table: Table) -> _Draws | None:
    """The draws of all parts; None if there are none."""
    sums = {}
    for part in among.parts(table):
        other = _other(part, to)
        living = [row for row in part.rows if row["nll"] is not None]
        if len(living) >= 2 and other and other["nll"] is not None:
            sums[tuple(part.key.values())] = _sums(living, other)
            tokens = sum(other["unit_tokens"])
    if not sums:
        return None
    means = [sums_SU.sum(axis=1) / tokens for sums_SU in sums.values()]
    freedom = sum(len(each) - 1 for each in means)
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in means)
    mean_U = np.mean([sums_SU.mean(axis=0) for sums_SU in sums.values()], axis=0)
    return _Draws(sums, mean_U, (squares / freedom, freedom))


def _draws_of(among: Rows, to: Rows | None, table: Table) -> _Draws | None:
    return table.once((among, to), lambda: _drawn(among, to, table))


def deviation(among: Rows, to: Rows, words: str) -> Quantity:
    """How far a part's change of perplexity lies from the mean over all parts, in percent.

    The variance of draws is pooled over the parts: an analysis of variance, in which parts that
    differ by their draws alone are alike.

    Args:
      among: All parts, and how often each was drawn at least.
      to: The rows to compare each with.
      words: What the change is.
    """

    def read(part: Part, level: float) -> Estimate:
        drawn, key = _draws_of(among, to, part.table), tuple(part.key.values())
        if drawn is None or key not in drawn.sums or len(drawn.sums) < 2:
            raise MissingError("it or its control was not measured, or is not finite")
        tokens_U = np.asarray(part.rows[0]["unit_tokens"])
        sums_SU = drawn.sums[key] - drawn.mean_U
        return draws_interval(sums_SU, tokens_U, level, drawn.spread).degradation_percent()

    return Quantity(words, PERCENT, read)


def exact(field: str, unit: str = PLAIN, words: str = "") -> Quantity:
    """A field that has no error: arithmetic on weights, or a count."""

    def read(part: Part, level: float) -> Estimate:
        return certain(_value(part.rows[0], field))

    return Quantity(words or f"the {field}", unit, read)


def over_draws(field: str, unit: str, words: str, scale: float = 1.0) -> Quantity:
    """The mean of a field over draws, which are the rows of a part, with Student's interval."""

    def read(part: Part, level: float) -> Estimate:
        return seeds_interval([scale * _value(row, field) for row in part.rows], level)

    return Quantity(words, unit, read)


def _value(row: Row, field: str) -> float:
    if row.get(field) is None:
        raise MissingError(f"{field} is undefined")
    return row[field]


def beyond_null(value: str, null: str, words: str, least: float = -math.inf) -> Quantity:
    """A value less its null, with the spread of the null's draws, of which it has a z-score.

    Args:
      value: Its field.
      null: The field of the mean of the null's draws; `z` says how many of their standard
        deviations the value lies off. A closed form has none.
      words: What the two are.
      least: The null is this where its draws have less.
    """

    def read(part: Part, level: float) -> Estimate:
        own, mean, z = (part.rows[0].get(field) for field in (value, null, "z"))
        if own is None or mean is None:
            raise MissingError(f"{value} or its null is undefined")
        spread = abs((own - mean) / z) if z else 0.0
        half = NormalDist().inv_cdf((1 + level) / 2) * spread
        beyond = own - max(least, mean)
        return Estimate(beyond, beyond - half, beyond + half)

    return Quantity(words, PLAIN, read)


def printed(values: Mapping[int, float]) -> Quantity:
    """What a paper has of each layer."""
    return Quantity("the paper's", PLAIN, lambda part, _: certain(values[part.key["layer"]]))


def rank_correlation(each: Quantity, reference: Quantity, words: str) -> Gather:
    """Spearman's correlation of two quantities of the parts, its interval over parts.

    It decides nothing where no two parts are told apart: noise has no order.

    Args:
      each: What is ranked.
      reference: What it is compared with.
      words: What that is.
    """

    def of(parts: Sequence[Part], own: Callable[[float], Estimates], level: float) -> Estimate:
        if len(parts) < 4:
            raise MissingError("a rank correlation needs four parts")
        at = _simultaneous(level, len(parts))
        both = own(at), [reference.of(part, at) for part in parts]
        if not all(map(_told_apart, both)):
            return Estimate(math.nan)
        one, other = ([found.value for found in each] for each in both)
        return spearman_interval(one, other, level)

    return Gather(f"the rank correlation with {words}", PLAIN, each, of)


def largest_ratio(each: Quantity) -> Gather:
    """The largest damage over the smallest change in size, whichever parts have them.

    At a level each part pays for being chosen: the bounds hold for all parts at once. Where
    the interval of the smallest reaches 0 the ratio has no upper bound.
    """

    def of(parts: Sequence[Part], own: Callable[[float], Estimates], level: float) -> Estimate:
        ends = own(_simultaneous(level, len(parts)))
        if any(math.isnan(each.low) for each in ends):
            raise MissingError("an interval is missing")
        top = max(each.value for each in ends)
        if math.isinf(top):
            return certain(math.inf)
        low, high = (max(getattr(each, end) for each in ends) for end in ("low", "high"))
        least = min(max(abs(each.low), abs(each.high)) for each in ends)
        floor = min(max(each.low, -each.high, 0.0) for each in ends)
        value = top / min(abs(each.value) for each in ends)
        return Estimate(value, low / least, high / floor if floor > 0 else math.inf)

    return Gather("the largest change over the smallest in size", COUNT, each, of)


def _simultaneous(level: float, parts: int) -> float:
    """The level of each interval if all are to hold at once."""
    return 1 - (1 - level) / parts


def _told_apart(estimates: Estimates) -> bool:
    """Whether any two intervals lie apart; values without intervals are apart if they differ."""
    lows = [each.value if math.isnan(each.low) else each.low for each in estimates]
    highs = [each.value if math.isnan(each.high) else each.high for each in estimates]
    return max(lows) > min(highs)

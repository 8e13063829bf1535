"""Quantities: what is read off the rows of a part, as an estimate with its interval.

A quantity of a part is an `Estimate` at a level, or a string that says why it cannot be had.
`Gather`ed quantities make one figure of all parts: a rank correlation, the ratio of extremes.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from jaxanatomy.claims.rows import Key, Part, Row, Rows, Table
from jaxanatomy.claims.rules import Measured
from jaxanatomy.claims.words import COUNT, PERCENT, PLAIN
from jaxanatomy.measures.statistics import (
    Estimate,
    draws_interval,
    paired_difference,
    seeds_interval,
    spearman_interval,
)

Reading = Callable[[Part, float], Estimate | str]
MEAN_LOSS = "the change of perplexity against "


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What is read of a part.

    Attributes:
      words: What it is, for the rule in words.
      unit: Of it; see `words`.
      of: The estimate of a part that has rows, at a level; a string where there is none.
    """

    words: str
    unit: str
    of: Reading


@dataclasses.dataclass(frozen=True)
class Gather:
    """One figure of all parts.

    Attributes:
      words: What it is.
      unit: Of it.
      of: The figure of the parts, all of them measured, at a level.
    """

    words: str
    unit: str
    of: Callable[[Sequence[Part], Sequence[Measured], float], Estimate | str]


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

    def read(part: Part, level: float) -> Estimate | str:
        others = [part.table.baseline] if to is None else part.partners(to.fields)
        if not others or others[0] is None:
            return f"{words} was not measured"
        drawn = _draws_of(spread, to, part.table) if spread else None
        found = _difference(part.rows, others[0], level, drawn and drawn.spread)
        return found.degradation_percent()

    return Quantity(MEAN_LOSS + words, PERCENT, read)


def of_partners(to: Rows, quantity: Quantity) -> Quantity:
    """What a quantity is of the rows of the same key among others."""

    def read(part: Part, level: float) -> Estimate | str:
        rows = part.partners(to.fields)
        return quantity.of(Part(part.key, rows, part.table), level) if rows else "no rows"

    return Quantity(quantity.words, quantity.unit, read)


def _difference(
    rows: Sequence[Row], other: Row, level: float, spread: tuple[float, int] | None
) -> Estimate:
    """Nats per token that rows lose more than another; what is not finite loses more than all."""
    lost = any(row["nll"] is None for row in rows)
    if lost or other["nll"] is None:
        sign = lost - (other["nll"] is None)
        return Estimate(*(3 * [sign * math.inf if sign else math.nan]))
    if len(rows) == 1:
        return paired_difference(rows[0], other, level)
    tokens_U = np.asarray(other["unit_tokens"])
    return draws_interval(_sums(rows, other), tokens_U, level, spread)


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
        others = part.partners(to.fields) if to else [table.baseline]
        living = [row for row in part.rows if row["nll"] is not None]
        if len(living) >= 2 and others and others[0] and others[0]["nll"] is not None:
            sums[tuple(part.key.values())] = _sums(living, others[0])
            tokens = sum(others[0]["unit_tokens"])
    if not sums:
        return None
    means = [sums_SU.sum(axis=1) / tokens for sums_SU in sums.values()]
    freedom = sum(len(each) - 1 for each in means)
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in means)
    mean_U = np.mean([sums_SU.mean(axis=0) for sums_SU in sums.values()], axis=0)
    return _Draws(sums, mean_U, (squares / freedom, freedom))


def _draws_of(among: Rows, to: Rows | None, table: Table) -> _Draws | None:
    return table.once((among, to), lambda: _drawn(among, to, table))


def exact(field: str, unit: str = PLAIN, words: str = "", scale: float = 1.0) -> Quantity:
    """A field that has no error: arithmetic on weights, or a count."""

    def read(part: Part, level: float) -> Estimate | str:
        value = part.rows[0].get(field)
        return f"{field} is undefined" if value is None else Estimate(*(3 * [scale * value]))

    return Quantity(words or f"the {field}", unit, read)


def over_draws(field: str, unit: str, words: str, scale: float = 1.0) -> Quantity:
    """The mean of a field over draws, which are the rows of a part, with Student's interval."""

    def read(part: Part, level: float) -> Estimate | str:
        values = [scale * row[field] for row in part.rows if row.get(field) is not None]
        if len(values) < len(part.rows):
            return f"{field} is undefined"
        return seeds_interval(values, level)

    return Quantity(words, unit, read)


def beyond_null(value: str, null: Callable[[Row], tuple[float, float] | None], words: str):
    """A value less its null, with the spread of the null's draws.

    Args:
      value: Its field.
      null: The mean and the standard deviation of the null's draws, of a row.
      words: What the two are.
    """

    def read(part: Part, level: float) -> Estimate | str:
        own, drawn = part.rows[0].get(value), null(part.rows[0])
        if own is None or drawn is None:
            return f"{value} or its null is undefined"
        half = NormalDist().inv_cdf((1 + level) / 2) * drawn[1]
        return Estimate(own - drawn[0], own - drawn[0] - half, own - drawn[0] + half)

    return Quantity(words, PLAIN, read)


def rank_correlation(
    reference: Mapping[Any, float] | Quantity | None, words: str, field: str = "layer"
) -> Gather:
    """Spearman's correlation of the parts with a reference, its interval over parts.

    It decides nothing where no two parts are told apart: noise has no order.

    Args:
      reference: Values by the part's `field`; or another quantity of the same parts.
      words: What it is.
      field: The field of a part that the reference is keyed by.
    """

    def of(parts: Sequence[Part], measured: Sequence[Measured], level: float) -> Estimate | str:
        if len(parts) < 4:
            return "a rank correlation needs four parts"
        if not _told_apart([each.at(_simultaneous(level, len(measured))) for each in measured]):
            return Estimate(math.nan)
        own = [each.at(level).value for each in measured]
        if isinstance(reference, Quantity):
            found = [reference.of(part, _simultaneous(level, len(parts))) for part in parts]
            missing = [each for each in found if isinstance(each, str)]
            if missing:
                return missing[0]
            if not _told_apart(found):
                return Estimate(math.nan)
            other = [each.value for each in found]
        else:
            other = [reference[part.key[field]] for part in parts]
        return spearman_interval(own, other, level)

    return Gather(words, PLAIN, of)


def largest_ratio() -> Gather:
    """The largest damage over the smallest change in size, whichever parts have them.

    At a level each part pays for being chosen: the bounds hold for all parts at once. Where
    the interval of the smallest reaches 0 the ratio has no upper bound.
    """

    def of(parts: Sequence[Part], measured: Sequence[Measured], level: float) -> Estimate | str:
        ends = [each.at(_simultaneous(level, len(measured))) for each in measured]
        if any(math.isnan(each.low) for each in ends):
            return "an interval is missing"
        top = max(ends, key=lambda each: each.value)
        if math.isinf(top.value):
            return Estimate(*(3 * [math.inf]))
        low = max(each.low for each in ends)
        high = max(each.high for each in ends)
        least = min(max(abs(each.low), abs(each.high)) for each in ends)
        floor = min(_from_zero(each) for each in ends)
        value = top.value / min(abs(each.value) for each in ends)
        return Estimate(value, low / least, high / floor if floor > 0 else math.inf)

    return Gather("the largest change over the smallest in size", COUNT, of)


def _simultaneous(level: float, parts: int) -> float:
    """The level of each interval if all are to hold at once."""
    return 1 - (1 - level) / parts


def _told_apart(estimates: Sequence[Estimate]) -> bool:
    """Whether any two intervals lie apart; values without intervals are apart if they differ."""
    lows = [each.value if math.isnan(each.low) else each.low for each in estimates]
    highs = [each.value if math.isnan(each.high) else each.high for each in estimates]
    return max(lows) > min(highs)


def _from_zero(estimate: Estimate) -> float:
    """The least distance of an interval from 0."""
    return max(estimate.low, -estimate.high, 0.0)


def deviation(among: Rows, to: Rows, words: str) -> Quantity:
    """How far a part's change of perplexity lies from the mean over all parts, in percent.

    The variance of draws is pooled over the parts: an analysis of variance, in which parts that
    differ by their draws alone are alike.

    Args:
      among: All parts, and how often each was drawn at least.
      to: The rows to compare each with.
      words: What the change is.
    """

    def read(part: Part, level: float) -> Estimate | str:
        drawn, key = _draws_of(among, to, part.table), tuple(part.key.values())
        if drawn is None or key not in drawn.sums or len(drawn.sums) < 2:
            return "it or its control was not measured, or is not finite"
        tokens_U = np.asarray(part.rows[0]["unit_tokens"])
        sums_SU = drawn.sums[key] - drawn.mean_U
        return draws_interval(sums_SU, tokens_U, level, drawn.spread).degradation_percent()

    return Quantity(words, PERCENT, read)

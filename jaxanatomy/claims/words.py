"""Numbers, intervals and lists, for reading."""

import math
from collections.abc import Iterable, Sequence

from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.words import signed

PERCENT, NATS, PLAIN, COUNT = "%", "nats", "", "times"
_DIGITS = {NATS: "+.3f", PLAIN: ".2f", COUNT: ",.2f"}


def shown(estimate: Estimate, unit: str) -> str:
    """A value with its interval: "+2.0 % [+1.0, +3.0]"."""
    value = number(estimate.value, unit)
    words = f"{value} {unit}".rstrip() if math.isfinite(estimate.value) else value
    if not math.isfinite(estimate.low + estimate.high) or estimate.low == estimate.high:
        return words
    return f"{words} [{number(estimate.low, unit)}, {number(estimate.high, unit)}]"


def number(value: float, unit: str = PLAIN) -> str:
    """A number of a unit, without it."""
    if math.isnan(value):
        return "no value"
    if math.isinf(value):
        return "not finite" if value > 0 else "−∞"
    if unit not in _DIGITS:
        return signed(value)
    # Adding 0.0 takes the sign from what rounds to 0.
    return f"{value + 0.0:{_DIGITS[unit]}}".replace("-", "−")


def plainly(value: float) -> str:
    """A threshold: "100", "0.5", "442,000"."""
    return f"{value:,.10g}".replace("-", "−")


def layers(numbers: Iterable[int]) -> str:
    """`L8, L9`, or "none"."""
    return ", ".join(f"L{layer}" for layer in numbers) or "none"


def first(names: Sequence[str], count: int = 6) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")

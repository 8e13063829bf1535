"""Numbers, intervals and lists, for reading."""

import math
from collections.abc import Iterable, Sequence

from jaxanatomy.measures.statistics import Estimate

PERCENT, NATS, PLAIN, COUNT = "%", "nats", "", "times"
_DIGITS = {NATS: "+.3f", PLAIN: ".2f", COUNT: ".2f"}


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
    if abs(value) >= 1e6:
        mantissa, exponent = f"{value:+.1e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    digits = _DIGITS.get(unit) or ("+,.1f" if abs(value) < 1e3 else "+,.0f")
    # Adding 0.0 takes the sign from what rounds to 0.
    return f"{value + 0.0:{digits}}".replace("-", "−")


def percent(value: float) -> str:
    """A change in percent."""
    return f"{number(value, PERCENT)} %" if math.isfinite(value) else number(value)


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

"""Numbers and names for reading: the one place where either becomes words."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

# Units of estimates.
PERCENT, NATS, PLAIN, COUNT, POINTS = "%", "nats", "", "times", "points"


def formatted(value: float, form: str) -> str:
    """A number in a format, with a minus sign, and none before what is rounded to 0."""
    text = f"{value:{form}}"
    if "0" in text and not any(digit in text for digit in "123456789"):
        text = text.replace("-", "+" if "+" in form else "")
    return text.replace("-", "−")


def plain(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number with a minus sign, of sign "+" with a plus sign; a dash for what is undefined."""
    return "–" if value is None else formatted(value, f"{sign},.{digits}f")


def spread(values: Iterable[float], digits: int = 3) -> str:
    """The lowest and the highest of some numbers: "0.1 to 0.3"."""
    values = list(values)
    low, high = plain(min(values), digits), plain(max(values), digits)
    return low if low == high else f"{low} to {high}"


def listed(values: Iterable[Any]) -> str:
    """Numbers or names with commas; "none" for none."""
    return ", ".join(map(str, values)) or "none"


def perplexity(value: float | None) -> str:
    """A perplexity, with an exponent where it is large."""
    if value is None:
        return "not finite"
    return f"{value:,.2f}" if value < 1e7 else f"{value:.2e}"


def percent(value: float | None) -> str:
    """A change in percent: +3.7 %, +34,167 %, +1.2e8 %."""
    if value is None:
        return "not finite"
    size = abs(value)
    form = "+,.1f" if size < 1e3 else "+,.0f" if size < 1e7 else "+.1e"
    return f"{formatted(value, form)} %".replace("e+0", "e")


def petaflops(value: float) -> str:
    """A cost in PFLOP, with an exponent where it is large."""
    return f"{value:,.3f}" if value < 1e9 else f"{value:.6e}"


def signed(value: float | None) -> str:
    """A change in percent, of a column whose heading has the unit."""
    return percent(value).removesuffix(" %")


def interval(value: float, low: float, high: float, unit: str = PLAIN) -> str:
    """A value with its interval, where it has one: "+2.0 % [+1.0, +3.0]"."""
    words = _of_unit(value, unit) + (f" {unit}" if unit and math.isfinite(value) else "")
    if not math.isfinite(low + high) or low == high:
        return words
    return f"{words} [{_of_unit(low, unit)}, {_of_unit(high, unit)}]"


def _of_unit(value: float, unit: str) -> str:
    if math.isnan(value):
        return "no value"
    if math.isinf(value):
        return "not finite" if value > 0 else "−∞"
    if unit in (PLAIN, COUNT):
        return plain(value)
    return plain(value, 3, "+") if unit == NATS else signed(value)


def threshold(value: float, unit: str = PLAIN) -> str:
    """A number as it was chosen: "100", "0.5 nats", "442,000 %"."""
    return f"{value:,.10g} {unit}".rstrip().replace("-", "−")


def exponent(value: float, digits: int = 0, sign: str = "") -> str:
    """A small number: "2e−05", "+4.9e−10"."""
    return formatted(value, f"{sign}.{digits}e")


def layers(numbers: Iterable[int]) -> str:
    """`L8, L9`, or "none"."""
    return listed(f"L{layer}" for layer in numbers)


def first(names: Sequence[str], count: int = 6) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")


def shortened(name: str, length: int = 32) -> str:
    """The name of a text, of a long path its end."""
    return name if len(name) <= length else f"...{name[3 - length :]}"


def label(name: str) -> str:
    """A name of rows as it is written for people: "neighbour mean", "head 5", "q_proj"."""
    index = name.removeprefix("head_")
    if index.isdigit():
        return f"head {index}" if index != name else name
    if name.endswith("_proj"):
        return name
    return {"mlp": "MLP"}.get(name, name.replace("_", " "))

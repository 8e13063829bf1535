"""Whole numbers as people list them: `0-12`, `0,3,5-8`."""

import operator
import re
from collections.abc import Iterable, Iterator
from typing import Any

from jaxanatomy.errors import InputError, require_unique

LONGEST = 4096  # numbers in one range: more is a slip of the hand
_RANGE = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*")


def is_range(item: Any) -> bool:
    """Whether an item of a list has the form of a range, "5-8"."""
    return isinstance(item, str) and _RANGE.fullmatch(item) is not None


def is_numbers(text: str) -> bool:
    """Whether a text lists whole numbers and ranges of them, "0,3,5-8"."""
    return all(item.strip().isdecimal() or is_range(item) for item in text.split(","))


def write_ranges(numbers: Iterable[int]) -> str:
    """Numbers in ascending order as people list them: "3,5-8"; two of a kind stay apart."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs
    )


def expand_range(text: str, kind: str = "range") -> range:
    """The numbers of "5-8", both ends among them.

    Args:
      text: The range.
      kind: What it lists, for the message.

    Raises:
      InputError: Another form, ends in the wrong order, more than `LONGEST` numbers.
    """
    if not is_range(text):
        raise InputError(
            f"{kind} must be whole numbers or ranges of them, as in 0-12 or 0,3,5-8; got {text!r}"
        )
    first, last = (_bounded(digits) for digits in _RANGE.fullmatch(text).groups())
    if last < first:
        raise InputError(
            f"{kind}: a range goes from the lower to the higher number; got {text!r}; write "
            f"{last}-{first}"
        )
    if last - first >= LONGEST:
        raise InputError(
            f"{kind}: a range holds at most {LONGEST} numbers; got {text!r}; take a shorter one"
        )
    return range(first, last + 1)


def parse_ranges(given: Any, kind: str = "numbers") -> list[int]:
    """Whole numbers, in the order in which they are listed.

    Args:
      given: A number, a text ("0,3,5-8"), or a list of numbers and texts ([0, "5-8"]).
      kind: What is listed, for the message.

    Raises:
      InputError: Anything else; a range as `expand_range`.
    """
    if isinstance(given, str):
        given = given.split(",")
    elif not isinstance(given, Iterable):
        given = [given]
    return [number for item in given for number in _numbers(item, kind)]


def parse_layers(given: Any, num_layers: int, *, once: bool = True) -> list[int]:
    """Layers of a model, in the order in which they are listed.

    Args:
      given: As `parse_ranges` takes it; None for all layers.
      num_layers: Depth of the model.
      once: Whether a layer may be listed only once.

    Raises:
      InputError: No layer, one that does not exist, one that comes twice, no list of numbers.
    """
    if given is None:
        return list(range(num_layers))
    layers = parse_ranges(given, "layers")
    for layer in layers:
        if not 0 <= layer < num_layers:
            raise InputError(f"layers of this model are 0 to {num_layers - 1}; got {layer}")
    if not layers:
        raise InputError(f"layers must name at least one of 0 to {num_layers - 1}; got none")
    if once:
        require_unique("layers", layers)
    return layers


def _numbers(item: Any, kind: str) -> Iterator[int]:
    """The numbers of one item of a list."""
    if isinstance(item, str):
        text = item.strip()
        yield from (_bounded(text),) if text.isdecimal() else expand_range(text, kind)
        return
    try:
        if isinstance(item, bool):
            raise TypeError
        yield operator.index(item)
    except TypeError:
        raise InputError(
            f"{kind} must be a list of whole numbers or ranges of them, as in 0-12 or 0,3,5-8; "
            f"got {item!r}"
        ) from None


def _bounded(digits: str) -> int:
    """The number of some digits, cut where it is absurd: Python refuses to read thousands."""
    return int(digits.lstrip("0")[:18] or 0)

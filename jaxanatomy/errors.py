"""The one exception for input that the user can mend, and help in wording it."""

import collections
import difflib
import math
import numbers
from collections.abc import Collection, Iterable, Sequence
from typing import Any


class InputError(ValueError):
    """Bad input or configuration: says what was expected, what came, what to do.

    Command-line programs print its one line and exit with status 2; from Python
    it is an ordinary `ValueError`.
    """


def choose(kind: str, name: str, options: Iterable[str]) -> str:
    """Returns `name` if it is one of `options`.

    Args:
      kind: What is being chosen, for the message: "intervention", "scope", ...
      name: The name that came.
      options: The names that are known.

    Raises:
      InputError: `name` is unknown; the message has the closest known name.
    """
    options = list(options)
    if name in options:
        return name
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(options)}"
    raise InputError(f"unknown {kind} {name!r}; {hint}")


def require_unique(kind: str, names: Sequence) -> None:
    """Refuses a list that names something twice.

    Args:
      kind: What is listed, for the message.
      names: What can be printed.

    Raises:
      InputError: A repetition.
    """
    counts = collections.Counter(map(_hashable, names))
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise InputError(
            f"each of {kind} may come once; repeated: {', '.join(map(str, repeated))}; leave the "
            "repetition out"
        )


def require_whole(name: str, value: Any, least: int = 1, remedy: str = "") -> None:
    """Refuses what is no whole number, or one below `least`.

    Args:
      name: Of the setting, as the user writes it.
      value: What came.
      least: The smallest that will do.
      remedy: What to do, where the rule does not say it.

    Raises:
      InputError: It is another value.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and int(value) == value and value >= least):
        raise InputError(
            f"{name} must be a whole number, {least} or above; got {value!r}"
            + (f"; {remedy}" if remedy else "")
        )


def require_positive(name: str, value: float, or_zero: bool = False, remedy: str = "") -> None:
    """Refuses a number that is infinite, NaN, negative, or (unless `or_zero`) 0."""
    if not (0 < value < math.inf or (or_zero and value == 0)):
        raise InputError(
            f"{name} must be finite and {'0 or above' if or_zero else 'above 0'}; got {value!r}"
            + (f"; {remedy}" if remedy else "")
        )


def require_each_once(name: str, values: Collection) -> None:
    """Refuses a list that is empty or names something twice."""
    if not values or len(set(map(_hashable, values))) < len(values):
        raise InputError(f"{name} must name at least one, each once; got {values}")


def _hashable(value: Any) -> Any:
    """The value, or how it reads: a user may write a list where a word is expected."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value

"""The one exception for input that the user can mend, and help in wording it."""

import collections
import difflib
from collections.abc import Iterable, Sequence


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
      names: What can be hashed and printed.

    Raises:
      InputError: A repetition.
    """
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise InputError(
            f"each of {kind} may come once; repeated: {', '.join(map(str, repeated))}; leave the "
            "repetition out"
        )

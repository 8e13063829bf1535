"""Fetches a model into the cache and prints where it lies.

    python tools/fetch_model.py [MODEL_ID]

Without a model id: the default model. Exit status 2 means that it cannot be fetched;
the one line on standard error says why and what to do.
"""

import sys

from jaxanatomy import weights
from jaxanatomy.errors import InputError


def main(arguments: list[str]) -> int:
    """Prints the path of the model that the arguments name; returns the exit status."""
    if len(arguments) > 1:
        print("usage: python tools/fetch_model.py [MODEL_ID]", file=sys.stderr)
        return 2
    try:
        print(weights.fetch(*arguments))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

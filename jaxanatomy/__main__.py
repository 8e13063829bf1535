"""The console script `jaxanatomy`, and `python -m jaxanatomy`."""

import sys

from jaxanatomy import interrupts


def main() -> int:
    """Answers signals before anything slow is imported, then runs the command line."""
    interrupts.listen()
    from jaxanatomy import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())

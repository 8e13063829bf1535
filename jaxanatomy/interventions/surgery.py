"""Cuts, repeats, swaps and reversals of every run of layers as lists of variants (DG section 4)."""

from collections.abc import Sequence

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, require_unique
from jaxanatomy.interventions.intervention import variant
from jaxanatomy.interventions.registry import choose_intervention
from jaxanatomy.interventions.variants import BASELINE, Variant, baseline_steps
from jaxanatomy.interventions.where import every_span
from jaxanatomy.ranges import parse_ranges

ALL = "all"
DAMPED = "repeat_damped"


def surgery_variants(
    config: ModelConfig,
    cut: str = "",
    repeat: str = "",
    damping: Sequence[float] = (),
    swap: str = "",
    reverse: str = "",
) -> list[Variant]:
    """The baseline, then each operation on every run of layers of each length.

    Args:
      config: The model, of L layers.
      cut: How many consecutive layers are left out, 1 to L - 1. Lengths are listed as "1,2,4-8",
        are "all", or empty: none.
      repeat: How many are applied twice, 1 to L.
      damping: Factors of the change that the second pass makes; the runs are those of `repeat`,
        which itself has the factor 1.
      swap: Layers in each of two adjacent blocks that change places, 1 to L // 2.
      reverse: How many are applied in reverse order, 3 to L; two reversed are a swap of 1.

    Returns:
      Variants in the grammar of `changes`, labelled `op`, `size` (layers of the whole run, of a
      swap both blocks) and `start`.

    Raises:
      InputError: Nothing to do, a length twice or out of range, a damping twice or no number, or
        without anything to repeat.
    """
    L = config.num_layers
    again = _lengths("repeat", repeat, 1, L)
    sizes = {"cut": _lengths("cut", cut, 1, L - 1), "repeat": again}
    require_unique("damping", list(damping))
    if damping and not again:
        raise InputError(
            f"damping is of the second pass of repeat; got {tuple(damping)} and no lengths of "
            "repeat; name some"
        )
    sizes |= {f"{DAMPED}_{factor}": again for factor in damping}
    sizes["swap"] = [2 * block for block in _lengths("swap", swap, 1, L // 2)]
    sizes["reverse"] = _lengths("reverse", reverse, 3, L)
    if not any(sizes.values()):
        raise InputError(
            "surgery needs lengths of cut, repeat, swap or reverse; got none; name some, as in "
            "cut=1,2,4-8 or cut=all"
        )
    unchanged = Variant(
        BASELINE, baseline_steps(L), labels={"op": "none", "size": 0, "start": None}
    )
    return [
        unchanged,
        *(
            variant(config, choose_intervention(op), place)
            for op, own in sizes.items()
            for place in every_span(L, own)
        ),
    ]


def _lengths(name: str, given: str, least: int, most: int) -> list[int]:
    """Lengths in the order given; "all" is every one from `least` to `most`."""
    if given == ALL:
        return list(range(least, most + 1))
    lengths = parse_ranges(given, name) if given else []
    require_unique(name, lengths)
    for length in lengths:
        if not least <= length <= most:
            raise InputError(
                f"{name} takes {least} to {most} layers of this model; got {length}; name other "
                "lengths, or all"
            )
    return lengths

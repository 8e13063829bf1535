"""What is done to trained models at inference, to see how they use their depth.

Layers are left out, exchanged, reversed or applied again, or the model is left early (DG section
4); looping is of arXiv 2602.16490.
"""

import dataclasses

from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.maps import lidas
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.interventions.variants import Step, Steps, Variant

LOOP, CUT, SWAP, REVERSE, EXIT = "loop", "cut", "swap", "reverse", "exit"
KINDS = {
    LOOP: "the middle block applied again",
    CUT: "without a layer",
    SWAP: "two neighbouring blocks swapped",
    REVERSE: "the layers of two blocks in reverse order",
    EXIT: "left after a layer, through the model's own final norm and head",
}
ONCE, TWICE, DAMPED = "once", "twice", "damped"
HALF = 0.5  # of the change that a damped pass makes
SWAPPED = (1, 2)  # layers of each of the two blocks


@dataclasses.dataclass(frozen=True)
class Edit:
    """What is done to a model.

    Attributes:
      kind: One of `KINDS`.
      name: Of loops `ONCE`, `TWICE` or `DAMPED`, else as in the grammar of variants.
      layers: That are repeated, left out, exchanged or reversed; of an exit the last one applied.
      steps: The model afterwards.
    """

    kind: str
    name: str
    layers: tuple[int, ...]
    steps: Steps

    @property
    def variant(self) -> Variant:
        """For the sweep."""
        return Variant(f"{self.kind}/{self.name}", self.steps)


def edits(config: ModelConfig, block: int) -> list[Edit]:
    """All edits of a model; those that it is too shallow for are left out.

    Args:
      config: The model.
      block: Layers of the block that is applied again; twice as many are reversed.
    """
    layers = range(config.num_layers)
    found = []
    if len(layers) >= block:
        middle = middle_block(len(layers), block)
        damped = _named(config, f"repeat_damped_{HALF}", middle)
        found += [
            Edit(LOOP, ONCE, middle, _named(config, "repeat", middle).steps),
            Edit(LOOP, TWICE, middle, _twice_more(len(layers), middle)),
            Edit(LOOP, DAMPED, middle, damped.steps),
        ]
    if len(layers) > 1:
        found += [_named(config, CUT, (layer,)) for layer in layers]
        found += [
            _named(config, SWAP, tuple(range(first, first + 2 * width)))
            for width in SWAPPED
            for first in range(len(layers) - 2 * width + 1)
        ]
        found += [
            _named(config, REVERSE, tuple(range(first, first + 2 * block)))
            for first in range(len(layers) - 2 * block + 1)
        ]
        found += [_named(config, EXIT, (layer,)) for layer in layers[:-1]]
    return found


def middle_block(num_layers: int, block: int) -> tuple[int, ...]:
    """The layers that LIDAS would copy next."""
    sources = lidas(num_layers, block)
    first = next(layer for layer in sources if sources.count(layer) == 2)
    return tuple(range(first, first + block))


def _named(config: ModelConfig, kind: str, layers: tuple[int, ...]) -> Edit:
    """An edit that the grammar has."""
    place = f"layer/{layers[0]}" if len(layers) == 1 else f"span/{layers[0]}-{layers[-1]}"
    (variant,) = parse_variants(config, [f"{kind}/{place}"])
    return Edit(kind, place, layers, variant.steps)


def _twice_more(num_layers: int, middle: tuple[int, ...]) -> Steps:
    """The steps of a model whose middle block is applied three times."""
    return tuple(map(Step, (*range(middle[0]), *3 * middle, *range(middle[-1] + 1, num_layers))))

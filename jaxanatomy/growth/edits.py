"""What is done to trained models at inference, to see how they use their depth.

Layers are left out, exchanged or applied again, or the model is left early (DG section 4); looping
is of arXiv 2602.16490.
"""

import dataclasses

from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.maps import lidas
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.interventions.variants import Step, Steps, Variant, damped

LOOP, CUT, SWAP, EXIT = "loop", "cut", "swap", "exit"
KINDS = {
    LOOP: "the middle block applied again",
    CUT: "without a layer",
    SWAP: "two neighbouring blocks in each other's place",
    EXIT: "left after a layer, through the model's own final norm and head",
}
HALF = 0.5
# (name, further passes, factor on the change that each makes)
LOOPS = (("once", 1, 1.0), ("twice", 2, 1.0), ("damped", 1, HALF))
SWAPPED = (1, 2)  # layers of each of the two blocks


@dataclasses.dataclass(frozen=True)
class Edit:
    """What is done to a model.

    Attributes:
      kind: One of `KINDS`.
      name: Of loops one of `LOOPS`, else as in the grammar of variants.
      layers: That are repeated, left out or exchanged; of an exit the last one that is applied.
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
      block: Layers of the block that is applied again.
    """
    layers = range(config.num_layers)
    found = []
    if len(layers) >= block:
        middle = middle_block(len(layers), block)
        found += [
            Edit(LOOP, name, middle, _looped(len(layers), middle, passes, factor))
            for name, passes, factor in LOOPS
        ]
    if len(layers) > 1:
        found += [_named(config, CUT, (layer,)) for layer in layers]
        found += [
            _named(config, SWAP, tuple(range(first, first + 2 * width)))
            for width in SWAPPED
            for first in range(len(layers) - 2 * width + 1)
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


def _looped(num_layers: int, middle: tuple[int, ...], passes: int, factor: float) -> Steps:
    """The steps of a model whose middle block is applied `passes` times more."""
    once = tuple(Step(layer) for layer in middle)
    more = once * passes if factor == 1 else (damped(once, factor),) * passes
    before, after = range(middle[0]), range(middle[-1] + 1, num_layers)
    return (*map(Step, before), *once, *more, *map(Step, after))

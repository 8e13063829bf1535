"""Where an intervention acts: which layers, which part of them, which token positions."""

import dataclasses
from collections.abc import Iterable, Sequence

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose, require_unique
from jaxanatomy.interventions.scopes import choose_scope
from jaxanatomy.interventions.variants import ALL, POSITIONS, Positions
from jaxanatomy.ranges import parse_layers, parse_ranges, write_ranges


@dataclasses.dataclass(frozen=True)
class Where:
    """A place in the model. Its text is the second part of a variant's name.

    Attributes:
      kind: "layer", one layer; "set", layers that are changed together; "span", those from one
        to another.
      layers: One or more in ascending order; those of a span follow one another.
      scope: The part of each layer; see `scopes`.
      positions: Where in the text.
      name: Of the layers: "14", "3,5-8", "paper".
    """

    kind: str
    layers: tuple[int, ...]
    scope: str = "layer"
    positions: Positions = ALL
    name: str = ""

    def __post_init__(self):
        if not self.name:
            object.__setattr__(self, "name", write_ranges(self.layers))

    def __str__(self) -> str:
        part = self.scope if self.positions == ALL else f"{self.scope}@{self.positions.name}"
        if self.kind == "layer":
            return f"{part}/{self.name}"
        return f"{self.kind}/{self.name}" if part == "layer" else f"{part}/{self.kind}/{self.name}"


def one(layer: int, scope: str = "layer", positions: Positions = ALL) -> Where:
    """One layer, or a part of it."""
    return Where("layer", (layer,), scope, positions)


def together(num_layers: int, layers: int | str | Iterable[int | str], name: str = "") -> Where:
    """A set of layers that are changed together.

    Args:
      num_layers: Depth of the model.
      layers: As `ranges.parse_layers` takes them: [3, 5], "3,5-8".
      name: What it is called if not by its layers.

    Raises:
      InputError: No layers, a layer that does not exist or comes twice.
    """
    given = parse_ranges(layers, "a set")  # None is no set, where elsewhere it is all layers
    return Where("set", tuple(sorted(parse_layers(given, num_layers))), name=name)


def span(num_layers: int, first: int, last: int) -> Where:
    """The layers from `first` to `last`, both among them.

    Raises:
      InputError: Layers that do not exist, or in the wrong order.
    """
    if not 0 <= first <= last < num_layers:
        raise InputError(
            f"a span is FIRST-LAST, two of the layers 0 to {num_layers - 1}; got {first}-{last}"
        )
    return Where("span", tuple(range(first, last + 1)), name=f"{first}-{last}")


def every_span(num_layers: int, lengths: Sequence[int]) -> list[Where]:
    """Every run of consecutive layers of each length, the lengths in the order given.

    Raises:
      InputError: A length twice, or one that the model does not have.
    """
    require_unique("lengths of runs", lengths)
    for length in lengths:
        if not 1 <= length <= num_layers:
            raise InputError(f"runs of layers are 1 to {num_layers} long here; got {length}")
    return [
        span(num_layers, start, start + length - 1)
        for length in lengths
        for start in range(num_layers - length + 1)
    ]


def choose_positions(positions: str | Positions) -> Positions:
    """Positions by name, or one's own.

    Raises:
      InputError: No such name, or positions of one's own under a name that is taken.
    """
    if isinstance(positions, Positions):
        if POSITIONS.get(positions.name, positions) != positions:
            raise InputError(
                f"the name {positions.name!r} belongs to built-in positions; "
                "give your own another name"
            )
        return positions
    return POSITIONS[choose("positions", positions, POSITIONS)]


def parse_part(config: ModelConfig, text: str) -> tuple[str, Positions]:
    """SCOPE[@POSITIONS], as in "mlp@first".

    Raises:
      InputError: A scope that the model does not have, unknown positions.
    """
    scope, mark, positions = text.partition("@")
    return choose_scope(config, scope), choose_positions(positions if mark else "all")

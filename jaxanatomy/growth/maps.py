"""Growth of a model's depth as an index map (DG section 3.1).

A map says for each layer of the grown model which layer of the old one it comes from:

    lidas(8, block=4) == (0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7)

Every operator keeps the layers that are there in their order and inserts copies of some of
them behind the originals. So where a layer stands for the first time in a map, it was
there; where it stands again, it is new.
"""

import dataclasses
from collections.abc import Callable

from jaxanatomy.errors import InputError, choose

Sources = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class GrowthMap:
    """Where the layers of a grown model come from.

    Attributes:
      sources: For each layer of the new model the layer of the old one.
      zero: Whether the new layers start without writing to the residual stream: their
        o_proj and down_proj are zero, so that the grown model computes the same.
      depth: Layers of the old model, some of which may be left out; None: each is there.
      new: The layers of the new model that are new; None: where a source stands again.
    """

    sources: Sources
    zero: bool = False
    depth: int | None = None
    new: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.depth is None:
            if not self.sources or sorted(set(self.sources)) != list(range(self.num_sources)):
                raise InputError(
                    "a growth map must hold each layer of the old model, 0 to the last, at least "
                    f"once; got {self.sources}"
                )
        elif not self.sources or not set(self.sources) <= set(range(self.depth)):
            raise InputError(
                f"a growth map of a model of {self.depth} layers must hold some of them; got "
                f"{self.sources}"
            )

    @property
    def num_sources(self) -> int:
        """Layers of the old model."""
        return max(self.sources) + 1 if self.depth is None else self.depth

    @property
    def num_layers(self) -> int:
        """Layers of the new model."""
        return len(self.sources)

    @property
    def inserted(self) -> tuple[int, ...]:
        """The layers of the new model that are new: where nothing else is said, copies."""
        if self.new is not None:
            return self.new
        return tuple(at for at, each in enumerate(self.sources) if each in self.sources[:at])

    @property
    def zeroed(self) -> tuple[int, ...]:
        """The layers of the new model whose output starts at zero."""
        return self.inserted if self.zero else ()


def midas(num_layers: int, block: int) -> Sources:
    """Copies the middle one of n = L/b blocks, number ceil(n/2) - 1, after itself.

    Raises:
      InputError: The block does not divide the layers.
    """
    _require_block("midas", num_layers, block)
    if num_layers % block:
        raise InputError(
            f"midas cuts a model into blocks and needs a block size that divides its layers; got "
            f"{block} and {num_layers} layers; take {_closest_divisor(num_layers, block)}, or lidas"
        )
    middle = (num_layers // block + 1) // 2 - 1
    return copy_after_itself(num_layers, middle * block, block)


def lidas(num_layers: int, block: int) -> Sources:
    """Copies the b layers in the middle, from s = ceil((L - b)/2) on, after themselves.

    As printed the formula takes b + 1 layers for an even b, and lies one layer too high for odd
    L and b. This one agrees with the paper's Figure 2, and with MIDAS where the number of
    blocks is odd.

    Raises:
      InputError: The block is longer than the model.
    """
    _require_block("lidas", num_layers, block)
    return copy_after_itself(num_layers, (num_layers - block + 1) // 2, block)


def stack_top(num_layers: int, block: int) -> Sources:
    """The model once more on top of itself, as far as b layers reach: layer i is i mod L.

    G_stack (Du et al. 2024), which doubles a model where b = L; here b may be anything.
    """
    _require_positive("stack_top", num_layers, block)
    return tuple(layer % num_layers for layer in range(num_layers + block))


def stack_last(num_layers: int, block: int) -> Sources:
    """The last b layers once more on top: gradual stacking (Reddi et al. 2023).

    With b = 1 the last layer. The protocol says "last-layer stacking"; as in the paper's
    operators, what is copied is a block.

    Raises:
      InputError: The block is longer than the model.
    """
    _require_block("stack_last", num_layers, block)
    return copy_after_itself(num_layers, num_layers - block, block)


def insert_zero(num_layers: int, block: int) -> Sources:
    """As `lidas`, but the new layers write nothing at first: the function is preserved.

    Zero are o_proj and down_proj alone, so that gradients reach them at the first step.

    Raises:
      InputError: The block is longer than the model.
    """
    _require_block("insert_zero", num_layers, block)
    return lidas(num_layers, block)


@dataclasses.dataclass(frozen=True)
class Operator:
    """A way to grow.

    Attributes:
      function: `function(num_layers, block)`, the map of one step.
      help: What it does, in a line.
      zero: See `GrowthMap`.
    """

    function: Callable[[int, int], Sources]
    help: str
    zero: bool = False


OPERATORS = {
    "midas": Operator(midas, "the middle block, copied after itself; b divides the layers"),
    "lidas": Operator(lidas, "the middle layers, copied after themselves"),
    "stack_top": Operator(stack_top, "the model from its first layer on, on top of itself"),
    "stack_last": Operator(stack_last, "the last layers, copied on top"),
    "insert_zero": Operator(
        insert_zero, "as lidas, but the copies write nothing at first: the same function", zero=True
    ),
}


def growth_map(operator: str, num_layers: int, block: int, target: int | None = None) -> GrowthMap:
    """The map from one depth to another, in steps of one block each.

    Args:
      operator: One of `OPERATORS`.
      num_layers: Layers L of the model.
      block: Layers b that a step adds.
      target: Layers of the result; default L + b, one step.

    Raises:
      InputError: No such operator; the target is not L + b, L + 2b, ...; the operator does
        not take these numbers.
    """
    found = OPERATORS[choose("growth operator", operator, OPERATORS)]
    _require_positive(operator, num_layers, block)
    sources = tuple(range(num_layers))
    for depth in depths(num_layers, num_layers + block if target is None else target, block)[:-1]:
        sources = tuple(sources[layer] for layer in found.function(depth, block))
    return GrowthMap(sources, found.zero)


def depths(initial: int, target: int, block: int) -> tuple[int, ...]:
    """The depths that a model passes through: initial, initial + b, ..., target.

    Raises:
      InputError: The target is not reached in steps of b, or is not above the initial depth.
    """
    _require_positive("growth", initial, block)
    if target <= initial or (target - initial) % block:
        steps = max(1, (target - initial) // block)
        raise InputError(
            f"from {initial} layers in steps of {block} a model grows to {initial + block}, "
            f"{initial + 2 * block}, ...; got a target of {target}; take "
            f"{initial + steps * block} or another block size"
        )
    return tuple(range(initial, target + 1, block))


def copy_after_itself(num_layers: int, start: int, block: int) -> Sources:
    """Layers start .. start + b - 1 stand twice, one run after the other."""
    layers, end = tuple(range(num_layers)), start + block
    return layers[:end] + layers[start:]


def _require_positive(name: str, num_layers: int, block: int) -> None:
    if num_layers < 1 or block < 1:
        raise InputError(
            f"{name} needs at least one layer and a block size of at least 1; got {num_layers} "
            f"layers and a block size of {block}"
        )


def _require_block(name: str, num_layers: int, block: int) -> None:
    _require_positive(name, num_layers, block)
    if block > num_layers:
        raise InputError(
            f"{name} copies {block} layers and needs as many; got a model of {num_layers}; take "
            "a smaller block size"
        )


def _closest_divisor(number: int, to: int) -> int:
    divisors = (each for each in range(1, number + 1) if number % each == 0)
    return min(divisors, key=lambda each: (abs(each - to), each))

"""A tape: calls that run forward, and then the same calls in reverse.

Many replicas of a model are trained at once, each in one layer of its own. Above that
layer all replicas use the same frozen weights, so their streams go through a layer
together, as in a sweep: `tape_calls` says which, without JAX. On the way back the same
calls run in reverse order, each turning the gradient of its output into that of its input.

What a call has to keep for its way back must not hold weights: a `vjp` that a jitted
function returns has copies of everything it closes over. `Reversible` keeps the rest and
puts the weights back when they are needed.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxanatomy.sweep.schedule import split

# Cost of starting a call, forward and back, in units of one more stream.
CALL_OVERHEAD = 0.9


Slots = tuple[tuple[int, ...], ...]
PADDING = -1


@dataclasses.dataclass(frozen=True)
class TapeCall:
    """One frozen layer applied to the streams of some replicas.

    Attributes:
      layer: The layer.
      slots: For each lane the slots of its streams, as many as the call is wide; `PADDING`
        where it has fewer.
    """

    layer: int
    slots: Slots

    @property
    def width(self) -> int:
        """Streams that the program takes."""
        return len(self.slots[0])


def tape_calls(
    trained: Sequence[Sequence[int | None]], num_layers: int, widths: Sequence[int]
) -> list[TapeCall]:
    """The calls that take all streams from their trained layers to the last layer.

    Args:
      trained: For each lane, the layer that the replica in each slot trains; None where
        the slot is empty.
      num_layers: L.
      widths: Streams per call that there are programs for, 1 among them.

    Returns:
      Calls in the order of the way forward. Each stream is in exactly one call of each
      layer above its own.
    """
    calls = []
    for layer in range(num_layers):
        lanes = [
            [slot for slot, own in enumerate(lane) if own is not None and own < layer]
            for lane in trained
        ]
        calls += [TapeCall(layer, slots) for slots in in_widths(lanes, widths)]
    return calls


def in_widths(lanes: Sequence[Sequence[int]], widths: Sequence[int]) -> list[Slots]:
    """The slots of all lanes cut into calls of the given widths, at the least cost."""
    most, parts, start = max(map(len, lanes)), [], 0
    for width in split(most, tuple(widths), CALL_OVERHEAD) if most else ():
        rows = [tuple(lane[start : start + width]) for lane in lanes]
        parts.append(tuple(row + (PADDING,) * (width - len(row)) for row in rows))
        start += width
    return parts


class Reversible:
    """`function(fixed, x)` as a way forward and a way back, both fit to be jitted.

    The way back is for x alone: `fixed` gets no gradient.
    """

    def __init__(self, function: Callable[[Any, jax.Array], jax.Array]):
        self._function = function
        self._structure, self._places = None, ()

    def forward(self, fixed: Any, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """The result, and what `back` needs besides `fixed`."""
        y, pull = jax.vjp(functools.partial(self._function, fixed), x)
        leaves, self._structure = jax.tree.flatten(pull)
        given, kept = jax.tree.leaves(fixed), []
        place = {id(leaf): index for index, leaf in enumerate(given)}
        for leaf in leaves:
            if id(leaf) not in place:
                place[id(leaf)] = len(given) + len(kept)
                kept.append(leaf)
        self._places = tuple(place[id(leaf)] for leaf in leaves)
        return y, kept

    def back(self, fixed: Any, kept: Sequence[jax.Array], dy: jax.Array) -> jax.Array:
        """The gradient of x from that of the result; `forward` was traced before."""
        leaves = [*jax.tree.leaves(fixed), *kept]
        (dx,) = jax.tree.unflatten(self._structure, [leaves[i] for i in self._places])(dy)
        return dx

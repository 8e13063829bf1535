"""Edited weights of one layer, computed when a call needs them.

Only the components that an edit replaces are new arrays; the rest of the block is
shared with the model.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.interventions.steps import edited_arrays
from jaxanatomy.interventions.variants import Edit
from jaxanatomy.sweep.devices import Lanes


class Editor:
    """Applies edits to the layers of a placed model."""

    def __init__(self, lanes: Lanes, layers: Sequence[tree.Block]):
        self._lanes = lanes
        self._layers = [
            [lanes.on_lane(block, lane) for block in layers] for lane in range(lanes.count)
        ]

    def blocks(self, weights: Sequence[tuple[int, Edit | None] | None]) -> tree.Block:
        """The placed weights of a call whose lanes differ, one (layer, edit) for each lane.

        A lane with None pads: it gets the unedited layer of another lane.
        """
        layer = next(pair[0] for pair in weights if pair is not None)
        blocks = [self._edited(lane, *(pair or (layer, None))) for lane, pair in enumerate(weights)]
        return self._lanes.join(blocks)

    def _edited(self, lane: int, layer: int, edit: Edit | None) -> tree.Block:
        own = self._layers[lane][layer]
        if edit is None:
            return own
        blocks = [own, *(self._layers[lane][source] for source in edit.sources)]
        if edit.on_host:
            new = self._on_host(edit, blocks, own)
        else:
            new = _compiled(edit.function, edit.scope, edit.arguments, self._lanes)(*blocks)
        return tree.replace(own, new)

    def _on_host(self, edit: Edit, blocks: Sequence[tree.Block], own: tree.Block) -> dict[str, Any]:
        several = self._lanes.count > 1
        host = jax.tree.map(
            lambda leaf: np.asarray(leaf)[0] if several else np.asarray(leaf), blocks
        )
        new = _restricted(edit.function, edit.scope, edit.arguments)(*host)
        return {
            name: jax.device_put(
                np.asarray(array[None] if several else array, tree.get(own, name).dtype),
                tree.get(own, name).sharding,
            )
            for name, array in new.items()
        }


@functools.cache
def _compiled(function, scope: tuple[str, ...], arguments: tuple, lanes: Lanes):
    return jax.jit(lanes.squeezed(_restricted(function, scope, arguments)))


def _restricted(function, scope: tuple[str, ...], arguments: tuple):
    """The edit as a function from blocks to the components of its scope."""
    return functools.partial(edited_arrays, function, scope, arguments)

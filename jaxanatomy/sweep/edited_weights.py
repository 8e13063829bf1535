"""Edited weights of one layer, computed when a call needs them.

Only the components that an edit replaces are new arrays; the rest of the block is
shared with the model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.interventions.steps import edited_arrays
from jaxanatomy.interventions.variants import Edit
from jaxanatomy.sweep.devices import Lanes


class Editor:
    """Applies edits to the layers of a placed model."""

    def __init__(self, lanes: Lanes, layers: Sequence[tree.BlockParams], precision: str):
        self._lanes, self._precision = lanes, precision
        self._compiled: dict[tuple, Callable] = {}
        self._layers = [
            [lanes.on_lane(block, lane) for block in layers] for lane in range(lanes.count)
        ]

    def blocks(self, weights: Sequence[tuple[int, Edit | None] | None]) -> tree.BlockParams:
        """The placed weights of a call whose lanes differ, one (layer, edit) for each lane.

        A lane with None pads: it gets the unedited layer of another lane.
        """
        layer = next(pair[0] for pair in weights if pair is not None)
        blocks = [self._edited(lane, *(pair or (layer, None))) for lane, pair in enumerate(weights)]
        return self._lanes.join(blocks)

    def _edited(self, lane: int, layer: int, edit: Edit | None) -> tree.BlockParams:
        own = self._layers[lane][layer]
        if edit is None:
            return own
        blocks = [own, *(self._layers[lane][source] for source in edit.sources)]
        new = self._on_host(edit, blocks, own) if edit.on_host else self._on_device(edit, blocks)
        return tree.replace(own, new)

    def _on_device(self, edit: Edit, blocks: Sequence[tree.BlockParams]) -> dict[str, Any]:
        """Compiled once for all layers of a shape: the layer's number is no argument."""
        key = edit.function, edit.scope, edit.arguments
        if key not in self._compiled:
            self._compiled[key] = jax.jit(self._lanes.squeezed(_in_float32(edit)))
        with jax.default_matmul_precision(self._precision):
            new = self._compiled[key](*blocks)
        # What does not depend on its inputs (zeros) would lie on the default device.
        own = blocks[0]
        return {
            name: jax.device_put(array, tree.get(own, name).sharding) for name, array in new.items()
        }

    def _on_host(
        self, edit: Edit, blocks: Sequence[tree.BlockParams], own: tree.BlockParams
    ) -> dict[str, Any]:
        several = self._lanes.count > 1
        host = jax.tree.map(
            lambda leaf: np.asarray(leaf)[0] if several else np.asarray(leaf), blocks
        )
        new = _in_float32(edit)(*host)
        return {
            name: jax.device_put(
                np.asarray(array[None] if several else array, tree.get(own, name).dtype),
                tree.get(own, name).sharding,
            )
            for name, array in new.items()
        }


def _in_float32(edit: Edit) -> Callable[..., dict[str, Any]]:
    """The edit as a function from blocks to the components of its scope.

    It sees float32 whatever the compute dtype is, so that norms and statistics of
    bfloat16 weights are not summed in bfloat16.
    """

    def edited(*blocks: tree.BlockParams) -> dict[str, Any]:
        wide = jax.tree.map(lambda leaf: _cast(leaf, np.float32), blocks)
        arrays = edited_arrays(edit.function, edit.scope, edit.arguments, *wide)
        return {
            name: _cast(array, tree.get(blocks[0], name).dtype) for name, array in arrays.items()
        }

    return edited


def _cast(array: tree.Array, dtype: np.dtype) -> tree.Array:
    return array if array.dtype == dtype else array.astype(dtype)

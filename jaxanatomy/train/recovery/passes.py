"""Compiled passes of many replicas over one text: clean streams, evaluation, training steps.

The order of a training step: each replica's stream starts from the clean stream below its
layer; frozen layers take all streams to the end, the calls going on a tape; the head turns
streams into gradients; the tape takes them back; each replica's layer is updated.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.sweep import programs
from jaxanatomy.sweep.compilation import ProgramKey, text_inputs
from jaxanatomy.sweep.devices import Lanes
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.programs import StreamPrograms, prediction_weights
from jaxanatomy.train.recovery.tape import PADDING, TapeCall, in_widths, tape_calls

ReplicaState = tuple[tree.BlockParams, Any]
TrainedLayers = Sequence[Sequence[int | None]]  # by lane and slot; None in an empty slot


class Passes:
    """The passes of one kind over the batches of one text.

    Attributes:
      batches: The text; all of one shape.
    """

    def __init__(
        self,
        config: ModelConfig,
        options: RecoveryOptions,
        lanes: Lanes,
        batches: Sequence[TextBatch],
        trained: Sequence[int],
        slots: int,
        optimiser: optax.GradientTransformation | None = None,
    ):
        """Plans the programs; no array is made.

        Args:
          config: The architecture.
          options: How to run.
          lanes: The devices.
          batches: The text.
          trained: All layers that a replica may train.
          slots: X, replicas on each lane.
          optimiser: Given, the passes train; without it they evaluate.
        """
        self.batches = tuple(batches)
        self._config, self._options, self._lanes = config, options, lanes
        self._trained, self._slots, self._optimiser = sorted(set(trained)), slots, optimiser
        tokens = self.batches[0].token_RT.size
        (platform,) = {device.platform for device in lanes.sharding.device_set}
        self._widths = options.widths_for(tokens, slots, platform)
        self._compiler = StreamPrograms(
            config, options, lanes, batches[0], self._trained[-1] + 1, slots, optimiser
        )
        self._programs: dict[ProgramKey, Callable] = {}
        self._prepared: dict[int, tuple] = {}
        clean_bytes = 4 * tokens * config.hidden_size * (self._trained[-1] + 1)
        self._kept_batches = options.clean_megabytes * 2**20 // clean_bytes

    def compile(self) -> None:
        """Compiles every program, in threads."""
        shapes = self._config.layers
        own = {shapes[layer] for layer in self._trained}
        above = set(shapes[self._trained[0] + 1 :])
        keys = [("prepare", None, 0)]
        keys += [("advance", shape, 0) for shape in set(shapes[: self._trained[-1]])]
        keys += [("start", shape, 0) for shape in own]
        if self._optimiser is None:
            kinds = [("through", shape) for shape in above] + [("read", None)]
        else:
            kinds = [("tape", shape) for shape in above] + [("turn", None)]
            keys += [("update", shape, 0) for shape in own]
        keys += [(*kind, width) for kind in kinds for width in self._widths]
        self._programs = self._compiler.compile(keys)

    def place(self, head: tree.Params, layers: Sequence[tree.BlockParams]) -> None:
        """Takes the placed weights of the model."""
        self._head, self._layers = head, layers

    def evaluate(
        self, states: Sequence[ReplicaState], trained: TrainedLayers, batch: int
    ) -> list[list[np.ndarray | None]]:
        """The loss of each prediction of a batch, by lane and slot; None in empty slots."""
        clean, text, _ = self._clean(batch)
        pool = self._start(states, trained, clean, text)
        for call in tape_calls(trained, self._config.num_layers, self._widths):
            program = self._program("through", call)
            pool = program(self._layers[call.layer], pool, self._slot_index(call.slots), text)
        found: list[list[np.ndarray | None]] = [[None] * len(lane) for lane in trained]
        for part, slots in self._all_streams(trained):
            values = self._programs["read", None, len(part[0])](self._head, pool, slots, text)
            self._scatter(found, part, values)
        return found

    def step(
        self, states: list[ReplicaState], trained: TrainedLayers, batch: int
    ) -> list[list[float | None]]:
        """One step of every replica, `states` in place; the losses before it."""
        clean, text, weight = self._clean(batch)
        pool = self._start(states, trained, clean, text)
        tape = []
        for call in tape_calls(trained, self._config.num_layers, self._widths):
            slots = self._slot_index(call.slots)
            program = self._program("forward", call)
            pool, kept = program(self._layers[call.layer], pool, slots, text)
            tape.append((call, slots, kept))
        turned = []
        for part, slots in self._all_streams(trained):
            program = self._programs["turn", None, len(part[0])]
            pool, loss = program(self._head, pool, slots, weight, text)
            turned.append((part, loss))
        while tape:
            call, slots, kept = tape.pop()
            pool = self._program("back", call)(self._layers[call.layer], kept, pool, slots, text)
            del kept
        for slot, index, shape in self._own_layers(trained):
            program = self._programs["update", shape, 0]
            states[slot] = program(*states[slot], pool, clean, index, text)
        # A step that is queued before this one has ended would hold a second tape.
        jax.block_until_ready(states)
        losses: list[list[float | None]] = [[None] * len(lane) for lane in trained]
        for part, loss in turned:
            self._scatter(losses, part, loss)
        return losses

    def _clean(self, batch: int) -> tuple[jax.Array, programs.TextArrays, jax.Array]:
        """Clean streams before each layer, the text arrays and the weights of predictions."""
        if batch in self._prepared:
            return self._prepared[batch]
        inputs = self._lanes.replicate(text_inputs(self.batches[batch]))
        clean, text = self._programs["prepare", None, 0](self._head, *inputs)
        for layer in range(self._trained[-1]):
            program = self._programs["advance", self._config.layers[layer], 0]
            index = self._lanes.replicate(np.int32(layer))
            clean = program(self._layers[layer], clean, index, text)
        weight = self._lanes.replicate(prediction_weights(self.batches[batch]))
        if len(self._prepared) < self._kept_batches:
            self._prepared[batch] = clean, text, weight
        return clean, text, weight

    def _start(self, states, trained, clean, text) -> jax.Array:
        """A pool with the stream of each replica after its own layer."""
        shape = (self._slots, *self.batches[0].token_RT.shape, self._config.hidden_size)
        pool = self._lanes.replicate(np.zeros(shape, np.float32))
        for slot, index, layer_shape in self._own_layers(trained):
            program = self._programs["start", layer_shape, 0]
            pool = program(states[slot][0], pool, clean, index, text)
        return pool

    def _own_layers(self, trained):
        """For each slot in use: its number, (layer, slot) on each lane, the layer's shape."""
        for slot in range(self._slots):
            layers = [lane[slot] if slot < len(lane) else None for lane in trained]
            present = [layer for layer in layers if layer is not None]
            if not present:
                continue
            pairs = [
                np.array((present[0], self._slots) if layer is None else (layer, slot), np.int32)
                for layer in layers
            ]
            yield slot, self._lanes.put(pairs), self._config.layers[present[0]]

    def _all_streams(self, trained):
        """Calls of the head that take every stream: slots of each lane, and their index."""
        lanes = [[s for s, own in enumerate(lane) if own is not None] for lane in trained]
        for part in in_widths(lanes, self._widths):
            yield part, self._slot_index(part)

    def _slot_index(self, slots: Sequence[Sequence[int]]) -> jax.Array:
        """Slots of a call on each lane; beyond the pool where it pads."""
        return self._lanes.put(
            [
                np.array([self._slots if s == PADDING else s for s in lane], np.int32)
                for lane in slots
            ]
        )

    def _program(self, kind: str, call: TapeCall) -> Callable:
        return self._programs[kind, self._config.layers[call.layer], call.width]

    def _scatter(self, found: list[list], part, values) -> None:
        """Puts the values of a call's streams where they belong."""
        for lane, rows in enumerate(self._lanes.fetch(values)):
            for slot, row in zip(part[lane], rows, strict=True):
                if slot != PADDING:
                    found[lane][slot] = row

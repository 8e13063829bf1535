"""Many replicas of a model, each healing one layer, trained at once (AH section 3.6).

trainer = RecoveryTrainer(config, [11, 14], train_batches, eval_batches, Optimiser())
trainer.compile()            # needs no weights: may run while they load
trainer.place(params)
group = trainer.start([Replica(11, seed=11), Replica(14, seed=14)], sigma=0.5)
for step in range(200):
    losses = trainer.step(group, step)
nll = trainer.evaluate(group)

A replica owns the arrays of its layer and their Adam moments; everything else is
shared and frozen. So the clean streams below the trained layers are computed once for
each batch, and above them replicas go through the frozen layers together.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch, gather_predictions
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.noise import recovery_noise
from jaxanatomy.progress import announced
from jaxanatomy.ranges import parse_layers
from jaxanatomy.sweep.compilation import abstract_block, cast
from jaxanatomy.sweep.devices import Lanes, choose_devices
from jaxanatomy.train.optimiser import Optimiser, make
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.passes import Passes, ReplicaState


@dataclasses.dataclass(frozen=True, order=True)
class Replica:
    """A copy of the model that trains one layer.

    Attributes:
      layer: The layer.
      seed: Seed of its noise; -1 for a control without noise.
    """

    layer: int
    seed: int = -1

    @property
    def noise(self) -> bool:
        """Whether the layer starts with noise."""
        return self.seed >= 0


@dataclasses.dataclass
class Group:
    """Replicas that train together, and their state.

    Attributes:
      replicas: Sorted by layer; replica i lies in slot i // lanes of lane i % lanes.
      active: For each replica whether it still trains.
      states: For each slot the placed (parameters, moments).
    """

    replicas: tuple[Replica, ...]
    active: list[bool]
    states: list[ReplicaState]

    def __repr__(self) -> str:
        return f"Group({len(self.replicas)} replicas, {sum(self.active)} active)"


class RecoveryTrainer:
    """Trains groups of replicas on one text and evaluates them on another.

    Attributes:
      config: The architecture.
      lanes: The devices that share the replicas of a group.
      slots: Replicas on each lane.
    """

    def __init__(
        self,
        config: ModelConfig,
        layers: Iterable[int],
        train: Sequence[TextBatch],
        evaluation: Sequence[TextBatch],
        optimiser: Optimiser,
        options: RecoveryOptions | None = None,
    ):
        """Plans; no array is made.

        Args:
          config: The architecture.
          layers: All layers that a replica may train.
          train: The training text; step s takes batch s modulo their number.
          evaluation: The text to evaluate on.
          optimiser: Of every replica, each with moments of its own.
          options: How to run.

        Raises:
          InputError: A layer out of range, more devices wanted than there are, or several
            devices for layers of different shapes.
        """
        self.config, options = config, options or RecoveryOptions()
        layers = sorted(parse_layers(layers, config.num_layers))
        devices = choose_devices(options.devices or 1, 1, "train.devices")
        if len(devices) > 1 and len({config.layers[layer] for layer in layers}) > 1:
            raise InputError(
                "replicas of layers of different shapes cannot share several devices; got "
                f"train.devices={options.devices}; leave it at 1, or name layers of one shape"
            )
        self.lanes = Lanes(devices, options.backend)
        self.slots = -(-options.group_size // self.lanes.count)
        block = abstract_block(config, layers[0], jnp.dtype(jnp.float32))
        rate = optax.scale_by_learning_rate(optimiser.learning_rate)
        self._options, self._optimiser = options, optax.chain(make(optimiser, block), rate)
        common = (config, options, self.lanes)
        self._train = Passes(*common, train, layers, self.slots, self._optimiser)
        self._evaluation = Passes(*common, evaluation, layers, self.slots)

    def compile(self) -> None:
        """Compiles every program, in threads."""
        with announced("compiling the training"):
            self._train.compile()
            self._evaluation.compile()

    def place(self, params: tree.Params) -> None:
        """Puts the frozen weights on the devices: matrices in the compute dtype.

        Args:
          params: NumPy arrays; the layers are kept to start replicas from.
        """
        _, params = tree.fold_norms(self.config, params)  # layers as they act
        self._blocks = params["layers"]

        def put(part: Any) -> Any:
            dtype = self._options.compute_dtype
            return self.lanes.replicate(jax.tree.map(lambda leaf: cast(leaf, dtype), part))

        head = put({name: part for name, part in params.items() if name != "layers"})
        layers = [put(block) for block in self._blocks]
        self._train.place(head, layers)
        self._evaluation.place(head, layers)

    def start(self, replicas: Iterable[Replica], sigma: float) -> Group:
        """A group before its first step.

        Args:
          replicas: As many as a group holds, or fewer.
          sigma: Size of the noise; see `interventions.noise.recovery_noise`.

        Raises:
          ValueError: More replicas than slots.
          InputError: As `recovery_noise`.
        """
        replicas = tuple(sorted(replicas))
        lanes = self.lanes.count
        if not 0 < len(replicas) <= self.slots * lanes:
            raise ValueError(f"{len(replicas)} replicas in {self.slots} slots of {lanes} lanes")
        states = []
        for first in range(0, len(replicas), lanes):
            slot = [self._initial(each, sigma) for each in replicas[first : first + lanes]]
            states.append(self.lanes.put(slot + [slot[0]] * (lanes - len(slot))))
        return Group(replicas, [True] * len(replicas), states)

    def step(self, group: Group, step: int) -> list[float | None]:
        """One step of every active replica.

        Args:
          group: Changed in place.
          step: Number of the step, from 0; it chooses the batch.

        Returns:
          For each replica its mean loss on the batch before the step, nats per token; None
          where it is not active.
        """
        batch = step % len(self._train.batches)
        losses = self._train.step(group.states, self._trained(group), batch)
        found = self._by_replica(group, losses)
        return [None if loss is None else float(loss) for loss in found]

    def evaluate(self, group: Group) -> list[np.ndarray | None]:
        """For each active replica the loss of each predicted token in the order of the text."""
        batches = self._evaluation.batches
        trained = self._trained(group)
        by_batch = [
            self._by_replica(group, self._evaluation.evaluate(group.states, trained, batch))
            for batch in range(len(batches))
        ]
        return [
            None if values[0] is None else gather_predictions(batches, values)[0]
            for values in zip(*by_batch, strict=True)
        ]

    def export_state(self, group: Group) -> list[ReplicaState]:
        """(parameters, moments) of each replica, on the host."""
        return self._by_replica(group, list(zip(*map(self.lanes.fetch, group.states), strict=True)))

    def import_state(self, group: Group, states: Sequence[ReplicaState]) -> None:
        """Puts back what `export_state` gave, on however many devices there are now."""
        lanes = self.lanes.count
        for slot in range(len(group.states)):
            own = list(states[slot * lanes : (slot + 1) * lanes])
            group.states[slot] = self.lanes.put(own + [own[0]] * (lanes - len(own)))

    def _initial(self, replica: Replica, sigma: float) -> ReplicaState:
        """Parameters in float32 that share no memory with the model, and zero moments."""
        block = self._blocks[replica.layer]
        if replica.noise:
            block = recovery_noise(block, sigma=sigma, seed=replica.seed)
        # Copied: the first update is given their memory.
        params = jax.tree.map(lambda leaf: np.array(leaf, np.float32), block)
        return params, jax.tree.map(np.asarray, self._optimiser.init(params))

    def _trained(self, group: Group) -> list[list[int | None]]:
        """By lane and slot the layer of each active replica."""
        layers = [
            replica.layer if active else None
            for replica, active in zip(group.replicas, group.active, strict=True)
        ]
        layers += [None] * (self.slots * self.lanes.count - len(layers))
        return [layers[lane :: self.lanes.count] for lane in range(self.lanes.count)]

    def _by_replica(self, group: Group, by_lane: Sequence[Sequence[Any]]) -> list[Any]:
        lanes = self.lanes.count
        return [by_lane[i % lanes][i // lanes] for i in range(len(group.replicas))]


def recovery_step_flops(config: ModelConfig, replicas: Iterable[Replica], batch: TextBatch) -> int:
    """Floating-point operations of the matrix products of one step, m n k being 2 m n k.

    A frozen layer counts twice (forward, back to its input), a trained one three times
    (forward, forward again and its weights in the update), the head twice; not the
    attention products and no elementwise work.
    """
    D, tokens = config.hidden_size, batch.token_RT.size
    products = 0
    for replica in replicas:
        for layer in range(replica.layer, config.num_layers):
            matrices = model.matrix_parameter_count(config, layer)
            products += (3 if layer == replica.layer else 2) * tokens * matrices
        products += 2 * len(batch.predict_P) * D * config.vocab_size
    return 2 * products

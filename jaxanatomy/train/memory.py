"""Memory of a training step on one device, on paper.

    memory = step_memory(setup, stage, batch_size=512, seq_len=2048)
    memory.total                               # bytes; nothing was allocated

What a device holds for the length of a run is the sum of the parts of its arrays. What it
holds during a step is read from the trace of the loss: the values that the way forward keeps
for the way back, which is where `remat` acts. The compiler can do better by merging
operations, and worse by the order that it gives them: on a CPU its own figure for what is
temporary is 0.9 to 1.4 of this one, and 0.7 or more without `scan_layers`
(tests/train/test_memory.py).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax

from jaxanatomy import model
from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.loss import nothing_frozen
from jaxanatomy.train.lowering import PLATFORMS, abstract_batch, abstract_chunk, export_run
from jaxanatomy.train.setup import Setup
from jaxanatomy.tree import PyTree


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes on one device.

    Attributes:
      parameters: The parts of them that lie there.
      moments: The same of the optimiser's state.
      batches: Tokens of a chunk of steps.
      gradients: Of the parts that lie there; twice where they are summed over parts of a batch.
      gathered: Where parameters are cut: the ends of the model whole, one layer whole, and
        the gradients of both.
      layers: What the layers keep for the way back.
      head: What the head and the loss keep; it is gone when the way back comes to the layers.
      recomputed: What a layer that is computed again keeps meanwhile.
      evaluation: At most, what a layer computes of a batch to evaluate on, which is not cut
        into parts; there are no gradients then.
      scoring: The same of a part of a batch of questions, at the end of a run.
    """

    parameters: int
    moments: int
    batches: int
    gradients: int
    gathered: int
    layers: int
    head: int
    recomputed: int
    evaluation: int
    scoring: int

    @property
    def held(self) -> int:
        """Between steps."""
        return self.parameters + self.moments + self.batches

    @property
    def temporary(self) -> int:
        """During a step, at the worst time."""
        return self.gradients + self.gathered + self.layers + max(self.head, self.recomputed)

    @property
    def total(self) -> int:
        """At the worst time of a step, an evaluation or the scoring of questions."""
        forward = self.gathered // 2 + max(self.evaluation, self.scoring)
        return self.held + max(self.temporary, forward)


def step_memory(setup: Setup, stage: Stage, batch_size: int, seq_len: int) -> StepMemory:
    """Memory of the steps of a stage.

    Args:
      setup: What is trained; its placement may be one of `Placement.abstract`.
      stage: Of the run.
      batch_size: Rows B of a batch, of all processes together.
      seq_len: Tokens T of a row.
    """
    params, state, _ = setup.like(stage)
    parameters, seeds = _bytes_here(params), len(setup.seeds)
    trained, config = _bytes_here(state.params), stage.config
    own_rows = batch_size // setup.placement.device_count
    cut = setup.placement.gather is not None
    kept = _Kept(setup, stage, own_rows // setup.options.grad_accum_steps, seq_len)
    layers, one_layer = kept.by_layers(config.num_layers), kept.by_layers(1, "none")
    return StepMemory(
        parameters=parameters,
        moments=_bytes_here(state.moments),
        batches=_bytes_here(abstract_chunk(setup, batch_size, seq_len)),
        gradients=trained * (1 if setup.options.grad_accum_steps == 1 else 2),
        gathered=2 * _largest_gather(config) if cut else 0,
        layers=seeds * layers,
        head=seeds * (kept.by_all() - layers),
        recomputed=seeds * (one_layer - kept.by_layers(1)),
        evaluation=seeds * _Kept(setup, stage, own_rows, seq_len).by_layers(1, "none"),
        scoring=seeds * one_layer,
    )


def describe_runs(setups: Sequence[Setup], batch_size: int, seq_len: int, lower: bool) -> list[str]:
    """Memory of one device at the deepest stage; and that the programs can be lowered.

    Args:
      setups: Of each arm, all on the same devices.
      batch_size: Rows B of a batch, of all processes together.
      seq_len: Tokens T of a row.
      lower: Whether to lower what the arms compile, for `lowering.PLATFORMS`; a few seconds.
    """
    deepest = max(
        (stage for each in setups for stage in each.stages),
        key=lambda stage: stage.config.num_layers,
    )
    memory = step_memory(setups[0], deepest, batch_size, seq_len)
    count = setups[0].placement.device_count
    lines = [
        f"memory of {f'each of {count} devices' if count > 1 else 'the device'}, "
        f"{deepest.config.num_layers} layers: {_figures(memory)}"
    ]
    if lower:
        # Arms that differ in their growth map alone have the same steps.
        by_stages = {tuple(stage.config for stage in each.stages): each for each in setups}
        found = [export_run(each, batch_size, seq_len) for each in by_stages.values()]
        names = " and ".join(PLATFORMS)
        lines.append(f"lowered for {count} devices of {names}: {sum(map(len, found))} programs")
    return lines


class _Kept:
    """Bytes that the loss of one model keeps for its gradient, by part."""

    def __init__(self, setup: Setup, stage: Stage, batch_size: int, seq_len: int):
        self._setup, self._loss = setup, setup.loss(stage.config)
        self._batch = abstract_batch(setup, [], batch_size, seq_len)
        if setup.make_batch is not None:
            self._batch = jax.eval_shape(setup.make_batch, self._batch)

    def by_all(self) -> int:
        def loss(params: PyTree, batch: PyTree) -> jax.Array:
            return self._loss(params, nothing_frozen(params), batch)

        return _kept_bytes(loss, self._params(self._loss.config), self._batch)

    def by_layers(self, count: int, remat: str | None = None) -> int:
        """Of the first layers, and what comes before them."""
        config = self._loss.config
        config = config.with_layers(config.layers[:count])

        def hidden(params: PyTree, batch: PyTree) -> jax.Array:
            return model.hidden(
                config,
                params,
                *self._loss.inputs(batch),
                dtype=self._loss.dtype,
                remat=remat or self._loss.remat,
                gather=self._loss.gather,
            )

        return _kept_bytes(hidden, self._params(config), self._batch)

    def _params(self, config: ModelConfig) -> PyTree:
        return jax.eval_shape(lambda: self._setup.initial_params(Stage(config, 1), 0))


def _kept_bytes(function: Callable, params: PyTree, batch: PyTree) -> int:
    """Bytes of what a function keeps for its gradient, beside its own arguments."""

    def residuals(params: PyTree, batch: PyTree) -> list[jax.Array]:
        _, pull = jax.vjp(lambda params: function(params, batch), params)
        return jax.tree.leaves(pull)

    jaxpr = jax.make_jaxpr(residuals)(params, batch).jaxpr
    given = set(map(id, jaxpr.invars))
    kept = {id(value): value.aval for value in jaxpr.outvars if id(value) not in given}
    return sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in kept.values())


def _bytes_here(part: PyTree) -> int:
    """Bytes of the part of each array that lies on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(part)
    )


def _largest_gather(config: ModelConfig) -> int:
    """Bytes of the ends of a model and of its largest layer, whole, float32."""
    layers = [model.layer_parameter_count(config, layer) for layer in range(config.num_layers)]
    return 4 * (model.parameter_count(config) - sum(layers) + max(layers))


def _figures(memory: StepMemory) -> str:
    parts = dataclasses.asdict(memory).items()
    listed = ", ".join(f"{name} {size / 1e9:,.2f}" for name, size in parts if size)
    return f"{memory.total / 1e9:,.2f} GB on paper (GB: {listed})"

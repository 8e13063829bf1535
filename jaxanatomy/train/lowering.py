"""The programs of a training run, traced and lowered for devices that are not here.

    setup = Setup(stages, adamw(), schedule, (0,), Placement.abstract(64, fsdp_shards=8), options)
    exported = export_step(setup, setup.stages[-1].config, batch_size=512, seq_len=2048)
    exported.nr_devices, exported.platforms == 64, ("tpu", "cuda")

Arrays are shapes alone: no parameter is made and no device is asked, so that the step of a
model that fits on no machine at hand is checked in a second, shardings and all. What the
platform's own compiler thinks of it is known there only.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.depth_arms import DepthStage
from jaxanatomy.train.loop import TrainState, run_steps
from jaxanatomy.train.loss import Batch, nothing_frozen
from jaxanatomy.train.scoring import row_sums, target_nll
from jaxanatomy.train.setup import Setup

PLATFORMS = ("tpu", "cuda")


def abstract_state(setup: Setup, config: ModelConfig) -> TrainState:
    """Shapes of parameters and moments, and where they lie, with an axis M for several seeds.

    Args:
      setup: What is trained.
      config: The architecture of a stage.
    """
    state = jax.eval_shape(lambda: setup.initial_state(config))
    return jax.tree.map(lambda leaf: _placed(leaf, setup.placement.sharding(leaf)), state)


def abstract_batch(setup: Setup, lead: Sequence[int], batch_size: int, seq_len: int) -> Batch:
    """Shapes of batches [..., B, T], their rows shared out.

    Args:
      setup: Where.
      lead: Axes before the rows: steps of a chunk, seeds.
      batch_size: Rows B of all processes together.
      seq_len: Tokens T of a row.
    """
    sharding = setup.placement.row_sharding(len(lead))
    ids = jax.ShapeDtypeStruct((*lead, batch_size, seq_len), jnp.int32, sharding=sharding)
    weights = jax.ShapeDtypeStruct(ids.shape, jnp.float32, sharding=sharding)
    return Batch(ids, ids, weights, ids, ids)


def abstract_chunk(setup: Setup, batch_size: int, seq_len: int) -> Batch:
    """Shapes of the batches of one call, [E, B, T], or [E, M, B, T] for several seeds."""
    seeds = [len(setup.seeds)] if setup.replicas else []
    return abstract_batch(setup, [setup.options.steps_per_call, *seeds], batch_size, seq_len)


def step_arguments(
    setup: Setup, config: ModelConfig, batch_size: int, seq_len: int
) -> tuple[tuple, dict[str, Any]]:
    """Arguments of `run_steps` as a run passes them, shapes in the place of arrays."""
    state = abstract_state(setup, config)
    chunk = abstract_chunk(setup, batch_size, seq_len)
    lead = chunk.token_BT.shape[:-2]
    rates = jax.ShapeDtypeStruct(lead, jnp.float32, sharding=setup.placement.whole)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = (setup.loss(config), setup.optimiser, state, nothing_frozen(state.params))
    options = {"replicas": setup.replicas, "grad_accum_steps": setup.options.grad_accum_steps}
    options["place"] = setup.placement.constrain
    return (*arguments, chunk, rates, count), options


def export_step(
    setup: Setup,
    config: ModelConfig,
    batch_size: int,
    seq_len: int,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """The steps of a stage, lowered.

    Args:
      setup: What is trained; its placement may be one of `Placement.abstract`.
      config: The architecture of the stage.
      batch_size: Rows B of a batch, of all processes together.
      seq_len: Tokens T of a row.
      platforms: Names that JAX has for them.
    """
    arguments, options = step_arguments(setup, config, batch_size, seq_len)
    with setup.precision():
        return jax.export.export(run_steps, platforms=platforms)(*arguments, **options)


def export_evaluation(
    setup: Setup,
    config: ModelConfig,
    batch_size: int,
    seq_len: int,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """The evaluation of a stage, lowered; arguments as `export_step`."""
    params = abstract_state(setup, config).params
    batch = abstract_batch(setup, [], batch_size, seq_len)
    arguments = (setup.loss(config), params, batch, setup.placement.whole)
    export = jax.export.export(row_sums, platforms=platforms)
    with setup.precision():
        return export(*arguments, replicas=setup.replicas)


def export_scoring(
    setup: Setup,
    config: ModelConfig,
    batch_size: int,
    seq_len: int,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """The scoring of questions at the end, lowered; arguments as `export_step`."""
    params = abstract_state(setup, config).params
    part = abstract_batch(setup, [], batch_size // setup.options.grad_accum_steps, seq_len)
    export = jax.export.export(target_nll, platforms=platforms)
    with setup.precision():
        return export(setup.loss(config), params, part, setup.placement.whole, setup.replicas)


def export_growth(
    setup: Setup, before: DepthStage, after: DepthStage, platforms: Sequence[str] = PLATFORMS
) -> jax.export.Exported:
    """The gather that makes the model of one stage out of that of the stage before, lowered."""
    state = abstract_state(setup, before.config)
    program = setup.placement.maker(setup.growth(after), state.params, state.moments)
    return jax.export.export(program, platforms=platforms)(state.params, state.moments)


def export_run(
    setup: Setup, batch_size: int, seq_len: int, platforms: Sequence[str] = PLATFORMS
) -> dict[str, jax.export.Exported]:
    """What a run compiles for its first, a middle and its last stage, by name.

    Arguments as `export_step`.
    """
    stages = setup.stages
    found = {}
    for at in sorted({0, len(stages) // 2, len(stages) - 1}):
        config = stages[at].config
        name = f"{config.num_layers} layers"
        found[f"step, {name}"] = export_step(setup, config, batch_size, seq_len, platforms)
        found[f"evaluation, {name}"] = export_evaluation(
            setup, config, batch_size, seq_len, platforms
        )
        if at:
            gather = export_growth(setup, stages[at - 1], stages[at], platforms)
            found[f"growth to {name}"] = gather
    found[f"scoring, {name}"] = export_scoring(setup, config, batch_size, seq_len, platforms)
    return found


def _placed(leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

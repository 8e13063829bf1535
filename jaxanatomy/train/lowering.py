"""The programs of a training run, traced and lowered for devices that are not here.

    setup = Setup(stages, Optimiser(), schedule, (0,), Placement.abstract(64, 8), options)
    exported = export_step(setup, setup.stages[-1], batch_size=512, seq_len=2048)
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

from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.evaluation import row_sums
from jaxanatomy.train.loop import TrainState, run_steps
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.scoring import target_nll
from jaxanatomy.train.setup import Setup
from jaxanatomy.tree import Params

PLATFORMS = ("tpu", "cuda")


def abstract_params(setup: Setup, stage: Stage) -> Params:
    """Shapes of all parameters of a stage, and where they lie, with an axis M for several seeds."""
    return setup.placement.abstract_of(setup.like(stage)[0])


def abstract_state(setup: Setup, stage: Stage) -> tuple[TrainState, Params]:
    """The same of the state of what trains, and of the parameters that do not."""
    params, state = setup.like(stage)
    return setup.placement.abstract_of(state), setup.placement.abstract_of(
        setup.split(stage, params)[1]
    )


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
    setup: Setup, stage: Stage, batch_size: int, seq_len: int
) -> tuple[tuple, dict[str, Any]]:
    """Arguments of `run_steps` as a run passes them, shapes in the place of arrays."""
    state, frozen = abstract_state(setup, stage)
    chunk = abstract_chunk(setup, batch_size, seq_len)
    lead = chunk.token_BT.shape[:-2]
    rates = jax.ShapeDtypeStruct(lead, jnp.float32, sharding=setup.placement.whole)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = (setup.loss(stage.config), setup.transformation(stage), state, frozen)
    options = {"replicas": setup.replicas, "grad_accum_steps": setup.options.grad_accum_steps}
    options |= {"place": setup.placement.constrain, "make_batch": setup.make_batch}
    return (*arguments, chunk, rates, count), options


def export_step(
    setup: Setup,
    stage: Stage,
    batch_size: int,
    seq_len: int,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """The steps of a stage, lowered.

    Args:
      setup: What is trained; its placement may be one of `Placement.abstract`.
      stage: Of the run.
      batch_size: Rows B of a batch, of all processes together.
      seq_len: Tokens T of a row.
      platforms: Names that JAX has for them.
    """
    arguments, options = step_arguments(setup, stage, batch_size, seq_len)
    with setup.precision():
        return jax.export.export(run_steps, platforms=platforms)(*arguments, **options)


def export_evaluation(
    setup: Setup,
    stage: Stage,
    batch_size: int,
    seq_len: int,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """The evaluation of a stage, lowered; arguments as `export_step`."""
    params = abstract_params(setup, stage)
    batch = abstract_batch(setup, [], batch_size, seq_len)
    arguments = (setup.loss(stage.config), params, batch, setup.placement.whole)
    export = jax.export.export(row_sums, platforms=platforms)
    with setup.precision():
        return export(*arguments, replicas=setup.replicas)


def export_scoring(
    setup: Setup,
    stage: Stage,
    batch_size: int,
    seq_len: int,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """The scoring of questions at the end, lowered; arguments as `export_step`."""
    params = abstract_params(setup, stage)
    part = abstract_batch(setup, [], batch_size // setup.options.grad_accum_steps, seq_len)
    export = jax.export.export(target_nll, platforms=platforms)
    with setup.precision():
        return export(setup.loss(stage.config), params, part, setup.placement.whole, setup.replicas)


def export_growth(
    setup: Setup, at: int, platforms: Sequence[str] = PLATFORMS
) -> jax.export.Exported:
    """The program that makes the model of stage `at` out of that of the stage before, lowered."""
    state, _ = abstract_state(setup, setup.stages[at - 1])
    params = abstract_params(setup, setup.stages[at - 1])
    seeds = jax.ShapeDtypeStruct(jnp.shape(setup.seed_array), jnp.uint32)
    arguments = (params, state.moments, seeds)
    program = setup.placement.maker(setup.entering(at), *arguments)
    return jax.export.export(program, platforms=platforms)(*arguments)


def export_run(
    setup: Setup, batch_size: int, seq_len: int, platforms: Sequence[str] = PLATFORMS
) -> dict[str, jax.export.Exported]:
    """What a run compiles for its first, a middle and its last stage, by name.

    Arguments as `export_step`.
    """
    stages = setup.stages
    found = {}
    for at in sorted({0, len(stages) // 2, len(stages) - 1}):
        arguments = (setup, stages[at], batch_size, seq_len, platforms)
        name = f"{stages[at].config.num_layers} layers"
        found[f"step, {name}"] = export_step(*arguments)
        found[f"evaluation, {name}"] = export_evaluation(*arguments)
        if at:
            found[f"growth to {name}"] = export_growth(setup, at, platforms)
    found[f"scoring, {name}"] = export_scoring(*arguments)
    return found

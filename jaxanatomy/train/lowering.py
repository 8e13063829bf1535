"""The programs of a training run, traced and lowered for devices that are not here.

    setup = Setup(stages, Optimiser(), schedule, (0,), Placement.abstract(64, 8), options)
    programs = export_run(setup, batch_size=512, seq_len=2048)
    programs["step, 32 layers"].platforms == ("tpu", "cuda")

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
from jaxanatomy.train.evaluation import target_nll
from jaxanatomy.train.loop import run_steps
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.setup import Setup
from jaxanatomy.tree import PyTree

PLATFORMS = ("tpu", "cuda")


def abstract_batch(setup: Setup, lead: Sequence[int], batch_size: int, seq_len: int) -> PyTree:
    """Shapes of what the streams give, [..., B, T] of text, rows shared out.

    Args:
      setup: Where.
      lead: Axes before the rows: steps of a chunk, seeds.
      batch_size: Rows B of all processes together.
      seq_len: Tokens T of a row.
    """
    sharding = setup.placement.row_sharding(len(lead))
    if setup.make_batch is None:
        ids = jax.ShapeDtypeStruct((batch_size, seq_len), jnp.int32)
        given = Batch(ids, ids, jax.ShapeDtypeStruct(ids.shape, jnp.float32), ids, ids)
    else:
        given = setup.make_batch.given(batch_size)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype, sharding=sharding),
        given,
    )


def abstract_chunk(setup: Setup, batch_size: int, seq_len: int) -> PyTree:
    """Shapes of what one call gets, [E, B, T], or [E, M, B, T] for several seeds."""
    return abstract_batch(setup, _lead(setup), batch_size, seq_len)


def _lead(setup: Setup) -> list[int]:
    """Axes of a chunk before its rows."""
    return [setup.options.steps_per_call, *([len(setup.seeds)] if setup.replicas else [])]


def step_arguments(
    setup: Setup, stage: Stage, batch_size: int, seq_len: int
) -> tuple[tuple, dict[str, Any]]:
    """Arguments of `run_steps` as a run passes them, shapes in the place of arrays."""
    _, state, frozen = setup.like(stage)
    chunk = abstract_chunk(setup, batch_size, seq_len)
    rates = jax.ShapeDtypeStruct(_lead(setup), jnp.float32, sharding=setup.placement.whole)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = (setup.loss(stage.config), setup.transformation(stage), state, frozen)
    options = {"replicas": setup.replicas, "grad_accum_steps": setup.options.grad_accum_steps}
    options |= {"place": setup.placement.constrain, "make_batch": setup.make_batch}
    return (*arguments, chunk, rates, count), options


def export_stage(
    setup: Setup,
    stage: Stage,
    batch_size: int,
    seq_len: int,
    platforms: Sequence[str] = PLATFORMS,
) -> dict[str, jax.export.Exported]:
    """The steps of a stage, its evaluation and the scoring of questions, lowered.

    Args:
      setup: What is trained; its placement may be one of `Placement.abstract`.
      stage: Of the run.
      batch_size: Rows B of a batch, of all processes together.
      seq_len: Tokens T of a row.
      platforms: Names that JAX has for them.
    """
    arguments, options = step_arguments(setup, stage, batch_size, seq_len)
    with setup.precision():
        found = {"step": jax.export.export(run_steps, platforms=platforms)(*arguments, **options)}
        params, *_ = setup.like(stage)
        rows = {"evaluation": batch_size}
        rows["scoring"] = batch_size // setup.options.grad_accum_steps
        for name, count in rows.items():
            batch = abstract_batch(setup, [], count, seq_len)
            given = setup.loss(stage.config), params, batch, setup.placement.whole, setup.replicas
            found[name] = jax.export.export(target_nll, platforms=platforms)(*given)
    return found


def export_growth(
    setup: Setup, at: int, platforms: Sequence[str] = PLATFORMS
) -> jax.export.Exported:
    """The program that makes the model of stage `at` out of that of the stage before, lowered."""
    params, state, _ = setup.like(setup.stages[at - 1])
    seeds = jax.ShapeDtypeStruct(jnp.shape(setup.seed_array), jnp.uint32)
    arguments = (params, state.moments, seeds)
    program = setup.placement.maker(setup.entering(at), *arguments)
    return jax.export.export(program, platforms=platforms)(*arguments)


def export_run(
    setup: Setup, batch_size: int, seq_len: int, platforms: Sequence[str] = PLATFORMS
) -> dict[str, jax.export.Exported]:
    """What a run compiles for its first, a middle and its last stage, by name.

    Arguments as `export_stage`.
    """
    stages = setup.stages
    found = {}
    for at in sorted({0, len(stages) // 2, len(stages) - 1}):
        name = f"{stages[at].config.num_layers} layers"
        own = export_stage(setup, stages[at], batch_size, seq_len, platforms)
        if at < len(stages) - 1:
            del own["scoring"]  # at the end alone
        found |= {f"{kind}, {name}": program for kind, program in own.items()}
        if at:
            found[f"growth to {name}"] = export_growth(setup, at, platforms)
    return found

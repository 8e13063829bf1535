"""Layers over the checkpoints of a training run: features, momentum and roles at each step.

    rows = [row for rows in trajectory(run / "checkpoints" / "lidas" / "0") for row in rows]
    role_courses.settled(rows)   # {layer: step from which on its role stays}

One checkpoint is in memory at a time. A run keeps as many as `--config.train.max_to_keep` says, and
those of an arm until it is trained, or longer with `--config.train.keep_checkpoints`.
"""

from collections.abc import Iterator
from pathlib import Path

import jax

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.components import MIN_LAYERS
from jaxanatomy.forensics.momentum import moments_of
from jaxanatomy.forensics.roles import require_layers
from jaxanatomy.progress import LOG
from jaxanatomy.records import Row
from jaxanatomy.train.layer_roles import layer_rows
from jaxanatomy.train.snapshots import read_snapshot
from jaxanatomy.weights.tensors import shorten
from jaxanatomy.weights.training_steps import choose_step, saved_steps


def trajectory(folder: Path, seed: int | None = None) -> Iterator[list[Row]]:
    """What stands in each whole checkpoint of a run, in the order of steps.

    Steps at which a model that grows had fewer than four layers are left out, and those at which
    its weights were not finite.

    Roles are those of the weights and the optimiser's state alone; a probe text would need a pass
    through every checkpoint.

    Args:
      folder: Of the checkpoints of seeds that train together.
      seed: Which of them; None: the one that there is.

    Yields:
      Rows of one step, as `layer_roles.layer_rows` has them, with `step`.

    Raises:
      InputError: No whole checkpoint of four layers or more, no such seed.
    """
    read = 0
    for step in saved_steps(folder):
        rows = _rows(folder, step, seed)
        if rows:
            read += 1
            yield rows
    if not read:
        raise InputError(
            f"expected whole checkpoints of a training run, of {MIN_LAYERS} layers or more; "
            f"{folder} has none; give RUN/checkpoints/ARM/SEEDS of a run that kept them "
            "(--config.train.keep_checkpoints=true)"
        )


def _rows(folder: Path, step: int, seed: int | None) -> list[Row]:
    """Rows of a step, or none; what was read is let go before the next step is."""
    try:
        snapshot = read_snapshot(folder, step)
        require_layers(snapshot.config)
    except InputError as error:
        LOG.warning("step %d is skipped: %s", step, error)
        return []
    at = choose_step(snapshot.meta, seed, folder, step).at
    whole = snapshot.params, *moments_of(snapshot.moments)
    own = whole if at is None else jax.tree.map(lambda leaf: leaf[at], whole)
    broken = tree.not_finite(own[0])
    if broken:
        LOG.warning("step %d is skipped: NaN or Inf in %s", step, shorten(broken))
        return []
    return [{"step": step, **row} for row in layer_rows(snapshot.config, *own)]

"""Layers over the checkpoints of a training run: features, momentum and roles at each step.

    rows = [row for rows in trajectory(run / "checkpoints" / "lidas" / "0") for row in rows]
    settled(rows)             # {layer: step from which on its role stays}

One checkpoint is in memory at a time. A run keeps as many as `--config.train.max_to_keep` says, and
those of an arm until it is trained.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.momentum import moments_of, momentum_features
from jaxanatomy.forensics.roles import assign, defined, require_layers, role_scores
from jaxanatomy.measures import roles
from jaxanatomy.progress import LOG
from jaxanatomy.records import Row
from jaxanatomy.train.snapshots import read_snapshot, saved_steps


def trajectory(folder: Path, seed: int = 0) -> Iterator[list[Row]]:
    """What stands in each whole checkpoint of a run, in the order of steps.

    Roles are those of the weights and the optimiser's state alone; a probe text would need a pass
    through every checkpoint.

    Args:
      folder: Of the checkpoints of seeds that train together.
      seed: Which of them, by its place.

    Yields:
      Rows of one step: kind "feature" as `measures.roles` has them, momentum among them where the
      optimiser keeps it, and kind "role": `layer`, `role`, `margin`. All have `step`.

    Raises:
      InputError: No whole checkpoint, fewer than four layers, no such seed.
    """
    read = 0
    for step in saved_steps(folder):
        try:
            snapshot = read_snapshot(folder, step)
        except InputError as error:
            LOG.warning("step %d is skipped: %s", step, error)
            continue
        require_layers(snapshot.config)
        read += 1
        yield [{"step": step, **row} for row in _rows(snapshot, seed)]
    if not read:
        raise InputError(f"expected checkpoints of a training run; {folder} has no whole one")


def settled(rows: Iterable[Row]) -> dict[int, int]:
    """The step from which on each layer's role stays what it is at the end.

    Of a layer whose role was another one at the step before the last that is the last: it may
    change again. A layer that came later counts from its first step.
    """
    found: dict[int, int] = {}
    last: dict[int, str] = {}
    for row in sorted((row for row in rows if row["kind"] == "role"), key=lambda row: row["step"]):
        if last.get(row["layer"]) != row["role"]:
            found[row["layer"]], last[row["layer"]] = row["step"], row["role"]
    return found


def _rows(snapshot, seed: int) -> list[Row]:
    params, moments = snapshot.params, snapshot.moments
    if params["final_norm"]["scale"].ndim > 1:
        seeds = len(params["final_norm"]["scale"])
        if seed >= seeds:
            raise InputError(f"seed must be below {seeds}, the seeds of this run; got {seed}")
        first = lambda leaf: leaf[seed] if np.ndim(leaf) else leaf  # noqa: E731
        params, moments = jax.tree.map(first, (params, moments))
    blocks = tree.unstack(params["layers"])
    folded = tree.scale_norms(snapshot.config, blocks)
    rows = [row for own, _ in roles.weight_rows(folded, snapshot.config.head_dim) for row in own]
    for layer, found in enumerate(momentum_features(params, *moments_of(moments))):
        rows += roles.feature_rows(layer, found)
    named = roles.features(rows, None)
    index_L, margin_L = assign(role_scores(defined(named)))
    return rows + [
        {"kind": "role", "layer": layer, "role": roles.name_of_role(int(index)), "margin": margin}
        for layer, (index, margin) in enumerate(zip(index_L, margin_L.tolist(), strict=True))
    ]

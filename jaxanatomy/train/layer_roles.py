"""Roles of layers while they train: of weights and momentum, as a callback of the one trainer.

    watch = RoleWatch(500, emit)
    trainer.train(folder, watch.callbacks())

Training waits while they are read, on the host, one seed after the other; a probe text would need
passes of its own and is left out (LR section 8, long-trajectory analysis).
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.forensics.components import MIN_LAYERS
from jaxanatomy.forensics.momentum import moments_of, momentum_features
from jaxanatomy.forensics.roles import ROUTED, assign, defined, role_scores
from jaxanatomy.growth.stages import Stage
from jaxanatomy.measures import roles
from jaxanatomy.progress import LOG
from jaxanatomy.records import Row
from jaxanatomy.train.callbacks import Every, RunState
from jaxanatomy.tree import PyTree

RANK = ".effective_rank"
SHARE = 0.1  # of the time of training, from which on it is said what reading takes
# The matrices whose singular values some role asks for.
ROUTED_SPECTRA = {name.removesuffix(RANK) for name in ROUTED if name.endswith(RANK)}


def layer_rows(
    config: ModelConfig,
    params: tree.Params,
    first: PyTree | None,
    second: PyTree | None,
    spectra: Collection[str] = tree.MATRICES,
) -> list[Row]:
    """What stands in a model that trains, and the roles of its layers.

    Args:
      config: Its architecture, of four layers or more.
      params: Its parameters on the host, layers stacked.
      first: First moments of the optimiser, of the same form; None: not kept.
      second: Second ones.
      spectra: As of `forensics.layer_features.layer_features`.

    Returns:
      Rows of kind "feature" as `measures.roles` has them, momentum among them where the moments
      are those of all layers, and kind "role": `layer`, `role`, `margin`.
    """
    blocks = tree.scale_norms(config, tree.unstack(params["layers"]))
    found = roles.weight_rows(blocks, config.head_dim, spectra)
    rows = [row for own, _ in found for row in own]
    for layer, own in enumerate(momentum_features(params, first, second)):
        rows += roles.feature_rows(layer, own)
    index_L, margin_L = assign(role_scores(defined(roles.features(rows, None))))
    return rows + [
        {"kind": "role", "layer": layer, "role": roles.name_of_role(int(index)), "margin": margin}
        for layer, (index, margin) in enumerate(zip(index_L, margin_L.tolist(), strict=True))
    ]


def summary_of(rows: Sequence[Row]) -> dict[str, Any]:
    """One look as fields of one row: `roles`, `margins`, and the routed `features`, by layer.

    All are empty of a model whose weights are not finite, which has no rows.
    """
    own = [row for row in rows if row["kind"] == "role"]
    known = defined(roles.features(rows, None))
    return {
        "roles": [row["role"] for row in own],
        "margins": [row["margin"] for row in own],
        "features": {name: np.asarray(value_L).tolist() for name, value_L in known.items()},
    }


class RoleWatch:
    """Looks at the seeds that train together; nothing need be remembered."""

    def __init__(
        self,
        every: int,
        emit: Callable[[RunState, int, dict[str, Any]], Any],
        of_stage: bool = False,
    ):
        """Nothing is read yet.

        Args:
          every: Steps between looks, beside those where a stage begins and ends; 0: none.
          emit: Called with the run, the index of a seed and its `summary_of`.
          of_stage: As of `Every`.
        """
        self._emit, self._ended, self._told = emit, 0.0, False
        self._every = Every(every, self._look, True, of_stage) if every else None

    def callbacks(self) -> list[Every]:
        """For the trainer."""
        return [self._every] if self._every else []

    def places(self, stages: Sequence[Stage]) -> Iterator[tuple[int, int]]:
        """(stage, steps done) of every look of a run in which no seed stops."""
        for at, step in self._every.places(stages) if self._every else ():
            if _has_roles(stages[at]):
                yield at, step

    def _look(self, state: RunState) -> None:
        if not _has_roles(state.stage):
            return
        began, setup = time.perf_counter(), state.setup
        whole = setup.placement.fetch((state.params, *moments_of(state.moments)))
        for at in range(len(setup.seeds)):
            params, first, second = setup.model_of(whole, at)
            rows = []
            if not tree.not_finite(params):
                rows = layer_rows(state.stage.config, params, first, second, ROUTED_SPECTRA)
            self._emit(state, at, summary_of(rows))
        took, since = time.perf_counter() - began, began - self._ended
        if self._ended and took > SHARE * since and not self._told:
            self._told = True
            LOG.warning(
                "roles at step %d took %.1f s, training since the last look %.1f s; raise "
                "roles_every",
                state.step,
                took,
                since,
            )
        self._ended = time.perf_counter()


def _has_roles(stage: Stage) -> bool:
    return stage.config.num_layers >= MIN_LAYERS

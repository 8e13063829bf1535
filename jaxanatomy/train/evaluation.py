"""What a model loses on text that it does not learn from, and which questions it answers.

points = []
trainer.train(folder, [Every(100, evaluating(on_text(held_out), points.append), at_ends=True)])
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.data.choices import Scoring
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.callbacks import RunState
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.points import DIVERGED, Evaluation, HeldOutRows
from jaxanatomy.train.setup import Setup


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """What a run is scored on, of one source.

    Attributes:
      share: What its loss counts in the mean over sources; all sum to 1.
      batches: Of one shape, on the host.
    """

    share: float
    batches: Sequence[Batch]

    def __repr__(self) -> str:
        return f"HeldOut(share={self.share:.3g}, {len(self.batches)} batches)"


# Scores a model at a stage: of each source the held-out rows. Parameters as `score` has them.
Scorer = Callable[[Setup, Stage, tree.Params], Mapping[str, HeldOutRows]]


def on_text(held_out: Mapping[str, HeldOut]) -> Scorer:
    """Scores the next-token losses of some sources."""

    def score_sources(setup: Setup, stage: Stage, params: tree.Params) -> dict[str, HeldOutRows]:
        return {name: score(setup, stage, params, each) for name, each in held_out.items()}

    return score_sources


def evaluating(scorer: Scorer, emit: Callable[[Evaluation], Any]) -> Callable[[RunState], None]:
    """A callback that scores a model on each source and emits an `Evaluation`.

    A seed whose held-out loss is not finite has diverged, even if its last step had a finite one.
    """

    def evaluate(state: RunState) -> None:
        units = scorer(state.setup, state.stage, state.params)
        nll = {name: np.array(each.mean()) for name, each in units.items()}
        mean_M = sum(each.share * nll[name] for name, each in units.items())
        lost_M = (~np.isfinite(mean_M)).tolist()
        # Every process has the same numbers; losses are those of whole batches.
        some = len(state.loss_EM) > 0
        loss = np.mean(state.loss_EM, axis=0).tolist() if some else [None] * len(mean_M)
        emit(
            Evaluation(
                stage=state.at,
                step=state.step,
                account=state.account,
                loss=loss,
                eval_nll=mean_M.tolist(),
                by_source={name: nll_M.tolist() for name, nll_M in nll.items()},
                units=units,
                reason=[
                    own or (DIVERGED if lost else "")
                    for own, lost in zip(state.reasons, lost_M, strict=True)
                ],
                stopped=[
                    state.step if own is None and lost else own
                    for own, lost in zip(state.stopped, lost_M, strict=True)
                ],
            )
        )

    return evaluate


def score(setup: Setup, stage: Stage, params: tree.Params, held_out: HeldOut) -> HeldOutRows:
    """The losses of the rows of a source; in every process all of them, in the same order.

    Args:
      setup: What is trained.
      stage: Whose architecture the model has.
      params: Parameters, layers stacked, with an axis M if there are several seeds.
      held_out: The source.
    """
    nlls, tokens = [], []
    for batch in held_out.batches:
        nll_MBT, weight_BT = _target_nll(setup, stage, params, setup.placement.rows(batch))
        nlls.append((nll_MBT * weight_BT).sum(axis=-1, dtype=np.float64))
        tokens.append(weight_BT.sum(axis=-1))
    nll_MB, tokens_B = np.concatenate(nlls, axis=-1), np.concatenate(tokens)
    there = tokens_B > 0
    return HeldOutRows(
        held_out.share, tokens_B[there].astype(int).tolist(), nll_MB[:, there].tolist()
    )


def answers(setup: Setup, stage: Stage, params: tree.Params, scoring: Scoring) -> np.ndarray:
    """Whether each question is answered, by the choice of the highest summed log-probability.

    The rows of a batch are scored in as many parts as they are trained in, each device its own.

    Args:
      setup: What was trained.
      stage: The one at whose end.
      params: Parameters, with an axis M if there are several seeds.
      scoring: The questions with their choices, all of them in every process.

    Returns:
      right_MQ, bool.
    """
    lies = setup.placement.row_sharding()

    def put(leaf: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(leaf.shape, lies, lambda index: leaf[index])

    found = [
        _target_nll(setup, stage, params, Batch(*map(put, part)))[0]
        for batch in scoring.batches
        for part in zip(
            *(np.split(leaf, setup.options.grad_accum_steps) for leaf in batch), strict=True
        )
    ]
    nll_MNBT = np.concatenate(found, axis=-2).reshape(len(setup.seeds), *scoring.item_NBT.shape)
    return np.stack([scoring.right(nll_NBT) for nll_NBT in nll_MNBT])


@functools.partial(jax.jit, static_argnames=("loss", "whole", "replicas"))
def target_nll(
    loss: Any,
    params: tree.Params,
    batch: Batch,
    whole: jax.sharding.Sharding,
    replicas: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """(loss of each target, its weight), [B, T] or [M, B, T], and [B, T].

    Args:
      loss: The objective.
      params: Parameters, with an axis M if there are replicas.
      batch: Rows that all replicas are scored on.
      whole: Where the result lies: on every device, so that every process can read it.
      replicas: Whether there are.
    """
    nll = jax.vmap(loss.nll, in_axes=(0, None)) if replicas else loss.nll
    return jax.lax.with_sharding_constraint((nll(params, batch), batch.weight_BT), whole)


def _target_nll(
    setup: Setup, stage: Stage, params: tree.Params, batch: Batch
) -> tuple[np.ndarray, np.ndarray]:
    """The same on the host, [M, B, T] and [B, T]; one program at a time, as they exchange."""
    arguments = setup.loss(stage.config), params, batch, setup.placement.whole, setup.replicas
    with setup.precision():
        nll, weight_BT = map(np.asarray, target_nll(*arguments))
    return nll.reshape(-1, *weight_BT.shape), weight_BT

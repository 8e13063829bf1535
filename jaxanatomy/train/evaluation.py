"""What a model loses on text that it does not learn from: a callback of training, and its parts.

points = []
trainer.train(folder, [every(100, evaluating(held_out, points.append), at_ends=True)])
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.callbacks import RunState
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.points import Evaluation, HeldOutRows
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


def evaluating(
    held_out: Mapping[str, HeldOut], emit: Callable[[Evaluation], Any]
) -> Callable[[RunState], None]:
    """A callback that scores a model on each source and emits an `Evaluation`."""

    def evaluate(state: RunState) -> None:
        units = {
            name: score(state.setup, state.stage, state.params, each)
            for name, each in held_out.items()
        }
        nll = {name: np.array(each.mean()) for name, each in units.items()}
        mean_M = sum(each.share * nll[name] for name, each in units.items())
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
                reason=list(state.reasons),
                stopped=list(state.stopped),
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
    loss, place = setup.loss(stage.config), setup.placement
    nlls, tokens = [], []
    with setup.precision():
        for batch in held_out.batches:
            found = row_sums(loss, params, place.rows(batch), place.whole, setup.replicas)
            nll, tokens_B = map(np.asarray, found)  # one program at a time: they exchange
            nlls.append(nll)
            tokens.append(tokens_B)
    tokens_B = np.concatenate(tokens)
    nll_MB = np.concatenate(nlls, axis=-1, dtype=np.float64)
    there = tokens_B > 0
    return HeldOutRows(
        held_out.share,
        tokens_B[there].astype(int).tolist(),
        nll_MB.reshape(-1, len(there))[:, there].tolist(),
    )


@functools.partial(jax.jit, static_argnames=("loss", "whole", "replicas"))
def row_sums(
    loss: Any,
    params: tree.Params,
    batch: Batch,
    whole: jax.sharding.Sharding,
    replicas: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """(summed loss, predictions) of each row, [B] or [M, B], and [B].

    Args:
      loss: The objective, of which `nll` gives the loss of each target.
      params: Parameters, with an axis M if there are replicas.
      batch: Rows that all replicas are scored on.
      whole: Where the result lies: on every device, so that every process can read it.
      replicas: Whether there are.
    """

    def nll(params: tree.Params) -> jax.Array:
        return (loss.nll(params, batch) * batch.weight_BT).sum(-1)

    sums = (jax.vmap(nll) if replicas else nll)(params), batch.weight_BT.sum(-1)
    return jax.lax.with_sharding_constraint(sums, whole)

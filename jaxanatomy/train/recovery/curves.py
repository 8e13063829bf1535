"""Recovery curves of a group of replicas: train, evaluate, checkpoint, go on after a kill."""

import dataclasses
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxanatomy.errors import InputError, require_whole
from jaxanatomy.train.recovery.trainer import Group, RecoveryTrainer, Replica
from jaxanatomy.train.snapshots import Snapshot, Snapshots


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """When to do what, in optimiser steps.

    Attributes:
      total: Steps of training.
      eval_every: Steps from one evaluation to the next; the last step is evaluated, too.
      checkpoint_every: Steps from one checkpoint to the next, a multiple of `eval_every`.

    Raises:
      InputError: One of them is below 1, or the last no multiple.
    """

    total: int
    eval_every: int
    checkpoint_every: int

    def __post_init__(self):
        require_whole("steps", self.total)
        require_whole("eval_every", self.eval_every)
        require_whole("checkpoint_every", self.checkpoint_every)
        if self.checkpoint_every % self.eval_every:
            raise InputError(
                f"checkpoint_every must be a multiple of eval_every={self.eval_every}; got "
                f"{self.checkpoint_every}"
            )

    def evaluated(self, step: int) -> bool:
        """Whether the model is evaluated after so many steps."""
        return step % self.eval_every == 0 or step == self.total

    def evaluations(self, last: int | None = None) -> list[int]:
        """All steps after which the model is evaluated, 0 included, up to `last`."""
        last = self.total if last is None else last
        return [step for step in range(min(last, self.total) + 1) if self.evaluated(step)]


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """A point of a recovery curve.

    Attributes:
      replica: Whose curve.
      step: Steps done; at 0 the layer has its noise and no training.
      nll_P: Loss of each predicted token of the evaluation text.
      loss: Mean of the training losses since the point before, each before its step; None
        at step 0.
      reason: Why the curve ends here, if it diverged; else empty.
    """

    replica: Replica
    step: int
    nll_P: np.ndarray
    loss: float | None
    reason: str = ""


def train_curves(
    trainer: RecoveryTrainer,
    replicas: Sequence[Replica],
    sigma: float,
    steps: StepPlan,
    folder: Path,
    emit: Callable[[list[CurvePoint]], None],
    progress: Callable[[int], None] = lambda steps: None,
    has_points: Callable[[int], bool] = lambda step: True,
) -> None:
    """Trains one group of replicas to the end, from its checkpoint if there is one.

    Points are emitted before the checkpoint of their step is written, so that a run that
    is killed at any step emits some points twice and none never.

    Args:
      trainer: With the model placed.
      replicas: The group.
      sigma: Size of the noise.
      steps: When to do what.
      folder: For checkpoints; removed at the end.
      emit: Takes the points of all replicas at a step.
      progress: Called with the number of steps done.
      has_points: Whether all points up to a step have been emitted and kept. Where those up
        to the checkpoint are not, the group is trained anew.
    """
    group = trainer.start(replicas, sigma)
    with Snapshots(folder, max_to_keep=1) as snapshots:
        if snapshots.latest is not None and not has_points(snapshots.latest):
            snapshots.clear()
        done = _resume(trainer, group, snapshots)
        progress(done)
        if done == 0:
            emit(_points(trainer, group, 0, []))
        losses: list[list[float | None]] = []
        for step in range(done + 1, steps.total + 1):
            if not any(group.active):
                progress(steps.total - step + 1)
                break
            losses.append(trainer.step(group, step - 1))
            progress(1)
            if steps.evaluated(step):
                emit(_points(trainer, group, step, losses))
                losses = []
            if step % steps.checkpoint_every == 0 and step < steps.total:
                snapshots.save(_snapshot(trainer, group, step))
    shutil.rmtree(folder, ignore_errors=True)


def noised_points(
    trainer: RecoveryTrainer, replicas: Sequence[Replica], sigma: float
) -> list[CurvePoint]:
    """The points at step 0 of as many replicas as a group holds; nothing is trained."""
    return _points(trainer, trainer.start(replicas, sigma), 0, [])


def _resume(trainer: RecoveryTrainer, group: Group, snapshots: Snapshots) -> int:
    """Steps that the checkpoint has done, now those of the group."""
    found = snapshots.read_meta()
    if found is None:
        return 0
    _, meta = found
    like = _snapshot(trainer, group, 0)
    params, moments = snapshots.restore(like.params, like.moments)
    states = [(params[name], moments[name]) for name in sorted(params)]
    trainer.import_state(group, jax.tree.map(np.asarray, states))
    group.active[:] = meta["active"]
    return snapshots.latest


def _snapshot(trainer: RecoveryTrainer, group: Group, step: int) -> Snapshot:
    """A group at a step; its replicas by number."""
    params, moments = (
        {f"{number:04d}": part for number, part in enumerate(parts)}
        for parts in zip(*trainer.export_state(group), strict=True)
    )
    return Snapshot(step, trainer.config, params, moments, {"active": list(group.active)})


def _points(
    trainer: RecoveryTrainer, group: Group, step: int, losses: list[list[float | None]]
) -> list[CurvePoint]:
    """The points of the active replicas; those that diverged are stopped."""
    points = []
    for index, nll_P in enumerate(trainer.evaluate(group)):
        if nll_P is None:
            continue
        own = [each[index] for each in losses]
        reason = _divergence(step, own, nll_P)
        group.active[index] = not reason
        loss = float(np.mean(own)) if own else None
        points.append(CurvePoint(group.replicas[index], step, nll_P, loss, reason))
    return points


def _divergence(step: int, losses: list[float], nll_P: np.ndarray) -> str:
    """Where a curve stopped being finite, in words; empty if it is."""
    for steps_ago, loss in zip(range(len(losses) - 1, -1, -1), losses, strict=True):
        if not math.isfinite(loss):
            return f"diverged: the training loss of step {step - steps_ago} is {loss}"
    if not np.isfinite(nll_P).all():
        return f"diverged: the loss on the evaluation text is not finite after step {step}"
    return ""

"""What a training run logs: its steps and its evaluations."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

DIVERGED = "diverged: the loss or its gradient is not finite"


@dataclasses.dataclass(frozen=True)
class HeldOutRows:
    """Losses of the rows of packed text that a source is scored on.

    A row is the unit of intervals: rows are taken far apart, but the documents of one row are
    neighbours in their source.

    Attributes:
      share: Of the source in the mean over sources.
      tokens: Predictions of each row; rows of padding alone are left out.
      nll: Summed NLL of each row, a list for each seed, nats.
    """

    share: float
    tokens: list[int]
    nll: list[list[float]]

    def mean(self) -> list[float]:
        """NLL of each seed, nats per token."""
        return [sum(own) / sum(self.tokens) for own in self.nll]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is known at an evaluation; lists have a value for each seed.

    Attributes:
      stage: Number of the stage, from 0.
      step: Steps done.
      tokens: Tokens that were read, padding included.
      flops: Floating-point operations so far, of one seed.
      seconds: Training time so far, without compilation and evaluation, divided by the
        number of seeds.
      mfu: The share of what the devices' peak would have given in that time; None where
        the peak is not known.
      loss: Mean training loss of the steps since the last point; None where there are none.
      eval_nll: Held-out NLL, nats per token: the mean over sources by their shares.
      by_source: That of each source.
      units: The held-out rows of each source.
      reason: Why a seed stopped; empty while it goes on.
    """

    stage: int
    step: int
    tokens: int
    flops: int
    seconds: float
    mfu: float | None
    loss: list[float | None]
    eval_nll: list[float]
    by_source: dict[str, list[float]]
    units: dict[str, "HeldOutRows"]
    reason: list[str]


@dataclasses.dataclass(frozen=True, eq=False)
class StepMetrics:
    """The steps of one call.

    Attributes:
      stage: Number of the stage, from 0.
      first: Steps done before.
      rate_EM: The learning rate of each step and seed.
      loss_EM: The loss before each step, of each seed; NaN for one that has stopped.
      norm_EM: The global norm of each step's gradient before clipping; NaN likewise.
      tokens: As `Evaluation`, after the last of them; and so the next two.
      flops: As `Evaluation`.
      seconds: As `Evaluation`.
      step_tokens: Of each step.
      step_flops: Of each step and seed.
      step_seconds: The time of the call over its steps, and over its seeds.
      mfu: As `Evaluation`, of these steps alone.
    """

    stage: int
    first: int
    rate_EM: np.ndarray
    loss_EM: np.ndarray
    norm_EM: np.ndarray
    tokens: int
    flops: int
    seconds: float
    step_tokens: int
    step_flops: int
    step_seconds: float
    mfu: float | None


def point_places(stage_steps: Sequence[int], eval_every: int) -> list[tuple[int, int]]:
    """Stage and steps done of each evaluation, in order, where no seed diverges.

    Both ends of each stage that has steps, and every `eval_every` steps between.
    """
    places, start = [], 0
    for stage, end in enumerate(itertools.accumulate(stage_steps)):
        between = range(start - start % eval_every + eval_every, end, eval_every)
        places += [(stage, step) for step in (start, *between, end) if start < end]
        start = end
    return places

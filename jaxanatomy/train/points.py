"""What is known of a training run: what it took, its steps, its evaluations."""

import dataclasses

import numpy as np

DIVERGED = "diverged: the loss or its gradient is not finite"


@dataclasses.dataclass(frozen=True)
class Account:
    """What a run has taken so far.

    Attributes:
      tokens: Tokens that were read, padding included.
      flops: Floating-point operations, of one seed.
      seconds: Training time, without compilation and callbacks, divided by the number of seeds.
      wall_seconds: Time with all of that, of all seeds together.
      possible: FLOPs that the devices' peak would have given in that time; None where the peak
        is not known.
    """

    tokens: int = 0
    flops: int = 0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    possible: float | None = None

    @property
    def mfu(self) -> float | None:
        """The share of the devices' peak that was reached."""
        return self.flops / self.possible if self.possible else None


@dataclasses.dataclass(frozen=True, eq=False)
class StepMetrics:
    """The steps of one call.

    Attributes:
      stage: Number of the stage, from 0.
      first: Steps done before.
      rate_EM: The learning rate of each step and seed.
      loss_EM: The loss before each step, of each seed; NaN for one that has stopped.
      norm_EM: The global norm of each step's gradient before clipping; NaN likewise.
      update_EM: The global norm of what each step took from the parameters; NaN likewise.
      account: What the run has taken after the last of them.
      step_tokens: Of each step.
      step_flops: Of each step and seed.
      step_seconds: The time of the call over its steps, and over its seeds.
      mfu: As `Account`, of these steps alone.
    """

    stage: int
    first: int
    rate_EM: np.ndarray
    loss_EM: np.ndarray
    norm_EM: np.ndarray
    update_EM: np.ndarray
    account: Account
    step_tokens: int
    step_flops: int
    step_seconds: float
    mfu: float | None

    @property
    def series(self) -> dict[str, np.ndarray]:
        """What is known of every step, [E, M]: "loss", "gradient" and "update"."""
        return {"loss": self.loss_EM, "gradient": self.norm_EM, "update": self.update_EM}


@dataclasses.dataclass(frozen=True)
class HeldOutRows:
    """Losses of the rows that a source is scored on.

    A row is the unit of intervals: of packed text, rows are taken far apart, but the documents of
    one row are neighbours in their source.

    Attributes:
      share: Of the source in the mean over sources.
      tokens: Predictions of each row; rows of padding alone are left out.
      nll: Summed NLL of each row, a list for each seed, nats.
      right: Right answers of each row, likewise; empty where nothing is asked.
    """

    share: float
    tokens: list[int]
    nll: list[list[float]]
    right: list[list[int]] = dataclasses.field(default_factory=list)

    def mean(self) -> list[float]:
        """NLL of each seed, nats per token."""
        return [sum(own) / sum(self.tokens) for own in self.nll]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is known at an evaluation; lists have a value for each seed.

    Attributes:
      stage: Number of the stage, from 0.
      step: Steps done.
      account: What the run has taken.
      loss: Mean training loss of the steps since the last point; None where there are none.
      eval_nll: Held-out NLL, nats per token: the mean over sources by their shares.
      by_source: That of each source.
      units: The held-out rows of each source.
      reason: Why a seed stopped; empty while it goes on.
      stopped: Steps done when it stopped; None while it goes on.
    """

    stage: int
    step: int
    account: Account
    loss: list[float | None]
    eval_nll: list[float]
    by_source: dict[str, list[float]]
    units: dict[str, HeldOutRows]
    reason: list[str]
    stopped: list[int | None]

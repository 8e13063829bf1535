"""Functions that watch a training run, and may log something, change it or stop it.

    def norms(state):
        mu = optax.tree.get(state.moments, "mu")
        return Response(log={"moment_norm": float(optax.tree.norm(mu))})

    trainer.train(folder, [Every(100, norms)])

Steps run in chunks of one compiled call. A chunk ends where the next callback is due, so that a
callback sees the run exactly after the steps that it asked for. Scoring, checkpoints and logging
are callbacks as well; those of one place are called in their order.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.points import Account, StepMetrics
from jaxanatomy.train.setup import Setup
from jaxanatomy.tree import Params, PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class RunState:
    """A run between two steps; with several seeds every array has a leading axis M.

    The next step takes the memory of parameters and moments: what is kept must be copied.

    Attributes:
      setup: What is trained.
      at: Number of the stage, from 0.
      step: Steps done.
      params: All parameters, layers stacked.
      moments: State of the optimiser, of the parameters that train.
      reasons: Of each seed why it has stopped; empty while it goes on.
      stopped: Of each seed the steps done when it stopped; None while it goes on.
      account: What the run has taken.
      steps: Those of the call that ended here; None where a stage begins.
      loss_EM: The loss before each step since this callback was due before, in this stage.
      log: What the callbacks before this one have to log.
    """

    setup: Setup
    at: int
    step: int
    params: Params
    moments: PyTree
    reasons: Sequence[str]
    stopped: Sequence[int | None]
    account: Account
    steps: StepMetrics | None
    loss_EM: np.ndarray
    log: Mapping[str, Any]

    @property
    def stage(self) -> Stage:
        """The stage that the run is in."""
        return self.setup.stages[self.at]


@dataclasses.dataclass(frozen=True)
class Response:
    """What a callback asks for.

    Attributes:
      log: Values by name, each a number or one for each seed: fields of this step's line of
        `metrics.jsonl`.
      stop: By index of a seed the reason why it is to stop here.
      params: Parameters to go on with, of the form of the state's; None: as they are.
      moments: The same for the state of the optimiser.
    """

    log: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stop: Mapping[int, str] = dataclasses.field(default_factory=dict)
    params: Params | None = None
    moments: PyTree | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Every:
    """When a function of the state is called.

    Attributes:
      steps: Steps between calls; None: wherever a call of the program ends.
      call: The function.
      at_ends: Whether also before the first step of each stage, and where a stage ends or all
        seeds have stopped.
      of_stage: Whether steps are counted from the stage's first one, not from the run's.
      memory: What the function remembers, JSON-ready: checkpoints keep it, and it is filled again
        before a run goes on.
    """

    steps: int | None
    call: Callable[[RunState], Response | None]
    at_ends: bool = False
    of_stage: bool = False
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)

    def next(self, step: int, start: int) -> int | None:
        """The next place after a step of a stage that began at `start`, ends of stages apart."""
        if self.steps is None:
            return None
        origin = start if self.of_stage else 0
        return origin + ((step - origin) // self.steps + 1) * self.steps

    def due(self, step: int, start: int, ends: bool) -> bool:
        """Whether it is called after a step; `ends`: the stage does."""
        if self.steps is None or (ends and self.at_ends):
            return True
        return self.next(step - 1, start) == step

    def before(self, step: int, start: int) -> int:
        """The place before the one at a step, in a stage that began at `start`."""
        if self.steps is None:
            return start
        return max(start, self.next(step - 1, start) - self.steps)

    def places(self, stages: Sequence[Stage]) -> Iterator[tuple[int, int]]:
        """(stage, steps done) of every call of a run in which no seed stops."""
        start = 0
        for at, end in enumerate(itertools.accumulate(stage.steps for stage in stages)):
            if self.at_ends and start < end:
                yield at, start
            step = self.next(start, start)
            while step < end:
                yield at, step
                step += self.steps
            if start < end and (self.at_ends or step == end):
                yield at, end
            start = end

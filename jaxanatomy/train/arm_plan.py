"""What arms an experiment trains, and what its rows say of them: a plan for `trials`."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxanatomy import runs, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.roles import require_layers
from jaxanatomy.growth.stages import Stage, total_steps
from jaxanatomy.measures.arms.tuning import MAIN, TUNING, choose_rate
from jaxanatomy.model import parameter_count
from jaxanatomy.train.alarms import Alarms
from jaxanatomy.train.callbacks import Every, RunState
from jaxanatomy.train.evaluation import Scorer
from jaxanatomy.train.layer_roles import RoleWatch
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.points import Evaluation
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import BatchStream, Setup, TrainOptions
from jaxanatomy.weights.tokenizer import Tokenizer

Fields = dict[str, Any]
# Appends rows of a kind: of a state, the kind, and the fields of each trial.
Emit = Callable[[RunState, str, Sequence[Fields]], None]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One model that an arm trains.

    Attributes:
      purpose: `measures.arms.tuning.TUNING` or `MAIN`.
      learning_rate: Of the plateau.
      seed: Of initial weights and of the order of the data.
    """

    purpose: str
    learning_rate: float
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """Trials of an arm that have trained side by side, at their end.

    Attributes:
      arm: Its name.
      trials: All of one purpose.
      setup: How they were trained.
      point: The last evaluation.
      memory: What `ArmPlan.note` has noted.
      params: Their parameters, on the devices, layers stacked.
    """

    arm: str
    trials: Sequence[Trial]
    setup: Setup
    point: Evaluation
    memory: Mapping[str, Any]
    params: tree.Params

    @property
    def purpose(self) -> str:
        """Whether they tune or give results."""
        return self.trials[0].purpose

    @property
    def end(self) -> Stage:
        """The stage in which they ended: the last, or where all have diverged."""
        return self.setup.stages[self.point.stage]

    @functools.cached_property
    def models(self) -> list[tree.Params | None]:
        """Of each trial its parameters, on the host, a block for each layer; None if diverged."""
        whole = self.setup.placement.fetch(self.params)
        found = []
        for at, reason in enumerate(self.point.reason):
            own = jax.tree.map(np.asarray, self.setup.model_of(whole, at))
            own = tree.with_layers(own, tree.unstack(own["layers"]))
            found.append(None if reason else own)
        return found


@dataclasses.dataclass(frozen=True)
class ArmPlan(abc.ABC):
    """What arms are trained, and how; an experiment says what its data and its rows are.

    Attributes:
      config: Of the experiment.
      model: The architecture at the end, of which first stages take their layers.
      arms: The stages of each arm.
      schedule: The learning rate's course; each trial has a plateau of its own.
      optimiser: Of every trial.
      options: How to run.
      placement: Over all devices.
      alarms: When a run gives alarm, and what is done then.
      tokenizer: Of all text, kept beside checkpoints; None where data are numbers, or
        on paper where it would have to be fetched.
    """

    config: ConfigDict
    model: ModelConfig
    arms: Mapping[str, tuple[Stage, ...]]
    schedule: WarmupStableDecay
    optimiser: Optimiser
    options: TrainOptions
    placement: Placement
    alarms: Alarms
    tokenizer: Tokenizer | None = dataclasses.field(default=None, kw_only=True)

    experiment: ClassVar[str]
    tuned_by: ClassVar[str]  # field of the final rows by which a rate is chosen
    always_tunes: ClassVar[bool] = False  # also where there is one rate to choose from
    evaluates_by_stage: ClassVar[bool] = False  # whether eval_every counts from a stage's start

    def __post_init__(self):
        if self.config.roles_every:
            require_layers(self.model)
        for arm in self.arms:  # stages and patterns that do not fit are refused before any work
            self.setup(arm, self.main(self.config.learning_rates[0]))

    @property
    @abc.abstractmethod
    def identity(self) -> Any:
        """What all batches depend on, JSON-ready."""

    @abc.abstractmethod
    def streams(self, arm: str, trials: Sequence[Trial]) -> list[BatchStream]:
        """The data of each trial."""

    @abc.abstractmethod
    def scorer(self, arm: str) -> Scorer:
        """Scores every trial of an arm on the same held-out rows."""

    @abc.abstractmethod
    def curve_fields(self, arm: str, trial: Trial, point: Evaluation, at: int) -> Fields:
        """What a curve row has of trial number `at` of those that train together."""

    @abc.abstractmethod
    def final_fields(self, trained: Trained) -> list[Fields]:
        """What the final row of each trial has."""

    @property
    def objective(self) -> Mapping[str, Any]:
        """Fields of `Setup` that are not those of a language model."""
        return {}

    def note(self, point: Evaluation, memory: Fields) -> None:  # noqa: B027 (nothing by default)
        """Notes what the final rows need of a point; JSON-ready."""

    def callbacks(self, arm: str, trials: Sequence[Trial], emit: Emit) -> list[Every]:
        """What else watches the trials that train together; called before they are evaluated."""
        del arm, trials, emit
        return []

    def hash(self, arm: str, trial: Trial, **more: Any) -> str:
        """The hash of a row."""
        config = self.config
        return runs.row_hash(
            code=runs.code_version(self.experiment),
            stages=[dataclasses.asdict(stage) for stage in self.arms[arm]],
            data=[self.identity, config.batch_size],
            settings=[
                config.warmup,
                config.cooldown,
                config.eval_every,
                self.objective.get("init"),
            ],
            optimiser=dataclasses.asdict(self.optimiser),
            alarms=dataclasses.asdict(self.alarms),
            train=[config.train.dtype, config.train.grad_accum_steps],
            arm=arm,
            trial=dataclasses.asdict(trial),
            **more,
        )

    def provenance(self, **data: Any) -> dict[str, Any]:
        """What `runs.Run.open` records; `data` is what the batches depend on."""
        model = {
            "architecture": self.model.to_dict(),
            "parameters": parameter_count(self.model),
        }
        return runs.provenance(self.experiment, **model, **data)

    @property
    def tuning(self) -> list[Trial]:
        """What chooses the learning rate of an arm; nothing where there is one rate."""
        rates = self.config.learning_rates
        seeds = self.config.tuning_seeds if self.always_tunes or len(rates) > 1 else ()
        return [Trial(TUNING, rate, seed) for rate in rates for seed in seeds]

    def main(self, rate: float) -> list[Trial]:
        """What gives the results of an arm, at its rate."""
        return [Trial(MAIN, rate, seed) for seed in self.config.seeds]

    @property
    def total_steps(self) -> int:
        """Of all trials of all arms."""
        trials = len(self.tuning) + len(self.config.seeds)
        return trials * sum(map(total_steps, self.arms.values()))

    def learning_rate(self, arm: str, rows: Iterable[Mapping[str, Any]]) -> float:
        """The rate of an arm's results, by the rows of its tuning.

        Raises:
          InputError: All rates diverged.
        """
        if not self.tuning:
            return self.config.learning_rates[0]
        rate = choose_rate(rows, arm, self.tuned_by)
        if rate is None:
            raise InputError(
                f"every learning rate of {self.config.learning_rates} diverged in {arm}; set lower "
                "learning_rates"
            )
        return rate

    def setup(self, arm: str, trials: Sequence[Trial], **more: Any) -> Setup:
        """What is trained together; `more` are fields in the place of those here."""
        fields = dict(
            stages=self.arms[arm],
            optimiser=self.optimiser,
            schedule=self.schedule,
            seeds=[trial.seed for trial in trials],
            placement=self.placement,
            options=self.options,
            learning_rates=[trial.learning_rate for trial in trials],
            initial=self.model,
            layer_factors=self.alarms.acts,
            **self.objective,
        )
        return Setup(**fields | more)

    def widest(self) -> list[Setup]:
        """Of each arm the training of as many trials as ever train together."""
        main = self.main(self.config.learning_rates[0])
        together = max(self.tuning, main, key=len) if self.config.train.vmap_seeds else main[:1]
        return [self.setup(arm, together) for arm in self.arms]

    def role_watch(self, purpose: str, emit: Any = None) -> RoleWatch:
        """When roles of layers are looked at: of results alone."""
        config = self.config
        every = config.roles_every if purpose == MAIN else 0
        return RoleWatch(every, emit, self.evaluates_by_stage)

    def evaluation(self, call: Any = None, memory: Fields | None = None) -> Every:
        """When trials are evaluated."""
        memory = {} if memory is None else memory
        return Every(self.config.eval_every, call, True, self.evaluates_by_stage, memory)

"""The arms of an experiment, trained: each tuned on seeds of its own, then for its results.

What is there is not trained again, and what was begun goes on from its last checkpoint. Rows of
kind "curve" are appended as they are measured, a row of kind "final" for each trial at its end,
rows of kind "roles" where they are looked at; `metrics.jsonl` has every step of the results.
"""

import abc
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
from ml_collections import ConfigDict

from jaxanatomy import runs, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.roles import require_layers
from jaxanatomy.growth.stages import Stage, total_steps
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.tuning import (
    ALARM,
    CURVE,
    FINAL,
    MAIN,
    ROLES,
    TUNING,
    choose_rate,
    diverged,
)
from jaxanatomy.progress import Progress
from jaxanatomy.sweep import distributed
from jaxanatomy.train.alarms import Alarm, Alarms, Watch
from jaxanatomy.train.callbacks import Every, RunState
from jaxanatomy.train.evaluation import Scorer, evaluating
from jaxanatomy.train.groups import clear_groups, group_folder, plan_groups
from jaxanatomy.train.layer_roles import RoleWatch
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.metrics import Metrics
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.points import Evaluation
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import BatchStream, Setup, TrainOptions
from jaxanatomy.train.trainer import Trainer
from jaxanatomy.weights.tokenizer import Tokenizer
from jaxanatomy.weights.training_steps import save_tokenizer

Fields = dict[str, Any]
# Appends rows of a kind: of a state, the kind, and the fields of each trial.
Emit = Callable[[RunState, str, Sequence[Fields]], None]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One model that an arm trains.

    Attributes:
      purpose: `measures.tuning.TUNING` or `MAIN`.
      learning_rate: Of the plateau.
      seed: Of initial weights and of the order of the data.
    """

    purpose: str
    learning_rate: float
    seed: int


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
    def final_fields(
        self,
        arm: str,
        trials: Sequence[Trial],
        setup: Setup,
        point: Evaluation,
        memory: Mapping[str, Any],
        params: tree.Params,
        results: runs.Run,
    ) -> list[Fields]:
        """What each final row has, from the last point, what was noted, and the models."""

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


def train_arms(plan: ArmPlan, results: runs.Run) -> None:
    """Trains what is not trained yet of all arms of a plan.

    Raises:
      InputError: Processes that train together do not agree on what.
    """
    trials = [*plan.tuning, *plan.main(plan.config.learning_rates[0])]
    hashes = [plan.hash(arm, trial) for arm in plan.arms for trial in trials]
    distributed.require_same("text, settings and code", hashes)
    with Progress(plan.total_steps, "training") as progress:
        training = ArmTraining(plan, results, progress)
        for arm in plan.arms:
            training.train(arm)


class ArmTraining:
    """Trains the arms of a plan and appends their rows to a run."""

    def __init__(self, plan: ArmPlan, results: runs.Run, progress: Progress):
        self._plan, self._results, self._progress = plan, results, progress
        self._writes = jax.process_index() == 0  # every process knows the same

    def train(self, arm: str) -> None:
        """Tunes the learning rate of an arm, then trains its seeds; what is trained is left."""
        plan, folder = self._plan, self._results.path("checkpoints") / arm
        rows = self._train(arm, dict(enumerate(plan.tuning)), folder / TUNING)
        if self._writes:  # it has written the last rows
            clear_groups(folder / TUNING, ())
        # Every process knows its own rows, also where another one writes them.
        known = {row["hash"]: row for row in (*self._results.rows, *rows)}
        trials = plan.main(plan.learning_rate(arm, known.values()))
        self._train(arm, {trial.seed: trial for trial in trials}, folder)
        if self._writes and not plan.options.keep_checkpoints:
            clear_groups(folder, diverged(self._results.rows, arm))

    def _train(self, arm: str, trials: dict[int, Trial], folder: Path) -> list[Fields]:
        """Trains the trials that are not trained yet, named as in `folder`; their final rows."""
        left = [name for name, trial in trials.items() if not self._is_trained(arm, trial)]
        done = len(trials) - len(left)
        self._progress.update(total_steps(self._plan.arms[arm]) * done)
        rows = []
        for group in plan_groups(folder, left, self._plan.config.train.vmap_seeds):
            rows += self._train_group(
                arm, [trials[name] for name in group], group_folder(folder, group)
            )
        return rows

    def _train_group(self, arm: str, trials: list[Trial], folder: Path) -> list[Fields]:
        """Trains trials side by side, all of one purpose."""
        plan, results = self._plan, self._results
        setup, memory, points = plan.setup(arm, trials), {}, []
        append = results.append if self._writes else lambda rows: None
        writes_steps = self._writes and trials[0].purpose == MAIN
        board = plan.config.get("tensorboard", False)

        with Metrics(results.folder, arm, setup.seeds, board) as metrics:

            def emit(point: Evaluation) -> None:
                plan.note(point, memory)
                points.append(point)
                own = [plan.curve_fields(arm, each, point, at) for at, each in enumerate(trials)]
                append(self._rows_of(arm, trials, CURVE, (point.stage, point.step), own))
                if writes_steps:
                    metrics.write_point(point)

            def emit_alarm(state: RunState, alarm: Alarm, action: str) -> None:
                append([self._alarm_row(arm, trials, state, alarm, action)])

            def emit_rows(state: RunState, kind: str, found: Sequence[Fields]) -> None:
                append(self._rows_of(arm, trials, kind, (state.at, state.step), found))

            def emit_roles(state: RunState, at: int, found: Fields) -> None:
                append(self._rows_of(arm, [trials[at]], ROLES, (state.at, state.step), [found]))

            evaluate = evaluating(plan.scorer(arm), emit)
            # Steps before points: the first line of a new start takes away those beyond it.
            log_steps = [Every(None, metrics.log)] if writes_steps else []
            watch = Watch(plan.alarms, emit_alarm).callbacks()
            looks = plan.role_watch(trials[0].purpose, emit_roles).callbacks()
            callbacks = [*plan.callbacks(arm, trials, emit_rows), *watch, *looks, *log_steps]
            callbacks.append(plan.evaluation(evaluate, memory))
            trainer = Trainer(setup, plan.streams(arm, trials))
            if plan.tokenizer and self._writes:
                save_tokenizer(plan.tokenizer, folder)
            params = trainer.train(
                folder,
                callbacks,
                progress=lambda steps: self._progress.update(steps * len(trials)),
                is_kept=lambda stage, step: all(
                    self._has_points(arm, trial, stage, step) for trial in trials
                ),
            )
        found = plan.final_fields(arm, trials, setup, points[-1], memory, params, results)
        rows = [
            {**self._labels(arm, trial, kind=FINAL), **fields}
            for trial, fields in zip(trials, found, strict=True)
        ]
        append(rows)
        return rows

    def _rows_of(self, arm, trials, kind: str, at: tuple[int, int], found) -> list[Fields]:
        """Rows of a kind with the fields of each trial, made at a stage and step."""
        place = {"kind": kind, "stage": self._stage(arm, at[0]), "step": at[1]}
        return [
            {**self._labels(arm, trial, **place), **fields}
            for trial, fields in zip(trials, found, strict=True)
        ]

    def _alarm_row(
        self, arm: str, trials: Sequence[Trial], state: RunState, alarm: Alarm, action: str
    ) -> Fields:
        found = dataclasses.asdict(alarm)
        trial, value = trials[found.pop("seed")], finite(found.pop("value"))
        place = {"kind": ALARM, "stage": self._stage(arm, state.at), "step": state.step}
        place |= {"alarm": found.pop("kind"), **found}
        return {**self._labels(arm, trial, **place), "value": value, "action": action}

    def _labels(self, arm: str, trial: Trial, **place: Any) -> Fields:
        """Which trial a row is of, and where on its way; `place` is what tells it from others."""
        return {
            "hash": self._plan.hash(arm, trial, **place),
            "arm": arm,
            **dataclasses.asdict(trial),
            **place,
        }

    def _stage(self, arm: str, at: int) -> int | str:
        """A stage's name, or its number."""
        return self._plan.arms[arm][at].name or at

    def _final(self, arm: str, trial: Trial) -> Fields | None:
        hash = self._plan.hash(arm, trial, kind=FINAL)
        return next((row for row in self._results.rows if row["hash"] == hash), None)

    def _is_trained(self, arm: str, trial: Trial) -> bool:
        """Whether the final row of a trial is there, every point of its curve and every look."""
        final = self._final(arm, trial)
        if final is None:
            return False
        # Where all have diverged, the end may be at any step.
        stages = range(len(self._plan.arms[arm]))
        step = final["step"]
        ends = [stage for stage in stages if self._has_point(arm, trial, CURVE, stage, step)]
        return bool(ends) and self._has_points(arm, trial, ends[-1], step)

    def _has_points(self, arm: str, trial: Trial, stage: int, step: int) -> bool:
        """Whether a trial has every point up to a step, those of stages beyond `stage` apart."""
        plan, stages = self._plan, self._plan.arms[arm]
        curve = ((CURVE, *place) for place in plan.evaluation().places(stages))
        looks = ((ROLES, *place) for place in plan.role_watch(trial.purpose).places(stages))
        return all(
            self._has_point(arm, trial, kind, at, there)
            for kind, at, there in itertools.chain(curve, looks)
            if there < step or (there == step and at <= stage)
        )

    def _has_point(self, arm: str, trial: Trial, kind: str, stage: int, step: int) -> bool:
        place = {"kind": kind, "stage": self._stage(arm, stage), "step": step}
        return self._results.done(self._plan.hash(arm, trial, **place))

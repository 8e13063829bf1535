"""The arms of an experiment, trained: each tuned on seeds of its own, then for its results.

What is there is not trained again, and what was begun goes on from its last checkpoint. Rows of
kind "curve" are appended as they are measured, a row of kind "final" for each trial at its end,
rows of kind "roles" where they are looked at; `metrics.jsonl` has every step of the results.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxanatomy import runs
from jaxanatomy.growth.stages import total_steps
from jaxanatomy.measures.arms.tuning import ALARM, CURVE, FINAL, MAIN, ROLES, TUNING, diverged
from jaxanatomy.measures.losses import finite
from jaxanatomy.progress import Progress
from jaxanatomy.sweep import distributed
from jaxanatomy.train.alarms import Alarm, Watch
from jaxanatomy.train.arm_plan import ArmPlan, Fields, Trained, Trial
from jaxanatomy.train.callbacks import Every, RunState
from jaxanatomy.train.evaluation import evaluating
from jaxanatomy.train.groups import clear_groups, group_folder, plan_groups
from jaxanatomy.train.metrics import Metrics
from jaxanatomy.train.points import Evaluation
from jaxanatomy.train.saved_models import save_model
from jaxanatomy.train.trainer import Trainer
from jaxanatomy.weights.training_steps import save_tokenizer


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
        trained = Trained(arm, trials, setup, points[-1], memory, params)
        found = plan.final_fields(trained)
        if trained.purpose == MAIN and plan.config.get("save_models", False):
            self._save_models(trained)
        rows = [
            {**self._labels(arm, trial, kind=FINAL), **fields}
            for trial, fields in zip(trials, found, strict=True)
        ]
        append(rows)
        return rows

    def _save_models(self, trained: Trained) -> None:
        for trial, params in zip(trained.trials, trained.models, strict=True):
            if self._writes and params is not None:
                folder = self._results.path("models") / f"{trained.arm}_{trial.seed}"
                save_model(trained.end.config, params, self._plan.tokenizer, folder)

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

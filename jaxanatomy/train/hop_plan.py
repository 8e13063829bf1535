"""What a run of growth on k-hop tasks is, made from its config and checked before any work."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import TASKS, DepthTask, guessing
from jaxanatomy.errors import InputError, choose
from jaxanatomy.measures.arms.tuning import MAIN
from jaxanatomy.measures.losses import finite
from jaxanatomy.train.arm_fields import require_some_held_out, require_whole_batches
from jaxanatomy.train.arm_plan import ArmPlan, Fields, Trained, Trial
from jaxanatomy.train.depth_arm_fields import depth_arm_fields
from jaxanatomy.train.hop_answers import HopAnswers
from jaxanatomy.train.hops import HopLoss, HopScorer, NumberStream, Sequences
from jaxanatomy.train.model_reader import ModelReader
from jaxanatomy.train.points import Evaluation

_GUESSING_SEED = 0
_SHIPPED = {"seq_len": 104}  # of the default config, where that of a task is another


@dataclasses.dataclass(frozen=True)
class HopPlan(ArmPlan):
    """Validated settings of a run.

    Attributes:
      task: What is asked.
      init: How initial weights are drawn, one of `model.INITS`.
    """

    task: DepthTask
    init: str

    experiment = "khop_growth"
    tuned_by = "eval_nll"

    @property
    def identity(self) -> Any:
        """The task, and how much of it a model is scored on."""
        held_out = self.config.held_out_sequences
        return [type(self.task).__name__, dataclasses.asdict(self.task), held_out]

    @functools.cached_property
    def objective(self) -> Mapping[str, Any]:
        """The loss, how numbers become sequences, and initial weights; the same for every arm."""
        return {
            "init": self.init,
            "objective": functools.partial(HopLoss, self.task),
            "make_batch": Sequences(self.task),
        }

    @property
    def held_out(self) -> HopScorer:
        """Sequences of a seed that nothing is trained on."""
        return HopScorer(self.task, self.config.held_out_sequences, self.config.batch_size)

    def scorer(self, arm: str) -> HopScorer:
        """These, for every arm."""
        del arm
        return self.held_out

    @functools.cached_property
    def guessed(self) -> list[float]:
        """What guessing reaches, by hop."""
        return guessing(self.task, jax.random.key(_GUESSING_SEED)).tolist()

    @functools.cached_property
    def model_reader(self) -> ModelReader:
        """What is read of trained models: edits on all held-out sequences, depth on the first."""
        first = dataclasses.replace(self.held_out, sequences=self.config.depth_sequences)
        sets = HopAnswers(self.held_out), HopAnswers(first)
        return ModelReader.of(self.config.block, *sets, self.options.dtype)

    def streams(self, arm: str, trials: Sequence[Trial]) -> list[NumberStream]:
        """The sequences of a seed, the same in every arm."""
        rows = self.config.batch_size // jax.process_count()
        first = jax.process_index() * rows
        return [NumberStream(trial.seed, rows, first) for trial in trials]

    def curve_fields(self, arm: str, trial: Trial, point: Evaluation, at: int) -> Fields:
        """Layers, what the seed took, its losses and accuracies by hop."""
        own = {name: getattr(point.account, name) for name in ("tokens", "flops", "seconds")}
        right_K, answered_K = _counts(point, at)
        return own | {
            "layers": self.arms[arm][point.stage].config.num_layers,
            "loss": finite(point.loss[at]),
            "eval_nll": finite(point.eval_nll[at]),
            "nll_by_hop": [finite(nll_M[at]) for nll_M in point.by_source.values()],
            "accuracy_by_hop": (right_K / answered_K).tolist(),
            "reason": point.reason[at],
        }

    def final_fields(self, trained: Trained) -> list[Fields]:
        """Scores of the last point by hop and sequence; of results edits and depth, too."""
        found = [self._scores(trained, at) for at in range(len(trained.trials))]
        if trained.purpose != MAIN:
            return found
        read = self.model_reader.fields(trained)
        return [fields | own for fields, own in zip(found, read, strict=True)]

    def _scores(self, trained: Trained, at: int) -> Fields:
        """What a final row has of one seed before its model is looked at."""
        point = trained.point
        found = self.curve_fields(trained.arm, trained.trials[at], point, at)
        del found["loss"]
        right_K, answered_K = _counts(point, at)
        rows = list(point.units.values())
        weight_K = np.array([each.share for each in rows]) / answered_K
        found |= {
            "step": point.step,
            "tokens_per_second": found["tokens"] / found["seconds"],
            "mfu": point.account.mfu,
            "accuracy": float(np.mean(right_K / answered_K)),
            "right_by_hop": right_K.tolist(),
            "answered_by_hop": answered_K.tolist(),
            "guessing_by_hop": self.guessed,
            "unit_nll": (weight_K @ np.array([each.nll[at] for each in rows])).tolist(),
            "unit_tokens": (weight_K @ np.array([each.tokens for each in rows])).tolist(),
        }
        if point.reason[at]:
            scores = ("eval_nll", "nll_by_hop", "accuracy_by_hop", "accuracy", "right_by_hop")
            found |= dict.fromkeys((*scores, "unit_nll"))
        return found


def hop_plan(config: ConfigDict, dry_run: bool = False) -> HopPlan:
    """Checks a config.

    Args:
      config: Of `experiments.khop_growth`.
      dry_run: The devices need not be here then.

    Raises:
      InputError: Something in it does not fit; the message says what.
    """
    task = task_of(config)
    model = ModelConfig.uniform(**config.model, context_length=task.seq_len)
    HopLoss(task, model)  # refuses an output that is too small
    if config.train.grad_accum_steps != 1:
        raise InputError(
            "each hop counts by the answers of a whole batch, so that a batch cannot be taken in "
            f"parts; got train.grad_accum_steps={config.train.grad_accum_steps}; set it to 1"
        )
    fields = depth_arm_fields(config, model, task.seq_len, dry_run)
    require_whole_batches(config, "held_out_sequences", "depth_sequences")
    require_some_held_out(config.depth_sequences, config.held_out_sequences)
    plan = HopPlan(**fields, task=task, init=config.init)
    plan.held_out.require_answers()
    return plan


def task_of(config: ConfigDict) -> DepthTask:
    """The task that `config.task` names, of those of its fields that the task has.

    Raises:
      InputError: Its sizes do not fit, or a field is set that only other tasks have.
    """
    kind = TASKS[choose("task", config.task.name, TASKS)]
    names = [field.name for field in dataclasses.fields(kind)]
    for field in (field for other in TASKS.values() for field in dataclasses.fields(other)):
        value = config.task[field.name]
        if field.name in names or value in (field.default, _SHIPPED.get(field.name)):
            continue
        # Length and symbols of assignments are properties.
        derived = hasattr(kind, field.name)
        why = "worked out from names and values" if derived else "of another task"
        raise InputError(
            f"task {config.task.name!r} has {', '.join(names)}; got {field.name}={value}, {why}; "
            "leave it out"
        )
    return kind(**{name: config.task[name] for name in names})


def _counts(point: Evaluation, at: int) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and answers of one seed by hop, [K] each."""
    rows = point.units.values()
    right_K = [sum(each.right[at]) for each in rows]
    return np.array(right_K), np.array([sum(each.tokens) for each in rows])

"""What a run of depth growth is, made from its config and checked before any text is read."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxanatomy.config import ModelConfig
from jaxanatomy.data.choices import Scoring, pack_choices
from jaxanatomy.data.corpora import GENERATED, tasks_of
from jaxanatomy.data.mixture import MixtureSchedule, dealt, parse_mixture
from jaxanatomy.data.pipeline import Pipeline, Repeated
from jaxanatomy.data.questions import Question, questions
from jaxanatomy.data.sequences import require_length
from jaxanatomy.data.vocabulary import check_vocabulary, load_tokenizer, tokenizer_sha256
from jaxanatomy.errors import InputError, require_whole
from jaxanatomy.growth.stages import total_steps
from jaxanatomy.measures.arms.depth_growth import (
    TUNED_BY,
    answer_fields,
    final_fields,
    point_fields,
)
from jaxanatomy.measures.arms.tuning import MAIN
from jaxanatomy.progress import announced
from jaxanatomy.train.arm_fields import require_some_held_out
from jaxanatomy.train.arm_plan import ArmPlan, Fields, Trained, Trial
from jaxanatomy.train.depth_arm_fields import depth_arm_fields
from jaxanatomy.train.evaluation import HeldOut, Scorer, answers, on_text
from jaxanatomy.train.model_reader import ModelReader
from jaxanatomy.train.points import Evaluation
from jaxanatomy.train.text_rows import TextRows


@dataclasses.dataclass(frozen=True)
class DepthPlan(ArmPlan):
    """Validated settings of a run of depth growth.

    Attributes:
      tokenizer_sha256: Its hash.
      asked: Held-out questions of `data.tasks`.
      scoring: The same, packed.
    """

    tokenizer_sha256: str = ""
    asked: Sequence[Question] = ()
    scoring: Scoring | None = None

    experiment = "depth_growth"
    tuned_by = TUNED_BY

    @property
    def identity(self) -> Any:
        """The mixture, and the text."""
        return [self.config.data.to_dict(), self.data]

    def pipeline(self, seed: int, steps: int) -> Pipeline:
        """The data of a seed in an arm of so many steps; reads and encodes the text."""
        return Pipeline(
            mixtures(self.config, steps),
            self.tokenizer,
            batch_size=self.config.batch_size,
            seq_len=self.config.model.context_length,
            seed=seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            num_workers=self.options.data_workers,
        )

    def streams(self, arm: str, trials: Sequence[Trial]) -> list[Repeated]:
        """The data of each trial; a seed reads the same in every arm of as many steps."""
        steps = total_steps(self.arms[arm])
        counts = Counter(trial.seed for trial in trials)
        streams = {
            seed: Repeated(self.pipeline(seed, steps).batches(), count)
            for seed, count in counts.items()
        }
        return [streams[trial.seed] for trial in trials]

    def scorer(self, arm: str) -> Scorer:
        """Held-out text of each source, the same for every seed and arm."""
        del arm
        return self._scorer

    @functools.cached_property
    def _scorer(self) -> Scorer:
        pipeline = self.pipeline(0, self.config.steps)
        found = pipeline.held_out(self.config.data.held_out_sequences)
        return on_text({name: HeldOut(pipeline.shares[name], found[name]) for name in found})

    @functools.cached_property
    def model_reader(self) -> ModelReader | None:
        """What is read of trained models, on rows in the shares of the mixture; None: nothing."""
        count = self.config.depth_sequences
        if not count:
            return None
        schedule = mixtures(self.config, self.config.steps)
        # Of one process: each reads all rows.
        pipeline = Pipeline(
            schedule, self.tokenizer, batch_size=1, seq_len=self.config.model.context_length
        )
        found = pipeline.held_out(self.config.data.held_out_sequences)
        rows = TextRows.of(found, dealt(count, schedule.mixtures[0][1].units))
        return ModelReader.of(self.config.block, rows, rows, self.options.dtype)

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """What the batches of all steps depend on; reads and encodes the text."""
        with announced("reading and encoding the text"):
            return self.pipeline(0, self.config.steps).settings(self.config.steps)

    def curve_fields(self, arm: str, trial: Trial, point: Evaluation, at: int) -> Fields:
        """Layers, and what is known of the seed."""
        return {"layers": self._layers(arm, point), **point_fields(point, at)}

    def final_fields(self, trained: Trained) -> list[Fields]:
        """The last losses; of results what each seed answers, its edits and its depth."""
        point = trained.point
        place = {"layers": self._layers(trained.arm, point), "step": point.step}
        found = [{**place, **final_fields(point, at)} for at in range(len(trained.trials))]
        if trained.purpose != MAIN:
            return found
        right_MQ = answers(trained.setup, trained.end, trained.params, self.scoring)
        answered = [
            answer_fields(self.asked, right_Q, not reason)
            for right_Q, reason in zip(right_MQ, point.reason, strict=True)
        ]
        unread = [{"edited": None, "depth": None}] * len(found)
        read = self.model_reader.fields(trained) if self.model_reader else unread
        return [own | more | last for own, more, last in zip(found, answered, read, strict=True)]

    def _layers(self, arm: str, point: Evaluation) -> int:
        return self.arms[arm][point.stage].config.num_layers


def depth_plan(config: ConfigDict, dry_run: bool = False) -> DepthPlan:
    """Checks a config, what is cheap first, and loads the tokenizer; reads no text yet.

    Args:
      config: Of `experiments.depth_growth`.
      dry_run: The devices need not be here then, and a tokenizer of the hub is not fetched.

    Raises:
      InputError: Something in the config does not fit; the message says what.
    """
    _check_numbers(config)
    model = ModelConfig.uniform(**config.model)
    fields = depth_arm_fields(config, model, config.model.context_length, dry_run)
    for stages in fields["arms"].values():
        mixtures(config, total_steps(stages))
    there = not (dry_run and config.data.tokenizer.startswith("hf:"))
    text = _text(config) if there else {}
    return DepthPlan(**fields, **text)


def mixtures(config: ConfigDict, steps: int) -> MixtureSchedule:
    """What a run of so many steps reads when; it may change where the cooldown begins."""
    found = [(0, parse_mixture(config.data.mixture))]
    if config.data.cooldown_mixture:
        first = steps - round(config.cooldown * steps)
        found.append((first, parse_mixture(config.data.cooldown_mixture)))
    return MixtureSchedule(tuple(found))


def _text(config: ConfigDict) -> dict[str, Any]:
    """The tokenizer, and what is asked at the end: fields of `DepthPlan`."""
    tokenizer = load_tokenizer(config.data.tokenizer)
    check_vocabulary(tokenizer, config.model.vocab_size)
    tasks = tasks_of(config.data.tasks)
    asked = questions(tasks, config.data.questions, num_fewshot=config.data.num_fewshot)
    seq_len = config.model.context_length
    for _, mixture in mixtures(config, config.steps).mixtures:
        for source in mixture.sources:
            require_length(GENERATED.get(source, {}), tokenizer, seq_len)
    return {
        "tokenizer": tokenizer,
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "asked": asked,
        "scoring": pack_choices(asked, tokenizer, batch_size=config.batch_size, seq_len=seq_len),
    }


def _check_numbers(config: ConfigDict) -> None:
    for name, least in (("held_out_sequences", 1), ("questions", 1), ("num_fewshot", 0)):
        require_whole(f"data.{name}", config.data[name], least)
    tasks_of(config.data.tasks, "data.tasks")
    if config.model.context_length < 2:
        raise InputError(
            "model.context_length must be at least 2, a token and the one to be predicted; got "
            f"{config.model.context_length}"
        )
    require_whole("depth_sequences", config.depth_sequences, 0)
    require_some_held_out(config.depth_sequences, config.data.held_out_sequences)
    if config.data.cooldown_mixture and round(config.cooldown * config.steps) == 0:
        raise InputError(
            f"data.cooldown_mixture={config.data.cooldown_mixture!r} needs a cooldown of a step at "
            f"least; got cooldown={config.cooldown} of {config.steps} steps; raise it or leave the "
            "mixture out"
        )

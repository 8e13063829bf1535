"""What a run of depth growth is, made from its config and checked before any text is read."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxanatomy import runs
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.choices import Scoring, pack_choices
from jaxanatomy.data.corpora import GENERATED
from jaxanatomy.data.mixture import MixtureSchedule, parse_mixture
from jaxanatomy.data.pipeline import Pipeline
from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.data.questions import Question, questions
from jaxanatomy.data.sequences import require_length
from jaxanatomy.data.vocabulary import check_vocabulary, load_tokenizer, tokenizer_sha256
from jaxanatomy.errors import InputError, require_each_once, require_positive, require_whole
from jaxanatomy.growth.depth_arms import DepthArmSettings, DepthStage, depth_arm
from jaxanatomy.measures.depth_growth import TUNED_BY
from jaxanatomy.measures.tuning import MAIN, TUNING, choose_rate, require_seeds
from jaxanatomy.progress import announced
from jaxanatomy.train.loop import adamw
from jaxanatomy.train.mesh import Placement, training_devices
from jaxanatomy.train.metrics import require_tensorboard
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import HeldOut, PretrainOptions, Setup
from jaxanatomy.weights.tokenizer import Tokenizer


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
class DepthPlan:
    """Validated settings of a run of depth growth.

    Attributes:
      config: Of `experiments.depth_growth`.
      model: The architecture at the end.
      settings: What all arms share.
      schedule: The learning rate's course; each trial has a plateau of its own.
      arms: The stages of each arm.
      options: How to run.
      placement: Over all devices.
      tokenizer: Of all text; a plan on paper has none that would have to be fetched.
      tokenizer_sha256: Its hash.
      asked: Questions of the reasoning primitives.
      scoring: The same, packed.
    """

    config: ConfigDict
    model: ModelConfig
    settings: DepthArmSettings
    schedule: WarmupStableDecay
    arms: Mapping[str, tuple[DepthStage, ...]]
    options: PretrainOptions
    placement: Placement
    tokenizer: Tokenizer | None = None
    tokenizer_sha256: str = ""
    asked: Sequence[Question] = ()
    scoring: Scoring | None = None

    def steps(self, arm: str) -> int:
        """Of all stages of an arm."""
        return sum(stage.steps for stage in self.arms[arm])

    @property
    def tuning(self) -> list[Trial]:
        """What chooses the learning rate of an arm; nothing where there is one rate."""
        rates = self.config.learning_rates
        seeds = self.config.tuning_seeds if len(rates) > 1 else ()
        return [Trial(TUNING, rate, seed) for rate in rates for seed in seeds]

    def main(self, rate: float) -> list[Trial]:
        """What gives the results of an arm, at its rate."""
        return [Trial(MAIN, rate, seed) for seed in self.config.seeds]

    def learning_rate(self, arm: str, rows: Iterable[Mapping[str, Any]]) -> float:
        """The rate of an arm's results, by the rows of its tuning.

        Raises:
          InputError: All rates diverged.
        """
        if not self.tuning:
            return self.config.learning_rates[0]
        rate = choose_rate(rows, arm, TUNED_BY)
        if rate is None:
            raise InputError(
                f"every learning rate of {self.config.learning_rates} diverged in {arm}; set lower "
                "learning_rates"
            )
        return rate

    def setup(self, arm: str, trials: Sequence[Trial]) -> Setup:
        """What is trained together."""
        config = self.config
        return Setup(
            stages=self.arms[arm],
            optimiser=adamw(config.weight_decay, betas=(0.9, config.beta2)),
            schedule=self.schedule,
            seeds=[trial.seed for trial in trials],
            placement=self.placement,
            options=self.options,
            learning_rates=[trial.learning_rate for trial in trials],
        )

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
        )

    def held_out(self, pipeline: Pipeline) -> dict[str, HeldOut]:
        """What a run is evaluated on, by source; the same for every seed."""
        config = self.config
        found = pipeline.held_out(config.data.held_out_sequences)
        return {name: HeldOut(pipeline.shares[name], found[name]) for name in found}

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """What the batches of all steps depend on; reads and encodes the text."""
        with announced("reading and encoding the text"):
            return self.pipeline(0, self.config.steps).settings(self.config.steps)

    def hash(self, arm: str, trial: Trial, **more: Any) -> str:
        """The hash of a row."""
        names = ("warmup", "cooldown", "weight_decay", "beta2", "moments")
        return runs.row_hash(
            code=runs.code_version("depth_growth"),
            stages=[dataclasses.asdict(stage) for stage in self.arms[arm]],
            data=[self.config.data.to_dict(), self.data],
            settings={name: self.config[name] for name in (*names, "eval_every", "batch_size")},
            train=[self.config.train.dtype, self.config.train.grad_accum_steps],
            arm=arm,
            trial=dataclasses.asdict(trial),
            **more,
        )


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
    settings = DepthArmSettings(
        steps=config.steps,
        block=config.block,
        growth_fraction=config.growth_fraction,
        alpha=config.alpha,
        batch_size=config.batch_size,
        seq_len=config.model.context_length,
    )
    arms = {name: depth_arm(name, model, settings) for name in config.arms}
    schedule, *_ = (
        WarmupStableDecay(rate, config.warmup, config.cooldown) for rate in config.learning_rates
    )
    for stages in arms.values():
        mixtures(config, sum(stage.steps for stage in stages))
    options, placement = _how_to_run(config, dry_run)
    there = not (dry_run and config.data.tokenizer.startswith("hf:"))
    text = _text(config) if there else {}
    return DepthPlan(config, model, settings, schedule, arms, options, placement, **text)


def mixtures(config: ConfigDict, steps: int) -> MixtureSchedule:
    """What a run of so many steps reads when; it may change where the cooldown begins."""
    found = [(0, parse_mixture(config.data.mixture))]
    if config.data.cooldown_mixture:
        first = steps - round(config.cooldown * steps)
        found.append((first, parse_mixture(config.data.cooldown_mixture)))
    return MixtureSchedule(tuple(found))


def _how_to_run(config: ConfigDict, dry_run: bool) -> tuple[PretrainOptions, Placement]:
    fields = config.train.to_dict()
    devices, shards, _ = (fields.pop(name) for name in ("devices", "fsdp_shards", "vmap_seeds"))
    if dry_run:
        count = jax.device_count() if devices is None else devices
        placement = Placement.abstract(count, shards)
    else:
        placement = Placement.over(training_devices(devices), shards)
    options = PretrainOptions(eval_every=config.eval_every, moments=config.moments, **fields)
    options.check_batch_size(config.batch_size, placement)
    if config.tensorboard:
        require_tensorboard()
    return options, placement


def _text(config: ConfigDict) -> dict[str, Any]:
    """The tokenizer, and what is asked at the end: fields of `DepthPlan`."""
    tokenizer = load_tokenizer(config.data.tokenizer)
    check_vocabulary(tokenizer, config.model.vocab_size)
    asked = questions(PRIMITIVES, config.data.questions, num_fewshot=config.data.num_fewshot)
    seq_len = config.model.context_length
    for _, mixture in mixtures(config, config.steps).mixtures:
        for source in GENERATED.keys() & set(mixture.sources):
            require_length(GENERATED[source], tokenizer, seq_len)
    return {
        "tokenizer": tokenizer,
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "asked": asked,
        "scoring": pack_choices(asked, tokenizer, batch_size=config.batch_size, seq_len=seq_len),
    }


def _check_numbers(config: ConfigDict) -> None:
    tunes = ("tuning_seeds",) if len(config.learning_rates) > 1 else ()
    for name in ("arms", "seeds", "learning_rates", *tunes):
        require_each_once(name, config[name])
    require_seeds(config.seeds, config.tuning_seeds)
    for name in ("steps", "batch_size", "eval_every"):
        require_whole(name, config[name])
    for name, least in (("held_out_sequences", 1), ("questions", 1), ("num_fewshot", 0)):
        require_whole(f"data.{name}", config.data[name], least)
    require_positive("weight_decay", config.weight_decay, or_zero=True)
    if not 0 <= config.beta2 < 1:
        raise InputError(f"beta2 must be at least 0 and below 1; got {config.beta2}")
    if config.model.context_length < 2:
        raise InputError(
            "model.context_length must be at least 2, a token and the one to be predicted; got "
            f"{config.model.context_length}"
        )
    if config.data.cooldown_mixture and round(config.cooldown * config.steps) == 0:
        raise InputError(
            f"data.cooldown_mixture={config.data.cooldown_mixture!r} needs a cooldown of a step at "
            f"least; got cooldown={config.cooldown} of {config.steps} steps; raise it or leave the "
            "mixture out"
        )

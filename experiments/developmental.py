"""Developmental training: does a transformer that grows learn better than one trained flat?

The method (AH section 4.6, with controls): a 12-layer model whose FFN widths follow the
importance of layers (Table 6) learns simple facts, either all layers at every step, or in six
phases in which new layers are initialised from a copy (Table 7). Both are judged on paraphrases
of the facts that they trained on, at the end and at their best. Controls take the claim apart:
clones made at the start, phases in other orders (two of them train the core for as many steps),
flat training with the optimiser restarted where that of the grown model is, equal FLOPs instead of
equal steps, the core with nothing grown on it, and a learning rate tuned for every arm.

    python -m experiments.developmental --workdir=runs/developmental

`rows.jsonl` has the curve of every seed (`kind: curve`) and a `kind: final` row for each;
`metrics.jsonl` has every step. A run that was killed resumes from its last checkpoint, within a
phase, too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.data import facts
from jaxanatomy.data.facts import Facts, batch_order
from jaxanatomy.errors import InputError, require_each_once, require_whole
from jaxanatomy.growth.arms import ARMS, ArmSettings, arm_stages, core_steps
from jaxanatomy.growth.phases import CORE_READINGS, NOT_YET_GROWN, growth_transformer
from jaxanatomy.growth.stages import total_flops, total_steps
from jaxanatomy.measures.arms import developmental
from jaxanatomy.measures.arms.role_courses import summarise_courses
from jaxanatomy.measures.completions import complete
from jaxanatomy.model import parameter_count
from jaxanatomy.train import setup
from jaxanatomy.train.arm_fields import check_trials, training_fields
from jaxanatomy.train.arm_plan import ArmPlan, Fields, Trained, Trial
from jaxanatomy.train.documents import DocumentBatches, Documents, one_a_row
from jaxanatomy.train.evaluation import HeldOut, Scorer, on_text, score
from jaxanatomy.train.points import Evaluation
from jaxanatomy.train.trials import train_arms

MAY_CHANGE_ON_RESUME = ("arms", *setup.MAY_CHANGE_ON_RESUME)
_PAD = facts.SPECIAL.index(facts.PAD)


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, then writes summary, figures and report."""
    plan = _plan(config)
    provenance = plan.provenance(data_sha256=plan.facts.sha256)
    with runs.Run.open(workdir, config.to_dict(), provenance, MAY_CHANGE_ON_RESUME) as results:
        train_arms(plan, results)
        report.conclude(
            results, developmental.summarise(results.rows) | summarise_courses(results.rows)
        )


def dry_run(config: ConfigDict) -> str:
    """The arms, their phases and what they would cost."""
    plan = _plan(config)
    trained = len(plan.tuning) + len(config.seeds)
    lines = [
        f"{parameter_count(plan.model):,} parameters; {len(plan.facts.train)} sentences to learn, "
        f"{len(plan.facts.validation)} to judge by"
    ]
    for arm, stages in plan.arms.items():
        cost = total_flops(stages, plan.train.packed_rows, plan.train.max_predictions)
        lines.append(
            f"{arm}: {total_steps(stages)} steps, {core_steps(stages)} of the core, "
            f"{cost / 1e12:.2f} TFLOP, trained {trained} times"
        )
        for stage in stages:
            layers = " ".join(map(str, stage.train))
            lines.append(f"    {stage.steps:4} steps {stage.name}: train {layers}")
    return "\n".join(lines)


def describe() -> str:
    """Arms and readings, a line each."""
    return cli.format_sections(
        {"arms": ARMS, "core": CORE_READINGS, "not_yet_grown": NOT_YET_GROWN}
    )


@dataclasses.dataclass(frozen=True)
class _Plan(ArmPlan):
    """Validated settings; nothing is trained.

    Attributes:
      facts: The sentences.
      train: Those to learn, as tokens, and how they are packed.
      validation_NT: Those to judge by, as tokens.
      orders: Which sentences each step reads, [steps, R] by seed.
    """

    facts: Facts
    train: Documents
    validation_NT: np.ndarray
    orders: Mapping[int, np.ndarray]

    experiment = "developmental"
    tuned_by = developmental.TUNED_BY
    always_tunes = True
    evaluates_by_stage = True

    @property
    def identity(self) -> Any:
        """The sentences."""
        return self.facts.sha256

    def streams(self, arm: str, trials: Sequence[Trial]) -> list[DocumentBatches]:
        """Each seed's sentences in an order of its own."""
        return [DocumentBatches(self.train, self.orders[trial.seed]) for trial in trials]

    def scorer(self, arm: str) -> Scorer:
        """The paraphrases."""
        del arm
        return on_text({"validation": self._one_a_row(self.validation_NT)})

    def curve_fields(self, arm: str, trial: Trial, point: Evaluation, at: int) -> Fields:
        """Losses, and what they took; tokens are those that were predicted."""
        return self._spent(trial, point) | developmental.curve_fields(point, at)

    def note(self, point: Evaluation, memory: Fields) -> None:
        """The lowest validation loss of each seed."""
        developmental.note_lowest(point, memory)

    def final_fields(self, trained: Trained) -> list[Fields]:
        """Last and lowest loss, the training loss, and what is written after the prompts."""
        end, point, rows = trained.end, trained.point, []
        train = self._one_a_row(self.train.token_NT)
        told = score(trained.setup, end, trained.params, train).mean()
        prompts, taught = zip(*self.facts.prompts, strict=True)
        for at, trial in enumerate(trained.trials):
            own = trained.setup.model_of(trained.params, at)
            written = complete(end.config, own, self.tokenizer, prompts)
            exact = sum(text == rest for text, rest in zip(written, taught, strict=True))
            rows.append(
                {
                    "stage": end.name,
                    "step": point.step,
                    **self._spent(trial, point),
                    **developmental.final_fields(point, at, trained.memory, told[at]),
                    "completions": written,
                    "exact_completions": exact,
                    "core_steps": core_steps(self.arms[trained.arm]),
                }
            )
        return rows

    def _spent(self, trial: Trial, point: Evaluation) -> Fields:
        tokens = self.train.predicted(self.orders[trial.seed][: point.step])
        return {"tokens": tokens, "flops": point.account.flops, "seconds": point.account.seconds}

    def _one_a_row(self, token_NT: np.ndarray) -> HeldOut:
        return one_a_row(token_NT, _PAD, self.placement.device_count)


def _plan(config: ConfigDict) -> _Plan:
    _require_numbers(config)
    training = training_fields(config)
    model, told = growth_transformer(), facts.facts(config.split_seed)
    if config.batch_size > len(told.train):
        raise InputError(
            f"batch_size must be at most the {len(told.train)} sentences to learn; got "
            f"{config.batch_size}"
        )
    tokenizer = facts.word_tokenizer(told.train, model.vocab_size)
    length = facts.longest_row(told.train + told.validation)
    token_NT, validation_NT = (
        facts.rows(part, tokenizer, length) for part in (told.train, told.validation)
    )
    steps, seeds = max(config.steps, config.growth_50_steps), (*config.seeds, *config.tuning_seeds)
    orders = {seed: batch_order(len(told.train), config.batch_size, steps, seed) for seed in seeds}
    packed_rows = training["placement"].device_count * training["options"].grad_accum_steps
    train = Documents.fitting(token_NT, _PAD, packed_rows, orders.values())
    settings = ArmSettings(
        steps=config.steps,
        growth_50_steps=config.growth_50_steps,
        core=config.core,
        not_yet_grown=config.not_yet_grown,
        shuffle_seed=config.shuffle_seed,
        batch_size=packed_rows,
        seq_len=train.max_predictions,
    )
    return _Plan(
        config=config,
        model=model,
        arms={name: arm_stages(name, model, settings) for name in config.arms},
        **training,
        facts=told,
        tokenizer=tokenizer,
        train=train,
        validation_NT=validation_NT,
        orders=orders,
    )


def _require_numbers(config: ConfigDict) -> None:
    check_trials(config)
    require_each_once("tuning_seeds", config.tuning_seeds)
    least = {"steps": 1, "growth_50_steps": 1, "shuffle_seed": 0, "split_seed": 0}
    for name in least:
        require_whole(name, config[name], least[name])
    if "growth_50" in config.arms and config.growth_50_steps > config.steps:
        raise InputError(
            f"growth_50_steps must be at most the {config.steps} steps of the other arms; got "
            f"{config.growth_50_steps}"
        )


if __name__ == "__main__":
    cli.run_experiment("developmental", run)

"""Developmental training: does a transformer that grows learn better than one trained flat?

The method (AH section 4.6, with controls): a 12-layer model whose FFN widths follow the
importance of layers (Table 6) learns simple facts, either all layers at every step, or in six
phases in which new layers are initialised from a copy (Table 7). Both are judged by paraphrases
of facts that they were told, at the end and at their best. Controls take the claim apart: clones
made at the start, phases in other orders (two of them train the core for as many steps), a
uniform optimiser that starts anew where the grown one does, equal FLOPs instead of equal steps,
the core without anything grown on it, and a learning rate tuned for every arm.

    python -m experiments.developmental --workdir=runs/developmental

`rows.jsonl` has the curve of every seed (`kind: curve`) and a `kind: final` row for each.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.config import ModelConfig
from jaxanatomy.data import facts
from jaxanatomy.data.facts import PAD, SPECIAL, Facts, batch_order
from jaxanatomy.errors import InputError, require_each_once, require_positive, require_whole
from jaxanatomy.growth.arms import ARMS, ArmSettings, arm_flops, arm_stages, core_steps, flops_at
from jaxanatomy.growth.phases import CORE_READINGS, NOT_YET_GROWN, Stage, growth_transformer
from jaxanatomy.measures.completions import complete
from jaxanatomy.measures.developmental import TUNED_BY, developmental_rows, summarise
from jaxanatomy.measures.tuning import MAIN, TUNING, choose_rate, require_seeds
from jaxanatomy.model import parameter_count
from jaxanatomy.runs import Progress, Run
from jaxanatomy.train.growing import (
    PhaseReplica,
    PhaseResult,
    TokenSplits,
    phase_point_places,
    train_stages,
)
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.weights.tokenizer import Tokenizer

# Fields of the config that decide no result: a run may go on with other values.
MAY_CHANGE_ON_RESUME = ("arms",)


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, then writes summary, figures and report."""
    plan = _plan(config)
    provenance = runs.provenance(
        "developmental",
        architecture=plan.model.to_dict(),
        parameters=parameter_count(plan.model),
        data_sha256=plan.facts.sha256,
    )
    with runs.Run.open(workdir, config.to_dict(), provenance, MAY_CHANGE_ON_RESUME) as results:
        with runs.Progress(plan.total_steps(), "training") as progress:
            for arm in plan.arms:
                _train_arm(plan, arm, results, progress)
        results.write_summary(summarise(results.rows))
        report.conclude(results.folder)


def dry_run(config: ConfigDict) -> str:
    """The arms, their phases and what they would cost."""
    plan = _plan(config)
    trained = len(plan.config.seeds) + len(plan.config.learning_rates) * len(
        plan.config.tuning_seeds
    )
    lines = [
        f"{parameter_count(plan.model):,} parameters; {len(plan.facts.train)} sentences to learn, "
        f"{len(plan.facts.validation)} to judge by"
    ]
    for arm, stages in plan.arms.items():
        cost = arm_flops(plan.model, stages, plan.settings)
        steps = sum(stage.steps for stage in stages)
        lines.append(
            f"{arm}: {steps} steps, {core_steps(stages)} of the core, {cost / 1e12:.2f} TFLOP, "
            f"trained {trained} times"
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
class _Plan:
    """Validated settings; nothing is trained.

    Attributes:
      config: The config.
      model: The architecture.
      facts: The sentences.
      tokenizer: Of their words.
      corpus: The same as tokens.
      settings: What all arms share.
      arms: The stages of each arm.
    """

    config: ConfigDict
    model: ModelConfig
    facts: Facts
    tokenizer: Tokenizer
    corpus: TokenSplits
    settings: ArmSettings
    arms: dict[str, tuple[Stage, ...]]

    def groups(self) -> dict[str, list[tuple[float | None, int]]]:
        """Learning rate and seed of the replicas that train together, by purpose.

        The rate None stands for the tuned one.
        """
        rates, seeds = self.config.learning_rates, self.config.tuning_seeds
        return {
            TUNING: [(rate, seed) for rate in rates for seed in seeds],
            MAIN: [(None, seed) for seed in self.config.seeds],
        }

    def hash(self, arm: str, purpose: str, rate: float, seed: int, **more: Any) -> str:
        """The hash of a row."""
        names = ("batch_size", "warmup", "cooldown", "weight_decay", "eval_every")
        return runs.row_hash(
            code=runs.code_version("developmental"),
            architecture=self.model.to_dict(),
            data=self.facts.sha256,
            stages=[dataclasses.asdict(stage) for stage in self.arms[arm]],
            settings={name: self.config[name] for name in names},
            arm=arm,
            purpose=purpose,
            learning_rate=rate,
            seed=seed,
            **more,
        )

    def total_steps(self) -> int:
        """Calls of the progress bar's unit."""
        return 2 * sum(stage.steps for stages in self.arms.values() for stage in stages)


def _plan(config: ConfigDict) -> _Plan:
    _require_numbers(config)
    model, told = growth_transformer(), facts.facts(config.split_seed)
    if config.batch_size > len(told.train):
        raise InputError(
            f"batch_size must be at most the {len(told.train)} sentences to learn; got "
            f"{config.batch_size}"
        )
    tokenizer = facts.word_tokenizer(told.train, model.vocab_size)
    seq_len = facts.longest_row(told.train + told.validation)
    train, validation = (
        facts.rows(part, tokenizer, seq_len) for part in (told.train, told.validation)
    )
    corpus = TokenSplits(
        train, validation, facts.SPECIAL.index(facts.PAD), _max_predictions(config, train)
    )
    settings = ArmSettings(
        steps=config.steps,
        growth_50_steps=config.growth_50_steps,
        core=config.core,
        not_yet_grown=config.not_yet_grown,
        shuffle_seed=config.shuffle_seed,
        batch_size=1,
        seq_len=corpus.max_predictions,
    )
    return _Plan(
        config=config,
        model=model,
        facts=told,
        tokenizer=tokenizer,
        corpus=corpus,
        settings=settings,
        arms={name: arm_stages(name, model, settings) for name in config.arms},
    )


def _require_numbers(config: ConfigDict) -> None:
    for name in ("steps", "growth_50_steps", "batch_size", "eval_every"):
        require_whole(name, config[name])
    if "growth_50" in config.arms and config.growth_50_steps > config.steps:
        raise InputError(
            f"growth_50_steps must be at most the {config.steps} steps of the other arms; got "
            f"{config.growth_50_steps}"
        )
    for name in ("arms", "seeds", "tuning_seeds", "learning_rates"):
        require_each_once(name, config[name])
    require_seeds(config.seeds, config.tuning_seeds)
    for name in ("shuffle_seed", "split_seed"):
        require_whole(name, config[name], least=0)
    for rate in config.learning_rates:
        WarmupStableDecay(rate, config.warmup, config.cooldown)
    require_positive("weight_decay", config.weight_decay, or_zero=True)


def _max_predictions(config: ConfigDict, train_NT: np.ndarray) -> int:
    """Predictions of the largest batch of any seed, in eights."""
    targets_N = (train_NT[:, 1:] != SPECIAL.index(PAD)).sum(axis=1)
    steps = max(config.steps, config.growth_50_steps)
    most = max(
        targets_N[batch_order(len(train_NT), config.batch_size, steps, seed)].sum(axis=1).max()
        for seed in (*config.seeds, *config.tuning_seeds)
    )
    return int(-(-most // 8) * 8)


def _train_arm(plan: _Plan, arm: str, results: Run, progress: Progress) -> None:
    """Tunes an arm's learning rate, then trains its seeds; each group together, and once."""
    for purpose, replicas in plan.groups().items():
        if purpose == MAIN:
            rate = choose_rate(results.rows, arm, TUNED_BY)
            if rate is None:
                raise InputError(
                    f"every learning rate of {plan.config.learning_rates} diverged in {arm}; "
                    "set lower learning_rates"
                )
            replicas = [(rate, seed) for _, seed in replicas]
        if all(_is_trained(plan, arm, purpose, each, results) for each in replicas):
            progress.update(sum(stage.steps for stage in plan.arms[arm]))
            continue
        trained = _train(plan, arm, replicas, progress)
        results.append(_rows(plan, arm, purpose, replicas, trained))


def _is_trained(plan: _Plan, arm: str, purpose: str, replica: tuple, results: Run) -> bool:
    """Whether the final row of a replica is there, and every point of its curve."""
    places = phase_point_places(plan.arms[arm], plan.config.eval_every)
    kinds = ["curve"] * len(places) + ["final"]
    return all(
        results.done(plan.hash(arm, purpose, *replica, kind=kind, stage=stage, step=step))
        for kind, (stage, step) in zip(kinds, [*places, places[-1]], strict=True)
    )


def _train(plan: _Plan, arm: str, replicas: list, progress: Progress) -> PhaseResult:
    config, stages = plan.config, plan.arms[arm]
    steps, sentences = sum(stage.steps for stage in stages), len(plan.facts.train)
    return train_stages(
        plan.model,
        stages,
        plan.corpus,
        [
            PhaseReplica(
                seed,
                WarmupStableDecay(rate, config.warmup, config.cooldown),
                batch_order(sentences, config.batch_size, steps, seed),
            )
            for rate, seed in replicas
        ],
        eval_every=config.eval_every,
        weight_decay=config.weight_decay,
        progress=progress.update,
    )


def _rows(plan: _Plan, arm: str, purpose: str, replicas: list, trained: PhaseResult) -> list[dict]:
    """The curve of each replica, and its final row."""
    prompts = [start for start, _ in plan.facts.prompts]
    rows = []
    for at, (rate, seed) in enumerate(replicas):
        written = complete(trained.config, trained.params[at], plan.tokenizer, prompts)
        labels = {"arm": arm, "purpose": purpose, "learning_rate": rate, "seed": seed}
        for row in developmental_rows(trained, at, plan.facts.prompts, written):
            which = {name: row[name] for name in ("kind", "stage", "step")}
            flops = flops_at(plan.model, plan.arms[arm], plan.settings, row["step"])
            hash = plan.hash(arm, purpose, rate, seed, **which)
            rows.append({"hash": hash, **labels, **row, "flops": flops})
        rows[-1]["core_steps"] = core_steps(plan.arms[arm])  # of the final row
    return rows


if __name__ == "__main__":
    cli.run_experiment("developmental", run)

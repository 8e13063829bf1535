"""Depth growth: does a model that grows while it trains end better, or cheaper?

The method (DG section 3, with controls): one architecture, one mixture of data, one
continuous learning rate; in some arms the model starts shallow and blocks of its own layers
are inserted stage by stage. Arms are compared at equal steps and at equal FLOPs, with the
same seeds and the same order of the data, on held-out text and on reasoning primitives,
each beside its level of chance, and with a model that never grows. Each arm has a learning
rate of its own, tuned on seeds of their own; a config with one rate tunes nothing.

    python -m experiments.depth_growth --config=configs/depth_growth.py --workdir=runs/depth

`rows.jsonl` has the curve of every seed (`kind: curve`) and a `kind: final` row for each, of
`purpose` "tuning" or "main"; `metrics.jsonl` has every step of the latter, `models/` each
trained model as a Hugging Face folder. A run that was killed resumes from its last
checkpoint, across a growth step, too.
"""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.data.corpora import SOURCES
from jaxanatomy.data.mixture import MIXTURES
from jaxanatomy.data.vocabulary import TOKENIZERS
from jaxanatomy.growth.apply import MOMENTS
from jaxanatomy.growth.depth_arms import ARMS, depth_arm_flops
from jaxanatomy.measures.depth_growth import (
    answer_fields,
    diverged,
    final_fields,
    point_fields,
    summarise,
)
from jaxanatomy.measures.tuning import CURVE, FINAL, MAIN, TUNING
from jaxanatomy.model import parameter_count
from jaxanatomy.sweep import distributed
from jaxanatomy.train import scoring
from jaxanatomy.train.depth_plan import DepthPlan, Trial, depth_plan
from jaxanatomy.train.dry_run import describe_runs
from jaxanatomy.train.groups import clear_groups, group_folder, plan_groups
from jaxanatomy.train.metrics import Metrics
from jaxanatomy.train.models import save_models
from jaxanatomy.train.points import point_places
from jaxanatomy.train.pretraining import Pretraining

# Fields of the config that decide no result: a run may go on with other values.
MAY_CHANGE_ON_RESUME = (
    "arms",
    "seeds",
    "distributed",
    "tensorboard",
    "train.remat",
    "train.vmap_seeds",
    "train.steps_per_call",
    "train.checkpoint_every",
    "train.max_to_keep",
    "train.devices",
    "train.fsdp_shards",
    "train.peak_flops",
)


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, then writes summary, figures and report."""
    process, processes = distributed.start(**config.distributed)
    plan = depth_plan(config)

    def provenance() -> dict[str, Any]:
        return runs.provenance(
            "depth_growth",
            architecture=plan.model.to_dict(),
            parameters=parameter_count(plan.model),
            tokenizer_sha256=plan.tokenizer_sha256,
            data=plan.data,  # text is read here, once the workdir is known to be good
        )

    with runs.Run.open(
        workdir, config.to_dict(), provenance, MAY_CHANGE_ON_RESUME, process, processes
    ) as results:
        trials = [*plan.tuning, *plan.main(config.learning_rates[0])]
        hashes = [plan.hash(arm, trial) for arm in plan.arms for trial in trials]
        distributed.require_same("text, settings and code", hashes)
        total = len(trials) * sum(map(plan.steps, plan.arms))
        with runs.Progress(total, "training") as progress:
            for arm in plan.arms:
                _train_arm(plan, arm, results, progress)
        if process:
            return
        results.write_summary(summarise(results.rows))
        report.conclude(results.folder)
        if config.save_models:
            print(f"models: {results.path('models')}/ARM_SEED")


def dry_run(config: ConfigDict) -> str:
    """The arms, their stages, what they would cost, and memory of the devices they are for."""
    plan = depth_plan(config, dry_run=True)
    main = plan.main(config.learning_rates[0])
    lines = [f"{parameter_count(plan.model):,} parameters, {len(main)} seeds"]
    if plan.tuning:
        rates = ", ".join(f"{rate:g}" for rate in config.learning_rates)
        lines.append(f"learning rates {rates}: {len(plan.tuning)} more seeds of each arm tune it")
    for arm, stages in plan.arms.items():
        cost = depth_arm_flops(stages, plan.settings)
        size, unit = (1e15, "PFLOP") if cost > 1e15 else (1e12, "TFLOP")
        steps = plan.steps(arm)
        depths = ", ".join(f"{stage.config.num_layers} layers {stage.steps}" for stage in stages)
        lines.append(f"{arm}: {steps} steps ({depths}), {cost / size:,.3f} {unit} a seed")
    side_by_side = max(plan.tuning, main, key=len) if config.train.vmap_seeds else main[:1]
    setups = [plan.setup(arm, side_by_side) for arm in plan.arms]
    lower = config.train.devices is not None
    lines += describe_runs(setups, config.batch_size, config.model.context_length, lower)
    return "\n".join(lines)


def describe() -> str:
    """Arms, mixtures, what they may be made of, and policies, a line each."""
    mixtures = {name: ", ".join(parts) for name, parts in MIXTURES.items()}
    data = {"mixtures": mixtures, "sources": SOURCES, "tokenizers": TOKENIZERS}
    return cli.format_sections({"arms": ARMS, **data, "moments": MOMENTS})


def _train_arm(plan: DepthPlan, arm: str, results, progress) -> None:
    """Tunes the learning rate of an arm, then trains its seeds; what is trained is left."""
    folder = results.path("checkpoints") / arm
    tuning = dict(enumerate(plan.tuning))
    rows = _train(plan, arm, tuning, folder / TUNING, results, progress)
    if jax.process_index() == 0:  # it has written the last rows
        clear_groups(folder / TUNING, ())
    # Every process knows its own rows, also where another one writes them.
    rate = plan.learning_rate(arm, {row["hash"]: row for row in (*results.rows, *rows)}.values())
    main = {trial.seed: trial for trial in plan.main(rate)}
    _train(plan, arm, main, folder, results, progress)
    if jax.process_index() == 0:
        clear_groups(folder, diverged(results.rows, arm))


def _train(
    plan: DepthPlan, arm: str, trials: dict[int, Trial], folder: Path, results, progress
) -> list[dict[str, Any]]:
    """Trains the trials that are not trained yet, named as in `folder`; their final rows."""
    left = [name for name, trial in trials.items() if not _is_trained(plan, arm, trial, results)]
    progress.update(plan.steps(arm) * (len(trials) - len(left)))
    rows = []
    for group in plan_groups(folder, left, plan.config.train.vmap_seeds):
        own = [trials[name] for name in group]
        rows += _train_group(plan, arm, own, group_folder(folder, group), results, progress)
    return rows


def _train_group(
    plan: DepthPlan, arm: str, trials: list[Trial], folder: Path, results, progress
) -> list[dict[str, Any]]:
    """Trains trials side by side, all of one purpose; those of results are asked and saved."""
    config, setup = plan.config, plan.setup(arm, trials)
    pipelines = [plan.pipeline(trial.seed, setup.steps) for trial in trials]
    streams = [pipeline.batches() for pipeline in pipelines]
    training = Pretraining(setup, streams, plan.held_out(pipelines[0]))
    writes = jax.process_index() == 0  # every process knows the same
    gives_results = trials[0].purpose == MAIN
    points: list = []

    with Metrics(results.folder, arm, setup.seeds, config.tensorboard) as metrics:

        def emit(point) -> None:
            points.append(point)
            if writes:
                results.append(_curve_rows(plan, arm, trials, point))
                if gives_results:
                    metrics.write_point(point)

        def log(steps) -> None:
            if writes and gives_results:
                metrics.write(steps)

        def advance(steps: int) -> None:
            progress.update(steps * len(trials))

        def has_point(stage: int, step: int) -> bool:
            return all(_has_point(plan, arm, trial, results, stage, step) for trial in trials)

        params = training.train(folder, emit, log, advance, has_point)
    rows = _final_rows(plan, arm, trials, points[-1])
    if gives_results:
        found = _ask_and_save(plan, arm, setup, points[-1], params, results)
        rows = [row | answers for row, answers in zip(rows, found, strict=True)]
    if writes:
        results.append(rows)
    return rows


def _is_trained(plan: DepthPlan, arm: str, trial: Trial, results) -> bool:
    """Whether the final row of a trial is there, and every point of its curve."""
    hash = plan.hash(arm, trial, kind=FINAL)
    final = next((row for row in results.rows if row["hash"] == hash), None)
    if final is None:
        return False
    stages = [stage.steps for stage in plan.arms[arm]]
    places = point_places(stages, plan.config.eval_every)
    # Where all have diverged, the end may be at any step.
    return any(
        _has_point(plan, arm, trial, results, stage, final["step"]) for stage in range(len(stages))
    ) and all(
        _has_point(plan, arm, trial, results, stage, step)
        for stage, step in places
        if step < final["step"]
    )


def _has_point(plan: DepthPlan, arm: str, trial: Trial, results, stage: int, step: int) -> bool:
    return results.done(plan.hash(arm, trial, kind=CURVE, stage=stage, step=step))


def _ask_and_save(plan: DepthPlan, arm: str, setup, point, params, results) -> list[dict]:
    """What each seed answers, fields of its final row; its model becomes a folder."""
    # Where all seeds have diverged, that may be before the last stage.
    end = setup.stages[point.stage].config
    right_MQ = scoring.answers(setup, end, params, plan.scoring)
    if plan.config.save_models:
        whole = plan.placement.fetch(params)
        writes = jax.process_index() == 0
        kept = [at for at, reason in enumerate(point.reason) if writes and not reason]
        folders = {at: results.path("models") / f"{arm}_{setup.seeds[at]}" for at in kept}
        save_models(end, whole, plan.tokenizer, folders, setup.replicas)
    return [
        answer_fields(plan.asked, right_Q, not reason)
        for right_Q, reason in zip(right_MQ, point.reason, strict=True)
    ]


def _curve_rows(plan: DepthPlan, arm: str, trials: list[Trial], point) -> list[dict[str, Any]]:
    place = {"kind": CURVE, "stage": point.stage, "step": point.step}
    return [
        _labels(plan, arm, trial, point, **place) | point_fields(point, at)
        for at, trial in enumerate(trials)
    ]


def _final_rows(plan: DepthPlan, arm: str, trials: list[Trial], point) -> list[dict[str, Any]]:
    return [
        {
            **_labels(plan, arm, trial, point, kind=FINAL),
            "step": point.step,
            **final_fields(point, at),
        }
        for at, trial in enumerate(trials)
    ]


def _labels(plan: DepthPlan, arm: str, trial: Trial, point, **place: Any) -> dict[str, Any]:
    """Which trial a row is of, and where on its way; `place` is what tells it from others."""
    return {
        "hash": plan.hash(arm, trial, **place),
        "arm": arm,
        "purpose": trial.purpose,
        "learning_rate": trial.learning_rate,
        "seed": trial.seed,
        **place,
        "layers": plan.arms[arm][point.stage].config.num_layers,
    }


if __name__ == "__main__":
    cli.run_experiment("depth_growth", run)

"""Depth growth: does a model that grows while it trains end better, or cheaper?

The method (DG section 3, with controls): one architecture, one mixture of data, one
continuous learning rate; in some arms the model starts shallow and blocks of its own layers
are inserted stage by stage. Arms are compared at equal steps and at equal FLOPs, with the
same seeds and the same order of the data, on held-out text and on reasoning primitives,
each beside its level of chance.

    python -m experiments.depth_growth --config=configs/depth_growth.py --workdir=runs/depth

`rows.jsonl` has the curve of every seed (`kind: curve`) and a `kind: final` row for each;
`metrics.jsonl` has every step; `models/` has each trained model as a Hugging Face folder. A run
that was killed goes on from its last checkpoint, across a growth step, too.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from jaxanatomy import cli

if TYPE_CHECKING:
    from jaxanatomy.train.depth_plan import DepthPlan

# Fields of the config that decide no result: a run may go on with other values.
MAY_CHANGE_ON_RESUME = (
    *("train.remat", "train.chunk", "train.checkpoint_every", "train.keep", "train.shards"),
    *("train.devices", "train.peak_flops", "distributed", "arms", "seeds", "progress"),
    *("train.together", "tensorboard"),
)


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, then writes summary, figures and report."""
    from jaxanatomy import report, runs
    from jaxanatomy.measures.depth_growth import summarise
    from jaxanatomy.report.depth_growth.report import summary_table
    from jaxanatomy.sweep import distributed
    from jaxanatomy.train.depth_plan import depth_plan

    process, processes = distributed.start(**config.distributed)
    plan = depth_plan(config)

    def provenance() -> dict[str, Any]:
        return runs.provenance(
            "depth_growth",
            architecture=plan.model.to_dict(),
            parameters=plan.model.parameter_count,
            tokenizer_sha256=plan.tokenizer_sha256,
            data=plan.data,  # text is read here, once the workdir is known to be good
        )

    with runs.Run.open(
        workdir, config.to_dict(), provenance, MAY_CHANGE_ON_RESUME, process, processes
    ) as results:
        hashes = [plan.hash(arm, seed) for arm in plan.arms for seed in config.seeds]
        distributed.require_same("text, settings and code", hashes)
        total = len(config.seeds) * sum(map(plan.steps, plan.arms))
        with runs.Progress(total, "steps", force=config.progress) as progress:
            for arm in plan.arms:
                _train_arm(plan, arm, results, progress)
        if process:
            return
        results.write_summary(summarise(results.rows))
        path = report.write_report(results.folder)
        print(summary_table(results.rows))
        print(f"\nreport: {path}")
        if config.save_models:
            print(f"models: {results.path('models')}/ARM_SEED")


def dry_run(config: ConfigDict) -> str:
    """The arms, their stages, what they would cost, and memory of the devices they are for."""
    from jaxanatomy.growth.depth_arms import total_flops
    from jaxanatomy.train.depth_plan import depth_plan
    from jaxanatomy.train.on_paper import describe_runs

    plan = depth_plan(config, on_paper=True)
    lines = [f"{plan.model.parameter_count:,} parameters, {len(config.seeds)} seeds"]
    for arm, stages in plan.arms.items():
        cost = total_flops(stages, plan.settings)
        size, unit = (1e15, "PFLOP") if cost > 1e15 else (1e12, "TFLOP")
        steps = plan.steps(arm)
        depths = ", ".join(f"{stage.config.num_layers} layers {stage.steps}" for stage in stages)
        lines.append(f"{arm}: {steps} steps ({depths}), {cost / size:,.3f} {unit} a seed")
    side_by_side = config.seeds if config.train.together else config.seeds[:1]
    setups = [plan.setup(arm, side_by_side) for arm in plan.arms]
    lower = config.train.devices is not None
    lines += describe_runs(setups, config.rows, config.model.context_length, lower)
    return "\n".join(lines)


def describe() -> str:
    """Arms, mixtures, what they may be made of, and policies, a line each."""
    from jaxanatomy.data.corpora import SOURCES
    from jaxanatomy.data.mixture import MIXTURES
    from jaxanatomy.data.vocabulary import TOKENIZERS
    from jaxanatomy.growth.apply import MOMENTS
    from jaxanatomy.growth.depth_arms import ARMS

    mixtures = {name: ", ".join(parts) for name, parts in MIXTURES.items()}
    data = {"mixtures": mixtures, "sources": SOURCES, "tokenizers": TOKENIZERS}
    return cli.format_sections({"arms": ARMS, **data, "moments": MOMENTS})


def _train_arm(plan: "DepthPlan", arm: str, results, progress) -> None:
    """Trains the seeds of an arm that are not trained yet."""
    import jax

    from jaxanatomy.measures.depth_growth import diverged
    from jaxanatomy.train.groups import clear_groups, group_folder, plan_groups

    seeds = plan.config.seeds
    left = [seed for seed in seeds if not results.done(plan.hash(arm, seed, kind="final"))]
    progress.update(plan.steps(arm) * (len(seeds) - len(left)))
    folder = results.path("checkpoints") / arm
    for group in plan_groups(folder, left, plan.config.train.together):
        _train_group(plan, arm, group, group_folder(folder, group), results, progress)
    if jax.process_index() == 0:  # it has written the last rows
        clear_groups(folder, diverged(results.rows, arm))


def _train_group(
    plan: "DepthPlan", arm: str, seeds: list[int], folder: Path, results, progress
) -> None:
    import jax

    from jaxanatomy.train.metrics import Metrics
    from jaxanatomy.train.models import save_models
    from jaxanatomy.train.pretraining import Pretraining
    from jaxanatomy.train.scoring import answers

    config, setup = plan.config, plan.setup(arm, seeds)
    pipelines = [plan.pipeline(seed, setup.steps) for seed in seeds]
    streams = [pipeline.batches() for pipeline in pipelines]
    training = Pretraining(setup, streams, plan.held_out(pipelines[0]))
    writes = jax.process_index() == 0  # every process knows the same
    points: list = []

    with Metrics(results.folder, arm, seeds, config.tensorboard) as metrics:

        def emit(point) -> None:
            points.append(point)
            if writes:
                results.append(_curve_rows(plan, arm, seeds, point))
                metrics.write_point(point)

        def log(steps) -> None:
            if writes:
                metrics.write(steps)

        def advance(steps: int) -> None:
            progress.update(steps * len(seeds))

        params = training.train(folder, emit, log, advance)
    # Where all seeds have diverged, that may be before the last stage.
    end = setup.stages[points[-1].stage].config
    right_MQ = answers(setup, end, params, plan.scoring)
    if config.save_models:
        whole = plan.placement.fetch(params)
        kept = [at for at, reason in enumerate(points[-1].reason) if writes and not reason]
        folders = {at: results.path("models") / f"{arm}_{seeds[at]}" for at in kept}
        save_models(end, whole, plan.tokenizer, folders, setup.replicas)
    if writes:
        results.append(_final_rows(plan, arm, seeds, points[-1], right_MQ))


def _curve_rows(plan: "DepthPlan", arm: str, seeds: list[int], point) -> list[dict[str, Any]]:
    from jaxanatomy.measures.depth_growth import CURVE, point_fields

    rows = []
    for at, seed in enumerate(seeds):
        labels = {"kind": CURVE, "stage": point.stage, "step": point.step}
        row = {"hash": plan.hash(arm, seed, **labels), "arm": arm, "seed": seed, **labels}
        layers = plan.arms[arm][point.stage].config.num_layers
        rows.append(row | {"layers": layers, **point_fields(point, at)})
    return rows


def _final_rows(
    plan: "DepthPlan", arm: str, seeds: list[int], point, right_MQ
) -> list[dict[str, Any]]:
    from jaxanatomy.measures.depth_growth import FINAL, final_fields

    layers = plan.arms[arm][point.stage].config.num_layers
    return [
        {
            **{"hash": plan.hash(arm, seed, kind=FINAL), "arm": arm, "seed": seed, "kind": FINAL},
            **{"layers": layers, "step": point.step, "seconds": point.seconds},
            **final_fields(point, at, plan.asked, right_MQ[at]),
        }
        for at, seed in enumerate(seeds)
    ]


if __name__ == "__main__":
    cli.run_experiment("depth_growth", run)

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

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli

# Fields of the config that decide no result: a run may go on with others.
PLACEMENT = (
    *("train.remat", "train.chunk", "train.checkpoint_every", "train.keep", "train.shards"),
    *("train.devices", "train.peak_flops", "distributed", "arms", "seeds", "progress"),
    *("save_models", "tensorboard"),
)


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, then writes summary, figures and report."""
    from jaxanatomy import report, runs
    from jaxanatomy.measures.depth_growth import summarise
    from jaxanatomy.report.depth_growth.report import summary_table
    from jaxanatomy.sweep import distributed

    process, processes = distributed.start(**config.distributed)
    plan = _plan(config)

    def provenance() -> dict[str, Any]:
        return runs.provenance(
            architecture=plan.model.to_dict(),
            parameters=plan.model.parameter_count,
            tokenizer_sha256=plan.tokenizer_sha256,
            data=plan.data,  # text is read here, once the workdir is known to be good
        )

    with runs.Run.open(
        workdir, config.to_dict(), provenance, PLACEMENT, process, processes
    ) as results:
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
    from jaxanatomy.train.on_paper import describe_runs

    plan = _plan(config, on_paper=True)
    lines = [f"{plan.model.parameter_count:,} parameters, {len(config.seeds)} seeds"]
    for arm, stages in plan.arms.items():
        cost = total_flops(stages, plan.settings)
        size, unit = (1e15, "PFLOP") if cost > 1e15 else (1e12, "TFLOP")
        steps = plan.steps(arm)
        depths = ", ".join(f"{stage.config.num_layers} layers {stage.steps}" for stage in stages)
        lines.append(f"{arm}: {steps} steps ({depths}), {cost / size:,.3f} {unit} a seed")
    setups = [plan.setup(arm, plan.groups(config.seeds)[0]) for arm in plan.arms]
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


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is to be trained, known before anything is.

    Attributes:
      config: The config.
      model: The architecture at the end.
      settings: What all arms share.
      arms: The stages of each arm.
      options: How to run.
      placement: Over all devices.
      tokenizer: Of all text; a dry run has none that would have to be fetched.
      tokenizer_sha256: Its hash.
      asked: Questions of the reasoning primitives.
      scoring: The same, packed.
    """

    config: ConfigDict
    model: Any
    settings: Any
    arms: dict[str, tuple]
    options: Any
    placement: Any
    tokenizer: Any = None
    tokenizer_sha256: str = ""
    asked: Any = None
    scoring: Any = None

    def groups(self, seeds: Sequence[int]) -> list[list[int]]:
        """Seeds that train together: all on one device, each alone on several."""
        together = seeds and self.placement.device_count == 1
        return [list(seeds)] if together else [[seed] for seed in seeds]

    def steps(self, arm: str) -> int:
        """Of all stages of an arm."""
        return sum(stage.steps for stage in self.arms[arm])

    def setup(self, arm: str, seeds: list[int]):
        """What is trained together."""
        from jaxanatomy.train.loop import adamw
        from jaxanatomy.train.setup import Setup

        config = self.config
        return Setup(
            stages=self.arms[arm],
            optimiser=adamw(config.weight_decay, betas=(0.9, config.beta2)),
            schedule=_schedule(config),
            seeds=seeds,
            placement=self.placement,
            options=self.options,
        )

    def pipeline(self, seed: int, steps: int):
        """The data of a seed in an arm of so many steps."""
        import jax

        from jaxanatomy.data.pipeline import Pipeline

        return Pipeline(
            _mixtures(self.config, steps),
            self.tokenizer,
            rows=self.config.rows,
            length=self.config.model.context_length,
            seed=seed,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """What the batches of all steps depend on; reads and encodes the text."""
        return self.pipeline(0, self.config.steps).settings(self.config.steps)

    def hash(self, arm: str, seed: int, **more: Any) -> str:
        """The hash of a row."""
        from jaxanatomy import runs

        names = ("learning_rate", "warmup", "cooldown", "weight_decay", "beta2", "moments")
        return runs.row_hash(
            code=runs.code_version(),
            stages=[dataclasses.asdict(stage) for stage in self.arms[arm]],
            data=[self.config.data.to_dict(), self.data],
            settings={name: self.config[name] for name in (*names, "eval_every", "rows")},
            train=[self.config.train.dtype, self.config.train.accumulate],
            arm=arm,
            seed=seed,
            **more,
        )


def _plan(config: ConfigDict, on_paper: bool = False) -> _Plan:
    """Checks the config, what is cheap first, and loads the tokenizer; reads no text yet.

    On paper the devices need not be here, and a tokenizer of the hub is not fetched.
    """
    import jax

    from jaxanatomy.config import ModelConfig
    from jaxanatomy.growth.depth_arms import DepthArmSettings, depth_arm
    from jaxanatomy.train.mesh import Placement, choose_devices
    from jaxanatomy.train.metrics import require_tensorboard
    from jaxanatomy.train.setup import PretrainOptions

    _check_numbers(config)
    model = ModelConfig.uniform(**config.model)
    settings = DepthArmSettings(
        steps=config.steps,
        block=config.block,
        growing_share=config.growing_share,
        alpha=config.alpha,
        rows=config.rows,
        length=config.model.context_length,
    )
    arms = {name: depth_arm(name, model, settings) for name in config.arms}
    _schedule(config)
    for stages in arms.values():
        _mixtures(config, sum(stage.steps for stage in stages))
    more = config.train.to_dict()
    devices, shards = more.pop("devices"), more.pop("shards")
    if on_paper:
        placement = Placement.on_paper(devices or jax.device_count(), shards)
    else:
        placement = Placement.over(choose_devices(devices), shards)
    options = PretrainOptions(eval_every=config.eval_every, moments=config.moments, **more)
    options.check_rows(config.rows, placement)
    if config.tensorboard:
        require_tensorboard()
    there = not (on_paper and config.data.tokenizer.startswith("hf:"))
    return _Plan(
        config=config,
        model=model,
        settings=settings,
        arms=arms,
        options=options,
        placement=placement,
        **_text(config) if there else {},
    )


def _text(config: ConfigDict) -> dict[str, Any]:
    """The tokenizer, and what is asked at the end: fields of `_Plan`."""
    from jaxanatomy.data.choices import pack_choices
    from jaxanatomy.data.primitives import PRIMITIVES
    from jaxanatomy.data.questions import questions
    from jaxanatomy.data.vocabulary import check_vocabulary, load_tokenizer, tokenizer_sha256

    tokenizer = load_tokenizer(config.data.tokenizer)
    check_vocabulary(tokenizer, config.model.vocab_size)
    asked = questions(PRIMITIVES, config.data.questions, shots=config.data.shots)
    length = config.model.context_length
    return {
        "tokenizer": tokenizer,
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "asked": asked,
        "scoring": pack_choices(asked, tokenizer, rows=config.rows, length=length),
    }


def _check_numbers(config: ConfigDict) -> None:
    from jaxanatomy.errors import InputError

    for name in ("arms", "seeds"):
        if not config[name] or len(set(config[name])) < len(config[name]):
            raise InputError(f"{name} must name at least one, each once; got {config[name]}")
    for seed in config.seeds:
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InputError(f"seeds must be whole numbers, 0 or above, below 2^32; got {seed!r}")
    whole = {name: config[name] for name in ("steps", "rows", "eval_every")}
    whole |= {f"data.{name}": config.data[name] for name in ("held_out_rows", "questions")}
    for name, value in whole.items():
        if value < 1:
            raise InputError(f"{name} must be a whole number above 0; got {value}")
    if config.data.shots < 0:
        raise InputError(f"data.shots must be 0 or above; got {config.data.shots}")
    if config.weight_decay < 0 or not 0 <= config.beta2 < 1:
        raise InputError(
            "weight_decay must be 0 or above and beta2 at least 0 and below 1; got "
            f"{config.weight_decay} and {config.beta2}"
        )
    if config.model.context_length < 2:
        raise InputError(
            "model.context_length must be at least 2, a token and the one to be predicted; got "
            f"{config.model.context_length}"
        )
    if config.data.cooldown_mixture and not config.cooldown:
        raise InputError(
            f"data.cooldown_mixture={config.data.cooldown_mixture!r} needs a cooldown; got "
            "cooldown=0; raise it or leave the mixture out"
        )


def _schedule(config: ConfigDict):
    """The learning rate."""
    from jaxanatomy.train.schedule import WarmupStableDecay

    return WarmupStableDecay(config.learning_rate, config.warmup, config.cooldown)


def _mixtures(config: ConfigDict, steps: int):
    """What is read when; the mixture may change where the cooldown begins."""
    from jaxanatomy.data.mixture import Schedule, parse_mixture

    mixtures = [(0, parse_mixture(config.data.mixture))]
    if config.data.cooldown_mixture:
        first = steps - round(config.cooldown * steps)
        mixtures.append((first, parse_mixture(config.data.cooldown_mixture)))
    return Schedule(tuple(mixtures))


def _train_arm(plan: _Plan, arm: str, results, progress) -> None:
    """Trains the seeds of an arm that are not trained yet."""
    import jax

    from jaxanatomy.measures.depth_growth import diverged
    from jaxanatomy.train.groups import check_groups, clear_groups, group_folder

    seeds = plan.config.seeds
    left = [seed for seed in seeds if not results.done(plan.hash(arm, seed, kind="final"))]
    progress.update(plan.steps(arm) * (len(seeds) - len(left)))
    folder = results.path("checkpoints") / arm
    check_groups(folder, plan.groups(left))
    for group in plan.groups(left):
        _train_group(plan, arm, group, group_folder(folder, group), results, progress)
    if jax.process_index() == 0:  # it has written the last rows
        clear_groups(folder, diverged(results.rows, arm))


def _train_group(plan: _Plan, arm: str, seeds: list[int], folder: Path, results, progress) -> None:
    import jax

    from jaxanatomy.train.metrics import Metrics
    from jaxanatomy.train.models import save_models
    from jaxanatomy.train.pretraining import Pretraining
    from jaxanatomy.train.scoring import answers
    from jaxanatomy.train.setup import HeldOut

    config, setup = plan.config, plan.setup(arm, seeds)
    pipelines = [plan.pipeline(seed, setup.steps) for seed in seeds]
    found = pipelines[0].held_out(config.data.held_out_rows)
    held_out = {name: HeldOut(pipelines[0].shares[name], found[name]) for name in found}
    training = Pretraining(setup, [each.batches() for each in pipelines], held_out)
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
    end, replicas = setup.stages[points[-1].stage].config, len(seeds) > 1
    right_MQ = answers(setup, end, params, plan.scoring)
    if config.save_models:
        whole = plan.placement.fetch(params)
        kept = [at for at, reason in enumerate(points[-1].reason) if writes and not reason]
        folders = {at: results.path("models") / f"{arm}_{seeds[at]}" for at in kept}
        save_models(end, whole, plan.tokenizer, folders, replicas)
    if writes:
        results.append(_final_rows(plan, arm, seeds, points[-1], right_MQ))


def _curve_rows(plan: _Plan, arm: str, seeds: list[int], point) -> list[dict[str, Any]]:
    from jaxanatomy.measures.depth_growth import CURVE, point_fields

    rows = []
    for at, seed in enumerate(seeds):
        labels = {"kind": CURVE, "stage": point.stage, "step": point.step}
        row = {"hash": plan.hash(arm, seed, **labels), "arm": arm, "seed": seed, **labels}
        layers = plan.arms[arm][point.stage].config.num_layers
        rows.append(row | {"layers": layers, **point_fields(point, at)})
    return rows


def _final_rows(plan: _Plan, arm: str, seeds: list[int], point, right_MQ) -> list[dict[str, Any]]:
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

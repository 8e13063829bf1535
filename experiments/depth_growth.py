"""Depth growth: does a model that grows while it trains end better, or cheaper?

The method (DG section 3, with controls): one architecture, one mixture of data, one
continuous learning rate; in some arms the model starts shallow and blocks of its own layers
are inserted stage by stage. Arms are compared at equal steps and at equal FLOPs, with the
same seeds and the same order of the data, on held-out text and on reasoning primitives,
each beside its level of chance.

    python -m experiments.depth_growth --config=configs/depth_growth.py --workdir=runs/growth

`rows.jsonl` has the curve of every seed (`kind: curve`) and a `kind: final` row for each. A
run that was killed goes on from its last checkpoint, across a growth step, too.
"""

import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli

# Fields of the config that decide no result: a run may go on with others.
PLACEMENT = (
    *("train.remat", "train.chunk", "train.checkpoint_every", "train.keep", "train.shards"),
    *("distributed", "arms", "progress"),
)


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, then writes summary, figures and report."""
    from jaxanatomy import report, runs
    from jaxanatomy.measures.depth_growth import summarise
    from jaxanatomy.report.depth_growth.report import summary_table
    from jaxanatomy.sweep import distributed

    process, processes = distributed.start(**config.distributed)
    plan = _plan(config)
    provenance = runs.provenance(
        architecture=plan.model.to_dict(),
        parameters=plan.model.parameter_count,
        tokenizer_sha256=plan.tokenizer_sha256,
        data=plan.pipeline(0).settings(plan.longest),
    )
    with runs.Run.open(
        workdir, config.to_dict(), provenance, PLACEMENT, process, processes
    ) as results:
        total = sum(stage.steps for stages in plan.arms.values() for stage in stages)
        with runs.Progress(total, "steps", force=config.progress) as progress:
            for arm in plan.arms:
                _train_arm(plan, arm, results, progress)
        if process:
            return
        results.write_summary(summarise(results.rows))
        path = report.write_report(results.folder)
        print(summary_table(results.rows))
        print(f"\nreport: {path}")


def dry_run(config: ConfigDict) -> str:
    """The arms, their stages and what they would cost."""
    from jaxanatomy.growth.depth_arms import total_flops

    plan = _plan(config)
    lines = [f"{plan.model.parameter_count:,} parameters, {len(config.seeds)} seeds"]
    for arm, stages in plan.arms.items():
        cost = total_flops(stages, plan.settings)
        steps = sum(stage.steps for stage in stages)
        depths = ", ".join(f"{stage.config.num_layers} layers {stage.steps}" for stage in stages)
        lines.append(f"{arm}: {steps} steps ({depths}), {cost / 1e12:,.2f} TFLOP a seed")
    return "\n".join(lines)


def describe() -> str:
    """Arms, mixtures and policies, a line each."""
    from jaxanatomy.data.mixture import MIXTURES
    from jaxanatomy.growth.apply import MOMENTS
    from jaxanatomy.growth.depth_arms import ARMS

    mixtures = {name: ", ".join(parts) for name, parts in MIXTURES.items()}
    return cli.format_sections({"arms": ARMS, "mixtures": mixtures, "moments": MOMENTS})


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is to be trained, known before anything is.

    Attributes:
      config: The config.
      model: The architecture at the end.
      tokenizer: Of all text.
      tokenizer_sha256: Its hash.
      settings: What all arms share.
      arms: The stages of each arm.
    """

    config: ConfigDict
    model: Any
    tokenizer: Any
    tokenizer_sha256: str
    settings: Any
    arms: dict[str, tuple]

    @property
    def longest(self) -> int:
        """Steps of the longest arm."""
        return max(sum(stage.steps for stage in stages) for stages in self.arms.values())

    def schedule(self):
        """The learning rate."""
        from jaxanatomy.train.schedule import WarmupStableDecay

        config = self.config
        return WarmupStableDecay(config.learning_rate, config.warmup, config.cooldown)

    def pipeline(self, seed: int, steps: int | None = None):
        """The data of a seed; the mixture may change where the cooldown of `steps` begins."""
        import jax

        from jaxanatomy.data.mixture import Schedule, parse_mixture
        from jaxanatomy.data.pipeline import Pipeline

        config = self.config
        mixtures = [(0, parse_mixture(config.data.mixture))]
        if config.data.cooldown_mixture and steps:
            first = steps - round(config.cooldown * steps)
            mixtures.append((first, parse_mixture(config.data.cooldown_mixture)))
        return Pipeline(
            Schedule(tuple(mixtures)),
            self.tokenizer,
            rows=config.rows,
            length=config.model.context_length,
            seed=seed,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )

    def hash(self, arm: str, seed: int, **more: Any) -> str:
        """The hash of a row."""
        from jaxanatomy import runs

        names = (
            *("learning_rate", "warmup", "cooldown", "weight_decay", "beta2", "eval_every"),
            *("moments", "rows"),
        )
        return runs.row_hash(
            code=runs.code_version(),
            stages=[dataclasses.asdict(stage) for stage in self.arms[arm]],
            tokenizer=self.tokenizer_sha256,
            data=self.config.data.to_dict(),
            settings={name: self.config[name] for name in names},
            train=[self.config.train.dtype, self.config.train.accumulate],
            arm=arm,
            seed=seed,
            **more,
        )


def _plan(config: ConfigDict) -> _Plan:
    from jaxanatomy.config import ModelConfig
    from jaxanatomy.data.vocabulary import check_vocabulary, load_tokenizer, tokenizer_sha256
    from jaxanatomy.errors import InputError
    from jaxanatomy.growth.depth_arms import DepthArmSettings, depth_arm

    for name in ("arms", "seeds"):
        if not config[name] or len(set(config[name])) < len(config[name]):
            raise InputError(f"{name} must name at least one, each once; got {config[name]}")
    for name in ("steps", "rows", "eval_every"):
        if config[name] < 1:
            raise InputError(f"{name} must be a whole number above 0; got {config[name]}")
    tokenizer = load_tokenizer(config.data.tokenizer)
    shape = config.model
    model = ModelConfig.uniform(
        *(shape.num_layers, shape.num_heads, shape.num_kv_heads, shape.ffn_width),
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        head_dim=shape.hidden_size // shape.num_heads,
        context_length=shape.context_length,
    )
    check_vocabulary(tokenizer, model.vocab_size)
    settings = DepthArmSettings(
        steps=config.steps,
        block=config.block,
        growing_share=config.growing_share,
        alpha=config.alpha,
        rows=config.rows,
        length=shape.context_length,
    )
    plan = _Plan(
        config=config,
        model=model,
        tokenizer=tokenizer,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        settings=settings,
        arms={name: depth_arm(name, model, settings) for name in config.arms},
    )
    plan.schedule()
    return plan


def _train_arm(plan: _Plan, arm: str, results, progress) -> None:
    """All seeds of an arm; side by side on one device, one after the other on several."""
    import jax

    seeds = list(plan.config.seeds)
    groups = [seeds] if jax.device_count() == 1 else [[seed] for seed in seeds]
    for group in groups:
        steps = sum(stage.steps for stage in plan.arms[arm])
        if all(results.done(plan.hash(arm, seed, kind="final")) for seed in group):
            progress.update(steps // len(groups))
            continue
        _train_group(plan, arm, group, results, progress)


def _train_group(plan: _Plan, arm: str, seeds: list[int], results, progress) -> None:
    import shutil

    import jax

    from jaxanatomy.train.loop import adamw
    from jaxanatomy.train.mesh import Placement
    from jaxanatomy.train.pretraining import Pretraining
    from jaxanatomy.train.setup import PretrainOptions, Setup

    config, stages = plan.config, plan.arms[arm]
    options = config.train.to_dict()
    shards = options.pop("shards")
    placement = Placement.over(jax.devices(), shards)
    setup = Setup(
        stages=stages,
        optimiser=adamw(config.weight_decay, betas=(0.9, config.beta2)),
        schedule=plan.schedule(),
        seeds=seeds,
        placement=placement,
        options=PretrainOptions(eval_every=config.eval_every, moments=config.moments, **options),
    )
    pipelines = [plan.pipeline(seed, setup.steps) for seed in seeds]
    held_out = pipelines[0].held_out(config.data.held_out_rows)
    training = Pretraining(setup, [each.batches() for each in pipelines], held_out)
    points: list = []

    def emit(point) -> None:
        points.append(point)
        results.append(_curve_rows(plan, arm, seeds, point))

    folder = results.path("checkpoints") / f"{arm}_{'_'.join(map(str, seeds))}"
    params = training.train(folder, emit, progress=progress.update)
    results.append(_final_rows(plan, arm, seeds, points[-1], params))
    shutil.rmtree(folder, ignore_errors=True)


def _curve_rows(plan: _Plan, arm: str, seeds: list[int], point) -> list[dict[str, Any]]:
    from jaxanatomy.measures.losses import finite

    rows = []
    for at, seed in enumerate(seeds):
        labels = {"kind": "curve", "stage": point.stage, "step": point.step}
        row = {"hash": plan.hash(arm, seed, **labels), "arm": arm, "seed": seed, **labels}
        row |= {"layers": plan.arms[arm][point.stage].config.num_layers, "tokens": point.tokens}
        row |= {"flops": point.flops, "seconds": point.seconds}
        row |= {"loss": finite(point.loss[at])}
        row |= {"eval_nll": finite(point.eval_nll[at])}
        by_source = {name: finite(values[at]) for name, values in point.by_source.items()}
        rows.append(row | {"eval_nll_by_source": by_source, "reason": point.reason[at]})
    return rows


def _final_rows(plan: _Plan, arm: str, seeds: list[int], point, params) -> list[dict[str, Any]]:
    """What each seed comes to; `right` holds one letter for each question."""
    import jax.numpy as jnp

    from jaxanatomy.data.choices import pack_choices
    from jaxanatomy.data.primitives import PRIMITIVES
    from jaxanatomy.data.questions import questions
    from jaxanatomy.measures.depth_growth import accuracies
    from jaxanatomy.train.loss import LanguageModelLoss
    from jaxanatomy.train.scoring import answers

    config = plan.config
    asked = questions(PRIMITIVES, config.data.questions)
    length = config.model.context_length
    scoring = pack_choices(asked, plan.tokenizer, rows=config.rows, length=length)
    loss = LanguageModelLoss(plan.arms[arm][-1].config, jnp.dtype(config.train.dtype))
    right_MQ = answers(loss, params, scoring, replicas=len(seeds) > 1)
    curves = _curve_rows(plan, arm, seeds, point)
    shared = ("layers", "step", "tokens", "flops", "seconds", "eval_nll", "eval_nll_by_source")
    rows = []
    for right_Q, seed, curve in zip(right_MQ, seeds, curves, strict=True):
        row = {"hash": plan.hash(arm, seed, kind="final"), "arm": arm, "seed": seed}
        row |= {"kind": "final", **{name: curve[name] for name in shared}}
        row |= {"reason": curve["reason"], **accuracies(asked, right_Q)}
        rows.append(row)
    return rows


if __name__ == "__main__":
    cli.run_experiment("depth_growth", run)

"""Depth growth: does a model that grows while it trains end better, or cheaper?

The method (DG section 3, with controls): one architecture, one mixture of data, one
continuous learning rate; in some arms the model starts shallow and copies of its own layers
are inserted stage by stage. Arms are compared at equal steps and at equal FLOPs, with the
same seeds and the same order of the data, on held-out text and on generated questions
(reasoning primitives, k-hop induction, ...: `data.tasks`), each beside chance and what guessing
reaches, and with models that never grow. Each arm has its own learning rate, tuned on separate
seeds; a config with one rate tunes nothing.

    python -m experiments.depth_growth --config=configs/depth_growth.py --workdir=runs/depth

`rows.jsonl` has the curve of every seed (`kind: curve`) and a `kind: final` row for each, of
`purpose` "tuning" or "main"; `metrics.jsonl` has every step of the latter, `models/` each
trained model as a Hugging Face folder. A run that was killed resumes from its last
checkpoint, across a growth step, too.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.data.corpora import SOURCES
from jaxanatomy.data.mixture import MIXTURES
from jaxanatomy.data.vocabulary import TOKENIZERS
from jaxanatomy.growth.depth_arms import ARMS, OPTIONS
from jaxanatomy.growth.stages import MOMENTS
from jaxanatomy.measures.arms.depth_growth import summarise
from jaxanatomy.measures.arms.role_courses import summarise_courses
from jaxanatomy.sweep import distributed
from jaxanatomy.train import setup
from jaxanatomy.train.depth_plan import depth_plan
from jaxanatomy.train.describe import describe_arms
from jaxanatomy.train.memory import describe_runs
from jaxanatomy.train.trials import train_arms

MAY_CHANGE_ON_RESUME = (
    "arms",
    "seeds",
    "distributed",
    "tensorboard",
    *setup.MAY_CHANGE_ON_RESUME,
)


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, then writes summary, figures and report."""
    process, processes = distributed.start(**config.distributed)
    plan = depth_plan(config)

    def provenance() -> dict[str, Any]:
        data = plan.data  # text is read here, once the workdir is known to be good
        return plan.provenance(tokenizer_sha256=plan.tokenizer_sha256, data=data)

    with runs.Run.open(
        workdir, config.to_dict(), provenance, MAY_CHANGE_ON_RESUME, process, processes
    ) as results:
        train_arms(plan, results)
        if process:
            return
        report.conclude(results, summarise(results.rows) | summarise_courses(results.rows))
        if config.save_models:
            print(f"models: {results.path('models')}/ARM_SEED")


def dry_run(config: ConfigDict) -> str:
    """The arms, their stages, what they would cost, and memory of the devices they are for."""
    plan = depth_plan(config, dry_run=True)
    shape = config.batch_size, config.model.context_length
    memory = describe_runs(plan.widest(), *shape, config.train.devices is not None)
    return "\n".join([*describe_arms(plan, *shape), *memory])


def describe() -> str:
    """Arms, mixtures, what they may be made of, and policies, a line each."""
    mixtures = {name: ", ".join(parts) for name, parts in MIXTURES.items()}
    data = {"mixtures": mixtures, "sources": SOURCES, "tokenizers": TOKENIZERS}
    return cli.format_sections(
        {"arms": ARMS, "after the name": OPTIONS, **data, "moments": MOMENTS}
    )


if __name__ == "__main__":
    cli.run_experiment("depth_growth", run)

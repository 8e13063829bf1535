"""Growth where depth matters: does growing pay on k-hop induction?

On text a small model of two layers does as well as one of twelve, so growing cannot show what it is
good for. In k-hop induction more layers answer more hops: each position is asked what follows the
previous occurrence of its symbol, what follows that one's, and so on, all K questions at once. Arms
are those of depth growth (DG section 3, with controls) at equal steps; `:all` adds equal FLOPs and
equal seconds. Each has a learning rate tuned for it. Trained models are scored again with their
middle block repeated, without a layer, with layers swapped, and with early exits.

    python -m experiments.khop_growth --config=configs/khop_growth.py --workdir=runs/khop

`rows.jsonl` has the curve of every seed (`kind: curve`) and a `kind: final` row for each, of
`purpose` "tuning" or "main"; `metrics.jsonl` has every step of the latter, `models/` each trained
model. A run that was killed resumes from its last checkpoint, across a growth step, too.
"""

from pathlib import Path

from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.data.depth_tasks import TASKS
from jaxanatomy.growth.depth_arms import ARMS, OPTIONS
from jaxanatomy.growth.stages import MOMENTS
from jaxanatomy.measures.arms.khop_growth import summarise
from jaxanatomy.measures.arms.role_courses import summarise_courses
from jaxanatomy.model import INITS
from jaxanatomy.sweep import distributed
from jaxanatomy.train import setup
from jaxanatomy.train.describe import describe_arms
from jaxanatomy.train.hop_plan import hop_plan
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
    plan = hop_plan(config)
    provenance = plan.provenance(data=plan.identity)
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
    """The task, the arms, their stages, what they would cost, and memory of the devices."""
    plan = hop_plan(config, dry_run=True)
    shape = config.batch_size, plan.task.seq_len
    memory = describe_runs(plan.widest(), *shape, lower=False)
    return "\n".join([repr(plan.task), *describe_arms(plan, *shape), *memory])


def describe() -> str:
    """Arms, what their names may add, tasks and policies, a line each."""
    tasks = {name: task.__doc__.partition("\n")[0] for name, task in TASKS.items()}
    return cli.format_sections(
        {"arms": ARMS, "after the name": OPTIONS, "tasks": tasks, "moments": MOMENTS, "init": INITS}
    )


if __name__ == "__main__":
    cli.run_experiment("khop_growth", run)

"""Roles moved on purpose: can training decide which layer becomes what, and does that help?

The method (LR sections 5 to 9, with controls): a small model is trained on one text in several arms
that share initial weights and text, seed by seed. Besides one weight decay for all, there are no
decay, decays drawn at random for each matrix of each layer, and decays proposed by a policy that
learns by REINFORCE on held-out loss (our own design: the paper does not publish its own), and the
same for each layer's learning rate. Three arms have layers of different widths with as many
parameters, three read registers before their text; layers are left out of the baseline by role and
at random. Each arm is compared with the baseline of the same seed: which layers change role, which
saturated neurons are lost and gained, effective ranks, held-out loss. The null is the baseline
itself with its text in another order.

    python -m experiments.role_moves --config=configs/role_moves.py --workdir=runs/role_moves

`rows.jsonl` has the curve of every seed (`kind: curve`), the proposals of policies with their
rewards (`kind: proposal`), how far registers have moved (`kind: registers`), and a `kind: final`
row for each with the features of each layer. A run that was killed resumes from its last
checkpoint.
"""

from pathlib import Path

from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.data.corpora import SOURCES
from jaxanatomy.data.vocabulary import TOKENIZERS
from jaxanatomy.measures.arms.role_courses import summarise_courses
from jaxanatomy.measures.arms.role_moves import UNIFORM, summarise
from jaxanatomy.measures.arms.role_shape import summarise_shapes
from jaxanatomy.train import setup
from jaxanatomy.train.describe import describe_arms
from jaxanatomy.train.role_arms import ARMS
from jaxanatomy.train.role_plan import role_plan
from jaxanatomy.train.trials import train_arms

MAY_CHANGE_ON_RESUME = ("arms", "seeds", *setup.MAY_CHANGE_ON_RESUME)


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, then writes summary, figures and report."""
    plan = role_plan(config, ARMS)
    provenance = plan.provenance(data=plan.text.identity)
    with runs.Run.open(workdir, config.to_dict(), provenance, MAY_CHANGE_ON_RESUME) as results:
        train_arms(plan, results)
        what = {name: arm.help for name, arm in ARMS.items()}
        summary = summarise(results.rows, what) | summarise_shapes(results.rows, UNIFORM)
        report.conclude(results, summary | summarise_courses(results.rows))


def dry_run(config: ConfigDict) -> str:
    """The arms and what they would cost."""
    plan = role_plan(config, ARMS, dry_run=True)
    return "\n".join(describe_arms(plan, config.batch_size, plan.model.context_length))


def describe() -> str:
    """Arms, texts and tokenizers, a line each."""
    arms = {name: arm.help for name, arm in ARMS.items()}
    return cli.format_sections({"arms": arms, "texts": SOURCES, "tokenizers": TOKENIZERS})


if __name__ == "__main__":
    cli.run_experiment("role_moves", run)

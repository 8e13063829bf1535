"""A small developmental run: shared by tests and by the processes that they start and kill.

python developmental_run.py save:3 FLAGS     dies when a checkpoint was begun the third time
python developmental_run.py append:2 FLAGS   dies when rows were appended the second time
"""

import os
import signal
import sys

from experiments import developmental
from jaxanatomy import cli, provenance, runs
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.growth import phases
from jaxanatomy.train import snapshots

SMALL = ModelConfig(
    vocab_size=494,
    hidden_size=8,
    head_dim=4,
    layers=tuple(LayerShape(2, 2, 8 * multiplier) for multiplier in phases.MULTIPLIERS),
    context_length=32,
)
# These arms train all layers at every step, so that one program serves them.
ARMS = ("uniform_100", "clone_init_uniform", "equal_flops")
FLAGS = (
    "--config.steps=20",
    "--config.growth_50_steps=20",
    "--config.eval_every=10",
    "--config.seeds=0,1",
    "--config.learning_rates=1e-3,1e-2",
    "--config.tuning_seeds=7",
    "--config.train.steps_per_call=10",
    "--config.train.checkpoint_every=5",
)


def flags(workdir, *more, arms=ARMS):
    """The command line of a run."""
    arms = f"--config.arms={','.join(arms)}"
    return ["developmental", f"--workdir={workdir}", arms, *FLAGS, *more]


def make_small(patch):
    """Lets the experiment train the small model, by `patch(owner, name, value)`."""
    patch(developmental, "growth_transformer", lambda: SMALL)
    patch(provenance, "code_version", lambda experiment: "test")
    patch(runs, "code_version", lambda experiment: "test")


def dying(method, count):
    """The method, but the process is killed after so many calls."""
    calls = []

    def called(*arguments):
        method(*arguments)
        calls.append(arguments)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    return called


if __name__ == "__main__":
    make_small(setattr)
    name, count = sys.argv[1].split(":")
    owner = {"save": snapshots.Snapshots, "append": runs.Run}[name]
    setattr(owner, name, dying(getattr(owner, name), int(count)))
    sys.exit(cli.main(sys.argv[2:]))

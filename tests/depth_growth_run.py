"""A small run of depth growth: shared by tests and by the processes that they start and kill.

python depth_growth_run.py write:midas:3 FLAGS    dies when that step of an arm was written
python depth_growth_run.py save:midas:4 FLAGS     dies while that checkpoint is being written
"""

import os
import signal
import sys
from pathlib import Path

import pytest
import run_files

from jaxanatomy import cli, provenance, runs
from jaxanatomy.data import bpe
from jaxanatomy.data.arithmetic import ARITHMETIC
from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.data.questions import document
from jaxanatomy.train import metrics, snapshots

ENTRIES, LENGTH, ROWS, STEPS, BLOCK = 400, 96, 4, 12, 2
# Of MIDAS: PROP-1 of 10 growing steps over two stages, 3 1/3 and 6 2/3, then two more steps.
GROWS_AT = 3
MIXTURE = "0.5 primitives, 0.5 arithmetic"
TIMES = ("seconds", "tokens_per_second", "mfu")
FIELDS = {
    "data.held_out_sequences": 4,
    "data.questions": 2,
    "depth_sequences": 0,
    "steps": STEPS,
    "batch_size": ROWS,
    "model.vocab_size": ENTRIES,
    "model.num_layers": 4,
    "model.hidden_size": 16,
    "model.num_heads": 2,
    "model.num_kv_heads": 1,
    "model.ffn_width": 32,
    "model.context_length": LENGTH,
    "eval_every": 5,
    "seeds": "0,1",
    "block": BLOCK,
    "train.steps_per_call": 3,
    "train.checkpoint_every": 4,
    "arms": "baseline,midas",
    "learning_rates": 3e-3,
}


def save_tokenizer(folder):
    """A byte-level BPE of a few entries."""
    texts = (document(tasks, 0, at) for tasks in (PRIMITIVES, ARITHMETIC) for at in range(200))
    bpe.save(bpe.train(texts, ENTRIES), folder)


def flags(workdir, tokenizer, *more, **fields):
    """The command line of a run; other fields of the config as in `FIELDS`."""
    fields = FIELDS | fields
    return [
        "depth_growth",
        f"--workdir={workdir}",
        f"--config.data.tokenizer=file:{tokenizer}",
        *([] if "data.mixture" in fields else [f"--config.data.mixture={MIXTURE}"]),
        *(f"--config.{name}={value}" for name, value in fields.items()),
        *more,
    ]


def rows_of(workdir):
    return run_files.read_rows(workdir)


def without_times(rows):
    return [{name: row[name] for name in row if name not in TIMES} for row in rows]


def by_place(rows):
    """The figures of each row: whatever depends neither on the clock nor on the config."""
    return {
        (row["arm"], row["learning_rate"], row["seed"], row.get("stage"), row["step"]): {
            **{name: row[name] for name in ("eval_nll", "tokens", "flops")},
            **{f"nll of {name}": value for name, value in row["eval_nll_by_source"].items()},
            **{name: row[name] for name in ("loss", "accuracy") if row.get(name) is not None},
        }
        for row in rows
    }


def require_close(rows, expected):
    rows, expected = by_place(rows), by_place(expected)
    assert rows.keys() == expected.keys()
    for place, figures in expected.items():
        assert rows[place] == pytest.approx(figures, rel=1e-5), place


def fix_version(patch):
    """Sources may change while tests run."""
    patch(provenance, "code_version", lambda experiment: "test")
    patch(runs, "code_version", lambda experiment: "test")


_CODE = """
import os, sys
import depth_growth_run
from jaxanatomy import cli
from jaxanatomy.report import html
depth_growth_run.fix_version(setattr)
html.fill = lambda page, *records: []  # nobody looks at the page
count = int(os.environ["PROCESS_COUNT"])
several = {"coordinator_address": os.environ["COORDINATOR"], "num_processes": count}
several |= {"process_id": os.environ["PROCESS_INDEX"]}
more = [f"--config.distributed.{name}={value}" for name, value in several.items()]
sys.exit(cli.main(sys.argv[1:] + (more if count > 1 else [])))
"""


def start(run_python, *argv, **options):
    """Runs the command line in a process of its own, or in several."""
    where = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})"
    exchange = options.get("processes", 1) > 1
    return run_python(where + _CODE, *argv, timeout=500, exchange=exchange, **options)


def dying(method, is_reached):
    """The method, but the process is killed after a call of which `is_reached(*arguments)`."""

    def called(*arguments):
        method(*arguments)
        if is_reached(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)

    return called


def die_at(place, arm, step):
    """Kills this process when a step of an arm has been written, or its checkpoint begun."""

    def written(log, steps, *_):
        return log._arm == arm and steps.first + len(steps.rate_EM) >= step

    def begun(saved, snapshot):
        seeds = saved._folder
        return seeds.parent.name == arm and snapshot.step >= step

    owner, is_reached = {
        "write": (metrics.Metrics, written),
        "save": (snapshots.Snapshots, begun),
    }[place]
    setattr(owner, place, dying(getattr(owner, place), is_reached))


if __name__ == "__main__":
    fix_version(setattr)
    place, arm, step = sys.argv[1].split(":")
    die_at(place, arm, int(step))
    sys.exit(cli.main(sys.argv[2:]))

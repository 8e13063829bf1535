"""Processes that make batches: the same ones, and none of them outlives its reader."""

import multiprocessing
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from jaxanatomy.data.bpe import train
from jaxanatomy.data.mixture import Mixture, MixtureSchedule
from jaxanatomy.data.pipeline import Pipeline
from jaxanatomy.errors import InputError


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Pipelines over a file and over what is made by rule."""
    monkeypatch.setenv("JAXANATOMY_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "words.txt"
    path.write_text("\n\n".join(f"word {index} of many words" for index in range(400)))
    schedule = MixtureSchedule(((0, Mixture((str(path), "arithmetic"), (0.5, 0.5))),))
    tokenizer = train([path.read_text()], 300)
    return lambda **options: Pipeline(schedule, tokenizer, batch_size=4, seq_len=64, **options)


def take(batches, steps):
    return [next(batches) for _ in range(steps)]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        for leaf, expected_leaf in zip(one, other, strict=True):
            np.testing.assert_array_equal(leaf, expected_leaf)


def test_workers_make_the_batches_that_threads_make(make):
    expected = take(make().batches(), 9)
    batches = make(num_workers=2).batches()
    assert_equal(take(batches, 4), expected[:4])
    assert len(multiprocessing.active_children()) == 2
    state = batches.state()
    batches.close()
    assert_equal(take(make(num_workers=3).batches(state), 5), expected[4:])
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_is_said_and_not_waited_for(make):
    batches = make(num_workers=2).batches()
    next(batches)
    time.sleep(2)  # all is made that is made ahead: one killed in the middle of it leaves half
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(InputError, match="a process that makes batches ended"):
        take(batches, 40)


class Losing:
    """Rows of which the third is lost with its worker; those after it are there."""

    def __init__(self, rows):
        self.rows, self.read = rows, 0
        self.close = rows.close

    def __next__(self):
        row, self.read = next(self.rows), self.read + 1
        if self.read == 3:
            raise RuntimeError("Worker process was terminated unexpectedly with exit code -9.")
        return row


def test_a_batch_lost_with_its_worker_is_made_again(make, monkeypatch):
    """A real kill comes at any of its steps."""
    expected, read = take(make().batches(), 5), make().read
    monkeypatch.setattr(Pipeline, "read", lambda self, step: Losing(read(step)))
    batches = make(num_workers=2).batches()
    assert_equal(take(batches, 2), expected[:2])
    with pytest.raises(InputError, match="a process that makes batches ended"):
        next(batches)
    assert_equal(take(batches, 2), expected[2:4])
    batches.close()


ORPHANS = """
import multiprocessing, os, signal, sys
from jaxanatomy.data import bpe
from jaxanatomy.data.mixture import MixtureSchedule, parse_mixture
from jaxanatomy.data.pipeline import Pipeline

if __name__ == "__main__":
    schedule = MixtureSchedule(((0, parse_mixture("arithmetic")),))
    tokenizer = bpe.train(["0 1 2 3 4 5 6 7 8 9 + - ="], 300)
    batches = Pipeline(schedule, tokenizer, batch_size=2, seq_len=64, num_workers=2).batches()
    for _ in range(4):
        next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"  # ended, though nobody has asked how


def test_workers_end_with_the_process_that_reads(run_python):
    killed = run_python(ORPHANS, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pids = [int(pid) for pid in killed.stdout.split()]
    assert len(pids) == 2
    end = time.monotonic() + 30
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(is_running, pids))

"""Depth growth on several devices and in several processes: the rows of one device."""

import functools
import signal
from pathlib import Path

import depth_growth_run
import jax
import numpy as np
import pytest
from depth_growth_run import flags, require_close, rows_of, start, without_times

from jaxanatomy import weights
from jaxanatomy.train.metrics import read_metrics

SCRIPT = Path(depth_growth_run.__file__)
pytestmark = pytest.mark.slow


def test_eight_devices_and_two_processes_give_the_rows_of_one(tokenizer, tmp_path, run_python):
    """Both seeds side by side, or one after the other; two processes share the rows."""
    runs = {}
    for name, options in (
        ("one", {"devices": 1}),
        ("eight", {"devices": 8}),
        ("processes", {"devices": 4, "processes": 2}),
    ):
        fields = {} if name == "one" else {"train.fsdp_shards": 8}
        fields |= {"train.vmap_seeds": False} if name == "eight" else {}
        argv = flags(tmp_path / name, tokenizer, batch_size=8, **fields)
        start(run_python, *argv, **options)
        runs[name] = rows_of(tmp_path / name), read_metrics(tmp_path / name)
        require_close(runs[name][0], runs["one"][0])
        lines = {(line["arm"], line["seed"], line["step"]): line for line in runs[name][1]}
        assert len(lines) == len(runs[name][1]) == len(runs["one"][1])
        for line in runs["one"][1]:
            place = line["arm"], line["seed"], line["step"]
            assert lines[place]["loss"] == pytest.approx(line["loss"], rel=1e-5)
        for folder in (tmp_path / name / "models").iterdir():
            found, expected = (
                weights.load(f"file:{each}").params
                for each in (folder, tmp_path / "one/models" / folder.name)
            )
            close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
            jax.tree.map(close, found, expected)
    # Process 0 alone writes.
    left = {path.name for path in (tmp_path / "processes").iterdir() if path.name[0] != "."}
    assert left == {path.name for path in (tmp_path / "one").iterdir() if path.name[0] != "."}


def test_a_run_goes_on_with_other_devices(tokenizer, tmp_path, run_python):
    """From one to eight and back, both seeds side by side, across a growth step."""
    argv, whole = (flags(tmp_path / name, tokenizer, batch_size=8) for name in ("run", "whole"))
    start(run_python, *whole, devices=1)
    for place, devices in (("write:baseline:8", 1), ("save:midas:3", 8), ("write:midas:8", 1)):
        options = {"devices": devices, "check": False, "timeout": 500}
        killed = run_python(SCRIPT, place, *argv, **options)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    start(run_python, *argv, devices=8)
    require_close(rows_of(tmp_path / "run"), rows_of(tmp_path / "whole"))
    found, expected = (without_times(read_metrics(tmp_path / each)) for each in ("run", "whole"))
    assert [line["step"] for line in found] == [line["step"] for line in expected]

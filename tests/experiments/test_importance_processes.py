"""The importance experiment in processes of its own: killed and restarted, and quick to refuse."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


PYTHON = (sys.executable, "-m", "experiments.importance")


def flags_of(tiny, workdir):
    """Many small chunks of one variant each."""
    scopes = ["layer", "attention", "mlp", *(f"head_{head}" for head in range(6))]
    scopes += ["q_proj", "v_proj", "gate_proj"]
    return [
        "--config=configs/importance.py:quick",
        f"--config.model={tiny.model}",
        f"--config.texts={tiny.jsonl}",
        f"--workdir={workdir}",
        "--config.interventions=zero",
        f"--config.scopes={','.join(scopes)}",
        "--config.sweep.chunk_size=1",
    ]


def lines(workdir):
    try:
        return (workdir / "rows.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def start(flags):
    return subprocess.Popen(
        [*PYTHON, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def kill_when(process, is_reached, seconds=120):
    """Kills a process as soon as `is_reached()`; it must not have ended by itself."""
    end = time.monotonic() + seconds
    while not is_reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gives_the_same_rows(tiny, tmp_path, command):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert command("importance", *flags_of(tiny, whole)).status == 0
    total = lines(whole)
    first, second = sorted(random.SystemRandom().sample(range(1, total - 12), 2))
    counts = [0]
    for is_reached in (
        lambda: (broken / "config.json").exists(),
        lambda: lines(broken) >= first,
        lambda: lines(broken) > second,
        lambda: (broken / "summary.json").exists(),
    ):
        kill_when(start(flags_of(tiny, broken)), is_reached)
        counts.append(lines(broken))
    assert counts == sorted(counts), (first, second)
    assert counts[1] < counts[2] < counts[3] < counts[4] == total, (first, second)
    process = start(flags_of(tiny, broken))
    out, err = process.communicate(timeout=120)
    complaints = [line for line in err.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
    assert (process.returncode, complaints) == (0, [])
    assert f"report: {broken / 'report.html'}" in out
    for name in ("rows.jsonl", "summary.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), (name, first, second)
    assert not [path for path in broken.rglob(".writing-*")]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["importance", "--config.modle=x", "--workdir=x"], "unknown config field 'modle'"),
        (
            ["importance", "--config.sweep.pool_megabytes=x", "--workdir=x"],
            "expects an integer; got 'x'",
        ),
        (["importance", "--config=:fast", "--workdir=x"], "unknown variant"),
        (["importance"], "expected --workdir=DIR"),
        (["export", "--config.layer=1"], "unknown config field 'layer'"),
    ],
)
def test_jax_is_not_imported_before_an_error_of_the_config(run_python, flags, message):
    code = f"""
import sys
from jaxanatomy import cli
status = cli.main({flags!r})
heavy = ("jax", "flax", "matplotlib", "transformers", "tokenizers", "scipy", "gguf")
print(status, [name for name in heavy if name in sys.modules])
"""
    done = run_python(code, check=False)
    assert done.stdout == "2 []\n"
    assert message in done.stderr

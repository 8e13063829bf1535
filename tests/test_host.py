"""The machine: a platform that JAX does not find is one line that says what there is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("cpuu", "JAX_PLATFORMS=cpuu names no device that JAX can use here; there is cpu; set"),
        ("CPU", "JAX_PLATFORMS=CPU names no device that JAX can use here; there is cpu; set"),
        ("cuda", "or install jaxanatomy[cuda] on a machine that has one"),
        ("tpu", "or install jaxanatomy[tpu] on a machine that has one"),
    ],
)
def test_an_unusable_platform_is_one_line(platform, words):
    if Path("/dev/nvidia0").exists() or Path("/dev/accel0").exists():
        pytest.skip("this machine has an accelerator")
    code = """
import sys
import jax.numpy as jnp
from jaxanatomy import cli
sys.exit(cli._guarded(lambda: jnp.zeros(3).block_until_ready(), []))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JAX_PLATFORMS": platform, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: JAX_PLATFORMS=")
    assert words in line

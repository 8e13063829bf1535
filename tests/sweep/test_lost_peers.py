"""A process of several whose peer is gone: one line that says how to go on, in time."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxanatomy import peers

ROOT = Path(__file__).resolve().parents[2]
WAITS = """
import sys, time
from jaxanatomy import cli, peers
from jaxanatomy.sweep import distributed

peers.HEARTBEAT_SECONDS = 8  # half a minute in use

def work():
    distributed.start(sys.argv[2], 2, int(sys.argv[1]))
    print("up", flush=True)
    if sys.argv[3] == "fails":  # not before the other one is up as well
        distributed.wait_for_all("both are up")
    if sys.argv[3] == "collective":
        if sys.argv[1] == "1":
            time.sleep(600)
        distributed.wait_for_all("the end")
    if sys.argv[3] == "fails" and sys.argv[1] == "0":
        raise ValueError("broken")
    time.sleep(600)

sys.exit(cli._guarded(work, []))
"""


def pair(does="sleeps"):
    """Two processes that have found each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    found = [
        subprocess.Popen(
            [sys.executable, "-c", WAITS, str(index), address, does],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        )
        for index in (0, 1)
    ]
    for process in found:
        assert process.stdout.readline() == "up\n", process.communicate()
    return found


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def ended(process, seconds):
    start = time.monotonic()
    _, err = process.communicate(timeout=seconds + 30)
    assert time.monotonic() - start < seconds
    return process.returncode, err


def test_the_first_process_is_killed():
    first, second = pair()
    kill(first)
    assert ended(second, 10) == (1, f"{peers.LINE}\n")


@pytest.mark.slow
def test_another_process_is_killed():
    first, second = pair()
    kill(second)
    assert ended(first, 60) == (1, f"{peers.LINE}\n")


@pytest.mark.slow
def test_a_process_is_killed_that_others_compute_with():
    first, second = pair("collective")
    time.sleep(1)
    kill(second)
    assert ended(first, 60) == (1, f"{peers.LINE}\n")


def test_a_process_that_fails_says_why_and_ends_the_others():
    first, second = pair("fails")
    status, err = ended(first, 10)
    assert (status, err.splitlines()[-1]) == (1, "ValueError: broken")
    assert ended(second, 10) == (1, f"{peers.LINE}\n")

"""Ctrl-C and SIGTERM at any moment: one line, status 130, at once, and the run goes on."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tokenizers

ROOT = Path(__file__).resolve().parent.parent
LINE = "interrupted; nothing was written\n"
BUSY = {
    "foreign code": "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    "a swallowed exception": """
while True:
    try:
        time.sleep(0.01)
    except BaseException:
        pass
""",
    "a thread at the end": """
import threading
threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"", b"", 10**9)).start()
""",
    "a child": "subprocess.run([sys.executable, '-c', CHILD], stderr=subprocess.DEVNULL)",
}


# A signal that is ignored stays so across an exec, and the tests' own process, in which JAX has
# threads, may not fork: so a program in between sets the signals.
DEFAULTS = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def begin(*command, **options):
    """A process with the signals of a terminal, whatever those of the tests are."""
    return subprocess.Popen(
        [sys.executable, "-c", DEFAULTS, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        **options,
    )


def end(process, number):
    """Sends a signal; gives status, output and errors, and the seconds to the end."""
    sent = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err, time.monotonic() - sent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", BUSY)
def test_a_signal_is_answered_whatever_the_program_does(tmp_path, busy, number):
    mark = tmp_path / "child"
    child = f"import time\ntry:\n    time.sleep(60)\nfinally:\n    open({str(mark)!r}, 'w')"
    code = f"""
import hashlib, subprocess, sys, time
from jaxanatomy import interrupts
interrupts.listen()
CHILD = {child!r}
print("busy", flush=True)
{BUSY[busy]}
"""
    process = begin("-c", code)
    assert process.stdout.readline() == "busy\n"
    time.sleep(0.5)
    status, _, err, seconds = end(process, number)
    assert (status, err) == (130, LINE)
    assert seconds < 2
    if busy == "a child":  # it was told, too, and could tidy up
        deadline = time.monotonic() + 10
        while not mark.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert mark.exists()


def test_a_signal_that_is_ignored_stays_ignored():
    code = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from jaxanatomy import interrupts
interrupts.listen()
os.kill(os.getpid(), signal.SIGINT)
print("alive")
"""
    assert begin("-c", code).communicate(timeout=60)[0] == "alive\n"


def test_the_programs_listen_before_they_import_anything_slow():
    for command in (["-m", "jaxanatomy", "--version"], ["-m", "experiments.flops", "--list"]):
        process = begin("-X", "importtime", *command)
        _, err = process.communicate(timeout=60)
        names = [line.rpartition("|")[2].strip() for line in err.splitlines()]
        before = names[: names.index("jaxanatomy.interrupts")]
        assert not {"ml_collections", "numpy", "jax", "jaxanatomy.cli"} & set(before)


def flags(tiny, workdir):
    texts = (f"--config.texts={tiny / 'text.txt'}#lines", f"--workdir={workdir}")
    return ["--config=configs/importance.py:quick", f"--config.model=file:{tiny / 'model'}", *texts]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with a tokenizer of characters, and a text."""
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copytree(ROOT / "tests" / "golden" / "gqa_tied", folder / "model")
    vocabulary = {chr(32 + index): index for index in range(95)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="~"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    backend.save(str(folder / "model" / "tokenizer.json"))
    (folder / "text.txt").write_text("The river runs to the sea.\nSalt dissolves in water.\n")
    return folder


def interrupt_at_random(tmp_path, model, number, tries, seed):
    """Kills one run again and again in its first seconds; gives what was wrong."""
    rng, wrong = random.Random(seed), []
    for _ in range(tries):
        delay = rng.uniform(0.2, 6.0)
        process = begin("-m", "experiments.importance", *flags(model, tmp_path / "run"))
        time.sleep(delay)
        status, _, err, seconds = end(process, number)
        complaints = [line for line in err.splitlines() if not line[:2].isdigit()]
        good = status == 130 and len(complaints) == 1 and complaints[0].startswith("interrupted")
        if not (good and seconds < 2) and (status, complaints) != (0, []):
            wrong.append((delay, status, err, seconds))
    return wrong


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted_is_one_line(tmp_path, model, number):
    assert interrupt_at_random(tmp_path, model, number, tries=2, seed=int(number)) == []


@pytest.mark.slow
def test_twelve_interrupted_starts_and_the_run_goes_on(tmp_path, model):
    for number in (signal.SIGINT, signal.SIGTERM):
        assert interrupt_at_random(tmp_path, model, number, tries=6, seed=40 + number) == []
    for name in ("run", "whole"):
        process = begin("-m", "experiments.importance", *flags(model, tmp_path / name))
        assert process.wait(timeout=120) == 0, process.communicate()
        process.communicate()
    run, whole = ((tmp_path / name / "rows.jsonl").read_text() for name in ("run", "whole"))
    assert [json.loads(line) for line in run.splitlines()] == [
        json.loads(line) for line in whole.splitlines()
    ]
    assert not list((tmp_path / "run").rglob(".writing-*"))

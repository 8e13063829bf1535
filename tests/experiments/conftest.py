"""A tiny model as a Hugging Face folder, texts for it, and the command line in process."""

import contextlib
import io
import json
import re
import shutil
import string
import types
from pathlib import Path

import depth_growth_run
import pytest
import tokenizers
from tokenizers import decoders, models

from jaxanatomy import cli

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
# The golden models have 97 rows: <unk>, newline and the 95 printable characters.
CHARACTERS = ["\n", *(c for c in string.printable if c.isprintable())]
DOCUMENTS = (
    "The river runs to the sea.",
    "A cat sat on the mat, and slept.",
    "Two and two make four.",
    "Rain fell all night.",
    "He read the letter twice.",
    "Salt dissolves in water.",
)


def write_tokenizer(folder):
    """One token for each character."""
    vocabulary = {"<unk>": 0} | {c: index for index, c in enumerate(CHARACTERS, start=1)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    backend.save(str(folder / "tokenizer.json"))


def make_model(folder, kind="gqa_tied"):
    """A copy of a golden model with a tokenizer."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDEN / kind / name, folder / name)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A model of 3 layers and two texts: `model`, `jsonl`, `txt` as flags take them."""
    folder = tmp_path_factory.mktemp("tiny")
    make_model(folder / "model")
    lines = [json.dumps({"text": document}) for document in DOCUMENTS]
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "text.txt").write_text("\n".join(DOCUMENTS[:3]))
    return types.SimpleNamespace(
        folder=folder,
        model=f"file:{folder / 'model'}",
        jsonl=str(folder / "text.jsonl"),
        txt=f"{folder / 'text.txt'}#lines",
    )


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """A byte-level BPE of a few entries, a folder, for training from scratch."""
    folder = tmp_path_factory.mktemp("tokenizer")
    depth_growth_run.save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def fixed_version():
    """Sources may be edited while the tests of a module run."""
    with pytest.MonkeyPatch.context() as patch:
        depth_growth_run.fix_version(patch.setattr)
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """A cache of the tests' own, except for tests of the real model."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache_folder, monkeypatch, request):
    if not request.node.get_closest_marker("real"):
        monkeypatch.setenv("JAXANATOMY_CACHE", str(cache_folder))


def run_command(*argv):
    """Runs the command line in process.

    Gives its status, what it printed, what it complained about, and what it said of its
    progress: lines with the time.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([str(argument) for argument in argv])
    lines = err.getvalue().splitlines(keepends=True)
    said = [line for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]
    complaints = "".join(line for line in lines if line not in said)
    return types.SimpleNamespace(status=status, out=out.getvalue(), err=complaints, said=said)


@pytest.fixture(scope="session")
def command():
    return run_command


@pytest.fixture(scope="session")
def copy_model():
    """`copy_model(folder, kind)`: a model of one's own, to be damaged."""
    return make_model


@pytest.fixture
def place(tmp_path, tiny, monkeypatch):
    """Where a test makes its bad input: a folder, the workdir to be, and helpers."""
    with contextlib.ExitStack() as stack:
        yield types.SimpleNamespace(
            folder=tmp_path,
            workdir=tmp_path / "run",
            tiny=tiny,
            copy_model=make_model,
            monkeypatch=monkeypatch,
            stack=stack,
        )

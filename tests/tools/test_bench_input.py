"""What the benchmark of the input pipeline prints; nothing is timed here."""

import importlib
import json
import pathlib
import sys

import pytest

from jaxanatomy.data.bpe import train

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    module = importlib.import_module("bench_input")
    monkeypatch.setattr(module, "offline_tokenizer", lambda size: train(["some words"], 300))
    return module


def test_one_line_of_json(bench, capsys, monkeypatch):
    given = ["--mixture=0.5 primitives,0.5 arithmetic", "--rows=2", "--length=16", "--steps=2"]
    monkeypatch.setattr(sys, "argv", ["bench_input", *given, "--repeats=3"])
    bench.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["length"]) == (2, 16)
    assert found["mixture"] == ["0.5 primitives", "0.5 arithmetic"]
    assert 0 < found["slowest"] <= found["tokens_per_second"] <= found["fastest"]

"""What the benchmark of the input pipeline prints; nothing is timed here."""

import importlib
import json
import pathlib

import depth_growth_run
import numpy as np
import pytest

from jaxanatomy import config_files

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The tool, with a small config in the place of any."""
    (tmp_path / "tokenizer").mkdir()
    depth_growth_run.save_tokenizer(tmp_path / "tokenizer")
    config = config_files.shipped("depth_growth")
    with config.unlocked():
        config.data.tokenizer = f"file:{tmp_path / 'tokenizer'}"
        config.data.mixture = depth_growth_run.MIXTURE
        config.model.update(num_layers=2, hidden_size=16, ffn_width=32, vocab_size=400)
        config.update(batch_size=2, block=1)
    monkeypatch.syspath_prepend(TOOLS)
    module = importlib.import_module("bench_input")
    monkeypatch.setattr(module.config_files, "shipped", {"growth_small": config}.get)
    return module


def test_figures_of_both_kinds_and_their_ratio(bench, capsys, tmp_path, monkeypatch):
    read = []

    def step_seconds(setup, stream, original=bench._step_seconds):
        read.append([np.asarray(stream.next().token_BT) for _ in range(2)])
        original(setup, stream)
        return 0.25 if isinstance(stream, bench.OneBatch) else 0.5

    monkeypatch.setattr(bench, "_step_seconds", step_seconds)
    bench.main(["--steps=2", "--repeats=2", f"--json={tmp_path / 'figures.json'}"])
    mixture, one, ratio, alone = capsys.readouterr().out.splitlines()
    assert " ".join(mixture.split()) == "mixture 500.0 ms a step (500.0 to 500.0)"
    assert one.split()[:3] == ["one", "batch", "250.0"]
    assert ratio.split() == ["ratio", "2.000"]
    assert "training reads 1,024" in alone  # 2 rows of 128 tokens in a quarter of a second
    assert json.loads((tmp_path / "figures.json").read_text())["seconds"] == {
        "mixture": [0.5, 0.5],
        "one batch": [0.25, 0.25],
    }
    assert [np.array_equal(*two) for two in read] == [False, True, False, True]


def test_no_steps_are_refused(bench, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--steps=0"])
    assert stopped.value.code == 2
    assert "must be at least 1" in capsys.readouterr().err

"""What the benchmark of overheads times and prints; no real time is asserted."""

import dataclasses
import importlib
import json
import pathlib
import time
import types

import depth_growth_run
import growing_run
import jax
import numpy as np
import pytest

from jaxanatomy import config_files
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.setup import Setup

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The tool, with small configs in the place of those that are shipped."""
    (tmp_path / "tokenizer").mkdir()
    depth_growth_run.save_tokenizer(tmp_path / "tokenizer")
    words = np.random.default_rng(0).choice(
        ["red", "blue", "one", "two", "ship", "tree"], (900, 12)
    )
    (tmp_path / "lines.txt").write_text("\n".join(map(" ".join, words)))
    configs = {
        "growth_small": config_files.shipped("depth_growth"),
        "role_moves": config_files.shipped("role_moves"),
    }
    growth, roles = configs.values()
    with growth.unlocked():
        growth.data.tokenizer = f"file:{tmp_path / 'tokenizer'}"
        growth.data.mixture = depth_growth_run.MIXTURE
        growth.model.update(num_layers=4, hidden_size=16, ffn_width=32, vocab_size=400)
        growth.update(batch_size=2, block=1)
    with roles.unlocked():
        roles.update(text=f"{tmp_path / 'lines.txt'}#lines", held_out_rows=4, judged_rows=4)
        roles.update(tokenizer=growth.data.tokenizer, batch_size=4, seeds=(0, 1))
        roles.model.update(num_layers=4, hidden_size=8, num_heads=2, num_kv_heads=1)
        roles.model.update(ffn_width=24, context_length=8, vocab_size=400)
    monkeypatch.syspath_prepend(TOOLS)
    module = importlib.import_module("bench_overheads")
    monkeypatch.setattr(module.config_files, "shipped", configs.get)
    return module


def test_figures_of_every_kind_and_their_ratios_in_one_round(bench, capsys, tmp_path, monkeypatch):
    read, given = [], iter([0.25, 0.5, 0.505, 0.6, 0.5, 0.75, 0.7575, 1.5])

    def step_seconds(setup, streams, callbacks, now):
        stream, *others = streams
        assert (len(others), now) == (2, time.process_time)
        read.append([np.asarray(stream.next().token_BT) for _ in range(2)])
        assert setup.steps == 2 * 20
        return next(given)

    monkeypatch.setattr(bench, "_step_seconds", step_seconds)
    bench.main(["--steps=20", "--repeats=2", "--clock=cpu", f"--json={tmp_path / 'figures.json'}"])
    title, one, data, alarms, roles, alone = capsys.readouterr().out.splitlines()
    assert title == "growth_small, 3 seeds side by side, 20 steps, cpu time, medians of 2 rounds"
    assert " ".join(one.split()) == "one batch 375.00 ms a step (250.000 to 500.000)"
    assert " ".join(data.split()[5:]) == "(500.000 to 750.000) 1.750 of one batch (1.500 to 2.000)"
    assert alarms.endswith("1.010 of data (1.010 to 1.010)")
    assert roles.endswith("1.600 of data (1.200 to 2.000)")
    assert alone.split()[0] == "alone"
    seconds = json.loads((tmp_path / "figures.json").read_text())["seconds"]
    assert seconds["alarms"] == [0.505, 0.7575]
    assert [np.array_equal(*two) for two in read] == 2 * [True, False, False, False]


def test_a_policy_proposes_where_a_config_has_one(bench, monkeypatch):
    """And each kind of callback is there in its own rounds alone."""
    seen = {}

    def step_seconds(setup, streams, callbacks, now):
        timed = [each for each in callbacks if each.steps]
        places = [sorted(step for _, step in each.places(setup.stages)) for each in timed]
        seen[len(seen)] = places
        return 1.0

    monkeypatch.setattr(bench, "_step_seconds", step_seconds)
    found = bench.measure("role_moves", 20, 1)
    assert found["seeds"] == 2
    assert list(found["seconds"]) == ["one batch", "data", "alarms", "roles", "policy"]
    (watched,), (looked,), (proposed,) = seen[2], seen[3], seen[4]
    assert (seen[0], seen[1]) == ([], [])
    assert watched == looked == [0, 20, 40]
    assert proposed == [0, 10, 20, 30, 40]


def test_the_second_half_is_timed_with_what_is_done_at_its_end(bench):
    """Callbacks of 0.3 s each on a clock that nothing else moves."""
    clock = types.SimpleNamespace(now=0.0)

    def wait(state):
        clock.now += 0.3

    options = dataclasses.replace(growing_run.OPTIONS, checkpoint_every=12)
    stages, placement = (Stage(growing_run.config(2), 12),), growing_run.Placement
    setup = Setup(
        stages,
        growing_run.ADAMW,
        growing_run.SCHEDULE,
        (0,),
        placement.over(jax.devices()[:1]),
        options,
    )
    streams, callbacks = [growing_run.Counting(100)], [Every(2, wait, at_ends=True)]
    found = bench._step_seconds(setup, streams, callbacks, lambda: clock.now)
    assert found == pytest.approx(3 * 0.3 / 6)  # after steps 8, 10 and 12


@pytest.mark.parametrize(
    ("given", "message"),
    [("--steps=19", "at least 20"), ("--repeats=0", "and --repeats 1"), ("--config=x", "choose")],
)
def test_what_cannot_be_timed_is_refused(bench, capsys, given, message):
    with pytest.raises(SystemExit) as stopped:
        bench.main([given])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err

"""What the benchmark of training makes of its measurements; nothing is timed here."""

import importlib
import pathlib

import pytest

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("bench_train")


def results(theirs=10.0, second=100e9):
    losses = {"train": [[10.8], [10.0]], "train_torch": [[10.8], [theirs]]}
    return {
        "batch_size": 4,
        "seq_len": 256,
        "layers": 30,
        "threads": 2,
        "labels": [""],
        "seconds": {
            "train": [3.0, 2.0, 2.5],
            "train_torch": [5.0, 7.0, 5.5],
            "train_torch_careful": [5.0, 5.0, 5.0],
        },
        "peak_bytes": {"train": 4e9, "train_torch": 5e9, "train_torch_careful": 3.5e9},
        "losses": losses | {"train_torch_careful": losses["train"]},
        "product_rates": [[100e9, 100e9], [second, second]],
        "work": 150e9,
    }


def test_table_holds_medians_ratios_memory_and_shares(bench):
    found = results(theirs=10.0004)
    bench.rounds.check(found)
    text = bench.table(found)
    title, _, *rows = text.splitlines()
    assert title == "a step of 4 rows of 256 tokens through 30 layers, 2 threads, medians of 2"
    ours, theirs, careful = (row.split() for row in rows[:3])
    assert ours == ["train", "2.50", "(2.00-3.00)", "1.00", "4.00", "GB"]
    assert theirs == ["train_torch", "5.50", "(5.00-7.00)", "2.20", "5.00", "GB"]
    assert careful == ["train_torch_careful", "5.00", "(5.00-5.00)", "2.00", "3.50", "GB"]
    assert rows[3].startswith("matrix products 150 GFLOP: 60 GFLOP/s, 60.0% of the product peak")
    assert text.endswith("largest difference of a loss: 4e-05 relative (train_torch, step 1)")


@pytest.mark.parametrize("theirs", [10.002, 9.998, float("nan"), float("inf")])
def test_losses_that_differ_end_the_run(bench, theirs):
    with pytest.raises(SystemExit, match=r"losses differ by .*: train_torch, step 1$"):
        bench.rounds.check(results(theirs=theirs))


def test_a_machine_that_is_not_quiet_ends_the_run_with_status_3(bench, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.rounds.check(results(second=80e9))
    assert stop.value.code == 3
    assert "not quiet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--repeats", "1"], "at least 2"),
        (["--threads", "0"], "--threads and --batches must be at least 1"),
        (["--seq_len", "1"], "--seq_len at least 2"),
        (["--remat", "some"], "invalid choice: 'some'"),
    ],
)
def test_what_cannot_be_measured_is_refused(bench, monkeypatch, capsys, given, message):
    monkeypatch.setattr(bench.rounds.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(SystemExit) as stop:
        bench.main(given)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_without_torch_it_says_what_to_install(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench.rounds.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        bench.main([])
    assert stop.value.code == 2
    assert 'pip install -e ".[bench]"' in capsys.readouterr().err

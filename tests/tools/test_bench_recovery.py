"""What the recovery benchmark makes of its measurements; nothing is timed here."""

import importlib
import pathlib

import pytest

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("bench_recovery")


def results(theirs=5.0, second=100e9):
    return {
        "model": "MODEL",
        "threads": 2,
        "labels": ["layer 3", "layer 8"],
        "seconds": {"recovery": [1.9, 2.0, 2.6], "recovery_torch": [7.0, 6.0, 5.0]},
        "peak_bytes": {"recovery": 1.5e9, "recovery_torch": 2.5e9},
        "losses": {
            "recovery": [[4.0, 6.0], [3.0, 5.0]],
            "recovery_torch": [[4.0, 6.0], [3.0, theirs]],
        },
        "product_rates": [[100e9, 100e9], [second, second]],
        "work": 160e9,
    }


def test_table_holds_medians_ratios_memory_and_shares(bench):
    bench.rounds.check(results(theirs=5.0004))
    text = bench.table(results(theirs=5.0004))
    ours, theirs = text.splitlines()[2:4]
    assert ours.split() == ["recovery", "2.00", "(1.90-2.60)", "1.00", "1.50", "GB"]
    assert theirs.split() == ["recovery_torch", "6.00", "(5.00-7.00)", "3.00", "2.50", "GB"]
    assert "160 GFLOP: 80 GFLOP/s, 80.0% of the product peak 100" in text
    assert text.endswith(
        "largest difference of a loss: 8e-05 relative (recovery_torch, step 1, layer 8)"
    )


@pytest.mark.parametrize("theirs", [5.001, 4.999, float("nan"), float("inf")])
def test_losses_that_differ_end_the_run(bench, theirs):
    with pytest.raises(SystemExit, match=r"losses differ by .* step 1, layer 8"):
        bench.rounds.check(results(theirs=theirs))


def test_a_machine_that_is_not_quiet_ends_the_run_with_status_3(bench, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.rounds.check(results(second=80e9))
    assert stop.value.code == 3
    assert "not quiet" in capsys.readouterr().err


def test_one_repeat_is_refused(bench, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(["--repeats", "1"])
    assert stop.value.code == 2
    assert "at least 2" in capsys.readouterr().err

"""What the benchmark makes of its measurements; nothing is timed here."""

import importlib
import pathlib

import pytest

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("bench_sweep")


def results(rates=((100e9, 100e9), (100e9, 100e9)), theirs=(26.5, 31.0)):
    return {
        "model": "MODEL",
        "threads": 2,
        "seconds": {"jaxanatomy": [1.9, 2.0, 2.6], "transformers": [9.0, 8.0, 7.0]},
        "peak_bytes": {"jaxanatomy": 1.5e9, "transformers": 2.5e9},
        "perplexities": {"jaxanatomy": [26.5, 31.0], "transformers": list(theirs)},
        "product_rates": [list(pair) for pair in rates],
        "work": 160e9,
        "cold_seconds": [(6.0, 9.0), (8.0, 9.5), (7.0, 9.1)],
    }


def test_a_quiet_run_passes(bench, capsys):
    bench.check(results(rates=((100e9, 100e9), (109e9, 109e9)), theirs=(26.51, 31.0)))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("second", [88e9, 112e9])
def test_a_peak_that_moves_ends_the_run_with_status_3_and_one_line(bench, capsys, second):
    with pytest.raises(SystemExit) as stop:
        bench.check(results(rates=((100e9, 100e9), (second, second))))
    assert stop.value.code == 3
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"from 100 to {second / 1e9:.0f} GFLOP/s" in message


@pytest.mark.parametrize("theirs", [(26.5, 31.1), (26.5, float("nan")), (float("inf"), 31.0)])
def test_perplexities_that_differ_end_the_run(bench, theirs):
    with pytest.raises(SystemExit, match=r"perplexities differ"):
        bench.check(results(theirs=theirs))


def test_largest_deviation_is_relative_and_says_where(bench):
    deviation, where = bench.largest_deviation({"jaxanatomy": [20.0, 4.0], "other": [20.01, 3.99]})
    assert deviation == pytest.approx(0.01 / 4)
    assert where == "other, layer 1"


def test_table_holds_medians_ratios_memory_and_shares(bench):
    text = bench.table(results())
    ours, theirs = text.splitlines()[2:4]
    assert ours.split() == ["jaxanatomy", "2.00", "(1.90-2.60)", "1.00", "1.50", "GB"]
    assert theirs.split() == ["transformers", "8.00", "(7.00-9.00)", "4.00", "2.50", "GB"]
    assert "160 GFLOP: 80 GFLOP/s, 80.0% of the product peak 100" in text
    assert text.endswith("cold process: 7.0 s to the last row, 9.1 s to the report")


def test_a_worker_that_fails_is_reported_by_its_last_line(bench, tmp_path):
    with pytest.raises(bench.WorkerError, match=r"^nobody ended early: KeyError: 'nobody'$"):
        bench.Worker("nobody", tmp_path, 1)


def test_one_repeat_is_refused(bench, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(["--repeats", "1"])
    assert stop.value.code == 2
    assert "at least 2" in capsys.readouterr().err

"""What the evaluation benchmark makes of its measurements; nothing is timed here."""

import importlib
import pathlib

import pytest

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("bench_eval")


def results(theirs=-2.0, greedy=True, second=100e9):
    return {
        "model": "MODEL",
        "questions": 2,
        "threads": 2,
        "seconds": {"evaluate": [1.9, 2.0, 2.6], "evaluate_hf": [7.0, 6.0, 5.0]},
        "peak_bytes": {"evaluate": 1.5e9, "evaluate_hf": 2.5e9},
        "losses": {
            "evaluate": [[[-1.0, False], [-2.0, True]]] * 2,
            "evaluate_hf": [[[-1.0, False], [-2.0, True]], [[-1.0, False], [theirs, greedy]]],
        },
        "product_rates": [[100e9, 100e9], [second, second]],
        "work": 160e9,
    }


def test_table_holds_medians_ratios_and_agreement(bench):
    bench.check(results(theirs=-2.0005))
    text = bench.table(results(theirs=-2.0005))
    ours, theirs = text.splitlines()[2:4]
    assert ours.split() == ["evaluate", "2.00", "(1.90-2.60)", "1.00", "1.50", "GB"]
    assert theirs.split() == ["evaluate_hf", "6.00", "(5.00-7.00)", "3.00", "2.50", "GB"]
    assert text.endswith(
        "accuracy 0.5000 for all; largest difference of a log-likelihood 5.0e-04 nats"
    )


def test_answers_that_differ_end_the_run(bench):
    with pytest.raises(SystemExit, match=r"log-likelihoods differ by 0\.002 nats"):
        bench.check(results(theirs=-2.002))
    with pytest.raises(SystemExit, match=r"log-likelihoods differ by inf"):
        bench.check(results(theirs=float("nan")))
    with pytest.raises(SystemExit, match=r"accuracies differ: .*0\.5.*0\.0"):
        bench.check(results(greedy=False))


def test_a_machine_that_is_not_quiet_gives_no_figures(bench):
    with pytest.raises(SystemExit) as ended:
        bench.check(results(second=80e9))
    assert ended.value.code == 3

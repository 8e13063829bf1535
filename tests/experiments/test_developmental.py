"""The developmental experiment from the command line, on a small model of twelve layers."""

import itertools
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import run_files
from developmental_run import ARMS, SMALL, flags, make_small

from jaxanatomy.model import parameter_count
from jaxanatomy.train import trainer
from jaxanatomy.train.metrics import read_metrics

pytestmark = pytest.mark.slow

FIELDS = {
    "hash",
    "kind",
    "arm",
    "purpose",
    "seed",
    "learning_rate",
    "stage",
    "step",
    "tokens",
    "flops",
    "seconds",
    "loss",
    "eval_nll",
}


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch.setattr)
        yield


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "developmental"
    done = command(*flags(workdir, arms=ARMS[:2]))
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def rows_of(workdir):
    return run_files.read_rows(workdir)


def without_times(rows):
    times = ("seconds", "wall_seconds")
    return {
        row["hash"]: {name: value for name, value in row.items() if name not in times}
        for row in rows
    }


def test_the_files_and_rows_are_those_of_the_design(finished):
    workdir, out = finished
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(".")}
    files = {"config.json", "rows.jsonl", "metrics.jsonl", "summary.json", "report.html"}
    assert names == {*files, "figures", "checkpoints"}
    assert not any((workdir / "checkpoints").iterdir())
    rows = rows_of(workdir)
    assert len({row["hash"] for row in rows}) == len(rows)
    curves = [row for row in rows if row["kind"] == "curve"]
    assert all(set(row) == FIELDS for row in curves)
    finals = [row for row in rows if row["kind"] == "final"]
    assert all(set(row) > FIELDS | {"final_nll", "min_nll", "completions"} for row in finals)
    for row in finals:
        for units, mean in (("unit_nll", "final_nll"), ("min_unit_nll", "min_nll")):
            assert len(row[units]) == len(row["unit_tokens"]) == 120
            assert sum(row[units]) / sum(row["unit_tokens"]) == pytest.approx(row[mean], rel=1e-9)
        assert row["core_steps"] == 20
    # Two arms, of each two learning rates and two seeds; points at 0, 10 and 20 steps.
    assert (len(curves), len(finals)) == (2 * 4 * 3, 2 * 4)
    assert [row["step"] for row in curves[:6]] == [0, 0, 10, 10, 20, 20]
    assert {row["arm"] for row in finals} == set(ARMS[:2])
    assert all(len(row["completions"]) == 12 for row in finals)
    assert f"report: {workdir / 'report.html'}" in out
    assert out.splitlines()[2].startswith("uniform_100")
    provenance = json.loads((workdir / "config.json").read_text())["provenance"]
    assert provenance["parameters"] == parameter_count(SMALL)


def test_arms_share_seeds_and_data_and_differ_in_weights(finished):
    finals = [row for row in rows_of(finished[0]) if row["kind"] == "final"]
    main = [row for row in finals if row["purpose"] == "main"]
    by_seed = {}
    for row in main:
        by_seed.setdefault(row["seed"], []).append(row)
    assert set(by_seed) == {0, 1}
    for pair in by_seed.values():
        assert pair[0]["tokens"] == pair[1]["tokens"]
        assert pair[0]["flops"] == pair[1]["flops"]
        assert pair[0]["final_nll"] != pair[1]["final_nll"]


def test_each_arm_takes_the_rate_that_did_best_in_tuning(finished):
    rows = rows_of(finished[0])
    for arm in ARMS[:2]:
        finals = [row for row in rows if row["kind"] == "final" and row["arm"] == arm]
        tuning = {r["learning_rate"]: r["final_nll"] for r in finals if r["purpose"] == "tuning"}
        assert set(tuning) == {1e-3, 1e-2}
        taken = {r["learning_rate"] for r in finals if r["purpose"] == "main"}
        assert taken == {min(tuning, key=tuning.get)}


def test_a_finished_run_trains_nothing_and_another_arm_is_added(finished, command, monkeypatch):
    workdir = finished[0]
    before = rows_of(workdir)
    calls, train = [], trainer.Trainer.train

    def counted(*arguments, **settings):
        calls.append(arguments)
        return train(*arguments, **settings)

    monkeypatch.setattr(trainer.Trainer, "train", counted)
    assert command(*flags(workdir, arms=ARMS[:2])).status == 0
    assert (calls, rows_of(workdir)) == ([], before)
    assert command(*flags(workdir, arms=ARMS)).status == 0
    assert len(calls) == 2  # tuning and seeds of the new arm
    after = rows_of(workdir)
    assert after[: len(before)] == before
    assert {row["arm"] for row in after[len(before) :]} == {"equal_flops"}


def test_runs_that_are_killed_go_on_to_the_same_rows(finished, command, run_python, tmp_path):
    """Between points, between a checkpoint and its rows, at an arm's end; to the bit."""
    workdir, argv = tmp_path / "run", flags(tmp_path / "run", arms=ARMS[:2])
    script = Path(__file__).parent.parent / "developmental_run.py"
    before = []
    for death in ("save:1", "append:2", "save:2", "append:3"):
        killed = run_python(script, death, *argv, devices=1, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        rows = rows_of(workdir)
        assert rows[: len(before)] == before
        before = rows
    assert any((workdir / "checkpoints").rglob("params"))
    assert command(*argv).status == 0
    after = rows_of(workdir)
    # The finished run may have got another arm meanwhile.
    whole = [row for row in rows_of(finished[0]) if row["arm"] in ARMS[:2]]
    assert without_times(after) == without_times(whole)
    lines = [
        [line for line in read_metrics(each) if line["arm"] in ARMS[:2]]
        for each in (workdir, finished[0])
    ]
    losses = [
        {(line["arm"], line["seed"], line["step"]): line["loss"] for line in each} for each in lines
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == len(lines[0]) == 2 * 2 * 20


def test_a_growing_arm_that_is_killed_within_its_phases_goes_on_to_the_same_rows(
    small, command, run_python, tmp_path
):
    """Across clones with noise, parts that do not train, and optimisers that start anew."""
    rates = ("--config.learning_rates=1e-3", "--config.seeds=0")
    script = Path(__file__).parent.parent / "developmental_run.py"
    argv = flags(tmp_path / "killed", *rates, arms=("growth_100",))
    for death in ("save:4", "save:3"):
        killed = run_python(script, death, *argv, devices=1, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert command(*argv).status == 0
    assert command(*flags(tmp_path / "whole", *rates, arms=("growth_100",))).status == 0
    found, expected = (without_times(rows_of(tmp_path / name)) for name in ("killed", "whole"))
    assert found == expected


def test_two_devices_train_the_same_as_one(finished, run_python, tmp_path):
    """Each takes half of the sentences of a batch."""
    script = Path(__file__).parent.parent / "developmental_run.py"
    fewer = ("--config.seeds=0", "--config.learning_rates=1e-3", "--config.train.devices=2")
    argv = flags(tmp_path / "run", *fewer, arms=ARMS[:1])
    run_python(script, "save:99", *argv, devices=2, timeout=600)
    expected = {place(row): row for row in rows_of(finished[0])}
    rows = [row for row in rows_of(tmp_path / "run") if place(row) in expected]
    for row in rows:
        other = expected[place(row)]
        assert row["tokens"] == other["tokens"]
        assert row["eval_nll"] == pytest.approx(other["eval_nll"], rel=1e-4)
    assert len(rows) >= 4


def place(row):
    return tuple(row[name] for name in ("kind", "arm", "purpose", "seed", "learning_rate", "step"))


@pytest.fixture(scope="module")
def diverging(small, tmp_path_factory, command):
    """The other readings of the paper; of two learning rates one is far too high."""
    workdir = tmp_path_factory.mktemp("runs") / "developmental"
    readings = ("--config.core=table", "--config.not_yet_grown=frozen")
    rates = "--config.learning_rates=1e-3,1e38"
    done = command(*flags(workdir, *readings, rates, arms=("growth_100", "core_alone")))
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def test_frozen_layers_and_the_table_s_core_go_through_all_phases(diverging):
    curve = [row for row in rows_of(diverging[0]) if row["kind"] == "curve"]
    which = ("growth_100", "main", 0)
    curve = [row for row in curve if (row["arm"], row["purpose"], row["seed"]) == which]
    names = ("gastrulation", "neurulation", "organogenesis", "growth", "connective", "maturation")
    assert tuple(dict.fromkeys(row["stage"] for row in curve)) == names
    costs = {}
    for row, after in itertools.pairwise(curve):
        if after["step"] > row["step"]:
            costs[row["stage"]] = (after["flops"] - row["flops"]) / (after["step"] - row["step"])
    # All layers are there from the start. The backward ends at L8, L7 and L1, and where the
    # embedding trains it goes through all of them.
    by_cost = ("organogenesis", "growth", "neurulation", "gastrulation", "maturation")
    assert [costs[name] for name in by_cost] == sorted({costs[name] for name in by_cost})
    assert curve[-1]["eval_nll"] < curve[0]["eval_nll"]


def test_a_rate_that_diverges_is_reported_and_the_others_go_on(diverging):
    workdir, out = diverging
    finals = [row for row in rows_of(workdir) if row["kind"] == "final"]
    finals = [row for row in finals if row["arm"] == "growth_100"]
    tuning = {row["learning_rate"]: row for row in finals if row["purpose"] == "tuning"}
    lost = tuning[1e38]
    assert (lost["final_nll"], lost["min_nll"], lost["train_nll"]) == (None, None, None)
    assert lost["reason"] == f"the loss was not finite at step {lost['diverged_step']}"
    assert tuning[1e-3]["diverged_step"] is None
    assert {row["learning_rate"] for row in finals if row["purpose"] == "main"} == {1e-3}
    summary = run_files.read_summary(workdir)
    assert dict(summary["tuning"]["growth_100"]) == {1e-3: tuning[1e-3]["final_nll"], 1e38: None}
    assert summary["arms"]["growth_100"]["rate_at_edge"] is True
    page = (workdir / "report.html").read_text()
    assert "at the edge of the grid" in page
    assert "growth_100" in out


def test_the_core_alone_is_a_model_of_two_layers(diverging):
    core = [row for row in rows_of(diverging[0]) if row["arm"] == "core_alone"]
    assert {row["stage"] for row in core} == {"core"}
    (final,) = (row for row in core if (row["kind"], row["seed"]) == ("final", 0))
    layers = 2 * (4 * 8 * 8 + 3 * 8 * 32)
    weights = layers + 494 * 8
    products = 6 * 72 * weights + 2 * 3 * 4 * 72 * 72 * 8
    assert final["flops"] == 20 * products
    assert len(final["completions"]) == 12
    assert final["final_nll"] > 0


def test_uniform_training_that_starts_anew_is_another_training_of_the_same_steps(
    finished, command, tmp_path
):
    done = command(*flags(tmp_path / "run", arms=("uniform_restarts",)))
    assert (done.status, done.err) == (0, "")
    (own,) = (r for r in rows_of(tmp_path / "run") if is_result(r, "uniform_restarts"))
    (uniform,) = (row for row in rows_of(finished[0]) if is_result(row, "uniform_100"))
    same = ("step", "flops", "tokens", "core_steps")
    assert [own[name] for name in same] == [uniform[name] for name in same]
    assert own["stage"] == "maturation"
    assert own["final_nll"] != uniform["final_nll"]


def is_result(row, arm):
    return (row["kind"], row["purpose"], row["arm"], row["seed"]) == ("final", "main", arm, 0)


def test_rates_that_all_diverge_are_named(small, tmp_path, command):
    rates = "--config.learning_rates=1e37,1e38"
    done = command(*flags(tmp_path / "run", rates, arms=ARMS[:1]))
    assert done.status == 2
    assert "every learning rate of (1e+37, 1e+38) diverged in uniform_100; set lower" in done.err


def test_the_summary_and_report_have_every_arm(finished):
    summary = run_files.read_summary(finished[0])
    assert set(summary["arms"]) >= set(ARMS[:2])
    assert set(summary["differences"]) >= {"clone_init_uniform"}
    finals = [row for row in rows_of(finished[0]) if row["kind"] == "final"]
    values = [r["final_nll"] for r in finals if (r["arm"], r["purpose"]) == (ARMS[0], "main")]
    found = summary["arms"]["uniform_100"]["final_nll"]["mean"]
    assert found == pytest.approx(np.mean(values), rel=1e-9)
    page = (finished[0] / "report.html").read_text()
    assert "Developmental training" in page
    assert {path.name for path in (finished[0] / "figures").iterdir()} == {
        "loss_curves.png",
        "training_and_validation.png",
        "differences.png",
    }


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--config.arms=growth_10", "did you mean 'growth_100'"),
        ("--config.steps=3", "3 steps are too few for 6 phases"),
        ("--config.seeds=0,0", "seeds must name at least one, each once; got (0, 0)"),
        ("--config.seeds=-1", "whole numbers, 0 or above, below 2^32; got -1"),
        ("--config.tuning_seeds=1", "have none in common; got [1] in both"),
        ("--config.learning_rates=0.0", "a learning rate must be finite and above 0"),
        ("--config.batch_size=481", "at most the 480 sentences to learn; got 481"),
        ("--config.shuffle_seed=-1", "shuffle_seed must be a whole number, 0 or above; got -1"),
        ("--config.split_seed=-1", "split_seed must be a whole number, 0 or above; got -1"),
        ("--config.seeds=4294967296", "below 2^32"),
        ("--config.eval_every=0", "eval_every must be a whole number, 1 or above; got 0"),
        ("--config.warmup=0.9", "at most together; got 0.9 and 0.2"),
        ("--config.optimiser.weight_decay=-1", "weight_decay must be finite and 0 or above"),
        ("--config.core=tabel", "did you mean 'table'"),
        ("--config.not_yet_grown=gone", "did you mean 'frozen'"),
    ],
)
def test_bad_input_is_one_line(small, tmp_path, command, flag, words):
    arms = ("growth_100",)
    done = command(*flags(tmp_path / "run", flag, arms=arms))
    assert done.status == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()


def test_growth_50_has_no_more_steps_than_the_others(small, tmp_path, command):
    more = "--config.growth_50_steps=21"
    done = command(*flags(tmp_path / "run", more, "--dry_run", arms=("growth_50",)))
    assert done.status == 2
    assert "growth_50_steps must be at most the 20 steps" in done.err
    assert command(*flags(tmp_path / "run", more, "--dry_run", arms=ARMS[:1])).status == 0


def test_the_dry_run_lists_arms_and_phases(small, tmp_path, command):
    done = command(*flags(tmp_path, "--dry_run", "--config.steps=656", arms=("growth_100",)))
    assert done.status == 0
    assert "480 sentences to learn, 120 to judge by" in done.out
    assert "growth_100: 656 steps" in done.out
    assert "191 steps gastrulation: train 4 5" in done.out
    assert "growth_50: 416" not in done.out

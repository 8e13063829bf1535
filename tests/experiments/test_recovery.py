"""The recovery experiment from the command line, on a tiny model of three layers."""

import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import run_files

from jaxanatomy.train.recovery import trainer as recovery

ROOT = Path(__file__).resolve().parents[2]
STEP_FIELDS = {
    "hash",
    "layer",
    "seed",
    "noise",
    "train_text",
    "step",
    "ppl",
    "loss",
    "nll",
    "tokens",
    "unit_nll",
    "unit_tokens",
    "text",
}
FINAL_FIELDS = {
    "hash",
    "kind",
    "layer",
    "seed",
    "noise",
    "train_text",
    "text",
    "steps",
    "noised_ppl",
    "best_ppl",
    "best_step",
    "final_ppl",
    "steps_to",
    "steps_to_control",
    "gap_to_control",
    "gap_to_control_nats",
    "gap_ci95",
}


def flags(tiny, workdir, *more):
    """Two groups, calls of width 1, learning fast enough to see."""
    return [
        "recovery",
        f"--config.model={tiny.model}",
        f"--config.eval_text={tiny.txt}",
        f"--config.train_text={tiny.jsonl}",
        "--config.steps=6",
        "--config.eval_every=2",
        "--config.checkpoint_every=2",
        "--config.num_noise_seeds=2",
        "--config.thresholds=2,1.01",
        "--config.train.group_size=4",
        "--config.train.tokens_per_call=1",
        "--config.optimiser.learning_rate=3e-3",
        f"--workdir={workdir}",
        *more,
    ]


def rows_of(workdir):
    return run_files.read_rows(workdir)


def by_hash(workdir):
    return {row["hash"]: row for row in rows_of(workdir)}


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "recovery"
    done = command(*flags(tiny, workdir))
    assert done.status == 0, done.err
    return workdir, done


def test_rows_of_all_kinds_have_the_fields_of_the_design(finished):
    rows = rows_of(finished[0])
    assert len({row["hash"] for row in rows}) == len(rows)
    points = [row for row in rows if "step" in row]
    finals = [row for row in rows if row.get("kind") == "final"]
    assert all(row.keys() == STEP_FIELDS for row in points)
    assert all(row.keys() == FINAL_FIELDS for row in finals)
    found = {(row["layer"], row["seed"], row["step"]) for row in points}
    trained = {(layer, seed) for layer in range(3) for seed in (None, layer)}
    expected = {(*each, step) for each in trained for step in (0, 2, 4, 6)}
    assert found == expected | {(layer, layer + 1000, 0) for layer in range(3)}
    assert {(row["layer"], row["seed"]) for row in finals} == trained
    assert all(row["loss"] is None for row in points if row["step"] == 0)
    assert all(math.isfinite(row["loss"]) for row in points if row["step"] > 0)
    assert len([row for row in rows if "variant" in row]) == 2  # baseline, layer 1


def test_controls_begin_at_the_baseline_and_finals_follow_from_the_points(finished):
    rows = rows_of(finished[0])
    (baseline,) = (row["ppl"] for row in rows if row.get("variant") == "baseline")
    points = {(r["layer"], r["seed"], r["step"]): r for r in rows if "step" in r}
    for row in rows:
        if row.get("kind") != "final":
            continue
        key = row["layer"], row["seed"]
        if row["seed"] is None:
            assert points[*key, 0]["ppl"] == pytest.approx(baseline, rel=1e-5)
            assert row["gap_to_control"] is None
        else:
            gap = points[*key, 6]["ppl"] - points[row["layer"], None, 6]["ppl"]
            assert row["gap_to_control"] == pytest.approx(gap)
            near = [
                step
                for step in (0, 2, 4, 6)
                if points[*key, step]["ppl"] <= 2 * points[row["layer"], None, step]["ppl"]
            ]
            assert row["steps_to_control"]["2"] == (near[0] if near else None)
        assert row["best_ppl"] == min(points[*key, step]["ppl"] for step in (0, 2, 4, 6))
        assert row["noised_ppl"] == points[*key, 0]["ppl"]


def test_summary_report_and_warning(finished, tiny):
    workdir, done = finished
    summary = run_files.read_summary(workdir)
    assert summary["thresholds"] == ["2", "1.01"]
    assert summary["noise"]["1"]["seeds"] == 2
    assert summary["budget"]["layers"] == 3
    finals = {row["layer"]: row for row in rows_of(workdir) if row.get("noise") and "kind" in row}
    for layer, gap in summary["gaps"].items():
        assert (gap["seeds"], gap["step"], gap["ci95"]) == (1, 6, None)
        assert gap["mean"] == pytest.approx(finals[int(layer)]["gap_to_control_nats"], rel=1e-6)
    (warning,) = summary["warnings"]
    assert "3 of 3 documents of the evaluation text" in warning
    assert warning in done.err
    page = (workdir / "report.html").read_text()
    assert "learning by heart" in page
    assert {path.name for path in (workdir / "figures").iterdir()} == {
        "recovery_curves.png",
        "gaps.png",
        "damage.png",
        "importance.png",
        "budget.png",
    }
    assert not any((workdir / "checkpoints").iterdir())


def test_a_finished_run_is_not_trained_again(finished, tiny, command, monkeypatch):
    workdir, _ = finished
    before = rows_of(workdir)
    monkeypatch.setattr(recovery.RecoveryTrainer, "compile", lambda self: pytest.fail("trained"))
    assert command(*flags(tiny, workdir)).status == 0
    assert rows_of(workdir) == before


class KilledError(Exception):
    pass


@pytest.mark.parametrize("at", [3, 9])
def test_a_killed_run_goes_on_to_the_same_curves(
    finished, tiny, tmp_path, command, monkeypatch, at
):
    workdir, step, count = tmp_path / "run", recovery.RecoveryTrainer.step, [0]

    def dying(self, group, number):
        count[0] += 1
        if count[0] == at:
            raise KilledError
        return step(self, group, number)

    monkeypatch.setattr(recovery.RecoveryTrainer, "step", dying)
    assert command(*flags(tiny, workdir)).status == 1
    monkeypatch.setattr(recovery.RecoveryTrainer, "step", step)
    # The second start begins at the last checkpoint: steps 3 to 6 of one group at least.
    done = []
    monkeypatch.setattr(
        recovery.RecoveryTrainer,
        "step",
        lambda self, group, number: done.append(number) or step(self, group, number),
    )
    assert command(*flags(tiny, workdir)).status == 0
    assert done[0] == 2
    assert by_hash(workdir) == by_hash(finished[0])


def test_seeds_are_added_to_a_finished_run_and_nothing_trains_again(
    finished, tiny, tmp_path, command, monkeypatch
):
    workdir, train, trained = tmp_path / "run", recovery.RecoveryTrainer.step, set()
    shutil.copytree(finished[0], workdir)
    before = by_hash(workdir)

    def counting(self, group, number):
        trained.update(group.replicas)
        return train(self, group, number)

    monkeypatch.setattr(recovery.RecoveryTrainer, "step", counting)
    assert command(*flags(tiny, workdir, "--config.num_seeds=2")).status == 0
    assert trained == {recovery.Replica(layer, layer + 1000) for layer in range(3)}
    after = by_hash(workdir)
    assert {hash: after[hash] for hash in before} == before
    added = [row for hash, row in after.items() if hash not in before]
    assert {(row["layer"], row["seed"]) for row in added} == {(n, n + 1000) for n in range(3)}
    assert sorted(row["layer"] for row in added if row.get("kind") == "final") == [0, 1, 2]


def test_a_seed_that_was_killed_and_is_not_asked_for_any_more_comes_to_nothing(
    finished, tiny, tmp_path, command, monkeypatch
):
    workdir, step = tmp_path / "run", recovery.RecoveryTrainer.step
    shutil.copytree(finished[0], workdir)

    def dying(self, group, number):
        if number == 4:
            raise KilledError
        return step(self, group, number)

    def finals():
        rows = (row for row in rows_of(workdir) if row.get("kind") == "final")
        return sorted((row["layer"], row["seed"], row["steps"]) for row in rows if row["noise"])

    monkeypatch.setattr(recovery.RecoveryTrainer, "step", dying)
    assert command(*flags(tiny, workdir, "--config.num_seeds=2")).status == 1
    monkeypatch.setattr(recovery.RecoveryTrainer, "step", step)
    assert command(*flags(tiny, workdir)).status == 0
    summary, expected = run_files.read_summary(workdir), run_files.read_summary(finished[0])
    for name in ("gaps", "shares", "importance", "budget"):
        assert summary[name] == expected[name], name
    assert finals() == [(layer, layer, 6) for layer in range(3)]
    # Asked for again it goes on where it was.
    assert command(*flags(tiny, workdir, "--config.num_seeds=2")).status == 0
    assert finals() == sorted((n, n + 1000 * seed, 6) for n in range(3) for seed in (0, 1))
    gaps = run_files.read_summary(workdir)["gaps"]
    assert {(gap["seeds"], gap["step"]) for gap in gaps.values()} == {(2, 6)}


@pytest.mark.slow
def test_sigkill_between_rows_and_checkpoint(finished, tiny, tmp_path):
    workdir = tmp_path / "run"
    code = (
        "import os, signal, sys\n"
        "from jaxanatomy import cli\n"
        "from jaxanatomy.train import snapshots\n"
        "save = snapshots.Snapshots.save\n"
        "def killing(self, saved):\n"
        "    if saved.step == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    save(self, saved)\n"
        "snapshots.Snapshots.save = killing\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, *map(str, flags(tiny, workdir))]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == -signal.SIGKILL
    assert {row["step"] for row in rows_of(workdir) if "step" in row} == {0, 2, 4}
    again = [sys.executable, "-m", "experiments.recovery", *map(str, flags(tiny, workdir)[1:])]
    result = subprocess.run(again, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert by_hash(workdir) == by_hash(finished[0])


def test_a_replica_that_diverges_stops_and_the_others_go_on(
    finished, tiny, tmp_path, command, monkeypatch
):
    """Weights of one replica become NaN after its third step."""
    step = recovery.RecoveryTrainer.step

    def poisoned(self, group, number):
        losses = step(self, group, number)
        index = [(each.layer, each.seed) for each in group.replicas]
        if number == 2 and (1, 1) in index:
            states = self.export_state(group)
            params, moments = states[at := index.index((1, 1))]
            states[at] = jax.tree.map(lambda leaf: leaf * np.float32("nan"), params), moments
            self.import_state(group, states)
        return losses

    monkeypatch.setattr(recovery.RecoveryTrainer, "step", poisoned)
    workdir = tmp_path / "run"
    done = command(*flags(tiny, workdir))
    assert done.status == 0, done.err
    found = {(r["layer"], r["seed"], r["step"]): r for r in rows_of(workdir) if "step" in r}
    expected = {(r["layer"], r["seed"], r["step"]): r for r in rows_of(finished[0]) if "step" in r}
    assert expected.keys() - found.keys() == {(1, 1, 6)}
    stopped = found[1, 1, 4]
    assert (stopped["ppl"], stopped["loss"]) == (None, None)
    assert stopped["reason"] == "diverged: the training loss of step 4 is nan"
    for key, row in found.items():
        if key[:2] != (1, 1):
            assert row["ppl"] == pytest.approx(expected[key]["ppl"], rel=1e-5)
    summary = run_files.read_summary(workdir)
    assert summary["diverged"] == [{"layer": 1, "seed": 1, "reason": stopped["reason"]}]
    assert stopped["reason"] in (workdir / "report.html").read_text()
    before = rows_of(workdir)
    monkeypatch.setattr(
        "experiments.recovery.train_curves", lambda *args, **kwargs: pytest.fail("trained")
    )
    assert command(*flags(tiny, workdir)).status == 0
    assert rows_of(workdir) == before


BAD = {
    "--config.layers=0,3": "layers of this model are 0 to 2; got 3",
    "--config.layers=1,1": "each of layers may come once; repeated: 1",
    "--config.sigma=-0.5": "sigma must be finite and 0 or above; got -0.5",
    "--config.steps=0": "steps must be a whole number, 1 or above; got 0",
    "--config.eval_every=0": "eval_every must be a whole number, 1 or above; got 0",
    "--config.checkpoint_every=3": "checkpoint_every must be a multiple of eval_every=2; got 3",
    "--config.thresholds=1.1,2": "thresholds must be multiples",
    "--config.thresholds=2,1": "thresholds must be multiples",
    "--config.num_seeds=0": "num_seeds must be a whole number, 1 or above; got 0",
    "--config.num_noise_seeds=-1": "num_noise_seeds must be a whole number, 0 or above; got -1",
    "--config.batch_tokens=1": "batch_tokens must be a whole number, 2 or above; got 1",
    "--config.optimiser.learning_rate=0": "optimiser.learning_rate must be finite and above 0",
    "--config.optimiser.beta1=1": "optimiser.beta1 must be at least 0 and below 1; got 1.0",
    "--config.optimiser.clip_norm=-1": "optimiser.clip_norm must be finite and above 0; got -1.0",
    "--config.train.group_size=0": "train.group_size must be a whole number, 1 or above; got 0",
    "--config.train.devices=99": "train.devices=99, but this process has",
    "--config.train_text=paragraf": "did you mean 'paragraphs'",
    "--config.sigma=inf": "expects a finite number",
}


@pytest.mark.parametrize("flag", BAD)
def test_bad_input_is_one_line(flag, tiny, tmp_path, command):
    done = command(*flags(tiny, tmp_path / "run", flag))
    assert done.status == 2
    lines = [line for line in done.err.splitlines() if not line.startswith("warning:")]
    assert len(lines) == 1
    assert BAD[flag] in lines[0]


def test_training_on_the_evaluation_text_is_no_mistake_if_it_is_said(tiny, tmp_path, command):
    done = command(*flags(tiny, tmp_path / "run", "--config.train_text=evaluation", "--dry_run"))
    assert (done.status, done.err) == (0, "")
    assert "warning" not in done.out
    assert "3 replicas with noise, 3 without, in 2 groups" in done.out

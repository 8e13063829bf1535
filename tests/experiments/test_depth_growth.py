"""Depth growth from the command line, on a small model: what a run leaves, and resuming."""

import signal
from collections import Counter
from pathlib import Path

import depth_growth_run
import numpy as np
import pytest
import run_files
from depth_growth_run import GROWS_AT, STEPS, flags, rows_of, without_times

from jaxanatomy import config_files
from jaxanatomy.data.chains import CHAINS, HOPS
from jaxanatomy.train import metrics, snapshots, trainer
from jaxanatomy.train.depth_plan import depth_plan
from jaxanatomy.train.metrics import read_metrics

SCRIPT = Path(depth_growth_run.__file__)
pytestmark = pytest.mark.usefixtures("fixed_version")

CURVE_FIELDS = {
    "hash",
    "kind",
    "arm",
    "purpose",
    "learning_rate",
    "seed",
    "stage",
    "step",
    "layers",
    "tokens",
    "flops",
    "seconds",
    "loss",
    "eval_nll",
    "eval_nll_by_source",
    "reason",
}
FINAL_FIELDS = (CURVE_FIELDS - {"stage", "loss"}) | {
    "tokens_per_second",
    "mfu",
    "accuracy",
    "chance",
    "accuracy_by_task",
    "unit_nll",
    "unit_tokens",
    "unit_right",
    "unit_questions",
    "edited",
    "depth",
}


def test_what_is_asked_and_what_trials_read(tokenizer):
    config = config_files.shipped("depth_growth")
    config.update({"arms": ("shallow",), "learning_rates": (1e-3, 2e-3), "seeds": (0, 1)})
    config.data.update(tokenizer=f"file:{tokenizer}", mixture="1 chains", questions=2)
    config.data.tasks = ("chains", "hops")
    config.model.update(vocab_size=depth_growth_run.ENTRIES, context_length=600)
    plan = depth_plan(config)
    asked = Counter(question.task for question in plan.asked)
    assert asked == dict.fromkeys([*CHAINS, *HOPS], 2)
    assert len(plan.scoring.questions) == len(plan.asked)
    # The rates are tried on one seed: what it reads is made once.
    one, other = plan.streams("shallow", plan.tuning)
    assert one is other
    first, second = plan.streams("shallow", plan.main(1e-3))
    batches = [each.next().token_BT for each in (one, other, first, second)]
    assert batches[0] is batches[1]
    assert (batches[2] != batches[3]).any()


@pytest.fixture(scope="module")
def finished(tokenizer, tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "depth"
    done = command(*flags(workdir, tokenizer))
    assert (done.status, done.err) == (0, "")
    return workdir, done.out


def test_the_files_and_rows_are_those_of_the_design(finished):
    workdir, out = finished
    names = {path.name for path in workdir.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.json",
        "rows.jsonl",
        "metrics.jsonl",
        "summary.json",
        "figures",
        "report.html",
        "checkpoints",
        "models",
    }
    assert not any((workdir / "checkpoints").iterdir())
    rows = rows_of(workdir)
    assert len({row["hash"] for row in rows}) == len(rows)
    curves = [row for row in rows if row["kind"] == "curve"]
    finals = [row for row in rows if row["kind"] == "final"]
    assert all(set(row) == CURVE_FIELDS for row in curves)
    assert all(set(row) == FINAL_FIELDS for row in finals)
    found = {(row["arm"], row["stage"], row["step"], row["layers"]) for row in curves}
    assert found == {
        *(("baseline", 0, step, 4) for step in (0, 5, 10, 12)),
        *(("midas", 0, step, 2) for step in (0, GROWS_AT)),
        *(("midas", 1, step, 4) for step in (GROWS_AT, 5, 10, 12)),
    }
    assert (len(curves), len(finals)) == (2 * 10, 4)
    assert {(row["arm"], row["seed"], row["layers"]) for row in finals} == {
        (arm, seed, 4) for arm in ("baseline", "midas") for seed in (0, 1)
    }
    for final in finals:
        (end,) = (
            row
            for row in curves
            if (row["arm"], row["seed"], row["step"]) == (final["arm"], final["seed"], STEPS)
        )
        same = ("tokens", "flops", "seconds", "eval_nll", "eval_nll_by_source", "reason")
        assert {name: final[name] for name in same} == {name: end[name] for name in same}
        mean = sum(final["unit_nll"]) / sum(final["unit_tokens"])
        assert mean == pytest.approx(final["eval_nll"], rel=1e-9)
        assert len(final["unit_nll"]) == len(final["unit_tokens"]) == 2 * 4
        right = sum(final["unit_right"]) / sum(final["unit_questions"])
        assert right == pytest.approx(final["accuracy"], rel=1e-9)
        rate = final["tokens"] / final["seconds"]
        assert (final["mfu"], final["tokens_per_second"]) == (None, pytest.approx(rate))
    models = {f"{arm}_{seed}" for arm in ("baseline", "midas") for seed in (0, 1)}
    assert {path.name for path in (workdir / "models").iterdir()} == models
    assert f"report: {workdir / 'report.html'}" in out
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["arm", "baseline", "midas"]


def test_every_step_has_a_line_and_they_agree_with_the_rows(finished):
    lines = read_metrics(finished[0])
    assert [
        (line["arm"], line["seed"], line["step"])
        for line in sorted(lines, key=lambda line: (line["arm"], line["seed"]))
    ] == [
        (arm, seed, step)
        for arm in ("baseline", "midas")
        for seed in (0, 1)
        for step in range(1, STEPS + 1)
    ]
    at = {(line["arm"], line["seed"], line["step"]): line for line in lines}
    for row in rows_of(finished[0]):
        if row["kind"] == "curve" and row["loss"] is not None:
            line = at[row["arm"], row["seed"], row["step"]]
            assert [line[name] for name in ("tokens", "flops", "stage")] == [
                row[name] for name in ("tokens", "flops", "stage")
            ]
            assert line["seconds"] == pytest.approx(row["seconds"])
    losses = [at["midas", 1, step]["loss"] for step in (4, 5)]
    (row,) = (
        row
        for row in rows_of(finished[0])
        if (row["arm"], row["seed"], row["step"], row["kind"]) == ("midas", 1, 5, "curve")
    )
    assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert [at["midas", 0, step]["stage"] for step in (GROWS_AT, GROWS_AT + 1)] == [0, 1]


def test_arms_share_seeds_and_data_and_differ_in_cost(finished):
    first = {
        (line["arm"], line["seed"]): line for line in read_metrics(finished[0]) if line["step"] == 1
    }
    # The same rows of data, other numbers of layers; other seeds have other data and weights.
    assert len({line["loss"] for line in first.values()}) == 4
    finals = {(r["arm"], r["seed"]): r for r in rows_of(finished[0]) if r["kind"] == "final"}
    for seed in (0, 1):
        assert finals["midas", seed]["tokens"] == finals["baseline", seed]["tokens"]
        assert finals["midas", seed]["flops"] < finals["baseline", seed]["flops"]
    summary = run_files.read_summary(finished[0])["arms"]
    values = [finals["midas", seed]["eval_nll"] for seed in (0, 1)]
    assert summary["midas"]["eval_nll"]["mean"] == pytest.approx(np.mean(values), rel=1e-9)
    page = (finished[0] / "report.html").read_text()
    assert "Every step" in page
    assert "not known" in page  # MFU, on a CPU
    figures = {path.name for path in (finished[0] / "figures").iterdir()}
    assert figures == {f"{name}.png" for name in ("differences", "curves", "training", "answers")}


@pytest.mark.slow
def test_a_finished_run_trains_nothing_and_another_arm_is_added(
    finished, tokenizer, command, monkeypatch
):
    workdir = finished[0]
    before, lines = rows_of(workdir), read_metrics(workdir)
    train, trained = trainer.Trainer.train, []
    monkeypatch.setattr(
        trainer.Trainer,
        "train",
        lambda self, *rest, **more: trained.append(self) or train(self, *rest, **more),
    )
    assert command(*flags(workdir, tokenizer)).status == 0
    assert (trained, rows_of(workdir), read_metrics(workdir)) == ([], before, lines)
    both = flags(workdir, tokenizer, arms="ln_scaling,baseline,midas")
    assert command(*both).status == 0
    assert len(trained) == 1
    after = rows_of(workdir)
    assert after[: len(before)] == before
    assert {row["arm"] for row in after[len(before) :]} == {"ln_scaling"}


def test_another_config_or_text_in_the_same_workdir_is_refused(
    finished, tokenizer, command, monkeypatch
):
    def fail(*arguments, **kwargs):
        raise AssertionError("read text before the workdir was known to be good")

    monkeypatch.setattr("jaxanatomy.train.depth_plan.Pipeline", fail)
    before = rows_of(finished[0])
    done = command(*flags(finished[0], tokenizer, block=1))
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "its config.block is 2, now it is 1; choose another workdir" in done.err
    assert rows_of(finished[0]) == before


def test_trained_models_are_read_on_some_of_the_held_out_rows(tokenizer, tmp_path, command):
    """Half of the mixture each: of three rows two of the first source and one of the second."""
    workdir = tmp_path / "run"
    more = {"arms": "baseline", "seeds": "0", "steps": 3, "depth_sequences": 3}
    assert command(*flags(workdir, tokenizer, **more)).status == 0
    (final,) = (row for row in rows_of(workdir) if row["kind"] == "final")
    kinds = Counter(edit["kind"] for edit in final["edited"])
    assert kinds == {"loop": 3, "cut": 4, "swap": 4, "reverse": 1, "exit": 3}
    assert len(final["depth"]["influence"]) == 4
    config = config_files.shipped("depth_growth")
    config.depth_sequences = 3
    config.data.update(tokenizer=f"file:{tokenizer}", mixture=depth_growth_run.MIXTURE)
    config.data.update(held_out_sequences=4, questions=2)
    config.model.update(vocab_size=depth_growth_run.ENTRIES, context_length=depth_growth_run.LENGTH)
    plan = depth_plan(config)
    (first,), (second,) = plan.pipeline(0, 3).held_out(4).values()
    expected = np.concatenate([first.token_BT[[0, 2]], second.token_BT[[0]]])
    rows = plan.model_reader.editor.eval_set.rows
    np.testing.assert_array_equal(np.concatenate([row.token_BT for row in rows]), expected)
    assert all(0 < edit["whole_nll"] < 10 for edit in final["edited"])
    assert len({edit["whole_nll"] for edit in final["edited"]}) == 1


class KilledError(Exception):
    pass


def stop_after(monkeypatch, owner, name, count):
    """Raises after the method has been called so often."""
    method, calls = getattr(owner, name), []

    def stopping(*arguments, **kwargs):
        found = method(*arguments, **kwargs)
        calls.append(arguments)
        if len(calls) == count:
            raise KilledError
        return found

    monkeypatch.setattr(owner, name, stopping)


@pytest.mark.parametrize(
    ("owner", "name", "count"),
    [
        # Chunks of MIDAS end at steps 3 (it grows), 4, 5, 8, 10 and 12, checkpoints at 3, 4,
        # 8 and 12.
        (metrics.Metrics, "write", 3),
        (metrics.Metrics, "write_point", 3),
        (snapshots.Snapshots, "save", 4),
    ],
)
@pytest.mark.slow
def test_a_run_that_stopped_goes_on_to_the_same_rows(
    finished, tokenizer, tmp_path, command, monkeypatch, owner, name, count
):
    with monkeypatch.context() as patch:
        stop_after(patch, owner, name, count)
        assert command(*flags(tmp_path / "run", tokenizer, arms="midas")).status == 1
    again = flags(tmp_path / "run", tokenizer, arms="midas")
    assert command(*again).status == 0
    expected = [row for row in rows_of(finished[0]) if row["arm"] == "midas"]
    assert without_times(rows_of(tmp_path / "run")) == without_times(expected)
    lines = [line for line in read_metrics(finished[0]) if line["arm"] == "midas"]
    assert without_times(read_metrics(tmp_path / "run")) == without_times(lines)
    assert not any((tmp_path / "run/checkpoints").iterdir())


@pytest.mark.slow
def test_sigkill_between_checkpoints_and_across_growth_gives_the_same_rows(
    finished, tokenizer, tmp_path, command, run_python
):
    at_growth, after = f"write:midas:{GROWS_AT}", "save:midas:4"
    argv = flags(tmp_path / "run", tokenizer)
    for death in ("write:baseline:7", at_growth, after, f"write:midas:{STEPS}"):
        killed = run_python(SCRIPT, death, *argv, devices=1, check=False, timeout=400)
        assert killed.returncode == -signal.SIGKILL, (death, killed.stderr)
    assert command(*argv).status == 0
    found, expected = (without_times(rows_of(each)) for each in (tmp_path / "run", finished[0]))
    expected = [row for row in expected if row["arm"] in ("baseline", "midas")]
    assert found == expected
    found, expected = (read_metrics(each) for each in (tmp_path / "run", finished[0]))
    expected = [line for line in expected if line["arm"] in ("baseline", "midas")]
    assert without_times(found) == without_times(expected)

"""Depth growth: its arms, its mixtures, seeds that diverge, and what may not change a result."""

import signal
from pathlib import Path

import depth_growth_run
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import run_files
from depth_growth_run import (
    LENGTH,
    MIXTURE,
    ROWS,
    STEPS,
    flags,
    require_close,
    rows_of,
    without_times,
)

from jaxanatomy import model, weights
from jaxanatomy.data import corpora, mixture, pipeline, sequences, vocabulary
from jaxanatomy.train.loss import LanguageModelLoss
from jaxanatomy.train.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fixed_version")]

ARMS = ("baseline", "midas_equal_flops", "ln_scaling", "ln_scaling_midas")


@pytest.fixture(scope="module")
def others(tokenizer, tmp_path_factory, command):
    """Arms of equal FLOPs and with LN-scaling, one seed."""
    workdir = tmp_path_factory.mktemp("runs") / "others"
    done = command(*flags(workdir, tokenizer, arms=",".join(ARMS), seeds=0))
    assert (done.status, done.err) == (0, "")
    return workdir


def test_an_arm_of_equal_flops_ends_where_the_baseline_does(others):
    finals = {row["arm"]: row for row in rows_of(others) if row["kind"] == "final"}
    baseline, equal = finals["baseline"], finals["midas_equal_flops"]
    step = baseline["flops"] / STEPS
    assert abs(equal["flops"] - baseline["flops"]) <= step / 2
    assert equal["step"] > STEPS
    assert equal["tokens"] == equal["step"] * ROWS * LENGTH
    lines = [line for line in read_metrics(others) if line["arm"] == "midas_equal_flops"]
    assert lines[-1]["step"] == equal["step"]
    # One continuous schedule, stretched: warmup, plateau, 1 - sqrt.
    rates = [line["learning_rate"] for line in lines]
    assert rates[0] == max(rates) == rates[len(rates) // 2] > rates[-1] > 0


def held_out_losses(folder, tokenizer, held_out):
    """What a folder of a trained model loses on each source, read as any model."""
    checkpoint = weights.load(f"file:{folder}")
    assert not checkpoint.config.ln_scaling
    assert checkpoint.tokenizer.encode("A and B") == tokenizer.encode("A and B")
    loss = LanguageModelLoss(checkpoint.config)
    return {
        name: float((loss.nll(checkpoint.params, batch) * batch.weight_BT).sum() / weight)
        for name, (batch,) in held_out.items()
        if (weight := batch.weight_BT.sum())
    }


def test_trained_models_are_folders_that_lose_what_the_rows_say(others, tokenizer):
    """With LN-scaling, too: it goes by the layers' last places, folded into plain norms."""
    tok = vocabulary.load_tokenizer(f"file:{tokenizer}")
    data = mixture.MixtureSchedule(((0, mixture.parse_mixture(MIXTURE)),))
    held_out = pipeline.Pipeline(data, tok, batch_size=ROWS, seq_len=LENGTH).held_out(4)
    rows = rows_of(others)
    for arm in ARMS:
        (last,) = (row for row in rows if (row["arm"], row["kind"]) == (arm, "final"))
        found = held_out_losses(others / f"models/{arm}_0", tok, held_out)
        assert found == pytest.approx(last["eval_nll_by_source"], rel=1e-5)
        shares = {"primitives": 0.5, "arithmetic": 0.5}
        assert last["eval_nll"] == pytest.approx(sum(shares[n] * found[n] for n in shares))
    stages = [(r["stage"], r["layers"]) for r in rows if r["arm"] == arm and "stage" in r]
    assert dict.fromkeys(stages) == dict.fromkeys([(0, 2), (1, 4)])


@pytest.fixture(scope="module")
def together(tokenizer, tmp_path_factory, command):
    """Two seeds side by side."""
    workdir = tmp_path_factory.mktemp("runs") / "vmap_seeds"
    assert command(*flags(workdir, tokenizer)).status == 0
    return rows_of(workdir)


def test_a_seed_that_is_added_trains_alone_and_has_the_rows_of_several(
    together, tokenizer, tmp_path, command
):
    assert command(*flags(tmp_path, tokenizer, seeds=0)).status == 0
    before = rows_of(tmp_path)
    assert command(*flags(tmp_path, tokenizer, seeds="0,1")).status == 0
    rows = rows_of(tmp_path)
    assert rows[: len(before)] == before
    assert {row["seed"] for row in rows[len(before) :]} == {1}
    require_close(rows, together)
    assert {row["hash"] for row in rows} == {row["hash"] for row in together}


def test_the_mixture_switches_where_the_cooldown_of_each_arm_begins(
    tokenizer, tmp_path, command, monkeypatch
):
    read, following = {}, pipeline.Batches.next

    def spying(self):
        step, batch = self.step, following(self)
        read.setdefault(id(self), {})[step] = batch.token_BT
        return batch

    monkeypatch.setattr(pipeline.Batches, "next", spying)
    mixtures = {"data.mixture": "1 primitives", "data.cooldown_mixture": "1 arithmetic"}
    fields = mixtures | {"steps": 8, "cooldown": 0.5, "arms": "baseline,midas_equal_flops"}
    done = command(*flags(tmp_path / "run", tokenizer, seeds=0, **fields))
    assert done.status == 0, done.err
    finals = {row["arm"]: row["step"] for row in rows_of(tmp_path / "run") if "stage" not in row}
    assert finals["baseline"] == 8 < finals["midas_equal_flops"]
    tok = vocabulary.load_tokenizer(f"file:{tokenizer}")
    first, second = (
        sequences.GeneratedRows(corpora.GENERATED[name], tok, LENGTH, 0)
        for name in ("primitives", "arithmetic")
    )
    for steps, batches in zip(finals.values(), read.values(), strict=True):
        switch = steps - round(0.5 * steps)
        for step in range(steps):
            source, start = (first, step) if step < switch else (second, step - switch)
            rows = [source[ROWS * start + at]["token_BT"] for at in range(ROWS)]
            np.testing.assert_array_equal(batches[step], rows)
    # Held-out text is that of the first mixture.
    assert all([*row["eval_nll_by_source"]] == ["primitives"] for row in rows_of(tmp_path / "run"))


def test_a_seed_that_diverges_is_reported_and_the_others_go_on(
    together, tokenizer, tmp_path, command, monkeypatch
):
    init = model.init

    def poisoned(*arguments):
        """Of seed 1 the weights are infinite."""
        params = init(*arguments)
        _, key, *_ = arguments
        factor = jnp.where(jax.random.key_data(key)[-1] == 1, jnp.inf, 1.0)
        return {**params, "embed": jax.tree.map(lambda leaf: leaf * factor, params["embed"])}

    monkeypatch.setattr(model, "init", poisoned)
    done = command(*flags(tmp_path / "run", tokenizer, arms="midas"))
    assert (done.status, done.err) == (0, "")
    rows = rows_of(tmp_path / "run")
    expected = [row for row in together if (row["arm"], row["seed"]) == ("midas", 0)]
    require_close([row for row in rows if row["seed"] == 0], expected)
    (lost,) = (row for row in rows if (row["kind"], row["seed"]) == ("final", 1))
    assert (lost["eval_nll"], lost["accuracy"]) == (None, None)
    assert lost["reason"] == "diverged: the loss or its gradient is not finite"
    lines = [line for line in read_metrics(tmp_path / "run") if line["seed"] == 1]
    assert {line["loss"] for line in lines} == {None}
    assert lines[0]["reason"].startswith("diverged: the loss or its gradient is not finite")
    arm = run_files.read_summary(tmp_path / "run")["arms"]["midas"]
    assert arm["diverged"] == [1]
    (kept,) = (row for row in rows if (row["kind"], row["seed"]) == ("final", 0))
    assert arm["eval_nll"]["mean"] == kept["eval_nll"]
    page = (tmp_path / "run/report.html").read_text()
    assert "Diverged and left out: midas, seed 1." in page


def test_a_rate_at_which_all_diverge_ends_each_arm_and_not_the_run(tokenizer, tmp_path, command):
    argv = flags(tmp_path / "run", tokenizer, learning_rates=1e30, seeds=0)
    done = command(*argv)
    assert (done.status, done.err) == (0, "")
    finals = [row for row in rows_of(tmp_path / "run") if row["kind"] == "final"]
    assert {(row["arm"], row["eval_nll"]) for row in finals} == {
        ("baseline", None),
        ("midas", None),
    }
    assert all(row["step"] < STEPS for row in finals)
    assert (
        "Diverged and left out: baseline, seed 0; midas, seed 0."
        in (tmp_path / "run/report.html").read_text()
    )
    before = rows_of(tmp_path / "run")
    assert command(*argv).status == 0
    assert rows_of(tmp_path / "run") == before


TUNED = {"arms": "midas", "learning_rates": "3e-3,1e30,1e-5", "tuning_seeds": 7}


@pytest.fixture(scope="module")
def tuned(tokenizer, tmp_path_factory, command):
    """Three rates of which one diverges, then three seeds: one program trains both."""
    workdir = tmp_path_factory.mktemp("runs") / "tuned"
    done = command(*flags(workdir, tokenizer, seeds="0,1,2", **TUNED))
    assert (done.status, done.err) == (0, "")
    return workdir


def test_an_arm_takes_the_rate_that_did_best_on_a_seed_of_its_own(tuned, tokenizer, command):
    rows = rows_of(tuned)
    tuning = [row for row in rows if row["purpose"] == "tuning"]
    assert {row["seed"] for row in tuning} == {7}
    finals = {row["learning_rate"]: row for row in tuning if row["kind"] == "final"}
    assert set(finals) == {3e-3, 1e30, 1e-5}
    assert finals[1e30]["eval_nll"] is None
    assert finals[3e-3]["eval_nll"] < finals[1e-5]["eval_nll"]
    assert "accuracy" not in finals[3e-3]
    main = [row for row in rows if row["purpose"] == "main"]
    assert {(row["learning_rate"], row["seed"]) for row in main} == {(3e-3, s) for s in (0, 1, 2)}
    # Every rate began with the same weights and data.
    firsts = [row for row in tuning if row["kind"] == "curve" and row["step"] == 0]
    assert len({row["eval_nll"] for row in firsts}) == 1
    assert {line["seed"] for line in read_metrics(tuned)} == {0, 1, 2}
    assert not any((tuned / "checkpoints").iterdir())
    arm = run_files.read_summary(tuned)["arms"]["midas"]
    assert (arm["learning_rate"], arm["seeds"], arm["diverged"]) == (3e-3, [0, 1, 2], [])
    assert "Learning rates" in (tuned / "report.html").read_text()
    # Again, and with a seed that is added: nothing is tuned twice.
    assert command(*flags(tuned, tokenizer, seeds="0,1,2,3", **TUNED)).status == 0
    after = rows_of(tuned)
    assert after[: len(rows)] == rows
    assert {(row["purpose"], row["seed"]) for row in after[len(rows) :]} == {("main", 3)}


def test_sigkill_while_tuning_and_after_it_gives_the_same_rows(
    tuned, tokenizer, tmp_path, command, run_python
):
    argv = flags(tmp_path / "run", tokenizer, seeds="0,1,2", **TUNED)
    for death in ("save:tuning:8", "save:midas:4"):
        script = Path(depth_growth_run.__file__)
        killed = run_python(script, death, *argv, devices=1, check=False, timeout=400)
        assert killed.returncode == -signal.SIGKILL, (death, killed.stderr)
    assert command(*argv).status == 0
    expected = [row for row in rows_of(tuned) if row["seed"] != 3]
    assert without_times(rows_of(tmp_path / "run")) == without_times(expected)


def test_rates_that_all_diverge_while_tuning_are_named(tokenizer, tmp_path, command):
    rates = {"learning_rates": "1e30,1e31", "tuning_seeds": 7, "seeds": 0}
    done = command(*flags(tmp_path / "run", tokenizer, arms="baseline", **rates))
    assert done.status == 2
    assert "every learning rate of (1e+30, 1e+31) diverged in baseline; set lower" in done.err


def test_parts_of_a_batch_give_the_rows_of_the_whole(others, tokenizer, tmp_path, command):
    fields = {"arms": "baseline", "seeds": 0, "train.grad_accum_steps": 2}
    assert command(*flags(tmp_path / "run", tokenizer, **fields)).status == 0
    expected = [row for row in rows_of(others) if row["arm"] == "baseline"]
    require_close(rows_of(tmp_path / "run"), expected)


def test_the_dry_run_lists_arms_stages_and_costs(tokenizer, tmp_path, command):
    done = command(*flags(tmp_path, tokenizer, "--dry_run", arms="baseline,midas_equal_flops"))
    assert (done.status, done.err) == (0, "")
    first, baseline, equal, memory = done.out.splitlines()
    assert first.endswith("parameters, 2 seeds")
    tuned = command(*flags(tmp_path, tokenizer, "--dry_run", **TUNED))
    assert tuned.out.splitlines()[1] == (
        "learning rates 0.003, 1e+30, 1e-05: 3 more seeds of each arm tune it"
    )
    assert baseline.startswith("baseline: 12 steps (4 layers 12), ")
    assert equal.startswith("midas_equal_flops: ")
    assert baseline.split(", ")[-1] == equal.split(", ")[-1]
    assert memory.startswith("memory of the device, 4 layers: 0.01 GB on paper (GB: ")
    assert not any(tmp_path.iterdir())

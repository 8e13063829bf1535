"""A model that grows while it trains, against a plain loop; seeds side by side; resuming."""

import contextlib
import dataclasses
import json
import shutil
import signal
from pathlib import Path

import growing_run
import jax
import numpy as np
import pytest
from growing_run import (
    LENGTH,
    OPTIONS,
    ROWS,
    SCHEDULE,
    STAGES,
    Counting,
    watching,
    without_times,
)

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.growth.flops import step_flops
from jaxanatomy.growth.maps import GrowthMap
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.evaluation import HeldOut, evaluating, on_text
from jaxanatomy.train.loop import run_steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return growing_run.train(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def oracle():
    return growing_run.plain_loop(0)


def test_losses_and_scores_are_those_of_a_plain_loop(whole, oracle):
    _, points, losses = whole
    expected, scores = oracle
    assert [step for step, _ in losses] == list(range(11))
    np.testing.assert_allclose([loss for _, loss in losses], expected, rtol=1e-5)
    for point in points:
        if point.loss != [None]:  # not before the first step of a stage
            np.testing.assert_allclose(point.eval_nll[0], scores[point.step - 1], rtol=1e-5)
            mean = 0.25 * point.by_source["one"][0] + 0.75 * point.by_source["other"][0]
            assert mean == pytest.approx(point.eval_nll[0])
            assert point.by_source["one"] != point.by_source["other"]


def test_points_stand_at_both_ends_of_a_stage_and_every_few_steps(whole, oracle):
    _, points, _ = whole
    assert [(point.stage, point.step) for point in points] == [
        (0, 0),
        (0, 4),
        (0, 5),
        (1, 5),
        (1, 8),
        (1, 11),
    ]
    losses, _ = oracle
    assert points[0].loss == [None]
    assert points[3].loss == [None]
    np.testing.assert_allclose(points[1].loss[0], np.mean(losses[:4]), rtol=1e-5)
    np.testing.assert_allclose(points[2].loss[0], losses[4], rtol=1e-5)
    np.testing.assert_allclose(points[5].loss[0], np.mean(losses[8:]), rtol=1e-5)
    shallow, deep = (step_flops(stage.config, ROWS, LENGTH) for stage in STAGES)
    assert points[-1].account.flops == 5 * shallow + 6 * deep
    assert points[-1].account.tokens == 11 * ROWS * LENGTH


@pytest.mark.slow
def test_seeds_side_by_side_are_runs_of_their_own(whole, tmp_path):
    _, points, losses = whole
    _, both, found = growing_run.train(tmp_path, seeds=(0, 3))
    np.testing.assert_allclose([row[1] for row in found], [row[1] for row in losses], rtol=1e-4)
    expected, scores = growing_run.plain_loop(3)
    np.testing.assert_allclose([row[2] for row in found], expected, rtol=1e-4)
    np.testing.assert_allclose(both[-1].eval_nll, [points[-1].eval_nll[0], scores[-1]], rtol=1e-3)


def test_held_out_rows_have_their_own_losses_and_rows_of_padding_are_left_out(tmp_path):
    given = growing_run.evaluation()["one"]
    (batch,) = given.batches
    weight_BT = batch.weight_BT.copy()
    weight_BT[2], weight_BT[3, 4:] = 0, 0
    held_out = {"one": HeldOut(1.0, [batch, batch._replace(weight_BT=weight_BT)])}
    points = []
    evaluate = Every(4, evaluating(on_text(held_out), points.append), at_ends=True)
    params = growing_run.make(seeds=(0, 3)).train(tmp_path, [evaluate])
    found = points[-1].units["one"]
    assert found.tokens == [LENGTH] * ROWS + [LENGTH] * 2 + [4] + [LENGTH] * (ROWS - 4)
    for at in range(2):
        own = jax.tree.map(lambda leaf, at=at: leaf[at], params)
        own = tree.with_layers(own, tree.unstack(own["layers"]))
        nll_BT = np.asarray(growing_run.token_losses(STAGES[1].config, own, batch))[..., 0]
        second = (nll_BT * weight_BT).sum(1)[[0, 1, *range(3, ROWS)]]
        np.testing.assert_allclose(found.nll[at], [*nll_BT.sum(1), *second], rtol=1e-5)
        mean = sum(found.nll[at]) / sum(found.tokens)
        assert points[-1].eval_nll[at] == pytest.approx(mean, rel=1e-12)


def test_one_seed_at_two_rates_is_two_runs_of_it(whole, tmp_path):
    """The plateau of the second is four times as high, the shape of its schedule the same."""
    found = []
    run = growing_run.make(seeds=(0, 0), learning_rates=(SCHEDULE.peak, 4 * SCHEDULE.peak))
    run.train(tmp_path, watching(log=found.append))
    rate_EM = np.concatenate([each.rate_EM for each in found])
    np.testing.assert_allclose(rate_EM, SCHEDULE.rates(11)[:, None] * [1, 4], rtol=1e-6)
    loss_EM = np.concatenate([each.loss_EM for each in found])
    np.testing.assert_allclose(loss_EM[:, 0], [loss for _, loss in whole[2]], rtol=1e-4)
    high = growing_run.make(schedule=dataclasses.replace(SCHEDULE, peak=4 * SCHEDULE.peak))
    alone = []
    high.train(tmp_path / "high", watching(log=alone.append))
    alone_E = np.concatenate([each.loss_EM[:, 0] for each in alone])
    np.testing.assert_allclose(loss_EM[:, 1], alone_E, rtol=1e-4)
    assert abs(loss_EM[-1, 1] - loss_EM[-1, 0]) > 0.01
    with pytest.raises(
        InputError, match=r"has the learning_rates \[0.01, 0.04\]; the config says \[\]"
    ):
        growing_run.train(tmp_path, seeds=(0, 0))


class Broken(Counting):
    """The eighth batch has no loss."""

    def next(self):
        batch = super().next()
        weight = np.full_like(batch.weight_BT, np.nan) if self.read == 8 else batch.weight_BT
        return batch._replace(weight_BT=weight)


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_checkpoint(tmp_path):
    points = []
    growing_run.make(streams=[Broken(100)]).train(tmp_path, watching(points.append))
    assert points[-1].reason == ["diverged: the loss or its gradient is not finite"]
    assert np.isfinite(points[-1].eval_nll[0])  # of the parameters before that step
    assert max(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()) == 6


@pytest.mark.parametrize("stops", [False, True])
def test_a_seed_that_diverges_beside_another_leaves_its_last_checkpoint(tmp_path, stops):
    """However many come after it, and whether or not the run was stopped meanwhile."""

    def train(log):
        run = growing_run.make(seeds=(0, 3), streams=[Counting(100), Broken(103)])
        return run.train(tmp_path, watching(log=log))

    def stop(done):
        if stops and done.first >= 10:
            raise KilledError

    with contextlib.suppress(KilledError):
        train(stop)
    last = train(lambda steps: None)
    steps = sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit())
    assert steps == [6, 10, 11]  # the loss of step 8 was not finite; two stay anyhow
    for name in ("8", "10", "11"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    # From there on both go on, with other data for the one that had diverged.
    run = growing_run.make(seeds=(0, 3))
    points = []
    params = run.train(tmp_path, watching(points.append))
    assert points[-1].reason == ["", ""]
    assert np.isfinite(points[-1].eval_nll).all()
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one[0], other[0]), params, last)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("steps", [1, 3, 5, 6, 8, 11])
def test_a_run_that_stopped_goes_on_to_the_same_numbers(whole, tmp_path, steps):
    def stop(done):
        losses.extend((done.first + at, *row) for at, row in enumerate(done.loss_EM.tolist()))
        if losses[-1][0] + 1 >= steps:
            raise KilledError

    losses, points = [], []
    with pytest.raises(KilledError):
        growing_run.make().train(tmp_path, watching(points.append, stop))
    params, rest, found = growing_run.train(tmp_path)
    _, expected_points, expected = whole
    assert dict(losses + found) == dict(expected)
    assert rest[-1] == expected_points[-1]
    assert [point for point in expected_points if point not in rest] == points_before(points, rest)
    jax.tree.map(np.testing.assert_array_equal, params, whole[0])


def test_a_run_that_goes_on_compiles_its_steps_once(tmp_path, count_compilations):
    """Before the first chunk, whose time counts as training."""

    def stop(done):
        if done.first >= 6:
            raise KilledError

    with pytest.raises(KilledError):
        growing_run.make().train(tmp_path, watching(log=stop))
    run_steps.clear_cache()
    with count_compilations() as compiled:
        growing_run.train(tmp_path)
    assert compiled["run_steps"] == 1


def test_an_equal_training_finds_its_steps_compiled(tmp_path, count_compilations):
    growing_run.train(tmp_path / "one")
    with count_compilations() as compiled:
        growing_run.train(tmp_path / "two")
    assert compiled["run_steps"] == 0


@pytest.mark.slow
def test_layers_apart_train_the_same_and_go_on_after_a_stop(oracle, tmp_path):
    def stop(done):
        if done.first >= 6:
            raise KilledError

    options = dataclasses.replace(OPTIONS, scan_layers=False)
    with pytest.raises(KilledError):
        growing_run.make(options=options).train(tmp_path, watching(log=stop))
    params, points, losses = growing_run.train(tmp_path, options=options)
    expected, scores = oracle
    assert losses[0][0] == 6
    np.testing.assert_allclose([row[1] for row in losses], expected[6:], rtol=1e-5)
    np.testing.assert_allclose(points[-1].eval_nll[0], scores[-1], rtol=1e-5)
    assert [tree.get(stack, "mlp_norm").shape for stack in params["layers"]] == [(1, 16)] * 4


def points_before(points, rest):
    """The points of the first start that the second did not make again."""
    points = list(map(without_times, points))
    return [point for point in points if point not in rest]


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_step_goes_on_to_the_same_numbers(tmp_path, run_python):
    script = Path(__file__).parent / "trainer_script.py"
    whole = json.loads(run_python(script, str(tmp_path / "whole")))
    for stop in (4, 5, 8):
        killed = run_python(script, str(tmp_path / "broken"), str(stop), check=False)
        assert killed.returncode == -signal.SIGKILL
    rest = json.loads(run_python(script, str(tmp_path / "broken")))
    assert 0 < len(rest["losses"]) < len(whole["losses"])
    assert rest["losses"] == whole["losses"][-len(rest["losses"]) :]
    assert rest["scores"][-1] == whole["scores"][-1]


@pytest.mark.slow
def test_several_devices_train_the_same_as_one(run_python):
    printed = run_python(Path(__file__).parent / "mesh_script.py", devices=8, timeout=600)
    lines = [line.split() for line in printed.splitlines()]
    assert [line[0] for line in lines] == ["1", "8", "1", "8"]  # shards; two seeds at the end
    for _, losses, scores in lines:
        assert float(losses) < 1e-5
        assert float(scores) < 1e-5


@pytest.mark.slow
def test_two_processes_of_two_devices_train_the_same_as_one(run_python, tmp_path):
    script = Path(__file__).parent / "mesh_script.py"
    given = script, str(tmp_path / "both")
    printed = run_python(*given, devices=2, processes=2, timeout=600)
    _, points, losses = growing_run.train(tmp_path / "one", seeds=(0, 3), stages=growing_run.SHORT)
    for found in (json.loads(each.splitlines()[-1]) for each in printed):  # after the words of Gloo
        np.testing.assert_allclose(found["losses"], losses, rtol=1e-5)
        np.testing.assert_allclose(found["scores"], [p.eval_nll for p in points], rtol=1e-5)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="grad_accum_steps must divide batch_size; got 3 and 8"):
        growing_run.make(options=dataclasses.replace(OPTIONS, grad_accum_steps=3))
    with pytest.raises(InputError, match="peak_flops must be the FLOP/s of one device, or 0"):
        dataclasses.replace(OPTIONS, peak_flops=-1.0)
    growing_run.train(tmp_path)
    more = {"config": growing_run.config(6), "growth": GrowthMap((0, 1) * 3), "layers": ()}
    other = (STAGES[0], dataclasses.replace(STAGES[1], **more, train=None))
    with pytest.raises(
        InputError,
        match=r"at step 11 has 4 layers \(2 heads, 1 KV heads and FFN width 32\) of width 16, 61 "
        r"entries and context 2048; the config says 6 layers \(2 heads, 1 KV heads and FFN width ",
    ):
        growing_run.train(tmp_path, stages=other)
    with pytest.raises(InputError, match="is of step 11; the config ends at step 5; choose"):
        growing_run.train(tmp_path, stages=STAGES[:1])
    with pytest.raises(InputError, match=r"has the seeds \[0\]; the config says \[3\]; choose"):
        growing_run.train(tmp_path, seeds=(3,))


def test_a_run_at_its_end_tells_its_last_point_again(whole, tmp_path):
    _, points, _ = growing_run.train(tmp_path)
    params, again, none = growing_run.train(tmp_path)
    assert (again, none) == (points[-1:], [])
    jax.tree.map(np.testing.assert_array_equal, params, whole[0])


def test_steps_add_up_to_the_points_and_tell_the_share_of_the_peak(tmp_path):
    found, points = [], []
    options = dataclasses.replace(OPTIONS, peak_flops=1e9)
    growing_run.make(options=options).train(tmp_path, watching(points.append, found.append))
    last = points[-1]
    assert [(each.stage, each.first, len(each.rate_EM)) for each in found] == [
        (0, 0, 2),
        (0, 2, 2),
        (0, 4, 1),
        (1, 5, 1),
        (1, 6, 2),
        (1, 8, 2),
        (1, 10, 1),
    ]
    np.testing.assert_array_equal(
        np.concatenate([each.rate_EM for each in found])[:, 0], SCHEDULE.rates(11)
    )
    for each in found:
        assert each.step_tokens == ROWS * LENGTH
        assert each.step_flops == step_flops(STAGES[each.stage].config, ROWS, LENGTH)
        assert each.mfu == pytest.approx(each.step_flops / each.step_seconds / 1e9)
    wall = last.account.wall_seconds
    assert dataclasses.replace(found[-1].account, wall_seconds=wall) == last.account
    assert wall > last.account.seconds
    total = sum(each.step_seconds * len(each.rate_EM) for each in found)
    assert last.account.seconds == pytest.approx(total)
    assert last.account.mfu == pytest.approx(last.account.flops / total / 1e9)
    assert points[0].account.mfu is None
    # A CPU has no published peak.
    growing_run.make().train(tmp_path / "unknown", watching(points.append, found.append))
    assert (points[-1].account.mfu, found[-1].mfu) == (None, None)


def test_stages_that_do_not_follow_one_another_are_refused():
    deep = dataclasses.replace(STAGES[1], growth=None)
    with pytest.raises(InputError, match="2 of the same shapes; got 4 layers"):
        growing_run.make(stages=(STAGES[0], deep))
    wide = dataclasses.replace(growing_run.config(4).layers[0], ffn_width=64)
    layers = (*growing_run.config(2).layers, wide, wide)
    other = dataclasses.replace(STAGES[1], config=STAGES[1].config.with_layers(layers))
    with pytest.raises(InputError, match="FFN widths are for new layers where moments restart"):
        growing_run.make(stages=(STAGES[0], other))
    growing_run.make(stages=(STAGES[0], dataclasses.replace(other, moments="restart")))

"""A model that grows while it trains, against a plain loop; seeds side by side; resuming."""

import dataclasses
import json
import signal
from pathlib import Path

import growing_run
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from growing_run import LENGTH, OPTIONS, ROWS, SCHEDULE, STAGES, Counting

from jaxanatomy import model, tree
from jaxanatomy.errors import InputError
from jaxanatomy.growth.flops import step_flops


def mean_loss(config, params, batch):
    scores = model.forward(config, params, batch.token_BT)
    nll = -jnp.take_along_axis(
        jax.nn.log_softmax(scores), jnp.asarray(batch.target_BT)[..., None], axis=-1
    )
    return nll.mean()


def is_model(node):
    return isinstance(node, dict) and "layers" in node


def gather(node, sources):
    return tree.with_layers(node, [node["layers"][at] for at in sources])


def plain_loop(seed):
    """Losses before each step and NLL after each: optax, jax.grad, lists and a gather."""
    total = sum(stage.steps for stage in STAGES)
    rates = SCHEDULE.rates(total)
    stream = Counting(100 + seed)
    params = model.init(STAGES[0].config, jax.random.key(seed))
    optimiser = optax.inject_hyperparams(
        lambda learning_rate: optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(learning_rate, weight_decay=0.01)
        )
    )(0.0)
    moments, losses, scores, step = optimiser.init(params), [], [], 0
    for stage in STAGES:
        if stage.growth:
            sources = stage.growth.sources
            moments = jax.tree.map(
                lambda node, sources=sources: gather(node, sources) if is_model(node) else node,
                moments,
                is_leaf=is_model,
            )
            params = gather(params, sources)
        slope = jax.jit(jax.value_and_grad(mean_loss, argnums=1), static_argnums=0)
        for _ in range(stage.steps):
            loss, gradient = slope(stage.config, params, stream.next())
            moments.hyperparams["learning_rate"] = jnp.asarray(rates[step])
            update, moments = jax.jit(optimiser.update)(gradient, moments, params)
            params = optax.apply_updates(params, update)
            losses.append(float(loss))
            sources = growing_run.evaluation().values()
            both = [mean_loss(stage.config, params, batch) for (batch,) in sources]
            scores.append(float(np.mean(both)))
            step += 1
    return losses, scores


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return growing_run.train(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def oracle():
    return plain_loop(0)


def test_losses_and_scores_are_those_of_a_plain_loop(whole, oracle):
    _, points, losses = whole
    expected, scores = oracle
    assert [step for step, _ in losses] == list(range(11))
    np.testing.assert_allclose([loss for _, loss in losses], expected, rtol=1e-5)
    for point in points:
        if point.loss != [None]:  # not before the first step of a stage
            np.testing.assert_allclose(point.eval_nll[0], scores[point.step - 1], rtol=1e-5)
            assert np.mean([*point.by_source.values()]) == pytest.approx(point.eval_nll[0])
            assert point.by_source["one"] != point.by_source["other"]


def test_points_stand_at_both_ends_of_a_stage_and_every_few_steps(whole, oracle):
    _, points, _ = whole
    assert [(point.stage, point.step) for point in points] == [
        *((0, 0), (0, 4), (0, 5)),
        *((1, 5), (1, 8), (1, 11)),
    ]
    losses, _ = oracle
    assert points[0].loss == [None]
    assert points[3].loss == [None]
    np.testing.assert_allclose(points[1].loss[0], np.mean(losses[:4]), rtol=1e-5)
    np.testing.assert_allclose(points[2].loss[0], losses[4], rtol=1e-5)
    np.testing.assert_allclose(points[5].loss[0], np.mean(losses[8:]), rtol=1e-5)
    shallow, deep = (step_flops(stage.config, ROWS, LENGTH) for stage in STAGES)
    assert points[-1].flops == 5 * shallow + 6 * deep
    assert points[-1].tokens == 11 * ROWS * LENGTH


def test_seeds_side_by_side_are_runs_of_their_own(whole, tmp_path):
    _, points, losses = whole
    _, both, found = growing_run.train(tmp_path, seeds=(0, 3))
    np.testing.assert_allclose([row[1] for row in found], [row[1] for row in losses], rtol=1e-4)
    expected, scores = plain_loop(3)
    np.testing.assert_allclose([row[2] for row in found], expected, rtol=1e-4)
    np.testing.assert_allclose(both[-1].eval_nll, [points[-1].eval_nll[0], scores[-1]], rtol=1e-3)


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_checkpoint(tmp_path):
    class Broken(Counting):
        def next(self):
            batch = super().next()
            weight = np.full_like(batch.weight_BT, np.nan) if self.read == 8 else batch.weight_BT
            return batch._replace(weight_BT=weight)

    run = growing_run.pretraining()
    run._streams = [Broken(100)]
    points = []
    run.train(tmp_path, points.append)
    assert points[-1].reason == ["diverged: the loss is not finite"]
    assert np.isfinite(points[-1].eval_nll[0])  # of the parameters before that step
    assert max(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()) == 6


class KilledError(Exception):
    pass


@pytest.mark.parametrize("steps", [1, 3, 5, 6, 8, 11])
def test_a_run_that_stopped_goes_on_to_the_same_numbers(whole, tmp_path, steps):
    def stop(at, rates_E, losses_EM):
        losses.extend((at + index, *row) for index, row in enumerate(losses_EM.tolist()))
        if at + len(losses_EM) >= steps:
            raise KilledError

    losses, points = [], []
    with pytest.raises(KilledError):
        growing_run.pretraining().train(tmp_path, points.append, stop)
    params, rest, found = growing_run.train(tmp_path)
    _, expected_points, expected = whole
    assert dict(losses + found) == dict(expected)
    assert rest[-1] == expected_points[-1]
    assert [point for point in expected_points if point not in rest] == points_before(points, rest)
    jax.tree.map(np.testing.assert_array_equal, params, whole[0])


def points_before(points, rest):
    """The points of the first start that the second did not make again."""
    points = [dataclasses.replace(point, seconds=0.0) for point in points]
    return [point for point in points if point not in rest]


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_step_goes_on_to_the_same_numbers(tmp_path, run_python):
    script = Path(__file__).parent / "pretraining_script.py"
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
    printed = run_python(Path(__file__).parent / "mesh_script.py", devices=8, timeout=400)
    lines = [line.split() for line in printed.splitlines()]
    assert [line[0] for line in lines] == ["1", "8"]
    for _, losses, scores in lines:
        assert float(losses) < 1e-5
        assert float(scores) < 1e-5


@pytest.mark.slow
def test_two_processes_of_four_devices_train_the_same_as_one(whole, run_python, tmp_path):
    script = Path(__file__).parent / "mesh_script.py"
    printed = run_python(script, str(tmp_path), devices=4, processes=2, timeout=400)
    _, points, losses = whole
    for found in (json.loads(each.splitlines()[-1]) for each in printed):  # after the words of Gloo
        np.testing.assert_allclose(found["losses"], losses, rtol=1e-5)
        np.testing.assert_allclose(found["scores"], [p.eval_nll for p in points], rtol=1e-5)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="accumulate must divide the rows of a batch; got 3 and 8"):
        growing_run.pretraining(options=dataclasses.replace(OPTIONS, accumulate=3))
    growing_run.train(tmp_path)
    other = (STAGES[0], dataclasses.replace(STAGES[1], config=growing_run.config(5)))
    with pytest.raises(InputError, match=r"has 4 layers of width 16 .* says 5 layers of width 16"):
        growing_run.train(tmp_path, stages=other)

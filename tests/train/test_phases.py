"""Stages of which only some layers train, and new ones are cloned: against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.growth.clone import clone
from jaxanatomy.growth.maps import GrowthMap
from jaxanatomy.growth.phases import Phase, stages
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.documents import DocumentBatches, Documents, one_a_row
from jaxanatomy.train.evaluation import evaluating, on_text
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import Setup, TrainOptions
from jaxanatomy.train.trainer import Trainer

pytestmark = pytest.mark.slow

SHAPES = (LayerShape(2, 2, 8), LayerShape(2, 2, 16), LayerShape(2, 2, 16))
CONFIG = ModelConfig(vocab_size=13, hidden_size=8, head_dim=4, layers=SHAPES)
RNG = np.random.default_rng(0)
TRAIN = RNG.integers(1, 13, (10, 6)).astype(np.int32)
TRAIN[3, 4:] = 0
VALIDATION = RNG.integers(1, 13, (4, 6)).astype(np.int32)
DOCUMENTS = Documents(TRAIN, pad=0, packed_rows=1, max_predictions=17)
PHASES = (
    Phase("first", 4, (1,), embedding=True),
    Phase("second", 4, (2,), clone=((2, 1),), noise=0.1),
    Phase("third", 4, (0, 1, 2), clone=((0, 2),), ffn_scale=0.5, embedding=True),
)
PLANS = {
    "absent": stages(CONFIG, PHASES, 12),
    "frozen": stages(CONFIG, PHASES, 12, "frozen"),
}
SCHEDULE = WarmupStableDecay(0.02)


def order(seed, steps=12):
    return np.random.default_rng(seed).integers(0, 10, (steps, 3))


def train(folder, plan, seeds, rates=(), scan_layers=False, callbacks=(), emit=lambda point: None):
    """The parameters at the end."""
    options = TrainOptions(scan_layers=scan_layers, steps_per_call=3, checkpoint_every=5)
    place = Placement.over(jax.devices()[:1])
    setup = Setup(plan, Optimiser(), SCHEDULE, seeds, place, options, rates, initial=CONFIG)
    streams = [DocumentBatches(DOCUMENTS, order(seed)) for seed in seeds]
    held_out = {"validation": one_a_row(VALIDATION, 0)}
    evaluate = Every(3, evaluating(on_text(held_out), emit), at_ends=True, of_stage=True)
    return Trainer(setup, streams).train(folder, [*callbacks, evaluate])


def nll(config, params, token_BT):
    logits_BTV = model.forward(config, params, token_BT[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits_BTV, token_BT[:, 1:])


def masked(leaf, trains):
    return leaf if trains else 0 * leaf


def literal(plan, phases, seed):
    """One model by itself: optax on trees of whole models, frozen gradients set to zero."""
    key = jax.random.key(seed)
    initial = model.init(CONFIG, key)
    params, blocks = dict(initial), {}
    rates, step, validation = SCHEDULE.rates(12), 0, []
    for stage, phase in zip(plan, phases, strict=True):
        for layer, source in phase.clone:
            width = SHAPES[layer].ffn_width
            drawn = jax.random.fold_in(key, layer)
            blocks[layer] = clone(blocks[source], width, drawn, phase.noise, phase.ffn_scale)
        for layer in stage.layers:
            blocks.setdefault(layer, initial["layers"][layer])
        params["layers"] = tuple(blocks[layer] for layer in stage.layers)
        trains = {name: phase.embedding for name in params if name != "layers"}
        trains["layers"] = tuple(layer in phase.train for layer in stage.layers)
        # Of a frozen leaf neither gradient nor decay.
        mask = {
            name: jax.tree.map(lambda _, on=on: on, params[name])
            if name != "layers"
            else tuple(
                jax.tree.map(lambda _, on=own: on, block)
                for own, block in zip(on, params["layers"], strict=True)
            )
            for name, on in trains.items()
        }
        chain = optax.chain(
            optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.add_decayed_weights(0.01)
        )
        moments = chain.init(params)

        @jax.jit
        def one_step(params, moments, token_BT, rate, stage=stage, mask=mask, chain=chain):
            def loss(params):
                weight = token_BT[:, 1:] != 0
                return (nll(stage.config, params, token_BT) * weight).sum() / weight.sum()

            gradient = jax.grad(loss)(params)
            gradient = jax.tree.map(masked, gradient, mask)
            update, moments = chain.update(gradient, moments, params)
            update = jax.tree.map(masked, update, mask)
            params = jax.tree.map(lambda p, u: p - rate * u, params, update)
            return params, moments

        for _ in range(stage.steps):
            token_BT = jnp.asarray(TRAIN[order(seed)[step]])
            params, moments = one_step(params, moments, token_BT, rates[step])
            step += 1
        blocks |= dict(zip(stage.layers, params["layers"], strict=True))
        validation.append(float(nll(stage.config, params, jnp.asarray(VALIDATION)).mean()))
    return params, validation


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Three seeds, of which the middle one diverges."""
    points = []
    params = train(
        tmp_path_factory.mktemp("grown"),
        PLANS["absent"],
        (3, 3, 4),
        (0.02, 1e38, 0.02),
        emit=points.append,
    )
    return params, points


def test_training_by_stages_is_a_plain_loop_over_masked_models(grown):
    found, points = grown
    params, validation = literal(PLANS["absent"], PHASES, 4)
    lasts = {point.stage: point.eval_nll[2] for point in points}
    np.testing.assert_allclose(list(lasts.values()), validation, rtol=1e-5)
    expected = np.asarray(nll(CONFIG, params, jnp.asarray(VALIDATION))).sum(axis=1)
    units = points[-1].units["validation"]
    np.testing.assert_allclose(units.nll[2], expected, rtol=1e-5)
    assert units.tokens == [5, 5, 5, 5]
    own = jax.tree.map(lambda leaf: leaf[2], found)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4),
        (tree.unstack(own["layers"]), own["embed"]),
        (params["layers"], params["embed"]),
    )


@pytest.mark.parametrize("scan_layers", [False, True])
def test_layers_that_wait_as_random_weights_are_in_the_loop_too(tmp_path, scan_layers):
    points = []
    train(tmp_path, PLANS["frozen"], (4,), scan_layers=scan_layers, emit=points.append)
    _, validation = literal(PLANS["frozen"], PHASES, 4)
    lasts = {point.stage: point.eval_nll[0] for point in points}
    np.testing.assert_allclose(list(lasts.values()), validation, rtol=1e-5)


def test_points_stand_at_both_ends_of_stages_and_between(grown):
    _, points = grown
    assert [(point.stage, point.step) for point in points] == [
        (0, 0),
        (0, 3),
        (0, 4),
        (1, 4),
        (1, 7),
        (1, 8),
        (2, 8),
        (2, 11),
        (2, 12),
    ]
    assert [point.loss[0] is None for point in points] == [True, False, False] * 3


def test_a_seed_that_diverges_stops_for_good_and_the_others_go_on(grown):
    _, points = grown
    stopped = points[-1].stopped
    assert (stopped[0], stopped[2]) == (None, None)
    assert 0 < stopped[1] < 4
    assert all(np.isnan(point.loss[1]) for point in points[2:] if point.loss[0] is not None)
    assert points[-1].reason == ["", "diverged: the loss or its gradient is not finite", ""]


def test_layers_that_do_not_train_do_not_change(tmp_path):
    """Nor do moments come back to those that train again: the optimiser starts anew."""
    ends = {}

    def keep(state):
        stage = state.stage
        params = jax.device_get(state.params)
        blocks = dict(zip(stage.layers, tree.unstack(params["layers"]), strict=True))
        ends.setdefault(state.at, []).append((blocks, params["embed"]["embedding"]))
        if state.steps is None:
            assert all(not np.any(leaf) for leaf in jax.tree.leaves(state.moments))

    train(tmp_path, PLANS["frozen"], (3,), callbacks=[Every(100, keep, at_ends=True)])
    for at, ((blocks, embedding), (after, embedding_after)) in ends.items():
        stage = PLANS["frozen"][at]
        for layer in range(3):
            pairs = zip(*map(jax.tree.leaves, (blocks[layer], after[layer])), strict=True)
            same = [np.array_equal(*pair) for pair in pairs]
            assert not any(same) if layer in stage.train else all(same)
        assert np.array_equal(embedding, embedding_after) != stage.train_ends


class KilledError(Exception):
    pass


@pytest.mark.parametrize("death", [3, 5, 10])
def test_a_run_that_stopped_goes_on_to_the_same_bits(grown, tmp_path, death):
    """Within a stage of which a part trains, and from the checkpoint of its end."""

    def die(state):
        if state.step >= death:
            raise KilledError

    run = (tmp_path, PLANS["absent"], (3, 3, 4), (0.02, 1e38, 0.02))
    with pytest.raises(KilledError):
        train(*run, callbacks=[Every(None, die)])
    points = []
    params = train(*run, emit=points.append)
    jax.tree.map(np.testing.assert_array_equal, params, grown[0])
    np.testing.assert_array_equal(points[-1].eval_nll, grown[1][-1].eval_nll)
    assert points[-1].stopped == grown[1][-1].stopped
    assert points[0].step > 0 or death == 3


def test_a_stage_without_steps_grows_and_fresh_layers_have_their_initial_weights(tmp_path):
    """Of the last stage layer 0 is a clone of 1, narrower; layer 2 is fresh."""
    points = []
    made = Stage(CONFIG.with_layers(SHAPES[1:2]), 0, GrowthMap((1,), depth=3), layers=(1,))
    growth = GrowthMap((0, 0, 0), depth=1, new=(0, 2))
    cloned = Stage(CONFIG, 4, growth, fresh=(2,), moments="restart")
    train(tmp_path, (made, cloned), (5,), emit=points.append)
    initial = model.init(CONFIG, jax.random.key(5))
    layers = list(initial["layers"])
    layers[0] = clone(layers[1], 8, jax.random.key(0))
    expected = nll(CONFIG, tree.with_layers(initial, layers), jnp.asarray(VALIDATION))
    assert points[0].eval_nll[0] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert {point.stage for point in points} == {1}


def test_moments_go_with_layers_that_train_and_are_zero_for_those_that_did_not(tmp_path):
    """Two stages, layers 1 and then 1 and 2 training; copied moments, one count."""
    kept = []
    config = CONFIG.with_layers(SHAPES[1:])
    first = Stage(config, 4, GrowthMap((1, 2), depth=3), layers=(1, 2), train=(1,))
    second = Stage(config, 4, layers=(1, 2))
    keep = Every(100, lambda state: kept.append(jax.device_get(state.moments)), at_ends=True)
    train(tmp_path, (first, second), (5,), callbacks=[keep])
    _, before, after, _ = (optax.tree.get(each, "mu") for each in kept)
    assert before["layers"][1] is None
    jax.tree.map(np.testing.assert_array_equal, before["layers"][0], after["layers"][0])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(after["layers"][1]))
    assert [int(optax.tree.get(each, "count")) for each in kept] == [0, 4, 4, 8]

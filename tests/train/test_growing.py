"""Growing while training: against a plain loop, and what must not change."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.growth.clone import clone
from jaxanatomy.growth.phases import Phase, Stage, stages
from jaxanatomy.train import growing
from jaxanatomy.train.growing import PhaseReplica, TokenSplits, train_stages
from jaxanatomy.train.loop import adamw
from jaxanatomy.train.schedule import WarmupStableDecay

pytestmark = pytest.mark.slow

SHAPES = (LayerShape(2, 2, 8), LayerShape(2, 2, 16), LayerShape(2, 2, 16))
CONFIG = ModelConfig(vocab_size=13, hidden_size=8, head_dim=4, layers=SHAPES)
RNG = np.random.default_rng(0)
TRAIN = RNG.integers(1, 13, (10, 6)).astype(np.int32)
TRAIN[3, 4:] = 0
CORPUS = TokenSplits(TRAIN, RNG.integers(1, 13, (4, 6)).astype(np.int32), pad=0, max_predictions=17)
PHASES = (
    Phase("first", 4, (1,), embedding=True),
    Phase("second", 4, (2,), clone=((2, 1),), noise=0.1),
    Phase("third", 4, (0, 1, 2), clone=((0, 2),), ffn_scale=0.5, embedding=True),
)


def replica(seed, rate=0.02, steps=12):
    order = np.random.default_rng(seed).integers(0, 10, (steps, 3))
    return PhaseReplica(seed, WarmupStableDecay(rate), order)


def nll(config, params, token_BT):
    logits_BTV = model.forward(config, params, token_BT[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits_BTV, token_BT[:, 1:])


def masked(leaf, trains):
    return leaf if trains else 0 * leaf


def literal(plan, one):
    """A replica by itself: optax on trees of whole models, frozen gradients set to zero."""
    key = jax.random.key(one.seed)
    initial = model.init(CONFIG, key)
    params, blocks = dict(initial), {}
    rates, step, validation = one.schedule.rates(len(one.order)), 0, []
    for stage in plan:
        for layer, source in stage.clone:
            width = SHAPES[layer].ffn_width
            drawn = jax.random.fold_in(key, layer)
            blocks[layer] = clone(blocks[source], width, drawn, stage.noise, stage.ffn_scale)
        for layer in stage.layers:
            blocks.setdefault(layer, initial["layers"][layer])
        params["layers"] = tuple(blocks[layer] for layer in stage.layers)
        config = CONFIG.with_layers(SHAPES[layer] for layer in stage.layers)
        trains = {name: stage.embedding for name in params if name != "layers"}
        trains["layers"] = tuple(layer in stage.train for layer in stage.layers)
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
        def one_step(params, moments, token_BT, rate, config=config, mask=mask, chain=chain):
            def loss(params):
                weight = token_BT[:, 1:] != 0
                return (nll(config, params, token_BT) * weight).sum() / weight.sum()

            gradient = jax.grad(loss)(params)
            gradient = jax.tree.map(masked, gradient, mask)
            update, moments = chain.update(gradient, moments, params)
            update = jax.tree.map(masked, update, mask)
            params = jax.tree.map(lambda p, u: p - rate * u, params, update)
            return params, moments

        for _ in range(stage.steps):
            token_BT = jnp.asarray(TRAIN[one.order[step]])
            params, moments = one_step(params, moments, token_BT, rates[step])
            step += 1
        blocks |= dict(zip(stage.layers, params["layers"], strict=True))
        validation.append(float(nll(config, params, jnp.asarray(CORPUS.validation_NT)).mean()))
    return params, validation


PLANS = {
    "absent": stages(CONFIG, PHASES, 12),
    "frozen": stages(CONFIG, PHASES, 12, "frozen"),
}


@pytest.fixture(scope="module")
def grown():
    """Three replicas, of which the middle one diverges; and the progress that was told."""
    seen = []
    group = [replica(3), replica(3, rate=1e38), replica(4)]
    found = train_stages(CONFIG, PLANS["absent"], CORPUS, group, eval_every=3, progress=seen.append)
    return found, seen


def test_growing_is_a_plain_loop_over_masked_models(grown):
    found, _ = grown
    params, validation = literal(PLANS["absent"], replica(4))
    lasts = {point.stage: point.eval_nll[2] for point in found.points}
    expected = np.asarray(nll(CONFIG, params, jnp.asarray(CORPUS.validation_NT))).sum(axis=1)
    np.testing.assert_allclose(found.points[-1].unit_nll[2], expected, rtol=1e-5)
    assert found.unit_tokens == [5, 5, 5, 5]
    np.testing.assert_allclose(list(lasts.values()), validation, rtol=1e-5)
    blocks = tree.unstack(found.params[2]["layers"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4),
        (blocks, found.params[2]["embed"]),
        (params["layers"], params["embed"]),
    )
    weight = TRAIN[:, 1:] != 0
    train_nll = (nll(CONFIG, found.params[2], jnp.asarray(TRAIN)) * weight).sum() / weight.sum()
    assert found.train_nll[2] == pytest.approx(float(train_nll), rel=1e-5)


def test_layers_that_wait_as_random_weights_are_in_the_loop_too():
    found = train_stages(CONFIG, PLANS["frozen"], CORPUS, [replica(4)], eval_every=4)
    _, validation = literal(PLANS["frozen"], replica(4))
    lasts = {point.stage: point.eval_nll[0] for point in found.points}
    np.testing.assert_allclose(list(lasts.values()), validation, rtol=1e-5)


def test_points_stand_at_both_ends_of_stages_and_between(grown):
    found, seen = grown
    assert [(point.stage, point.step) for point in found.points] == [
        ("first", 0),
        ("first", 3),
        ("first", 4),
        ("second", 4),
        ("second", 7),
        ("second", 8),
        ("third", 8),
        ("third", 11),
        ("third", 12),
    ]
    assert [np.isnan(point.loss[0]) for point in found.points] == [True, False, False] * 3
    assert seen == [3, 1] * 3
    seconds = [point.seconds for point in found.points]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= found.wall_seconds


def test_a_replica_that_diverges_stops_for_good_and_the_others_go_on(grown):
    found, _ = grown
    assert (found.diverged[0], found.diverged[2]) == (None, None)
    assert 0 < found.diverged[1] < 4
    assert all(np.isnan(point.loss[1]) for point in found.points[2:])


def test_a_replica_that_stopped_does_not_start_again_in_another_stage():
    """Its parameters may be finite, and its gradient too, where other layers train."""
    stage = PLANS["absent"][0]
    making = growing._Growing(CONFIG, CORPUS, [replica(seed) for seed in (3, 4, 5)], 12)
    making.grow(stage)
    making.diverged = [None, 0, None]
    before = tree.get(making.blocks[1], "q_proj")
    making.train(stage, adamw(), 3, lambda steps: None)
    after = tree.get(making.blocks[1], "q_proj")
    same = [np.array_equal(*pair) for pair in zip(before, after, strict=True)]
    assert same == [False, True, False]
    assert np.isnan(making.points[-1].loss).tolist() == [False, True, False]


def test_a_clone_without_noise_starts_where_its_source_is():
    """A stage without steps grows, and trains nothing."""
    plan = (
        Stage("made", 0, (1, 2), (1, 2), True, clone=()),
        Stage("cloned", 4, (0, 1, 2), (0, 1, 2), True, clone=((0, 1),)),
    )
    found = train_stages(CONFIG, plan, CORPUS, [replica(5, steps=4)], eval_every=4)
    initial = model.init(CONFIG, jax.random.key(5))
    layers = list(initial["layers"])
    layers[0] = clone(layers[1], 8, jax.random.key(0))
    expected = nll(CONFIG, tree.with_layers(initial, layers), jnp.asarray(CORPUS.validation_NT))
    assert found.points[0].eval_nll[0] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert [point.stage for point in found.points] == ["cloned", "cloned"]


def test_layers_that_do_not_train_do_not_change(monkeypatch):
    kept = []
    train = growing._Growing.train

    def watching(self, stage, *arguments):
        before = dict(self.blocks), self.ends
        train(self, stage, *arguments)
        kept.append((stage, before, (dict(self.blocks), self.ends)))

    monkeypatch.setattr(growing._Growing, "train", watching)
    train_stages(CONFIG, PLANS["frozen"], CORPUS, [replica(3)], eval_every=4)
    for stage, (blocks, ends), (after, ends_after) in kept:
        for layer in range(3):
            same = [
                np.array_equal(a, b)
                for a, b in zip(
                    jax.tree.leaves(blocks[layer]), jax.tree.leaves(after[layer]), strict=True
                )
            ]
            assert not any(same) if layer in stage.train else all(same)
        pair = ends["embed"]["embedding"], ends_after["embed"]["embedding"]
        assert np.array_equal(*pair) != stage.embedding

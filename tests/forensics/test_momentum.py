"""Momentum against weights: literals, a planted push, planted stuck entries, and nothing at all."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import optax
import pytest

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import pack_windows
from jaxanatomy.data.windows import Window
from jaxanatomy.forensics.momentum import moments_of, momentum_features, probed_moments
from jaxanatomy.train.text_moments import text_moments

CONFIG = ModelConfig.uniform(3, 2, 1, 16, vocab_size=9, hidden_size=32, head_dim=16)
PARAMS = naive.random_params(CONFIG)


def noise(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: scale * rng.normal(size=leaf.shape), PARAMS)


def values(found, metric):
    return {
        (layer, component): value
        for layer, own in enumerate(found)
        for (component, name), value in own.items()
        if name == metric
    }


def test_a_push_outwards_is_positive_and_one_inwards_negative():
    first = jax.tree.map(lambda leaf: -2.0 * leaf, PARAMS)
    down = {"down_proj": 3.0 * tree.get(PARAMS["layers"][1], "down_proj")}
    layers = list(first["layers"])
    layers[1] = tree.replace(layers[1], down)
    rows = momentum_features(PARAMS, tree.with_layers(first, layers))
    found = values(rows, "momentum_cosine")
    assert len(found) == 3 * 7
    assert found.pop((1, "down_proj")) == pytest.approx(-1, abs=1e-6)
    assert np.allclose(list(found.values()), 1, atol=1e-6)
    assert values(rows, "stuck_share") == {}


def test_noise_has_the_cosine_of_its_null_and_nothing_stuck():
    rows = momentum_features(PARAMS, noise(1), jax.tree.map(np.square, noise(2)))
    cosines = values(rows, "momentum_cosine")
    z = [
        value * np.sqrt(tree.get(PARAMS["layers"][layer], name).size)
        for (layer, name), value in cosines.items()
    ]
    assert abs(np.mean(z)) < 0.7
    assert 0.5 < np.std(z) < 1.5
    assert max(values(rows, "stuck_share").values()) < 0.005


def test_entries_without_gradients_are_stuck_and_small_ones_of_a_whole_layer_too():
    first, second = noise(1), jax.tree.map(np.square, noise(2))

    def planted(node):
        layers = list(node["layers"])
        half = np.array(tree.get(layers[0], "up_proj"))
        half[:, :4] = 0
        layers[0] = tree.replace(layers[0], {"up_proj": half})
        layers[2] = tree.replace(layers[2], {"o_proj": 1e-9 * tree.get(layers[2], "o_proj")})
        return tree.with_layers(node, layers)

    found = values(momentum_features(PARAMS, planted(first), planted(second)), "stuck_share")
    assert found[0, "up_proj"] == pytest.approx(0.25, abs=0.01)
    assert found[2, "o_proj"] == 1
    assert found[1, "up_proj"] < 0.01


@pytest.mark.parametrize("stacked", [False, True])
def test_moments_of_an_optimiser_and_without_its_types_are_found(stacked):
    params = PARAMS
    if stacked:
        params = tree.with_layers(PARAMS, tree.stack(PARAMS["layers"]))
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    gradient = jax.tree.map(lambda leaf: 1e-3 * jnp.cos(leaf), params)
    _, state = optimiser.update(gradient, optimiser.init(params), params)
    expected = momentum_features(params, *(optax.tree.get(state, name) for name in ("mu", "nu")))
    assert [len(own) for own in expected] == [2 * 7] * 3
    assert momentum_features(params, *moments_of(state)) == expected

    def plain(node):
        if hasattr(node, "_asdict"):
            node = node._asdict()
        if isinstance(node, dict):
            return {name: plain(part) for name, part in node.items()}
        return [plain(part) for part in node] if isinstance(node, list | tuple) else node

    assert momentum_features(params, *moments_of(plain(state))) == expected


@pytest.mark.parametrize(
    ("optimiser", "kept"),
    [(optax.sgd(0.1), set()), (optax.sgd(0.1, 0.9), {"momentum_cosine"}),
     (optax.lion(1e-3), {"momentum_cosine"}),
     (optax.adam(1e-3), {"momentum_cosine", "stuck_share"})],
)  # fmt: skip
def test_what_an_optimiser_does_not_keep_is_absent(optimiser, kept):
    found = momentum_features(PARAMS, *moments_of(optimiser.init(PARAMS)))
    assert [{metric for _, metric in own} for own in found] == [kept] * 3
    assert np.isnan([*values(found, "momentum_cosine").values()]).all()


@pytest.mark.parametrize("ids", [((5, 6, 1, 2), (3, 8, 4)), ((1, 2, 3, 4, 5, 6, 7, 8, 1, 2),)])
def test_moments_of_a_text_are_those_of_its_documents_gradients(ids):
    """Against one forward pass for each document, at one update and at two of the same batch."""

    def loss(params):
        total = 0.0
        for own in ids:
            token_T = jnp.asarray(own)
            log_TV = jax.nn.log_softmax(naive.forward(CONFIG, params, token_T[None, :-1])[0])
            total += -log_TV[jnp.arange(len(own) - 1), token_T[1:]].sum()
        return total / sum(len(own) - 1 for own in ids)

    gradient = jax.jit(jax.grad(loss))(PARAMS)
    batches = pack_windows(
        [Window(at, np.array(own), 1, True) for at, own in enumerate(ids)], tokens_per_batch=64
    )
    for updates in (1, 2):
        first, second = text_moments(CONFIG, PARAMS, batches, updates)
        found = tree.unstack(first["layers"]), tree.unstack(second["layers"])
        for name in ("q_proj", "down_proj", "mlp_norm"):
            own = np.asarray(tree.get(gradient["layers"][2], name))
            scale = np.abs(own).max()
            np.testing.assert_allclose(tree.get(found[0][2], name), own, atol=1e-5 * scale)
            np.testing.assert_allclose(tree.get(found[1][2], name), own**2, atol=1e-4 * scale**2)


def test_probed_moments_are_weighted_means_of_gradients():
    gradients = [noise(seed) for seed in range(3)]
    first, second = probed_moments(gradients, PARAMS, 0.9, 0.99)
    weight = 0.9 ** np.arange(2, -1, -1)
    for name in ("q_proj", "down_proj"):
        own = [tree.get(gradient["layers"][1], name) for gradient in gradients]
        mean = np.average(own, axis=0, weights=weight)
        np.testing.assert_allclose(tree.get(first["layers"][1], name), mean, rtol=1e-4, atol=1e-6)
        square = np.average(np.square(own), axis=0, weights=0.99 ** np.arange(2, -1, -1))
        np.testing.assert_allclose(tree.get(second["layers"][1], name), square, rtol=1e-4)


def test_before_a_gradient_nothing_is_known_and_where_some_layers_do_not_train_nothing_is_said():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    found = momentum_features(PARAMS, zeros, zeros)
    assert all(np.isnan(value) for own in found for value in own.values())
    layers = (*noise(1)["layers"][:2], None)
    assert momentum_features(PARAMS, {**noise(1), "layers": layers}) == [{}, {}, {}]

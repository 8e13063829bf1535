"""Cloning a layer: literal neurons, the same function, noise and scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.growth.clone import clone, co_magnitude, resize_ffn
from jaxanatomy.model import attention_bias, block, init, rope

CONFIG = ModelConfig.uniform(1, 2, 2, 6, vocab_size=7, hidden_size=8, head_dim=4)
WIDER = ModelConfig.uniform(1, 2, 2, 17, vocab_size=7, hidden_size=8, head_dim=4)
KEY = jax.random.key(3)


BIASED = CONFIG.with_layers([LayerShape(2, 2, 6, tree.MATRICES)])
BIASED_WIDER = CONFIG.with_layers([LayerShape(2, 2, 17, tree.MATRICES)])


def layer(scale=20.0):
    found = init(CONFIG, jax.random.key(0))["layers"][0]
    return jax.tree.map(lambda leaf: leaf if leaf.ndim == 1 else leaf * scale, found)


def apply(config, params):
    x_BTD = jax.random.normal(jax.random.key(1), (2, 5, 8))
    tables = rope.tables(config, jnp.arange(5)[None])
    bias_BTS = attention_bias(jnp.zeros((1, 5), jnp.int32))
    return block(config, 0).apply({"params": params}, x_BTD, tables, bias_BTS)[0]


def test_the_same_width_without_noise_is_the_same_layer():
    found = clone(layer(), 6, KEY)
    jax.tree.map(np.testing.assert_array_equal, found, layer())


def test_narrowing_keeps_the_neurons_of_largest_co_magnitude_in_order():
    gate_DF = jnp.zeros((8, 6)).at[0].set(jnp.array([1.0, 5, 2, 2, 3, 1]))
    up_DF = jnp.zeros((8, 6)).at[1].set(jnp.array([1.0, 1, 4, 1, 1, 9]))
    given = tree.replace(layer(), {"gate_proj": gate_DF, "up_proj": up_DF})
    np.testing.assert_allclose(co_magnitude(given), [1, 5, 8, 2, 3, 9], rtol=1e-6)
    found = resize_ffn(given, 3)
    np.testing.assert_array_equal(tree.get(found, "gate_proj"), gate_DF[:, [1, 2, 5]])
    np.testing.assert_array_equal(tree.get(found, "up_proj"), up_DF[:, [1, 2, 5]])
    down_FD = tree.get(given, "down_proj")
    np.testing.assert_array_equal(tree.get(found, "down_proj"), down_FD[jnp.array([1, 2, 5])])
    for name in (*tree.ATTENTION, *tree.NORMS):
        np.testing.assert_array_equal(tree.get(found, name), tree.get(given, name))


@pytest.mark.slow
def test_widening_computes_the_same_with_copies_that_can_learn():
    found = resize_ffn(layer(), 17)  # five neurons three times, one twice
    assert tree.get(found, "gate_proj").shape == (8, 17)
    np.testing.assert_allclose(apply(WIDER, found), apply(CONFIG, layer()), atol=1e-5, rtol=1e-5)
    gradient = jax.grad(lambda params: jnp.square(apply(WIDER, params)).sum())(found)
    assert all((jnp.abs(tree.get(gradient, name)).max(0) > 0).all() for name in tree.MLP)


def test_biases_go_with_their_neurons():
    rng, block = np.random.default_rng(0), init(BIASED, jax.random.key(0))["layers"][0]
    leaves = tree.to_leaves(block).items()
    given = tree.from_leaves(
        {path: rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in leaves}
    )
    found = clone(given, 17, KEY)
    np.testing.assert_allclose(
        apply(BIASED_WIDER, found), apply(BIASED, given), rtol=1e-5, atol=1e-5
    )
    halved = clone(given, 6, KEY, ffn_scale=0.5)
    np.testing.assert_array_equal(
        tree.get(halved, "down_proj.bias"), 0.5 * tree.get(given, "down_proj.bias")
    )
    noised = clone(given, 6, KEY, noise=0.1)
    changed = {
        name
        for name, array in tree.components(given).items()
        if not np.array_equal(array, tree.get(noised, name))
    }
    assert changed == set(tree.MATRICES)


def test_the_ffn_scale_halves_what_the_ffn_writes_and_nothing_else():
    found = clone(layer(), 6, KEY, ffn_scale=0.5)
    expected = tree.replace(layer(), {"down_proj": 0.5 * tree.get(layer(), "down_proj")})
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("sigma", [0.01, 0.5])
def test_noise_is_a_share_of_each_matrix_and_spares_norms(sigma):
    config = ModelConfig.uniform(1, 2, 2, 64, vocab_size=7, hidden_size=64, head_dim=32)
    given = init(config, jax.random.key(0))["layers"][0]
    given = tree.replace(given, {"q_proj": 7 * tree.get(given, "q_proj")})
    found = clone(given, 64, KEY, noise=sigma)
    noise = {name: tree.get(found, name) - tree.get(given, name) for name in tree.MATRICES}
    for name, added in noise.items():
        ratio = float(jnp.std(added) / jnp.std(tree.get(given, name)))
        assert ratio == pytest.approx(sigma, rel=0.06)
    drawn = [np.asarray(noise[name]).ravel() for name in ("k_proj", "v_proj")]
    correlation = np.corrcoef(drawn)[0, 1]
    assert abs(correlation) < 0.1
    for name in tree.NORMS:
        np.testing.assert_array_equal(tree.get(found, name), tree.get(given, name))
    jax.tree.map(np.testing.assert_array_equal, found, clone(given, 64, KEY, noise=sigma))
    other = clone(given, 64, jax.random.key(4), noise=sigma)
    assert not np.array_equal(tree.get(found, "q_proj"), tree.get(other, "q_proj"))

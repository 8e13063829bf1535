"""Each kind of edit against its formula, on NumPy arrays and under jit."""

import jax
import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.interventions.copies import copy
from jaxanatomy.interventions.means import aligned_mean, neighbour_mean, rescaled_mean
from jaxanatomy.interventions.noise import matched_noise
from jaxanatomy.interventions.permute import permuted_rows
from jaxanatomy.interventions.scale import scale
from jaxanatomy.interventions.zero import zeros


def assert_blocks_equal(block, expected, atol=0.0):
    for name in tree.components(block):
        np.testing.assert_allclose(
            np.asarray(tree.get(block, name)), expected[name], rtol=0, atol=atol, err_msg=name
        )


def test_neighbour_mean_is_half_the_sum(naive):
    previous, own, following = naive.blocks[:3]
    mean = neighbour_mean(own, previous, following)
    expected = {
        name: (tree.get(previous, name) + tree.get(following, name)) / 2
        for name in tree.components(own)
    }
    assert_blocks_equal(mean, expected)
    assert_blocks_equal(jax.jit(neighbour_mean)(own, previous, following), expected)


def test_neighbour_mean_of_one_neighbour_is_its_copy(naive):
    own, other = naive.blocks[:2]
    assert_blocks_equal(neighbour_mean(own, other), tree.components(other))
    assert_blocks_equal(copy(own, other), tree.components(other))


@pytest.mark.parametrize("transform", [lambda function: function, jax.jit])
def test_rescaled_mean_points_like_the_mean_and_is_as_long_as_the_original(naive, transform):
    previous, own, following = naive.blocks[:3]
    rescaled = transform(rescaled_mean)(own, previous, following)
    for name in tree.MATRICES:
        mean = (tree.get(previous, name).astype(float) + tree.get(following, name)) / 2
        expected = mean / np.linalg.norm(mean) * np.linalg.norm(tree.get(own, name).astype(float))
        np.testing.assert_allclose(tree.get(rescaled, name), expected, rtol=1e-6, atol=1e-7)


def test_rescaled_mean_of_opposite_neighbours_is_zero_not_nan(naive):
    own, other = naive.blocks[:2]
    opposite = jax.tree.map(lambda leaf: -leaf, other)
    rescaled = rescaled_mean(own, other, opposite)
    assert all(not tree.get(rescaled, name).any() for name in tree.MATRICES)


def test_aligned_mean_of_shuffled_copies_of_the_layer_is_the_layer(naive):
    """Neighbours that are the layer with its neurons and heads in other orders."""
    own = naive.blocks[0]
    assert_blocks_equal(
        aligned_mean(own, _shuffled(own, 1), _shuffled(own, 2), head_dim=4),
        tree.components(own),
        atol=1e-7,
    )
    plain = neighbour_mean(own, _shuffled(own, 1), _shuffled(own, 2))
    assert not np.allclose(tree.get(plain, "gate_proj"), tree.get(own, "gate_proj"))
    assert not np.allclose(tree.get(plain, "q_proj"), tree.get(own, "q_proj"))


def test_matched_noise_is_drawn_in_the_stated_order_and_layout(naive):
    own = naive.blocks[3]
    noise = matched_noise(own, seed=10_003)
    generator = np.random.default_rng(10_003)
    for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        weight = tree.get(own, name).T  # (out, in)
        drawn = generator.standard_normal(weight.shape, dtype=np.float32)
        expected = weight.mean() + weight.std() * drawn
        np.testing.assert_allclose(tree.get(noise, name), expected.T, rtol=0, atol=2e-6)
        assert tree.get(noise, name).dtype == np.float32
        assert tree.get(noise, name).flags.c_contiguous
    assert tree.get(noise, "mlp_norm") is tree.get(own, "mlp_norm")


def test_permuted_rows_permutes_the_output_rows_of_each_matrix(naive):
    own = naive.blocks[3]
    permuted = permuted_rows(own, seed=20_003)
    generator = np.random.default_rng(20_003)
    for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        weight = tree.get(own, name).T  # (out, in)
        expected = weight[generator.permutation(len(weight))]
        np.testing.assert_array_equal(tree.get(permuted, name).T, expected)
    assert tree.get(permuted, "mlp_norm") is tree.get(own, "mlp_norm")


def test_scale_and_zeros(naive):
    own = naive.blocks[0]
    assert_blocks_equal(
        scale(own, alpha=0.25),
        {name: tree.get(own, name) / 4 for name in tree.components(own)},
    )
    assert_blocks_equal(
        zeros(own),
        {name: np.zeros(tree.get(own, name).shape) for name in tree.components(own)},
    )


def test_functions_leave_their_inputs_alone(naive):
    before = jax.tree.map(np.copy, naive.blocks[:3])
    for function, arguments in (
        (neighbour_mean, {}),
        (rescaled_mean, {}),
        (aligned_mean, {"head_dim": 4}),
    ):
        function(naive.blocks[1], naive.blocks[0], naive.blocks[2], **arguments)
    matched_noise(naive.blocks[1], seed=1)
    permuted_rows(naive.blocks[1], seed=1)
    for block, copied in zip(naive.blocks, before, strict=False):
        assert_blocks_equal(block, tree.components(copied))


def _shuffled(block, seed):
    """The same function with neurons, KV groups and heads in another order, by plain slices."""
    generator = np.random.default_rng(seed)
    neurons = generator.permutation(6)
    groups = [1, 0]
    heads = [3, 2, 0, 1] if seed == 1 else [2, 3, 1, 0]
    features = [4 * head + i for head in heads for i in range(4)]
    kv_features = [4 * group + i for group in groups for i in range(4)]
    return tree.replace(
        block,
        {
            "q_proj": tree.get(block, "q_proj")[:, features],
            "k_proj": tree.get(block, "k_proj")[:, kv_features],
            "v_proj": tree.get(block, "v_proj")[:, kv_features],
            "o_proj": tree.get(block, "o_proj")[features],
            "gate_proj": tree.get(block, "gate_proj")[:, neurons],
            "up_proj": tree.get(block, "up_proj")[:, neurons],
            "down_proj": tree.get(block, "down_proj")[neurons],
        },
    )

"""Blocks come apart and together again without loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, random_params

from jaxanatomy import tree

PARAMS = {"uniform": random_params(CONFIG), "mixed": random_params(MIXED_SHAPES)}
BLOCK = PARAMS["uniform"]["layers"][0]


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def test_stacks_of_one_each():
    stacks = tree.stack_each(PARAMS["uniform"]["layers"], np)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(stacks)} == {1}
    assert_equal(tree.unstack(stacks), PARAMS["uniform"]["layers"])


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize(("kind", "lengths"), [("uniform", [5]), ("mixed", [2, 1, 1])])
def test_unstack_inverts_stack(kind, lengths, xp):
    layers = PARAMS[kind]["layers"]
    stacks = tree.stack(layers, xp)
    assert [len(tree.get(stacked, "up_proj")) for stacked in stacks] == lengths
    assert all(isinstance(leaf, xp.ndarray) for leaf in jax.tree.leaves(stacks))
    assert_equal(tree.unstack(stacks), layers)
    assert_equal(tree.stack(tree.unstack(stacks), xp), stacks)


def test_layer_l_of_a_stack_is_an_index():
    (stacked,) = tree.stack(PARAMS["uniform"]["layers"], np)
    for layer, block in enumerate(PARAMS["uniform"]["layers"]):
        assert_equal(jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked), block)


def test_equal_shapes_that_are_not_neighbours_or_of_another_dtype_stand_apart():
    wide, _, *others = PARAMS["mixed"]["layers"]
    for other in others:  # fewer heads, a narrower MLP
        assert len(tree.stack([wide, other, wide])) == 3
        assert len(tree.stack([other, wide, other])) == 3
    half = jax.tree.map(lambda leaf: leaf.astype(np.float16), wide)
    stacks = tree.stack([wide, half, half])
    assert [tree.get(stacked, "q_proj").dtype for stacked in stacks] == [np.float32, np.float16]


@pytest.mark.parametrize("component", tree.COMPONENTS)
def test_replace_changes_one_component_and_shares_the_others(component):
    new = np.zeros_like(tree.get(BLOCK, component))
    before = tree.components(BLOCK)
    changed = tree.components(tree.replace(BLOCK, {component: new}))
    assert changed.pop(component) is new
    assert all(array is before[name] for name, array in changed.items())
    for name, array in tree.components(BLOCK).items():
        assert array is before[name]  # the old block is untouched


def test_replace_of_nothing_is_the_same_block():
    same = tree.replace(BLOCK, {})
    assert same is not BLOCK
    assert_equal(same, BLOCK)


def test_block_from_inverts_components():
    arrays = tree.components(BLOCK)
    assert tuple(arrays) == tree.COMPONENTS
    again = tree.block_from(arrays)
    assert jax.tree.structure(again) == jax.tree.structure(BLOCK)
    assert all(array is arrays[name] for name, array in tree.components(again).items())


def test_components_by_name():
    assert tuple(tree.components(BLOCK, tree.MLP)) == ("gate_proj", "up_proj", "down_proj")
    assert tree.get(BLOCK, "o_proj") is BLOCK["attention"]["o_proj"]["kernel"]
    assert tree.get(BLOCK, "down_proj") is BLOCK["mlp"]["down_proj"]["kernel"]
    assert tree.get(BLOCK, "mlp_norm") is BLOCK["mlp_norm"]["scale"]


def test_an_unknown_component_is_named():
    for call in (lambda: tree.get(BLOCK, "query"), lambda: tree.replace(BLOCK, {"query": 0})):
        with pytest.raises(KeyError, match="no component 'query'; components: q_proj, k_proj"):
            call()


def test_block_shapes_are_those_of_the_arrays():
    for layer, block in enumerate(PARAMS["mixed"]["layers"]):
        shapes = {name: array.shape for name, array in tree.components(block).items()}
        assert tree.block_shapes(MIXED_SHAPES, layer) == shapes
    assert tree.block_shapes(MIXED_SHAPES, 2) == {
        "q_proj": (16, 8),
        "k_proj": (16, 4),
        "v_proj": (16, 4),
        "o_proj": (8, 16),
        "gate_proj": (16, 24),
        "up_proj": (16, 24),
        "down_proj": (24, 16),
        "attention_norm": (16,),
        "mlp_norm": (16,),
    }


def test_unembedding_is_the_embedding_only_when_tied():
    tied = PARAMS["uniform"]
    assert tree.unembedding(tied) is tied["embed"]["embedding"]
    untied = random_params(dataclasses.replace(CONFIG, tie_embeddings=False))
    assert tree.unembedding(untied) is untied["unembed"]["embedding"]


def test_with_layers_leaves_the_old_model_alone():
    params = PARAMS["uniform"]
    shorter = tree.with_layers(params, list(params["layers"][:2]))
    assert (len(shorter["layers"]), len(params["layers"])) == (2, 5)
    assert shorter["layers"] == params["layers"][:2]

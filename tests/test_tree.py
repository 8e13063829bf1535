"""Blocks come apart and together again without loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, random_params

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape

OPTIONS = CONFIG.with_layers([LayerShape(4, 2, 24, tree.MATRICES, qk_norm=True, window=3)])
CONFIGS = {"uniform": CONFIG, "mixed": MIXED_SHAPES, "options": OPTIONS}
PARAMS = {name: random_params(config) for name, config in CONFIGS.items()}
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


@pytest.mark.parametrize("kind", ["uniform", "options"])
def test_replace_changes_one_array_and_shares_the_others(kind):
    block = PARAMS[kind]["layers"][0]
    before = tree.components(block)
    assert len(before) == {"uniform": 9, "options": 9 + 7 + 2}[kind]
    for name, old in before.items():
        new = np.zeros_like(old)
        changed = tree.components(tree.replace(block, {name: new}))
        assert list(changed) == list(before)
        assert changed.pop(name) is new
        assert all(array is before[other] for other, array in changed.items())
    for name, array in tree.components(block).items():
        assert array is before[name]  # the old block is untouched


def test_replace_of_nothing_is_the_same_block():
    same = tree.replace(BLOCK, {})
    assert same is not BLOCK
    assert_equal(same, BLOCK)


@pytest.mark.parametrize("kind", CONFIGS)
def test_leaves_by_their_paths_and_back(kind):
    leaves = tree.to_leaves(PARAMS[kind])
    assert_equal(tree.from_leaves(leaves), PARAMS[kind])
    assert len(leaves) == len(jax.tree.leaves(PARAMS[kind]))
    assert list(leaves)[:2] == ["embed/embedding", "layers/0/attention/q_proj/kernel"]
    assert list(leaves)[-1] == "final_norm/scale"


def test_the_order_is_that_of_the_forward_pass():
    assert tuple(tree.components(BLOCK)) == tree.MATRICES + tree.NORMS
    found = list(tree.components(PARAMS["options"]["layers"][0]))
    assert [name for name in found if name in tree.MATRICES] == list(tree.MATRICES)
    assert all(found[found.index(name) + 1] == f"{name}.bias" for name in tree.MATRICES)


def test_components_by_name():
    assert tuple(tree.components(BLOCK, tree.MLP)) == ("gate_proj", "up_proj", "down_proj")
    assert tree.get(BLOCK, "o_proj") is BLOCK["attention"]["o_proj"]["kernel"]
    assert tree.get(BLOCK, "down_proj") is BLOCK["mlp"]["down_proj"]["kernel"]
    assert tree.get(BLOCK, "mlp_norm") is BLOCK["mlp_norm"]["scale"]


def test_an_unknown_component_is_named():
    for call in (
        lambda: tree.get(BLOCK, "query"),
        lambda: tree.replace(BLOCK, {"query": 0}),
        lambda: tree.components(BLOCK, ["q_proj", "query"]),
    ):
        with pytest.raises(KeyError, match="no component 'query'; components: q_proj, k_proj"):
            call()


def test_a_component_has_its_bias():
    block = PARAMS["options"]["layers"][0]
    assert list(tree.components(block, ["v_proj", "q_norm"])) == ["v_proj", "v_proj.bias", "q_norm"]
    assert list(tree.components(block, ["v_proj.bias"])) == ["v_proj.bias"]
    assert tree.get(block, "v_proj.bias") is block["attention"]["v_proj"]["bias"]
    assert tree.get(block, "q_norm") is block["attention"]["q_norm"]["scale"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_block_shapes_are_those_of_the_parameters_that_flax_makes(kind):
    params = jax.eval_shape(lambda: model.init(CONFIGS[kind], jax.random.key(0)))
    assert model.abstract_params(CONFIGS[kind]) == params
    for layer, block in enumerate(params["layers"]):
        shapes = {name: array.shape for name, array in tree.components(block).items()}
        assert model.block_shapes(CONFIGS[kind], layer) == shapes


def test_the_shapes_of_a_block():
    assert model.block_shapes(MIXED_SHAPES, 2) == {
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
    more = {name: model.block_shapes(OPTIONS, 0)[name] for name in ("k_proj.bias", "q_norm")}
    assert more == {"k_proj.bias": (8,), "q_norm": (4,)}


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

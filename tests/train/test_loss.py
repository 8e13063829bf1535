"""The loss: against whole logits, and what it is a function of."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.train.loss import (
    Batch,
    LanguageModelLoss,
    batch_of,
    merge,
    packed_batch,
    split,
)

SHAPES = (LayerShape(4, 2, 24), LayerShape(4, 2, 8), LayerShape(4, 2, 8), LayerShape(4, 2, 8))
CONFIG = ModelConfig(vocab_size=19, hidden_size=16, head_dim=8, layers=SHAPES)
PARAMS = naive.random_params(CONFIG)
ENDS = tuple(name for name in PARAMS if name != "layers")
TOKEN_BT = jax.random.randint(jax.random.key(1), (3, 7), 1, 19)
BATCH = batch_of(TOKEN_BT.at[1, 4:].set(0), pad=0)
LOSS = LanguageModelLoss(CONFIG)


def partition(train, ends):
    """A model with each layer a stack of its own, split."""
    params = tree.with_layers(PARAMS, tree.stack_each(PARAMS["layers"]))
    return split(params, [layer in train for layer in range(4)], ends)


def literal(params):
    logits_BTV = model.forward(CONFIG, params, BATCH.token_BT)
    nll_BT = -jnp.take_along_axis(
        jax.nn.log_softmax(logits_BTV), BATCH.target_BT[..., None], axis=-1
    )[..., 0]
    return (nll_BT * BATCH.weight_BT).sum() / BATCH.weight_BT.sum()


def test_padding_is_never_predicted():
    assert BATCH.token_BT.shape == BATCH.target_BT.shape == (3, 6)
    np.testing.assert_array_equal(BATCH.weight_BT, [[1] * 6, [1, 1, 1, 0, 0, 0], [1] * 6])
    np.testing.assert_array_equal(BATCH.target_BT[0], TOKEN_BT[0, 1:])


@pytest.fixture(scope="module")
def whole():
    """The loss and gradient of all parameters."""
    return jax.jit(jax.value_and_grad(literal))(PARAMS)


@pytest.mark.parametrize(
    ("train", "ends"), [((0, 1, 2, 3), True), ((1, 2), True), ((0, 3), False), ((), True)]
)
def test_the_loss_and_its_gradient_are_those_of_the_whole_model(train, ends, whole):
    trained, frozen = partition(train, ends)
    value, gradient = jax.jit(jax.value_and_grad(LOSS))(trained, frozen, BATCH)
    expected, literal_gradient = whole
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    blocks = tree.unstack([stack for stack in gradient["layers"] if stack is not None])
    assert len(blocks) == len(train)
    for block, layer in zip(blocks, train, strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5),
            block,
            literal_gradient["layers"][layer],
        )
    if ends:
        for name in ENDS:
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5),
                gradient[name],
                literal_gradient[name],
            )
    else:
        assert not jax.tree.leaves([gradient[name] for name in ENDS])


def test_every_layer_is_in_one_of_the_two_trees():
    trained, frozen = partition((0, 1), True)
    assert [stack is None for stack in trained["layers"]] == [False, False, True, True]
    assert [stack is None for stack in frozen["layers"]] == [True, True, False, False]
    merged = merge(trained, frozen)
    assert [tree.get(stack, "mlp_norm").shape for stack in merged["layers"]] == [(1, 16)] * 4
    blocks = tree.unstack(merged["layers"])
    jax.tree.map(np.testing.assert_array_equal, blocks, PARAMS["layers"])
    jax.tree.map(np.testing.assert_array_equal, merged["embed"], PARAMS["embed"])


def test_equal_losses_hash_alike_and_segments_are_read():
    assert hash(LOSS) == hash(LanguageModelLoss(CONFIG))
    assert LanguageModelLoss(CONFIG) == LOSS != LanguageModelLoss(CONFIG.with_layers(SHAPES[:2]))
    whole, nothing = partition((0, 1, 2, 3), True)
    two = jnp.concatenate([TOKEN_BT[:1, :4], TOKEN_BT[1:2, :4]], axis=1)
    weight = jnp.array([[1.0, 1, 1, 0, 1, 1, 1, 0]])
    target = jnp.roll(two, -1, axis=1)
    place = jnp.array([[0, 1, 2, 3, 0, 1, 2, 3]])
    segment = jnp.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    packed = jax.jit(LOSS)(whole, nothing, Batch(two, target, weight, place, segment))
    apart = jax.jit(LOSS)(whole, nothing, batch_of(TOKEN_BT[:2, :4], pad=0))
    np.testing.assert_allclose(packed, apart, rtol=1e-5)


def test_packed_documents_are_one_after_another_each_with_its_own_places():
    token_BRT = np.array([[[5, 6, 7], [8, 9, 0]], [[3, 4, 0], [0, 0, 0]]])
    found = packed_batch(token_BRT, pad=0, max_predictions=4)
    np.testing.assert_array_equal(found.token_BT, [[5, 6, 8, 0], [3, 0, 0, 0]])
    np.testing.assert_array_equal(found.target_BT, [[6, 7, 9, 0], [4, 0, 0, 0]])
    np.testing.assert_array_equal(found.weight_BT, [[1, 1, 1, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(found.position_BT, [[0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found.segment_BT, [[0, 0, 1, 2], [0, 2, 2, 2]])
    with pytest.raises(ValueError, match="room for 2 predictions; one has 3"):
        packed_batch(token_BRT, pad=0, max_predictions=2)


def test_packed_documents_have_the_loss_and_gradient_of_rows():
    whole, nothing = partition((0, 1, 2, 3), True)
    graded = jax.jit(jax.value_and_grad(LOSS))
    token_BRT = np.asarray(TOKEN_BT.at[1, 4:].set(0))[None]
    value, gradient = graded(whole, nothing, packed_batch(token_BRT, pad=0, max_predictions=20))
    expected, literal_gradient = graded(whole, nothing, BATCH)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5),
        gradient,
        literal_gradient,
    )

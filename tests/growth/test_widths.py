"""Layers of other widths: literal shapes, and equal counts."""

import jax
import numpy as np
import pytest

from jaxanatomy import model
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.growth.widths import ORDERS, relative_widths, variable_width


def uniform(layers=6, heads=4, kv_heads=4, ffn_width=192, **options):
    sizes = {"vocab_size": 31, "hidden_size": 64, "head_dim": 16}
    return ModelConfig.uniform(layers, heads, kv_heads, ffn_width, **sizes, **options)


def test_the_same_layers_stand_in_three_orders():
    found = {order: variable_width(uniform(), order, 1.8).layers for order in ORDERS}
    # 24 heads and 1,152 neurons in shares of 1, 1.16, ... 1.8 of 8.4.
    neurons = [137, 159, 181, 203, 225, 247]
    heads = [3, 3, 4, 4, 5, 5]
    assert [layer.ffn_width for layer in found["wide_late"]] == neurons
    assert [layer.num_heads for layer in found["wide_late"]] == heads
    assert found["wide_early"] == found["wide_late"][::-1]
    middle = [found["wide_late"][at] for at in (0, 2, 4, 5, 3, 1)]
    assert list(found["wide_middle"]) == middle


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(6, 4, 4, 192), (5, 8, 4, 50), (7, 12, 6, 101)])
def test_every_order_has_as_many_parameters(order, shape):
    even = uniform(*shape, qk_norm=True)
    uneven = variable_width(even, order, 1.5)
    assert len({layer.ffn_width for layer in uneven.layers}) > 1
    assert len({layer.num_heads for layer in uneven.layers}) > 1

    def count(config):
        shapes = jax.eval_shape(lambda: model.init(config, jax.random.key(0)))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    assert count(uneven) == count(even)
    assert {layer.num_heads // layer.num_kv_heads for layer in uneven.layers} == {
        shape[1] // shape[2]
    }


def test_widths_are_relative_to_their_mean():
    width_L = relative_widths(variable_width(uniform(), "wide_early", 1.8))
    np.testing.assert_allclose(width_L, np.array([247, 225, 203, 181, 159, 137]) / 192)
    assert (relative_widths(uniform()) == 1).all()


@pytest.mark.parametrize("ratio", [1.0, 0.5, float("nan"), float("inf")])
def test_a_ratio_that_widens_nothing_is_refused(ratio):
    with pytest.raises(InputError, match="more than 1 time as wide"):
        variable_width(uniform(), "wide_late", ratio)


def test_too_few_heads_to_share_are_refused():
    with pytest.raises(InputError, match="1 key-value heads a layer are too few"):
        variable_width(uniform(heads=4, kv_heads=1), "wide_late", 1.8)

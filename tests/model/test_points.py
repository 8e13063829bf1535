"""A block gives what stands at its points to those who ask, and nobody else pays for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, naive_points, random_params, text

from jaxanatomy import model
from jaxanatomy.interventions.variants import Step
from jaxanatomy.model import rope

BATCH = text(rows=2)
FACTORS = {"head_1": 0.5, "mlp": -0.25}


def inputs(config, gated=False):
    x_RTD = np.random.default_rng(1).standard_normal((2, 16, config.hidden_size), np.float32)
    tables = rope.tables(config, jnp.asarray(BATCH.position_RT))
    gate_RTA = np.ones((2, 16, config.layers[0].num_heads + 2), np.float32)
    gate_RTA[..., 1], gate_RTA[..., -1] = 0.5, -0.25
    return x_RTD, tables, model.attention_bias(BATCH.segment_RT), gate_RTA if gated else None


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("config", [CONFIG, MIXED_SHAPES], ids=["uniform", "mixed"])
def test_points_are_those_of_a_naive_block(config, gated):
    params = random_params(config)
    block, (x_RTD, *rest) = params["layers"][0], inputs(config, gated)
    module = model.block(config, 0)
    out_RTD, found = model.apply_with_points(module, block, x_RTD, *rest, points=[*model.POINTS])
    step = Step(0, factors=FACTORS if gated else ())
    expected = naive_points(config, params, step, BATCH, x_RTD)
    assert list(found) == list(model.POINTS) == list(expected)
    np.testing.assert_array_equal(out_RTD, found["block_out"])
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_who_asks_for_nothing_gets_the_plain_program():
    block, (x_RTD, *rest) = random_params(CONFIG)["layers"][0], inputs(CONFIG)
    module = model.block(CONFIG, 0)

    def program(function):
        return str(jax.make_jaxpr(function)(x_RTD))

    def asked(*points):
        return program(lambda x: model.apply_with_points(module, block, x, *rest, points=points)[0])

    plain = program(lambda x: module.apply({"params": block}, x, *rest)[0])
    assert asked() == asked("mlp_out") == plain
    shares = asked(*model.POINTS).count(" div ") - plain.count(" div ")
    assert shares == 1  # of attention, which only a reader needs

"""FLOPs of a step against the products that a program holds."""

import math

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.growth import flops, phases
from jaxanatomy.growth.smollm import MODELS
from jaxanatomy.growth.stages import depth_stages
from jaxanatomy.train.loss import Batch, LanguageModelLoss, split

SHAPES = (LayerShape(4, 2, 24), LayerShape(4, 2, 8), LayerShape(4, 2, 8), LayerShape(4, 4, 16))
CONFIG = ModelConfig(vocab_size=19, hidden_size=16, head_dim=8, layers=SHAPES)
ROWS, LENGTH = 3, 5


def products(jaxpr):
    """FLOPs of all matrix products in a jaxpr, those of a scan's body times its length."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (left, _), _ = equation.params["dimension_numbers"]
            contracted = math.prod(equation.invars[0].aval.shape[axis] for axis in left)
            total += 2 * contracted * equation.outvars[0].aval.size
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in jaxprs_in_params(equation.params):
            total += times * products(inner)
    return total


def program_flops(layers, train, embedding):
    config = CONFIG.with_layers(SHAPES[layer] for layer in layers)
    params = model.init(CONFIG, jax.random.key(0))
    blocks = [params["layers"][layer] for layer in layers]
    params = tree.with_layers(params, tree.stack_each(blocks))
    halves = split(params, [layer in train for layer in layers], embedding)
    token_BT = jnp.zeros((ROWS, LENGTH), jnp.int32)
    batch = Batch(token_BT, token_BT, jnp.ones((ROWS, LENGTH)))
    loss = LanguageModelLoss(config)
    return products(jax.make_jaxpr(jax.value_and_grad(loss))(*halves, batch).jaxpr)


@pytest.mark.parametrize(
    ("layers", "train", "embedding"),
    [
        ((0, 1, 2, 3), (0, 1, 2, 3), True),
        ((1, 2), (1, 2), True),
        ((0, 1, 2, 3), (1,), True),
        ((0, 1, 2, 3), (1,), False),
        ((0, 1, 2, 3), (0, 3), False),
        ((0, 2, 3), (3,), False),
        ((0, 1, 3), (0,), True),
        ((0, 1, 2, 3), (), True),
    ],
)
def test_a_step_has_the_products_of_the_differentiated_program(layers, train, embedding):
    counted = flops.step_flops(CONFIG, ROWS, LENGTH, layers, train, embedding)
    assert counted == program_flops(layers, train, embedding)


def test_the_growth_transformer_is_literal():
    config = phases.growth_transformer()
    # 2 FLOPs for each matrix weight and token: all parameters but 25 norms of 256; attention
    # adds two products of 12 x 256 x 12 a token.
    tokens = 8 * 12
    weights = 9_570_048 - 25 * 256
    attention = 2 * 2 * 12 * 12 * 256 * tokens
    assert flops.step_flops(config, 8, 12) == 3 * (2 * weights * tokens + attention)
    assert flops.layer_flops(config, 0, 8, 12) == {
        "qkv": 2 * tokens * 3 * 256 * 256,
        "attention": 2 * 2 * tokens * 12 * 256,
        "output": 2 * tokens * 256 * 256,
        "mlp": 2 * tokens * 3 * 256 * 256,
    }


def test_frozen_layers_cost_less():
    config = phases.growth_transformer()
    stages = phases.stages(config, phases.developmental_phases(), 656)
    costs = [stage.step_flops(8, 12) for stage in stages]
    assert costs[-1] == flops.step_flops(config, 8, 12)
    assert max(costs[:-1]) < costs[-1]
    # In the phase `growth` nothing below L7 has a backward.
    below = sum(sum(flops.layer_flops(config, layer, 8, 12).values()) for layer in (1, 2, 4, 5))
    lowered = flops.step_flops(config, 8, 12, (7, 8, 9, 10), (7, 10), False)
    assert costs[3] == lowered + below


# PFLOPs of DG Table 7: standard, grown, ratio.
TABLE_7 = {
    "smollm_360m": (613_527.488, 476_147.897, 1.289),
    "smollm_1p7b": (4_813_222.102, 3_736_608.182, 1.288),
}


@pytest.mark.parametrize("name", TABLE_7)
def test_petaflops_of_the_papers_table_7(name):
    standard, grown, ratio = TABLE_7[name]
    config, rows = MODELS[name].config, MODELS[name].batch_size
    found = flops.growth_flops(config, [(config.num_layers, 200_000)], rows, 2048) / 1e15
    assert found == pytest.approx(standard, rel=1e-9)
    stages = depth_stages(4, config.num_layers, 4, 170_000, 200_000)
    less = flops.growth_flops(config, stages, rows, 2048) / 1e15
    assert less == pytest.approx(grown, rel=2e-5)
    assert round(found / less, 3) == ratio
    # Rounded down, the rest at full depth: every printed digit.
    count = config.num_layers // 4
    floor = [170_000 * stage // (count * (count + 1) // 2) for stage in range(1, count + 1)]
    floor[-1] += 200_000 - sum(floor)
    printed = flops.growth_flops(
        config, [(4 * stage, steps) for stage, steps in enumerate(floor, start=1)], rows, 2048
    )
    assert printed / 1e15 == pytest.approx(grown, abs=1e-3)

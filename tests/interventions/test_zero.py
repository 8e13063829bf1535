"""Skipped steps and closed gates are what really zeroed weights do."""

import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.interventions.cells import ablations
from jaxanatomy.interventions.variants import FIRST, OTHERS, Step, closed

ZEROED = {
    "layer": tree.MATRICES,
    "attention": tree.ATTENTION,
    "mlp": tree.MLP,
} | {name: (name,) for name in tree.MATRICES}


def naively_zeroed(naive, names, layer, chosen_T):
    """All layers, with zeroed weights at one; its output is taken at chosen positions."""
    x_TD = naive.x_TD
    for index, block in enumerate(naive.blocks):
        clean = naive.block(block, x_TD)
        if index == layer:
            zeroed = naive.block(naive.with_zeros(block, names), x_TD)
            x_TD = np.where(chosen_T[:, None], zeroed, clean)
        else:
            x_TD = clean
    return x_TD


@pytest.mark.parametrize("positions", ["all", "first", "others"])
@pytest.mark.parametrize("scope", list(ZEROED))
def test_zero_equals_zeroed_weights(naive, scope, positions):
    variant = ablations(naive.config, ["zero"], [scope], [positions], [2])[1]
    position_T = np.arange(6)
    chosen_T = {"all": position_T >= 0, "first": position_T == 0, "others": position_T > 0}
    expected = naively_zeroed(naive, ZEROED[scope], 2, chosen_T[positions])
    found = naive.run(variant.steps, naive.blocks, naive.x_TD)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("head", [0, 3])
def test_zero_of_a_head_equals_its_zeroed_slice_of_the_output_projection(naive, head):
    variant = ablations(naive.config, ["zero"], [f"head_{head}"], layers=[1])[1]
    o_proj = tree.get(naive.blocks[1], "o_proj").copy()
    o_proj[4 * head : 4 * head + 4] = 0
    changed = list(naive.blocks)
    changed[1] = tree.replace(naive.blocks[1], {"o_proj": o_proj})
    expected = naive.run([Step(layer) for layer in range(5)], changed, naive.x_TD)
    found = naive.run(variant.steps, naive.blocks, naive.x_TD)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert not np.allclose(found, naive.run([Step(i) for i in range(5)], naive.blocks, naive.x_TD))


def test_zero_is_a_dropped_step_or_a_gate_wherever_it_can_be(naive):
    def steps(scope, positions="all"):
        return ablations(naive.config, ["zero"], [scope], [positions], [1])[1].steps[1:-3]

    following = (Step(1),)
    assert ablations(naive.config, ["zero"], layers=[1])[1].steps == tuple(
        Step(layer) for layer in (0, 2, 3, 4)
    )
    assert steps("layer", "first") == (
        Step(1, factors=closed("attention", "mlp"), positions=FIRST),
    )
    assert steps("attention") == steps("v_proj") == steps("o_proj")
    assert steps("attention") == (Step(1, factors=closed("attention")),) != following
    assert steps("mlp") == steps("gate_proj") == steps("up_proj") == steps("down_proj")
    assert steps("mlp", "others") == (Step(1, factors=closed("mlp"), positions=OTHERS),)
    assert steps("head_2") == (Step(1, factors=closed("head_2")),)
    assert steps("q_proj") == steps("k_proj")
    assert steps("q_proj")[0].edit.scope == ("q_proj",)

"""A materialised model computes what the sweep computed for its variant."""

import dataclasses

import jax
import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, double, edited, naive_nll, random_params, replaced, text

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions import cells
from jaxanatomy.interventions.changes import combined_steps, parse_variants
from jaxanatomy.interventions.materialise import materialise, materialised_config
from jaxanatomy.interventions.variants import (
    FIRST,
    Edit,
    Step,
    Variant,
    baseline_steps,
    closed,
    damped,
)
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep import Sweep, SweepOptions

PARAMS = random_params(CONFIG)
SEVERAL = ["zero/layer/4", "neighbour_mean/attention/2", "zero/mlp/2", "scale_0.9/layer/1"]
LAYER = 2
DAMPED = {"attention": 0.5, "head_1": -2, "mlp": 0.25}


def variants():
    """Every kind of cell at one layer, orders of layers, and several changes at once."""
    every = [v for v in cells.protocol_cells(CONFIG) if v.labels.get("layer") in (None, LAYER)]
    every = [v for v in every if v.labels.get("positions", "all") == "all"]
    boundary = cells.ablations(CONFIG, ["neighbour_mean_with_norms"], layers=[0, 4])[1:]
    return [
        *every,
        *boundary,
        *cells.ablations(CONFIG, ["scale_0.9", "scale_output_0.5"], layers=[LAYER])[1:],
        *parse_variants(CONFIG, ["swap/span/1-2", "repeat/span/1-3", "exit/layer/2"]),
        *parse_variants(CONFIG, ["clone/set/1,3", "zero/mlp/set/0,4", "own_svd_half/set/2-3"]),
        Variant("several", combined_steps(CONFIG, SEVERAL)),
        Variant("damped", replaced(baseline_steps(5), Step(2, factors=DAMPED))),
        Variant("repeated", combined_steps(CONFIG, ["zero/head_1/3"], [0, 1, 3, 3, 4])),
    ]


VARIANTS = {variant.name: variant for variant in variants()}


@pytest.fixture(scope="module")
def swept():
    """Losses by variant, from one sweep."""
    sweep = Sweep(CONFIG, list(VARIANTS.values()), [text()], {"nll": nll}, SweepOptions())
    sweep.place(PARAMS)
    return sweep.run(0)["nll"]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_forward_gives_the_result_of_the_sweep(name, swept):
    config, params = materialise(CONFIG, PARAMS, VARIANTS[name].steps)
    assert [shape.num_heads for shape in config.layers] == [4] * len(params["layers"])
    found = naive_nll(config, params, baseline_steps(config.num_layers), text())
    np.testing.assert_allclose(found, swept[name], rtol=1e-5, atol=1e-5)
    # The sweep shares what an edit does with the code under test; a naive loop does not.
    expected = naive_nll(CONFIG, PARAMS, VARIANTS[name].steps, text())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_variants_differ_from_the_baseline(swept):
    same = [name for name in VARIANTS if np.abs(swept[name] - swept["baseline"]).max() < 1e-3]
    assert same == ["baseline"]


def test_layers_of_several_shapes_keep_theirs():
    params = random_params(MIXED_SHAPES)
    steps = (Step(3), Step(2, factors=closed("head_1")), Step(1, Edit("double", double)))
    config, new = materialise(MIXED_SHAPES, params, steps)
    assert config.layers == tuple(MIXED_SHAPES.layers[layer] for layer in (3, 2, 1))
    expected = naive_nll(MIXED_SHAPES, params, steps, text())
    found = naive_nll(config, new, baseline_steps(3), text())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "factors", [DAMPED, {"attention": 0}, {"mlp": 0}, {f"head_{head}": 0 for head in range(4)}]
)
def test_biases_get_the_factors_of_their_sublayer_and_heads_leave_them(factors):
    shape = dataclasses.replace(CONFIG.layers[0], biases=("o_proj", "down_proj"))
    config = CONFIG.with_layers([shape] * 5)
    params, steps = random_params(config), replaced(baseline_steps(5), Step(2, factors=factors))
    sweep = Sweep(config, [Variant("v", steps)], [text()], {"nll": nll}, SweepOptions())
    sweep.place(params)
    found = sweep.run(0)["nll"]["v"]
    new_config, new = materialise(config, params, steps)
    expected = naive_nll(new_config, new, baseline_steps(5), text())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    block, own = new["layers"][2], params["layers"][2]
    left = np.prod([factor for part, factor in factors.items() if part == "attention"])
    np.testing.assert_array_equal(
        tree.get(block, "o_proj.bias"), left * tree.get(own, "o_proj.bias")
    )


def test_what_is_not_edited_is_shared_and_nothing_is_changed_in_place():
    before = jax.tree.map(np.copy, PARAMS)
    _, new = materialise(
        CONFIG,
        PARAMS,
        replaced(baseline_steps(5), edited(2), Step(3, factors=closed("mlp", "head_0"))),
    )
    jax.tree.map(np.testing.assert_array_equal, PARAMS, before)
    assert new["layers"][1] is PARAMS["layers"][1]
    assert tree.get(new["layers"][3], "up_proj") is tree.get(PARAMS["layers"][3], "up_proj")
    kernel = tree.get(new["layers"][3], "o_proj")
    assert not kernel[:4].any()
    np.testing.assert_array_equal(kernel[4:], tree.get(PARAMS["layers"][3], "o_proj")[4:])
    assert not tree.get(new["layers"][3], "down_proj").any()


def test_a_layer_of_which_nothing_is_left_is_dropped():
    steps = replaced(baseline_steps(5), Step(2, factors=closed("attention", "mlp")))
    assert materialised_config(CONFIG, steps).num_layers == 4
    assert len(materialise(CONFIG, PARAMS, steps)[1]["layers"]) == 4


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((Step(1, factors=closed("mlp"), positions=FIRST),), "layer 1 at positions 'first' only"),
        ((Step(5),), "layers of this model are 0 to 4; got 5"),
        ((Step(1, factors=closed("head_4")),), "got 'head_4' times 0.0 at layer 1"),
        ((), "must keep at least one layer"),
        ((Step(1, factors=closed("mlp", "attention")),), "must keep at least one layer"),
        ((Step(1), damped((Step(1),), 0.5)), "got a linear combination of streams"),
    ],
)
def test_what_no_weights_express_is_refused(steps, message):
    for refuse in (
        lambda: materialise(CONFIG, PARAMS, steps),
        lambda: materialised_config(CONFIG, steps),
    ):
        with pytest.raises(InputError, match=message):
            refuse()


def test_an_edit_must_keep_shapes():
    def wide(own):
        return tree.replace(own, {"q_proj": np.zeros((16, 20), np.float32)})

    with pytest.raises(InputError, match=r"must keep shapes; wide gave q_proj \(16, 20\)"):
        materialise(CONFIG, PARAMS, (Step(0, Edit("wide", wide, scope=("q_proj",))),))

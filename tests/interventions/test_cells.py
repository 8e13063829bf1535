"""Lists of variants against literals."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.cells import ablations, main_map, protocol_cells
from jaxanatomy.interventions.intervention import custom
from jaxanatomy.interventions.noise import matched_noise
from jaxanatomy.interventions.variants import FIRST, Step, baseline_steps, closed, up_to

SMOLLM2 = ModelConfig.uniform(
    30, 9, 3, 1536, vocab_size=49152, hidden_size=576, head_dim=64, rope_theta=100_000.0
)


def names(variants):
    return [variant.name for variant in variants]


def test_default_is_the_neighbour_mean_of_each_layer(naive):
    variants = ablations(naive.config)
    assert names(variants) == ["baseline", *(f"neighbour_mean/layer/{i}" for i in range(5))]
    assert [step.layer for step in variants[3].steps] == [0, 1, 2, 3, 4]
    assert [step.edit is None for step in variants[3].steps] == [True, True, False, True, True]
    edit = variants[3].steps[2].edit
    assert (edit.sources, edit.scope, edit.on_host) == ((1, 3), tree.MATRICES, False)
    assert variants[3].labels == {
        "intervention": "neighbour_mean",
        "scope": "layer",
        "positions": "all",
        "layer": 2,
        "draw": None,
        "boundary": False,
    }


def test_boundary_layers_have_one_source_and_a_flag(naive):
    for name in ("neighbour_mean", "neighbour_mean_with_norms", "rescaled_mean", "aligned_mean"):
        variants = ablations(naive.config, [name])[1:]
        assert [v.labels["boundary"] for v in variants] == [True, False, False, False, True]
        assert variants[0].steps[0].edit.sources == (1,)
        assert variants[4].steps[4].edit.sources == (3,)


def test_boundary_neighbour_mean_copies_the_one_neighbour(naive):
    first = ablations(naive.config, ["neighbour_mean"], layers=[0])[1]
    copied = list(naive.blocks)
    copied[0] = tree.replace(naive.blocks[0], tree.components(naive.blocks[1], tree.MATRICES))
    expected = naive.run(baseline_steps(5), copied, naive.x_TD)
    found = naive.run(first.steps, naive.blocks, naive.x_TD)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_copies_are_absent_at_the_end_they_come_from(naive):
    previous = ablations(naive.config, ["copy_previous"])[1:]
    following = ablations(naive.config, ["copy_next"])[1:]
    assert [v.labels["layer"] for v in previous] == [1, 2, 3, 4]
    assert [v.labels["layer"] for v in following] == [0, 1, 2, 3]
    assert previous[0].steps[1].edit.sources == (0,)
    assert following[0].steps[0].edit.sources == (1,)
    assert not any(v.labels["boundary"] for v in previous + following)


def test_random_edits_carry_the_seed_of_their_layer(naive):
    noise = ablations(naive.config, ["matched_noise"], layers=[3])[1].steps[3].edit
    rows = ablations(naive.config, ["permuted_rows"], layers=[3])[1].steps[3].edit
    assert (noise.arguments, noise.on_host) == ((("seed", (10_003, 0)),), True)
    assert (rows.arguments, rows.on_host) == ((("seed", (20_003, 0)),), True)


def test_what_is_random_is_drawn_several_times(naive):
    variants = ablations(naive.config, ["zero", "matched_noise"], layers=[1, 3], draws=3)
    assert names(variants)[3:] == [
        f"matched_noise{mark}/layer/{layer}" for mark in ("", "#1", "#2") for layer in (1, 3)
    ]
    for variant, (draw, layer) in zip(
        variants[3:], itertools.product(range(3), (1, 3)), strict=True
    ):
        labels = variant.labels
        assert (labels["intervention"], labels["layer"], labels["draw"]) == (
            "matched_noise",
            layer,
            draw,
        )
        assert variant.steps[layer].edit.arguments == (("seed", (10_000 + layer, draw)),)
    assert variants[1].labels["draw"] is None
    assert len({variant.fingerprint() for variant in variants}) == len(variants)


def test_a_draw_that_is_named_comes_alone(naive):
    variants = ablations(naive.config, ["permuted_rows#7", "permuted_rows"], layers=[2], draws=2)
    assert names(variants)[1:] == [
        "permuted_rows#7/layer/2",
        "permuted_rows/layer/2",
        "permuted_rows#1/layer/2",
    ]
    assert variants[1].steps[2].edit.arguments == (("seed", (20_002, 7)),)


def test_draw_0_is_the_draw_of_the_plain_seed_and_others_differ(naive):
    own = naive.blocks[1]
    plain, first, second = (
        tree.get(matched_noise(own, seed=seed), "q_proj")
        for seed in (10_001, (10_001, 0), (10_001, 1))
    )
    assert np.array_equal(plain, first)
    assert not np.array_equal(plain, second)


def test_an_intervention_of_ones_own_may_draw(naive):
    def noise(own, *, seed):
        shape = tree.get(own, "q_proj").shape
        return tree.replace(own, {"q_proj": np.random.default_rng(seed).standard_normal(shape)})

    mine = custom("mine", noise, (), on_host=True, seed=500)
    variants = ablations(naive.config, [mine], ["q_proj"], layers=[2], draws=2)
    assert names(variants)[1:] == ["mine/q_proj/2", "mine#1/q_proj/2"]
    assert variants[2].steps[2].edit.arguments == (("seed", (502, 1)),)


def test_scopes_and_norms(naive):
    def scope(intervention, scope):
        return ablations(naive.config, [intervention], [scope], layers=[2])[1].steps[2].edit.scope

    assert scope("neighbour_mean", "attention") == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert scope("neighbour_mean", "down_proj") == ("down_proj",)
    assert scope("neighbour_mean_with_norms", "layer") == tree.MATRICES + tree.NORMS
    assert scope("neighbour_mean_with_norms", "mlp") == (*tree.MLP, "mlp_norm")
    assert scope("scale_0.5", "mlp") == tree.MLP
    assert scope("scale_output_0.5", "layer") == ("o_proj", "down_proj")


def test_names_tell_the_positions_unless_they_are_all(naive):
    variants = ablations(naive.config, ["zero"], ["mlp"], ["all", "first", up_to(2)], [3])
    assert names(variants) == ["baseline", "zero/mlp/3", "zero/mlp@first/3", "zero/mlp@up_to_2/3"]
    assert variants[2].labels["positions"] == "first"
    assert variants[2].steps[3] == Step(3, factors=closed("mlp"), positions=FIRST)


def test_an_edit_at_some_positions_leaves_the_others_output(naive):
    """Selected outputs: the same input, the edited block's result at the first token alone."""
    changed = ablations(naive.config, ["copy_previous"], positions=["first"], layers=[4])[1]
    kernels = tree.components(naive.blocks[3], tree.MATRICES)
    x_TD = naive.run(baseline_steps(4), naive.blocks, naive.x_TD)
    expected = naive.block(naive.blocks[4], x_TD)
    expected[0] = naive.block(tree.replace(naive.blocks[4], kernels), x_TD)[0]
    found = naive.run(changed.steps, naive.blocks, naive.x_TD)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert changed.name == "copy_previous/layer@first/4"


def test_main_map():
    assert names(main_map(SMOLLM2)) == [
        "baseline",
        *(f"neighbour_mean/layer/{layer}" for layer in range(1, 29)),
    ]
    assert set(names(main_map(SMOLLM2, boundary=True))) - set(names(main_map(SMOLLM2))) == {
        "neighbour_mean/layer/0",
        "neighbour_mean/layer/29",
    }


def test_protocol_counts_each_cell_of_the_protocol():
    variants = protocol_cells(SMOLLM2)
    assert variants[0].name == "baseline"
    assert len(set(names(variants))) == len(variants) == 1319 + 2 * 3 * 30
    counts = Counter((v.labels["intervention"], v.labels.get("scope"), v.labels.get("positions"))
                     for v in variants)  # fmt: skip
    expected = {("none", None, None): 1}
    for name in ("neighbour_mean", "neighbour_mean_with_norms", "zero", "rescaled_mean",
                 "aligned_mean"):  # fmt: skip
        expected[name, "layer", "all"] = 30
    expected["matched_noise", "layer", "all"] = expected["permuted_rows", "layer", "all"] = 4 * 30
    expected["copy_previous", "layer", "all"] = expected["copy_next", "layer", "all"] = 29
    for name in ("neighbour_mean", "zero"):
        for place in ("first", "others"):
            expected[name, "layer", place] = 30
        for scope in ("attention", "mlp", *tree.MATRICES):
            expected[name, scope, "all"] = 30
    for scope in ("attention", "mlp"):
        for place in ("first", "others"):
            expected["zero", scope, place] = 30
    for head in range(9):
        expected["zero", f"head_{head}", "all"] = 30
    assert counts == expected


def test_protocol_of_a_single_layer_leaves_out_what_needs_neighbours():
    config = dataclasses.replace(SMOLLM2, layers=SMOLLM2.layers[:1])
    interventions = {variant.labels["intervention"] for variant in protocol_cells(config)}
    assert interventions == {"none", "zero", "matched_noise", "permuted_rows"}


def test_heads_exist_where_the_layer_has_them():
    wide, narrow = LayerShape(4, 2, 6), LayerShape(2, 2, 6)
    config = ModelConfig(vocab_size=11, hidden_size=8, head_dim=4, layers=(wide, narrow, wide))
    assert names(ablations(config, ["zero"], ["head_3"])) == [
        "baseline",
        "zero/head_3/0",
        "zero/head_3/2",
    ]


def test_layers_of_different_shapes_are_named():
    wide, narrow = LayerShape(4, 2, 6), LayerShape(4, 2, 5)
    config = ModelConfig(vocab_size=11, hidden_size=8, head_dim=4, layers=(wide, wide, narrow))
    message = "neighbour_mean at layer 1 .* layer 1 has .* FFN width 6, layer 2 .* FFN width 5"
    with pytest.raises(InputError, match=message):
        ablations(config)
    assert len(ablations(config, ["zero", "matched_noise"], draws=1)) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interventions": ["neighbor_mean"]}, "did you mean 'neighbour_mean'"),
        ({"draws": 0}, "draws must be a whole number, 1 or above; got 0; 4 is usual"),
        ({"interventions": ["zero#1"]}, "matched_noise#2, a number from 1 after what draws"),
        ({"interventions": ["matched_noise#0"]}, "from 1 after .*; got 'matched_noise#0'"),
        ({"interventions": ["matched_nose#1"]}, "did you mean 'matched_noise'"),
        ({"scopes": ["attn"]}, "did you mean 'attention'"),
        ({"scopes": [5]}, "unknown scope 5; known: layer"),
        ({"scopes": [["mlp"]]}, r"unknown scope \['mlp'\]"),
        ({"scopes": ["head_4"]}, "query heads of this model are 0 to 3; got 'head_4'"),
        ({"positions": ["frist"]}, "did you mean 'first'"),
        ({"layers": [5]}, "layers of this model are 0 to 4; got 5"),
        ({"layers": [-1]}, "layers of this model are 0 to 4; got -1"),
        ({"layers": [1.5]}, "whole numbers"),
        ({"layers": [2, 3, 2]}, r"each of layers may come once; repeated: 2; leave"),
        ({"layers": []}, "layers must name at least one"),
        ({"interventions": []}, "interventions must name at least one"),
        ({"scopes": ["mlp", "mlp"]}, "each of scopes may come once"),
        ({"scopes": ["head_0"]}, "can be zeroed only"),
        ({"interventions": ["copy_previous"], "layers": [0]}, "every layer but the first"),
        ({"interventions": ["scale_output_0.5"], "scopes": ["q_proj"]}, "holds none of them"),
    ],
)
def test_bad_input_says_what_to_type(naive, arguments, message):
    with pytest.raises(InputError, match=message):
        ablations(naive.config, **arguments)


def test_a_single_name_may_stand_for_a_list(naive):
    assert names(ablations(naive.config, "zero", "mlp", "first", [1])) == [
        "baseline",
        "zero/mlp@first/1",
    ]

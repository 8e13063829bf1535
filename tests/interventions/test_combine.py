"""Several changes in one model, from their names."""

import pytest
from naive import CONFIG

from jaxanatomy.errors import InputError
from jaxanatomy.interventions import cells
from jaxanatomy.interventions.combine import combined_steps, steps_of
from jaxanatomy.interventions.sets import LayerSet
from jaxanatomy.interventions.strategies import parse_strategy, strategy_variant
from jaxanatomy.interventions.variants import Step, closed


def test_every_name_of_the_protocol_gives_its_steps():
    for variant in cells.protocol_cells(CONFIG)[1:]:
        layer, steps = steps_of(CONFIG, variant.name)
        assert layer == variant.labels["layer"]
        base = [Step(layer) for layer in range(5)]
        assert (*base[:layer], *steps, *base[layer + 1 :]) == variant.steps


def test_changes_at_several_layers_and_several_in_one():
    names = ["zero/layer/4", "zero/head_3/1", "zero/mlp/1", "zero/head_0/1", "scale_0.5/q_proj/3"]
    steps = combined_steps(CONFIG, names)
    assert [step.layer for step in steps] == [0, 1, 2, 3]
    assert steps[1].factors == closed("head_0", "head_3", "mlp")
    assert steps[3].edit.arguments == (("alpha", 0.5),)
    assert combined_steps(CONFIG, reversed(names))[3] == steps[3]


def test_an_edit_and_a_zero_part_share_a_layer():
    (step,) = combined_steps(CONFIG, ["zero/mlp/2", "scale_0.5/attention/2"], layers=[2])
    assert step.factors == closed("mlp")
    assert step.edit.name == "scale_0.5"


def test_a_dropped_layer_stays_dropped():
    names = ["scale_0.5/layer/2", "zero/layer/2", "zero/head_0/2"]
    assert [step.layer for step in combined_steps(CONFIG, names)] == [0, 1, 3, 4]


def test_layers_can_be_left_out_repeated_and_permuted():
    steps = combined_steps(CONFIG, ["zero/mlp/3"], layers=[4, 3, 3, 0])
    assert [(step.layer, step.factors) for step in steps] == [
        (4, ()),
        (3, closed("mlp")),
        (3, closed("mlp")),
        (0, ()),
    ]


def test_every_strategy_on_a_set_gives_its_steps():
    layer_set = LayerSet("layers_2_4", (2, 4))
    names = ["zero", "clone", "clone_with_norms", "blend_2", "scale_0.9", "scale_output_0.5"]
    for name in [*names, "low_rank_half", "own_svd_4", "predicted", "neighbour_mean"]:
        strategy, settings = parse_strategy(name)
        variant = strategy_variant(CONFIG, strategy, layer_set, **settings)
        assert combined_steps(CONFIG, [variant.name]) == variant.steps


def test_sets_combine_with_each_other_and_with_parts():
    steps = combined_steps(CONFIG, ["scale_0.9/layers_0_2", "clone/pair_1_3", "zero/mlp/2"])
    assert [step.edit and step.edit.name for step in steps] == [
        "scale_0.9",
        "clone",
        "scale_0.9",
        "clone",
        None,
    ]
    assert steps[2].factors == closed("mlp")


def test_nothing_changed_is_the_baseline():
    assert combined_steps(CONFIG, []) == tuple(Step(layer) for layer in range(5))


@pytest.mark.parametrize(
    ("names", "layers", "message"),
    [
        (
            ["zero/14"],
            None,
            r"is written INTERVENTION/SCOPE.*/LAYER, .*, or STRATEGY/SET, .*; got 'zero/14'",
        ),
        (["clone/layer/x/1"], None, "or STRATEGY/SET, for example 'clone/layers_3_5'; got"),
        (["clones/layers_1_2"], None, "unknown strategy 'clones'; did you mean 'clone'"),
        (["scale/layers_1_2"], None, "'scale' needs alpha; got none"),
        (["clone/layer_s"], None, "unknown layer set 'layer_s'; did you mean 'layer_A'"),
        (["clone/layers_1_5"], None, "layers of this model are 0 to 4; got 5 in 'layers_1_5'"),
        (["clone/least_2"], None, "'least_2' is chosen by the degradation .*; name the layers"),
        (["clone/paper"], None, "of a model of 30 layers; this one has 5"),
        (["clone/layers_1_2"], [0, 1], "changes layer 2, which is not among the layers"),
        (["clone/layers_1_2", "scale_0.9/layer/2"], None, "may have one edit .*; leave one out"),
        (["zero/layer/x"], None, "got 'zero/layer/x'"),
        (["zero/layer/-1"], None, "got 'zero/layer/-1'"),
        (["zeros/layer/1"], None, "unknown intervention 'zeros'; did you mean 'zero'"),
        (["zero/mlpp/1"], None, "unknown scope 'mlpp'; did you mean 'mlp'"),
        (["zero/head_4/1"], None, "query heads of this model are 0 to 3; got 'head_4'"),
        (["zero/mlp@last/1"], None, "unknown positions 'last'"),
        (["zero/mlp/5"], None, "layers of this model are 0 to 4; got 5 in 'zero/mlp/5'"),
        (["copy_previous/mlp/0"], None, "copy_previous exists at every layer but the first"),
        (["scale_0.5/head_0/1"], None, "scope 'head_0' can be zeroed only"),
        ([], [0, 5], "layers of this model are 0 to 4; got 5"),
        (["zero/mlp/2"], [0, 1], r"changes layer 2, which is not among the layers \[0, 1\]"),
        (["scale_0.5/mlp/2", "copy_next/attention/2"], None, "may have one edit .*; leave one out"),
        (["zero/mlp@first/2", "zero/head_0/2"], None, "at the same positions"),
    ],
)
def test_what_cannot_be_combined_is_refused(names, layers, message):
    with pytest.raises(InputError, match=message):
        combined_steps(CONFIG, names, layers)

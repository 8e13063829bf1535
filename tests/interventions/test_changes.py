"""Variants from their names, and several changes in one model."""

import pytest
from naive import CONFIG

from jaxanatomy.errors import InputError
from jaxanatomy.interventions import cells
from jaxanatomy.interventions.changes import combined_steps, parse_variants, split_names
from jaxanatomy.interventions.variants import Step, closed


def test_every_name_of_the_protocol_gives_its_steps():
    variants = cells.protocol_cells(CONFIG)[1:]
    assert parse_variants(CONFIG, [variant.name for variant in variants]) == variants
    for variant in variants:
        assert combined_steps(CONFIG, [variant.name]) == variant.steps


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("zero/layer/1-3", ["zero/layer/1", "zero/layer/2", "zero/layer/3"]),
        ("zero/mlp/4,0", ["zero/mlp/4", "zero/mlp/0"]),
        ("cut/layer/all", [f"cut/layer/{layer}" for layer in range(5)]),
        ("scale_0.90/set/3,1", ["scale_0.9/set/1,3"]),
        ("scale_1.0/set/0-2,4", ["scale_1/set/0-2,4"]),
        ("zero/mlp@first/set/1,2", ["zero/mlp@first/set/1,2"]),
        ("cut/layer/set/1,2", ["cut/set/1,2"]),
        (
            "cut/spans/4,1",
            ["cut/span/0-3", "cut/span/1-4", *(f"cut/span/{i}-{i}" for i in range(5))],
        ),
        ("swap/spans/4", ["swap/span/0-3", "swap/span/1-4"]),
        ("clone/set/3", ["clone/set/3"]),
        ("own_svd_half/set/random_2_s1", ["own_svd_half/set/random_2_s1"]),
        ("matched_noise#3/layer/2", ["matched_noise#3/layer/2"]),
        ("perturb_0.01#12/set/even_2", ["perturb_0.01#12/set/even_2"]),
    ],
)
def test_one_way_to_write_a_variant(name, found):
    variants = parse_variants(CONFIG, [name])
    assert [variant.name for variant in variants] == found
    assert parse_variants(CONFIG, found) == variants


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ("6", "runs of layers are 1 to 5 long here; got 6"),
        ("0,1", "runs of layers are 1 to 5 long here; got 0"),
        ("1,1-2", "each of lengths of runs may come once; repeated: 1"),
        ("all", "lengths of runs must be whole numbers"),
    ],
)
def test_lengths_of_runs_that_do_not_fit_are_refused(lengths, message):
    with pytest.raises(InputError, match=message):
        parse_variants(CONFIG, [f"cut/spans/{lengths}"])


def test_a_part_of_several_layers_changes_together():
    (variant,) = parse_variants(CONFIG, ["zero/mlp@first/set/1,3"])
    apart = [parse_variants(CONFIG, [f"zero/mlp@first/{layer}"])[0].steps for layer in (1, 3)]
    assert variant.steps == (Step(0), apart[0][1], Step(2), apart[1][3], Step(4))


def test_lists_with_commas_are_read_as_they_are_meant():
    text = "zero/layer/14,scale_0.9/set/3,5-8,clone/set/paper,cut/span/12-14"
    names = ["zero/layer/14", "scale_0.9/set/3,5-8", "clone/set/paper", "cut/span/12-14"]
    assert split_names(text) == split_names(text.split(",")) == names
    # A range that a command line has expanded.
    assert split_names(("scale_0.9/set/3", 5, 6, 7)) == ["scale_0.9/set/3,5,6,7"]
    assert split_names(names) == names


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
    assert (step.edit.name, step.edit.arguments) == ("scale", (("alpha", 0.5),))


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


def test_sets_combine_with_each_other_and_with_parts():
    steps = combined_steps(CONFIG, ["scale_0.9/set/0,2", "clone/set/1,3", "zero/mlp/2"])
    assert [step.edit and step.edit.name for step in steps] == [
        "scale",
        "clone",
        "scale",
        "clone",
        None,
    ]
    assert steps[2].factors == closed("mlp")


def test_nothing_changed_is_the_baseline():
    assert combined_steps(CONFIG, []) == tuple(Step(layer) for layer in range(5))


@pytest.mark.parametrize(
    ("names", "layers", "message"),
    [
        (["zero/14"], None, r"is written INTERVENTION/SCOPE.*/LAYER, .*; got 'zero/14'"),
        (["zero"], None, r"a variant is written .*; got 'zero'"),
        (["clone/layer/x/1"], None, "as in .* 'clone/set/3,5', .*; got 'clone/layer/x/1'"),
        (["clones/set/1,2"], None, "unknown intervention 'clones'; did you mean 'clone'"),
        (["scale/set/1,2"], None, "'scale' needs alpha; got none; put it into .*: 'scale_0.9'"),
        (["low_rank/set/1"], None, "'low_rank' needs rank; got none; .*: 'low_rank_half'"),
        (["clone/set/lest_2"], None, "unknown layer set 'lest_2'; did you mean 'least_K'"),
        (["clone/set/1,5"], None, "layers of this model are 0 to 4; got 5"),
        (["clone/set/"], None, "unknown layer set ''"),
        (["clone/set/least_2"], None, "'least_2' is chosen by the degradation .*; name the layers"),
        (["clone/set/paper"], None, "of a model of 30 layers; this one has 5"),
        (["clone/set/1,2"], [0, 1], "changes layer 2, which is not among the layers"),
        (["clone/set/1,2", "scale_0.9/layer/2"], None, "may have one edit .*; leave one out"),
        (["zero/layer/x"], None, "layers must be whole numbers or ranges of them.*; got 'x'"),
        (["zero/layer/-1"], None, "got '-1'"),
        (["zeros/layer/1"], None, "unknown intervention 'zeros'; did you mean 'zero'"),
        (["zero/mlpp/1"], None, "unknown scope 'mlpp'; did you mean 'mlp'"),
        (["zero/head_4/1"], None, "query heads of this model are 0 to 3; got 'head_4'"),
        (["zero/mlp@last/1"], None, "unknown positions 'last'"),
        (["zero/mlp/5"], None, "layers of this model are 0 to 4; got 5"),
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

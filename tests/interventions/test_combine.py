"""Several changes in one model, from their names."""

import pytest
from naive import CONFIG

from jaxanatomy.errors import InputError
from jaxanatomy.interventions import cells
from jaxanatomy.interventions.combine import combined_steps, steps_of
from jaxanatomy.interventions.variants import Step


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
    assert steps[1].closed == ("head_3", "mlp", "head_0")
    assert steps[3].edit.arguments == (("alpha", 0.5),)
    assert combined_steps(CONFIG, reversed(names))[3] == steps[3]


def test_an_edit_and_a_zero_part_share_a_layer():
    (step,) = combined_steps(CONFIG, ["zero/mlp/2", "scale_0.5/attention/2"], layers=[2])
    assert step.closed == ("mlp",)
    assert step.edit.name == "scale_0.5"


def test_a_dropped_layer_stays_dropped():
    names = ["scale_0.5/layer/2", "zero/layer/2", "zero/head_0/2"]
    assert [step.layer for step in combined_steps(CONFIG, names)] == [0, 1, 3, 4]


def test_layers_can_be_left_out_repeated_and_permuted():
    steps = combined_steps(CONFIG, ["zero/mlp/3"], layers=[4, 3, 3, 0])
    assert [(step.layer, step.closed) for step in steps] == [
        (4, ()),
        (3, ("mlp",)),
        (3, ("mlp",)),
        (0, ()),
    ]


def test_nothing_changed_is_the_baseline():
    assert combined_steps(CONFIG, []) == tuple(Step(layer) for layer in range(5))


@pytest.mark.parametrize(
    ("names", "layers", "message"),
    [
        (
            ["zero/14"],
            None,
            r"is written INTERVENTION/SCOPE.*/LAYER, for example .*; got 'zero/14'",
        ),
        (["zero/layer/x"], None, "got 'zero/layer/x'"),
        (["zero/layer/-1"], None, "got 'zero/layer/-1'"),
        (["zeros/layer/1"], None, "unknown intervention 'zeros'; did you mean 'zero'"),
        (["zero/mlpp/1"], None, "unknown scope 'mlpp'; did you mean 'mlp'"),
        (["zero/head_4/1"], None, "unknown scope 'head_4'"),
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

"""Cuts, repetitions, swaps, reversals and early exits against literal lists."""

import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.changes import combined_steps, parse_variants
from jaxanatomy.interventions.variants import Step, closed, damped

EIGHT = ModelConfig.uniform(8, 1, 1, 4, vocab_size=8, hidden_size=4, head_dim=4)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("cut/span/2-2", [0, 1, 3, 4, 5, 6, 7]),
        ("cut/span/4-7", [0, 1, 2, 3]),
        ("cut/layer/4", [0, 1, 2, 3, 5, 6, 7]),
        ("cut/set/1,4-6", [0, 2, 3, 7]),
        ("cut/span/0-7", []),
        ("repeat/span/2-4", [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7]),
        ("repeat/layer/7", [0, 1, 2, 3, 4, 5, 6, 7, 7]),
        ("swap/span/0-1", [1, 0, 2, 3, 4, 5, 6, 7]),
        ("swap/span/2-5", [0, 1, 4, 5, 2, 3, 6, 7]),
        ("swap/span/0-7", [4, 5, 6, 7, 0, 1, 2, 3]),
        ("reverse/span/3-5", [0, 1, 2, 5, 4, 3, 6, 7]),
        ("reverse/span/0-7", [7, 6, 5, 4, 3, 2, 1, 0]),
        ("exit/layer/2", [0, 1, 2]),
        ("exit/layer/7", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_order(name, order):
    (variant,) = parse_variants(EIGHT, [name])
    assert variant.name == name
    assert variant.steps == tuple(Step(layer) for layer in order)
    assert combined_steps(EIGHT, [name]) == variant.steps


def test_labels():
    (variant,) = parse_variants(EIGHT, ["swap/span/2-5"])
    assert variant.labels == {"op": "swap", "size": 4, "start": 2}


def test_orders_apart_and_edits_inside_them_combine():
    steps = combined_steps(EIGHT, ["repeat/span/1-2", "zero/mlp/2", "reverse/span/4-6"])
    assert [step.layer for step in steps] == [0, 1, 2, 1, 2, 3, 6, 5, 4, 7]
    assert [step.factors for step in steps if step.layer == 2] == [closed("mlp")] * 2


def test_a_second_pass_may_be_damped_and_its_layers_changed():
    (variant,) = parse_variants(EIGHT, ["repeat_damped_0.25/span/6-7"])
    again = damped((Step(6), Step(7)), 0.25)
    assert variant.steps == (*(Step(layer) for layer in range(8)), again)
    steps = combined_steps(EIGHT, [variant.name, "zero/mlp/7"])
    quiet = Step(7, factors=closed("mlp"))
    assert steps[7:] == (quiet, damped((Step(6), quiet), 0.25))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cut/span/6-8"], "a span is FIRST-LAST, two of the layers 0 to 7; got 6-8"),
        (["cut/span/3-2"], "got 3-2"),
        (["cut/span/3"], "a span is FIRST-LAST, as in 'cut/span/12-14'; got 'cut/span/3'"),
        (["swap/span/2-4"], "an even number of layers; got span/2-4"),
        (["repeat/set/1,3"], "needs layers that follow one another; got set/1,3"),
        (["cut/mlp/3"], "cut acts on whole layers at all positions; got mlp/3"),
        (["exit/layer@first/3"], "exit acts on whole layers at all positions; got layer@first/3"),
        (["exit/layer/8"], "layers of this model are 0 to 7; got 8"),
        (["swap/span/1-4", "reverse/span/3-5"], "layer 3 may be left out or moved once"),
    ],
)
def test_what_has_no_order_is_refused(names, message):
    with pytest.raises(InputError, match=message):
        combined_steps(EIGHT, names)

"""Lists of cuts, repeats, swaps and reversals, counted and against literal orders."""

import collections

import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.surgery import surgery_variants
from jaxanatomy.interventions.variants import Step, damped
from jaxanatomy.measures.readings.nll import LOSSES
from jaxanatomy.sweep.plan import Plan
from jaxanatomy.sweep.reading import probes_of


def model(layers):
    return ModelConfig.uniform(layers, 1, 1, 4, vocab_size=8, hidden_size=4, head_dim=4)


def names(variants):
    return [variant.name for variant in variants]


def test_dgs_list_and_the_two_triangles_on_thirty_layers():
    order = surgery_variants(model(30), cut="1,2,4,8", swap="1,2,4,8", reverse="3,4,8")
    assert len(order) == 282
    counts = collections.Counter((v.labels["op"], v.labels["size"]) for v in order)
    assert counts["cut", 8] == 23
    assert [counts["swap", 2 * block] for block in (1, 2, 4, 8)] == [29, 27, 23, 15]
    assert [counts["reverse", size] for size in (3, 4, 8)] == [28, 27, 23]
    triangles = surgery_variants(model(30), cut="all", repeat="all")
    assert len(triangles) == 1 + 929
    assert len(set(names(triangles))) == 930


def test_the_triangles_take_as_many_layer_applications_as_they_share():
    """What follows a cut, and a repeat from its first layer on, is shared with no other variant."""
    L = 30
    variants = surgery_variants(model(L), cut="all", repeat="all")
    lengths = [(i, j) for i in range(L) for j in range(i, L)]
    after_cuts = sum(L - 1 - j for i, j in lengths if (i, j) != (0, L - 1))
    expected = L + after_cuts + sum(L - i for i, _ in lengths)
    probes, _ = probes_of(model(L), LOSSES)
    assert Plan(model(L), variants, probes).applications == expected == 13_980


def test_every_operation_on_three_layers():
    found = surgery_variants(model(3), "all", "all", (0.5,), "all", "all")
    cuts = ["0-0", "1-1", "2-2", "0-1", "1-2"]
    assert names(found) == [
        "baseline",
        *(f"cut/span/{span}" for span in cuts),
        *(f"repeat/span/{span}" for span in [*cuts, "0-2"]),
        *(f"repeat_damped_0.5/span/{span}" for span in [*cuts, "0-2"]),
        "swap/span/0-1",
        "swap/span/1-2",
        "reverse/span/0-2",
    ]
    steps = {variant.name: variant.steps for variant in found}
    plain = tuple(Step(layer) for layer in range(3))
    assert steps["baseline"] == plain
    assert steps["cut/span/1-2"] == plain[:1]
    assert steps["repeat/span/0-1"] == (*plain[:2], *plain)
    assert steps["repeat_damped_0.5/span/0-1"] == (*plain[:2], damped(plain[:2], 0.5), plain[2])
    assert found[0].labels == {"op": "none", "size": 0, "start": None}
    assert found[-1].labels == {"op": "reverse", "size": 3, "start": 0}


def test_no_two_variants_are_the_same_model():
    found = surgery_variants(model(30), "all", "all", (0.5, 0.25), "all", "all")
    assert len(found) == 1 + 464 + 3 * 465 + 225 + 406
    assert len({variant.steps for variant in found}) == len(found)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({}, "needs lengths of cut, repeat, swap or reverse; got none"),
        ({"damping": (0.5,)}, "damping is of the second pass of repeat; got .* name some"),
        ({"cut": "1", "damping": (0.5,)}, "damping is of the second pass of repeat"),
        ({"cut": "8"}, "cut takes 1 to 7 layers of this model; got 8"),
        ({"cut": "0"}, "cut takes 1 to 7 layers of this model; got 0"),
        ({"repeat": "7-9"}, "repeat takes 1 to 8 layers of this model; got 9"),
        ({"swap": "1,5"}, "swap takes 1 to 4 layers of this model; got 5"),
        ({"reverse": "2"}, "reverse takes 3 to 8 layers of this model; got 2"),  # a swap
        ({"cut": "2,1-3"}, "each of cut may come once; repeated: 2"),
        ({"cut": "1,every"}, "cut must be whole numbers or ranges of them"),
        ({"cut": "-1"}, "cut must be whole numbers or ranges of them"),
        ({"repeat": "1", "damping": (0.5, 0.5)}, "each of damping may come once; repeated: 0.5"),
        ({"repeat": "1", "damping": ("half",)}, "alpha must be a finite number"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths, message):
    with pytest.raises(InputError, match=message):
        surgery_variants(model(8), **lengths)


def test_a_model_of_one_layer_can_only_repeat_it():
    assert names(surgery_variants(model(1), repeat="all"))[1:] == ["repeat/span/0-0"]
    with pytest.raises(InputError, match="got none"):
        surgery_variants(model(1), cut="all", swap="all", reverse="all")

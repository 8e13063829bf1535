"""Sets of layers and their neighbours, against literal lists and plain loops."""

import itertools
import math

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.sets import (
    FORMS,
    PAPER,
    named_sets,
    needs_degradation,
    pairs,
    parse_set,
    parse_sets,
    split_sets,
)
from jaxanatomy.interventions.where import Where


def layers_of(num_layers, name, degradation=None):
    found = parse_set(num_layers, name, degradation)
    assert (found.kind, found.name, found.scope) == ("set", name, "layer")
    return found.layers


def degradations(num_layers, **given):
    """100 % everywhere but at the layers named l3=5.0 and so on."""
    by_layer = {int(name[1:]): value for name, value in given.items()}
    return {layer: by_layer.get(layer, 100.0) for layer in range(1, num_layers - 1)}


def test_measured_is_what_costs_less_than_ten_percent():
    cheap = {f"l{layer}": 9.99 for layer in range(2, 13)}
    given = degradations(30, **cheap, l20=10.0, l21=-1.0)
    assert layers_of(30, "measured", given) == (*range(2, 13), 21)


def test_measured_is_the_nine_least_degraded_if_fewer_are_cheap():
    given = degradations(30, l20=5.0, l3=11.0, l4=12.0, l28=13.0, l9=14.0, l10=math.inf)
    # Four layers at 100 % fill up: of equal ones the lower index.
    assert layers_of(30, "measured", given) == (1, 2, 3, 4, 5, 6, 9, 20, 28)
    assert layers_of(6, "measured", degradations(6)) == (1, 2, 3, 4)


def test_least_takes_the_least_degraded_and_of_equal_ones_the_lower():
    given = degradations(8, l6=1.0, l1=math.inf, l2=math.inf, l4=2.0)
    found = [layers_of(8, f"least_{k}", given) for k in range(1, 7)]
    assert found == [(6,), (4, 6), (3, 4, 6), (3, 4, 5, 6), (1, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6)]


def test_pairs_are_all_thirty_six():
    found = pairs(PAPER)
    assert (found[0], found[-1]) == ("0,3", "19,29")
    assert {parse_set(30, name).layers for name in found} == set(itertools.combinations(PAPER, 2))
    assert len(found) == 36


def test_random_sets_of_one_seed_are_nested_and_differ_between_seeds():
    order = np.random.default_rng(3).permutation(12)
    for count in range(1, 13):
        found = layers_of(12, f"random_{count}_s3")
        assert found == tuple(sorted(order[:count].tolist()))
        assert all(type(layer) is int for layer in found)
    assert layers_of(12, "random_5_s3") != layers_of(12, "random_5_s4")


def test_even_and_last_sets_are_of_the_layers_from_two_on():
    assert layers_of(30, "even_2") == (9, 23)
    assert layers_of(30, "even_9") == (3, 6, 9, 12, 16, 19, 22, 25, 28)
    assert layers_of(30, "last_3") == (27, 28, 29)
    assert layers_of(5, "even_3") == layers_of(5, "last_3") == (2, 3, 4)


def test_named_sets_of_the_papers_depth():
    sets = named_sets(30, degradations(30, l14=1.0, l17=0.5))
    assert list(sets)[:4] == ["measured", "paper", "paper_inner", "least_1"]
    assert len(sets) == 3 + 12 + 36
    assert sets["paper"].layers == (0, 3, 5, 6, 12, 14, 17, 19, 29)
    assert sets["paper_inner"].layers == (3, 5, 6, 12, 14, 17, 19)
    assert sets["least_2"].layers == (14, 17)
    assert all(layer_set.name == name for name, layer_set in sets.items())


def test_named_sets_of_another_depth_have_nothing_of_the_papers():
    sets = named_sets(6, degradations(6))
    assert list(sets) == ["measured", "least_1", "least_2", "least_3", "least_4"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("5,3", Where("set", (3, 5), name="3,5")),
        ("2", Where("set", (2,), name="2")),
        ("7,2-4", Where("set", (2, 3, 4, 7), name="2-4,7")),
        ("0-11", Where("set", tuple(range(12)), name="0-11")),
        ("random_12_s0", Where("set", tuple(range(12)), name="random_12_s0")),
    ],
)
def test_sets_of_ones_own_need_no_measurement(name, expected):
    assert parse_set(12, name) == expected


def test_every_named_set_is_found_by_its_name():
    given = degradations(30, l9=3.0)
    for name, layer_set in named_sets(30, given).items():
        assert parse_set(30, name, given) == layer_set


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mesured", "unknown layer set 'mesured'; did you mean 'measured'"),
        ("layers", "unknown layer set 'layers'"),
        ("3-", "unknown layer set '3-'"),
        ("1,x", "unknown layer set '1,x'"),
        ("least_K", "needs numbers for the capitals of 'least_K'"),
        ("zzz", "known: 3,5-8, measured, paper"),
        ("", "unknown layer set ''"),
        ("3,8", "layers of this model are 0 to 7; got 8"),
        ("3,5,3", "each of layers may come once; repeated: 3"),
        ("least_0", "least_K takes 1 to 6 layers of this model; got least_0"),
        ("least_7", "least_K takes 1 to 6 layers of this model; got least_7"),
        ("even_7", "even_K takes 1 to 6 layers of this model; got even_7"),
        ("last_0", "last_K takes 1 to 6 layers of this model; got last_0"),
        ("random_0_s1", "takes 1 to 8 layers of this model; got random_0_s1"),
        ("random_9_s1", "takes 1 to 8 layers of this model; got random_9_s1"),
        ("paper", "a model of 30 layers; this one has 8; take 'measured' or name layers"),
        ("paper_inner", "a model of 30 layers; this one has 8"),
    ],
)
def test_names_that_mean_no_set_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        parse_set(8, name, degradations(8))


@pytest.mark.parametrize("name", ["measured", "least_3"])
def test_sets_that_are_measured_say_so(name):
    with pytest.raises(InputError, match=f"set '{name}' is chosen by the degradation"):
        parse_set(8, name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({1: 1.0, 2: 1.0}, "inner layers 1 to 3 is needed, and of no other; got layers 1, 2"),
        ({0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}, "got layers 0, 1, 2, 3"),
        ({}, "got layers none"),
        ({1: 1.0, 2: math.nan, 3: 1.0}, "degradation of layer 2 must be a number or infinite"),
    ],
)
def test_degradations_of_other_layers_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        named_sets(5, given)


def test_sets_may_be_names_or_layers():
    found = parse_sets(8, ["5,2", [6, 3], np.arange(1, 4), "least_2", 7], degradations(8))
    assert [(each.name, each.layers) for each in found] == [
        ("2,5", (2, 5)),
        ("3,6", (3, 6)),
        ("1-3", (1, 2, 3)),
        ("least_2", (1, 2)),
        ("7", (7,)),
    ]


@pytest.mark.parametrize(
    ("given", "sets"),
    [
        ("paper,3,5/7-9", ["paper", "3,5", "7-9"]),
        (("paper", "3", "5/7-9"), ["paper", "3,5", "7-9"]),
        (("least_4", 3, 4, 5, "measured", "7"), ["least_4", "3,4,5", "measured", "7"]),
        (("3,5", "7", "9"), ["3,5", "7,9"]),
        (("3,5", "7-9,1"), ["3,5", "7-9,1"]),
        ("1/2/3", ["1", "2", "3"]),
        ((), []),
    ],
)
def test_sets_of_a_list_with_commas(given, sets):
    assert split_sets(given) == sets


def test_sets_that_are_chosen_may_be_those_of_others_and_named_ones_may_not():
    # Both are layers 1 and 2, the one by their degradation.
    assert len(parse_sets(8, ["least_2", "1,2"], degradations(8))) == 2
    for twice in ([[3, 5], [5, 3]], ["3-5", "3,4,5"], ["random_2_s1", "random_2_s1"]):
        with pytest.raises(InputError, match=r"each set may come once; got '.*' twice; leave one"):
            parse_sets(8, twice, degradations(8))
    with pytest.raises(InputError, match=r"'paper' and '0,3,5,6,.*,29' are the same layers"):
        parse_sets(30, ["paper", PAPER])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (None, "a set must be a list of whole numbers .*got None"),
        ([1.5], r"a set must be a list of whole numbers .*got 1.5"),
        ([], "layers must name at least one of 0 to 7; got none"),
        ([-1, 2], "layers of this model are 0 to 7; got -1"),
        ([8], "0 to 7; got 8"),
        ([2, 2], "may come once; repeated: 2"),
    ],
)
def test_layers_that_make_no_set_are_refused(layers, message):
    with pytest.raises(InputError, match=message):
        parse_sets(8, [layers])


def test_sets_that_are_chosen_by_the_map():
    assert [name for name in FORMS if needs_degradation(name)] == ["measured"]
    assert needs_degradation("least_3")
    assert not any(map(needs_degradation, ("least_x", "paper", "3", "random_3_s0", 5)))


def test_models_of_three_layers_have_no_map():
    with pytest.raises(InputError, match="of 4 layers or more; got 3; take a deeper model"):
        named_sets(3, {1: 1.0})

"""Sets of layers and their neighbours, against literal lists and plain loops."""

import itertools
import math

import numpy as np
import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.sets import (
    FORMS,
    PAPER,
    LayerSet,
    least,
    measured,
    named_sets,
    nearest_outside,
    needs_degradation,
    pairs,
    parse_set,
    parse_sets,
    random_set,
    set_of,
)


def deep(num_layers):
    return ModelConfig.uniform(
        num_layers, 2, 1, 6, vocab_size=11, hidden_size=8, head_dim=4, context_length=16
    )


def degradations(num_layers, **given):
    """100 % everywhere but at the layers named l3=5.0 and so on."""
    by_layer = {int(name[1:]): value for name, value in given.items()}
    return {layer: by_layer.get(layer, 100.0) for layer in range(1, num_layers - 1)}


def by_hand(num_layers, layers, layer, count, higher):
    """Walks away from the layer, one step at a time."""
    found = []
    for distance in range(1, num_layers):
        for other in (
            (layer + distance, layer - distance)
            if higher
            else (
                layer - distance,
                layer + distance,
            )
        ):
            if 0 <= other < num_layers and other not in layers and len(found) < count:
                found.append((other, distance))
    return tuple(found)


@pytest.mark.parametrize("higher", [False, True])
def test_nearest_outside_walks_away_from_the_layer(higher):
    for size in (1, 2, 3, 4):
        for layers in itertools.combinations(range(8), size):
            for layer, count in itertools.product(layers, (1, 2, 4)):
                found = nearest_outside(8, layers, layer, count, higher=higher)
                assert found == by_hand(8, layers, layer, count, higher)


def test_nearest_outside_the_papers_set():
    # Layer 5's neighbour 6 is in the set; 4 is at distance 1, then 7 at 2 beats 2 and 8 at 3.
    assert nearest_outside(30, PAPER, 5, 4) == ((4, 1), (7, 2), (2, 3), (8, 3))
    assert nearest_outside(30, PAPER, 12, 1) == ((11, 1),)
    assert nearest_outside(30, PAPER, 12, 1, higher=True) == ((13, 1),)
    assert nearest_outside(30, PAPER, 0, 2) == ((1, 1), (2, 2))
    assert nearest_outside(30, PAPER, 29, 2, higher=True) == ((28, 1), (27, 2))


def test_nearest_outside_needs_layers_outside():
    message = "layer 3 needs 2 of the 4 layers outside its set .* got a set of 3; take layers out"
    with pytest.raises(InputError, match=message):
        nearest_outside(4, (1, 2, 3), 3, 2)


def test_measured_is_what_costs_less_than_ten_percent():
    cheap = {f"l{layer}": 9.99 for layer in range(2, 13)}
    found = measured(deep(30), degradations(30, **cheap, l20=10.0, l21=-1.0))
    assert found == LayerSet("measured", (*range(2, 13), 21))


def test_measured_is_the_nine_least_degraded_if_fewer_are_cheap():
    given = degradations(30, l20=5.0, l3=11.0, l4=12.0, l28=13.0, l9=14.0, l10=math.inf)
    # Four layers at 100 % fill up: of equal ones the lower index.
    assert measured(deep(30), given).layers == (1, 2, 3, 4, 5, 6, 9, 20, 28)
    assert measured(deep(6), degradations(6)).layers == (1, 2, 3, 4)


def test_least_takes_the_least_degraded_and_of_equal_ones_the_lower():
    given = degradations(8, l6=1.0, l1=math.inf, l2=math.inf, l4=2.0)
    found = [least(deep(8), given, k).layers for k in range(1, 7)]
    assert found == [(6,), (4, 6), (3, 4, 6), (3, 4, 5, 6), (1, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6)]


def test_pairs_are_all_thirty_six():
    found = pairs(PAPER)
    assert len(found) == 36
    assert found[0] == LayerSet("pair_0_3", (0, 3))
    assert found[-1] == LayerSet("pair_19_29", (19, 29))
    assert {layer_set.layers for layer_set in found} == set(itertools.combinations(PAPER, 2))


def test_random_sets_of_one_seed_are_nested_and_differ_between_seeds():
    order = np.random.default_rng(3).permutation(12)
    for count in range(1, 13):
        found = random_set(deep(12), count, 3)
        assert found == LayerSet(f"random_{count}_s3", tuple(sorted(order[:count].tolist())))
        assert all(type(layer) is int for layer in found.layers)
    assert random_set(deep(12), 5, 3).layers != random_set(deep(12), 5, 4).layers


def test_named_sets_of_the_papers_depth():
    sets = named_sets(deep(30), degradations(30, l14=1.0, l17=0.5))
    assert list(sets)[:4] == ["measured", "paper", "paper_inner", "least_1"]
    assert len(sets) == 3 + 12 + 36
    assert sets["paper"].layers == (0, 3, 5, 6, 12, 14, 17, 19, 29)
    assert sets["paper_inner"].layers == (3, 5, 6, 12, 14, 17, 19)
    assert sets["least_2"].layers == (14, 17)
    assert all(layer_set.name == name for name, layer_set in sets.items())


def test_named_sets_of_another_depth_have_nothing_of_the_papers():
    sets = named_sets(deep(6), degradations(6))
    assert list(sets) == ["measured", "least_1", "least_2", "least_3", "least_4"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layers_5_3", LayerSet("layers_3_5", (3, 5))),
        ("layers_2", LayerSet("layers_2", (2,))),
        ("layer_11", LayerSet("layer_11", (11,))),
        ("pair_7_2", LayerSet("pair_2_7", (2, 7))),
        ("random_12_s0", LayerSet("random_12_s0", tuple(range(12)))),
    ],
)
def test_sets_of_ones_own_need_no_measurement(name, expected):
    assert parse_set(deep(12), name) == expected


def test_every_named_set_is_found_by_its_name():
    given = degradations(30, l9=3.0)
    for name, layer_set in named_sets(deep(30), given).items():
        assert parse_set(deep(30), name, given) == layer_set


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mesured", "unknown layer set 'mesured'; did you mean 'measured'"),
        ("layers", "did you mean 'layer_A'. .a capital stands for a number, as in 'layers_3_5'"),
        ("layers_", "did you mean 'layer_A'"),
        ("layers_1_x", "did you mean 'layers_A_B_C'"),
        ("least_K", "needs numbers for the capitals of 'least_K'"),
        ("pair_1", "did you mean 'pair_A_B'"),
        ("zzz", "known: measured, paper"),
        ("", "unknown layer set ''"),
        (5, "unknown layer set 5"),
        ("layers_3_8", "layers of this model are 0 to 7; got 8 in 'layers_3_8'"),
        ("layers_3_5_3", "in ascending order, each once; got 3, 3, 5; leave the repetition out"),
        ("pair_2_2", "each once; got 2, 2"),
        ("layers_0_1_2_3_4_5_6_7", "nothing left to clone from"),
        ("least_0", "takes 1 to 6 of this model's inner layers; got least_0"),
        ("least_7", "takes 1 to 6 of this model's inner layers; got least_7"),
        ("random_0_s1", "takes 1 to 8 layers of this model; got 0"),
        ("random_9_s1", "takes 1 to 8 layers of this model; got 9"),
        ("paper", "a model of 30 layers; this one has 8; take 'measured' or name layers"),
        ("paper_inner", "a model of 30 layers; this one has 8"),
    ],
)
def test_names_that_mean_no_set_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        parse_set(deep(8), name, degradations(8))


@pytest.mark.parametrize("name", ["measured", "least_3"])
def test_sets_that_are_measured_say_so(name):
    with pytest.raises(InputError, match=f"set '{name}' is chosen by the degradation"):
        parse_set(deep(8), name)


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
        named_sets(deep(5), given)


def test_a_set_holds_layers_in_order():
    for layers, message in (
        ((), "'mine' must hold at least one layer"),
        ((2, 1), "ascending order, each once; got 2, 1"),
        ((-1, 1), "from 0 on"),
    ):
        with pytest.raises(InputError, match=message):
            LayerSet("mine", layers)


def test_sets_may_be_names_or_layers():
    found = parse_sets(deep(8), ["pair_5_2", [6, 3], np.arange(1, 4), "least_2"], degradations(8))
    assert [(each.name, each.layers) for each in found] == [
        ("pair_2_5", (2, 5)),
        ("layers_3_6", (3, 6)),
        ("layers_1_2_3", (1, 2, 3)),
        ("least_2", (1, 2)),
    ]


def test_sets_that_are_chosen_may_be_those_of_others_and_named_ones_may_not():
    # Both are layers 1 and 2, the one by their degradation.
    assert len(parse_sets(deep(8), ["least_2", "pair_1_2"], degradations(8))) == 2
    for twice, message in (
        (["layers_1_2", "pair_1_2"], "'layers_1_2' and 'pair_1_2' are the same layers; leave one"),
        ([[3, 5], [5, 3]], "got 'layers_3_5' twice"),
        (["layer_3", [3]], "'layer_3' and 'layers_3' are the same layers"),
        (["random_2_s1", "random_2_s1"], "got 'random_2_s1' twice"),
    ):
        with pytest.raises(InputError, match=message):
            parse_sets(deep(8), twice, degradations(8))
    with pytest.raises(InputError, match=r"'paper' and 'layers_0_.*_29' are the same layers"):
        parse_sets(deep(30), ["paper", PAPER])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (3, r"a set is a name or a list of whole numbers; got 3; write one layer as .*\[3\]"),
        (None, "got None"),
        ([1.5], r"a set must be a list of whole numbers .*got 1.5"),
        ([], "must hold at least one layer; got none"),
        ([-1, 2], r"layers of this model are 0 to 7; got -1 in '\[-1, 2\]'"),
        ([8], "0 to 7; got 8"),
        ([2, 2], "each once; got 2, 2"),
        (range(8), "nothing left to clone from"),
    ],
)
def test_layers_that_make_no_set_are_refused(layers, message):
    with pytest.raises(InputError, match=message):
        set_of(deep(8), layers)


def test_sets_that_are_chosen_by_the_map():
    assert [name for name in FORMS if needs_degradation(name)] == ["measured"]
    assert needs_degradation("least_3")
    assert not any(map(needs_degradation, ("least_x", "paper", "layer_3", "random_3_s0", 5)))


def test_models_of_three_layers_have_no_sets():
    for refuse in (
        lambda: parse_set(deep(3), "layer_1"),
        lambda: named_sets(deep(3), {1: 1.0}),
        lambda: set_of(deep(3), [1]),
    ):
        with pytest.raises(InputError, match="of 4 layers or more; got 3; take a deeper model"):
            refuse()

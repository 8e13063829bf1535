"""The variants of the manipulation experiment."""

import collections
import math

import pytest
from naive import CONFIG, MIXED_SHAPES

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.interventions.grid import (
    ALPHAS,
    PLAIN,
    RANKS,
    is_chosen_by_map,
    manipulation_grid,
    map_variants,
    selected_variants,
    table4_variants,
)
from jaxanatomy.interventions.sets import named_sets

WIDE = {"hidden_size": 256, "head_dim": 64, "ffn_width": 256, "num_heads": 4, "num_kv_heads": 1}
PAPER_DEPTH = CONFIG.uniform(30, vocab_size=11, context_length=16, **WIDE)
FIVE = CONFIG  # five layers whose shortest side is 8
# Layer 1, which cannot be predicted, is in no set that is chosen by this.
DEGRADATION = {layer: float(layer * 7 % 29) for layer in range(2, 29)} | {1: math.inf}
SMALL = {1: 1.0, 2: math.inf, 3: 0.5}


@pytest.fixture(scope="module")
def grid():
    return manipulation_grid(PAPER_DEPTH, DEGRADATION)


def names_of(variants, layer_set):
    return [v.name.split("/")[0] for v in variants if v.labels["set"] == layer_set]


def test_every_named_set_is_there_and_no_variant_twice(grid):
    assert len({variant.name for variant in grid}) == len(grid)
    assert len({variant.fingerprint() for variant in grid}) > 350
    sets = named_sets(30, DEGRADATION)
    assert {variant.labels["set"] for variant in grid} == set(sets)
    counts = collections.Counter(variant.labels["set"] for variant in grid)
    settings = 8 + 2 * len(RANKS) + 2 * len(ALPHAS)
    assert counts["measured"] == counts["paper_inner"] == settings
    assert counts["paper"] == settings - 1  # layer 0 cannot be predicted
    assert {counts[f"{a},{b}"] for a, b in ((0, 3), (17, 29))} == {4}
    assert {counts[f"least_{k}"] for k in range(1, 13)} == {14}
    assert len(grid) == 3 * settings - 1 + 36 * 4 + 12 * 14


def test_the_main_sets_have_every_strategy(grid):
    for layer_set in ("measured", "paper", "paper_inner"):
        found = {v.labels["strategy"] for v in grid if v.labels["set"] == layer_set}
        every = {*PLAIN, "low_rank", "own_svd", "scale", "scale_output"}
        assert found == every - ({"predicted"} if layer_set == "paper" else set())
    names = names_of(grid, "paper_inner")
    assert [name for name in names if name.startswith("scale_")][:6] == [
        "scale_0", "scale_0.1", "scale_0.3", "scale_0.5", "scale_0.7", "scale_0.9",
    ]  # fmt: skip
    assert [name for name in names if "low_rank" in name or "svd" in name] == [
        "low_rank_full", "low_rank_half", "low_rank_16", "low_rank_64",
        "own_svd_full", "own_svd_half", "own_svd_16", "own_svd_64",
    ]  # fmt: skip


def test_the_other_sets_have_theirs(grid):
    assert names_of(grid, "3,5") == ["zero", "clone", "blend_2", "low_rank_full"]
    assert names_of(grid, "least_3") == [
        "zero", "clone", "clone_high", "clone_with_norms", "blend_2", "blend_4", "predicted",
        "low_rank_full", "low_rank_half", "own_svd_half",
        "scale_0.5", "scale_0.9", "scale_output_0.5", "scale_output_0.9",
    ]  # fmt: skip


def test_each_variant_is_what_its_name_says(grid):
    names = [variant.name for variant in grid]
    assert parse_variants(PAPER_DEPTH, names, DEGRADATION) == grid


def test_table_4_is_the_part_with_the_main_sets(grid):
    main = [v for v in grid if v.labels["set"] in ("measured", "paper", "paper_inner")]
    assert table4_variants(PAPER_DEPTH, DEGRADATION) == main


def test_a_small_model_has_what_it_can_have():
    grid = manipulation_grid(FIVE, SMALL)
    assert {v.labels["set"] for v in grid} == {"measured", "least_1", "least_2", "least_3"}
    names = {v.name for v in grid}
    # measured is 1, 2 and 3: only 0 and 4 are left, and no prediction of 1.
    assert {"blend_2/set/measured", "clone/set/measured", "blend_4/set/least_1"} <= names
    absent = {"blend_4/set/measured", "predicted/set/measured", "blend_4/set/least_2"}
    assert "predicted/set/least_1" in names
    assert not absent & names
    ranks = {v.labels["rank"] for v in grid}
    assert ranks == {None, "full", "half"}  # the shortest side is 8


def test_factors_and_ranks_can_be_chosen_and_come_once():
    grid = manipulation_grid(FIVE, SMALL, alphas=(1, 1.0, 0.25), ranks=(8, "half", 8))
    names = [v.name for v in grid if v.labels["strategy"] in ("scale", "low_rank")]
    least = ("low_rank_full", "low_rank_half", "scale_0.5", "scale_0.9")
    assert names == [
        "low_rank_8/set/measured", "low_rank_half/set/measured",
        "scale_1/set/measured", "scale_0.25/set/measured",
        *(f"{name}/set/least_{k}" for k in (1, 2, 3) for name in least),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ranks": (9,)}, "from 1 to 8, the shortest side .* got 9"),
        ({"alphas": (math.nan,)}, "alpha must be a finite number"),
        ({"alphas": ("x",)}, "alpha must be a finite number"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        manipulation_grid(FIVE, SMALL, **settings)


def test_models_with_layers_of_several_shapes_are_told():
    with pytest.raises(InputError, match="needs layers of one shape"):
        manipulation_grid(MIXED_SHAPES, {1: 1.0, 2: 1.0})
    with pytest.raises(InputError, match=r"need layers of one shape; .* name sets by their layers"):
        map_variants(MIXED_SHAPES)


def test_the_map_is_the_neighbour_mean_of_each_inner_layer():
    found = [(variant.name, variant.labels["layers"]) for variant in map_variants(FIVE)]
    assert found == [(f"neighbour_mean/set/{layer}", [layer]) for layer in (1, 2, 3)]


def test_sets_that_name_their_layers_need_no_map():
    assert not is_chosen_by_map(["1", "paper", "random_2_s0"])
    found = selected_variants(FIVE, None, ["1", [2, 3]], ["zero", "scale_0.90"])
    sets, names = ("1", "2,3"), ("zero", "scale_0.9")
    assert [v.name for v in found] == [f"{name}/set/{each}" for each in sets for name in names]
    for sets in ([], ["1", "measured"], ["least_2"]):
        assert is_chosen_by_map(sets)
        with pytest.raises(InputError, match=r"chosen by the degradation|degradation of inner"):
            selected_variants(FIVE, None, sets, ["zero"])


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        (["zero", "zero"], "each of strategies may come once; repeated: zero; leave"),
        (["scale_0.9", "scale_0.90"], "repeated: scale_0.9;"),
        (["scale_1", "scale_1.0"], "repeated: scale_1;"),
        ([3], "unknown intervention '3'"),
    ],
)
def test_strategies_that_come_twice_or_are_none_are_refused(strategies, message):
    with pytest.raises(InputError, match=message):
        selected_variants(FIVE, None, ["1"], strategies)


@pytest.mark.parametrize(
    ("strategy", "sets", "message"),
    [
        ("blend_4", ["1,2"], "none of the sets 1,2: it needs layers that leave 4 layers"),
        ("predicted", ["1", [0, 2]], "sets 1, 0,2: it needs the layers from 2 on"),
    ],
)
def test_a_strategy_that_exists_at_no_set_says_what_it_needs(strategy, sets, message):
    with pytest.raises(InputError, match=message):
        selected_variants(FIVE, None, sets, [strategy])

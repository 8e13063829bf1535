"""Strategies on sets of layers: what is read from where, names, and what is refused."""

import json
import math

import pytest
from naive import CONFIG, MIXED_SHAPES

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.cells import ablations
from jaxanatomy.interventions.sets import LayerSet
from jaxanatomy.interventions.strategies import (
    STRATEGIES,
    describe_strategies,
    parse_strategy,
    strategy_variant,
)
from jaxanatomy.interventions.variants import Step, baseline, baseline_steps
from jaxanatomy.sweep.plan import Plan

DEEP = CONFIG.with_layers(CONFIG.layers[:1] * 8)
SET = LayerSet("layers_2_3_6", (2, 3, 6))


def edits(strategy, layer_set=SET, **settings):
    """The edits by layer."""
    steps = strategy_variant(DEEP, strategy, layer_set, **settings).steps
    assert all(step.factors == () and step.positions.name == "all" for step in steps)
    return {step.layer: step.edit for step in steps if step.edit}


def all_settings():
    """One setting of each strategy."""
    given = {"": {}, "alpha": {"alpha": 0.5}, "rank": {"rank": "half"}}
    return [(name, given[strategy.takes]) for name, strategy in STRATEGIES.items()]


@pytest.mark.parametrize(
    ("strategy", "sources"),
    [
        # 2 is between 1 and 3, 3 in the set; 3 has 4; 6 is as near to 5 as to 7.
        ("clone", {2: (1,), 3: (4,), 6: (5,)}),
        ("clone_high", {2: (1,), 3: (4,), 6: (7,)}),
        ("clone_with_norms", {2: (1,), 3: (4,), 6: (5,)}),
        ("blend_2", {2: (1, 0), 3: (4, 1), 6: (5, 7)}),
        ("blend_4", {2: (1, 0, 4, 5), 3: (4, 1, 5, 0), 6: (5, 7, 4, 1)}),
        ("neighbour_mean", {2: (1, 3), 3: (2, 4), 6: (5, 7)}),
        ("predicted", {2: (0, 1), 3: (0, 1, 2), 6: (0, 1, 2, 3, 4, 5)}),
    ],
)
def test_each_layer_is_made_from_the_nearest_outside(strategy, sources):
    found = edits(strategy)
    assert {layer: edit.sources for layer, edit in found.items()} == sources


def test_settings_reach_the_edit():
    # Layer 3 blends 4 at distance 1, then 1 and 5 at 2, 0 at 3: 6, 3, 3 and 2 of 14 parts.
    ((name, weights),) = edits("blend_4")[3].arguments
    assert (name, weights) == ("weights", pytest.approx((6 / 14, 3 / 14, 3 / 14, 2 / 14)))
    assert edits("scale", alpha=0.9)[2].arguments == (("alpha", 0.9),)
    assert edits("low_rank", rank=3)[3].arguments == (("rank", 3),)
    assert edits("own_svd", rank="half")[3].arguments == (("rank", "half"),)
    assert edits("low_rank", rank="full")[3].sources == (4,)
    assert edits("own_svd", rank="full")[3].sources == ()


@pytest.mark.parametrize(("strategy", "settings"), all_settings())
def test_only_the_layers_of_the_set_change_and_norms_stay(strategy, settings):
    variant = strategy_variant(DEEP, strategy, SET, **settings)
    if strategy == "zero":
        assert variant.steps == tuple(Step(layer) for layer in (0, 1, 4, 5, 7))
        return
    assert [step.layer for step in variant.steps] == list(range(8))
    assert [step.layer for step in variant.steps if step.edit] == [2, 3, 6]
    scope = {
        "clone_with_norms": tree.MATRICES + tree.NORMS,
        "scale_output": ("o_proj", "down_proj"),
    }.get(strategy, tree.MATRICES)
    assert {step.edit.scope for step in variant.steps if step.edit} == {scope}


@pytest.mark.parametrize(
    ("strategy", "settings", "name"),
    [
        ("zero", {}, "zero"),
        ("clone", {}, "clone"),
        ("scale", {"alpha": 0.9}, "scale_0.9"),
        ("scale", {"alpha": 1}, "scale_1"),
        ("scale", {"alpha": 0}, "scale_0"),
        ("scale", {"alpha": 0.1234567890123}, "scale_0.1234567890123"),
        ("scale", {"alpha": -10}, "scale_-10"),
        ("scale", {"alpha": 1e-7}, "scale_1e-07"),
        ("scale_output", {"alpha": 0.5}, "scale_output_0.5"),
        ("low_rank", {"rank": "full"}, "low_rank_full"),
        ("low_rank", {"rank": 4}, "low_rank_4"),
        ("own_svd", {"rank": "half"}, "own_svd_half"),
        ("blend_2", {}, "blend_2"),
        ("predicted", {}, "predicted"),
    ],
)
def test_names_and_labels(strategy, settings, name):
    variant = strategy_variant(DEEP, strategy, SET, **settings)
    assert variant.name == f"{name}/layers_2_3_6"
    labels = {"strategy": strategy, "alpha": None, "rank": None, **settings}
    assert variant.labels == {**labels, "set": "layers_2_3_6", "layers": [2, 3, 6]}
    assert json.loads(json.dumps(variant.labels)) == variant.labels
    # The name says all: it gives the same variant again.
    found, again = parse_strategy(name)
    assert strategy_variant(DEEP, found, SET, **again) == variant


def test_labels_have_the_factor_as_a_number():
    alpha = strategy_variant(DEEP, "scale", SET, alpha=1).labels["alpha"]
    assert (alpha, type(alpha)) == (1.0, float)


def test_equal_content_is_an_equal_edit_whatever_the_set_and_strategy():
    other = LayerSet("other", (3, 6))
    assert edits("clone", other)[6] == edits("clone")[6]
    assert edits("clone_high", other)[3] == edits("clone")[3] != edits("clone", other)[3]
    assert edits("scale", other, alpha=0.9)[6] == edits("scale", alpha=0.9)[6]
    assert edits("low_rank", other, rank=2)[6] == edits("low_rank", rank=2)[6]
    assert edits("blend_2", other)[6] == edits("blend_2")[6]
    mean = ablations(DEEP, layers=[6])[1].steps[6].edit
    assert edits("neighbour_mean")[6] == mean


def test_the_sweep_computes_each_distinct_beginning_once():
    def variants(*layer_sets):
        return [
            strategy_variant(DEEP, name, layer_set, **settings)
            for layer_set in layer_sets
            for name, settings in [*all_settings(), ("scale", {"alpha": 0.25})]
        ]

    def applications(listed):
        return Plan(DEEP, [baseline(8), *listed], ["nll"]).applications

    listed = variants(LayerSet("b", (3, 6)), LayerSet("c", (2, 3)), SET)
    beginnings = {
        steps[: end + 1]
        for steps in [baseline_steps(8), *(variant.steps for variant in listed)]
        for end in range(len(steps))
    }
    assert applications(listed) == len(beginnings)
    assert len(beginnings) < 0.7 * sum(len(variant.steps) for variant in listed)
    # The same layers under another name cost nothing.
    assert applications([*listed, *variants(LayerSet("a", SET.layers))]) == len(beginnings)


def test_what_exists_depends_on_what_is_left():
    def names(layers, config=DEEP):
        layer_set = LayerSet("s", layers)
        return {name for name, strategy in STRATEGIES.items() if strategy.exists(config, layer_set)}

    every = set(STRATEGIES)
    assert names((2, 3, 6)) == every
    assert names((1, 3)) == every - {"predicted"}
    assert names((2, 3, 4, 5, 6)) == every - {"blend_4"}
    assert names((1, 2, 3, 4, 5, 6, 7)) == every - {"blend_4", "blend_2", "predicted"}
    assert names(tuple(range(8))) == {"neighbour_mean", "zero", "scale", "scale_output", "own_svd"}


def test_every_strategy_exists_where_it_says():
    for layers in ((2, 3, 6), (0, 7), (2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 7)):
        for name, settings in all_settings():
            layer_set = LayerSet("s", layers)
            if STRATEGIES[name].exists(DEEP, layer_set):
                assert strategy_variant(DEEP, name, layer_set, **settings)
            else:
                with pytest.raises(InputError):
                    strategy_variant(DEEP, name, layer_set, **settings)


def test_listing_has_every_strategy_with_what_it_takes():
    lines = dict(describe_strategies())
    assert list(lines) == [
        "neighbour_mean", "zero", "scale_ALPHA", "scale_output_ALPHA", "clone", "clone_high",
        "clone_with_norms", "blend_2", "blend_4", "low_rank_RANK", "own_svd_RANK", "predicted",
    ]  # fmt: skip
    assert all(help and "\n" not in help for help in lines.values())


@pytest.mark.parametrize(
    ("strategy", "settings", "message"),
    [
        ("clon", {}, "unknown strategy 'clon'; did you mean 'clone'"),
        (
            "scale",
            {},
            "needs alpha; got none; give it, for example alpha=0.9, or in .* 'scale_0.9'",
        ),
        ("low_rank", {}, "'low_rank' needs rank; got none; give it, for example rank=half"),
        ("clone", {"alpha": 0.9}, "'clone' takes no number; got alpha 0.9; leave it out"),
        ("scale", {"alpha": 1.0, "rank": 2}, "'scale' takes alpha; got rank 2; leave it out"),
        ("scale", {"alpha": math.inf}, "alpha must be a finite number, .* got inf"),
        ("scale_output", {"alpha": math.nan}, "alpha must be a finite number, .* got nan"),
        ("scale", {"alpha": "0.9"}, "alpha must be a finite number, .* got '0.9'"),
        ("scale", {"alpha": True}, "alpha must be a finite number, .* got True"),
        ("own_svd", {"rank": 9}, "a whole number from 1 to 8, the shortest side .* got 9"),
        ("own_svd", {"rank": 0}, "a whole number from 1 to 8, the shortest side .* got 0"),
        ("low_rank", {"rank": "quarter"}, "'full', 'half' or a whole number .* got 'quarter'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(strategy, settings, message):
    with pytest.raises(InputError, match=message):
        strategy_variant(DEEP, strategy, SET, **settings)


@pytest.mark.parametrize(
    ("strategy", "layers", "message"),
    [
        ("zero", (2, 8), "layers of this model are 0 to 7; got 8 in set 's'"),
        ("blend_4", (2, 3, 4, 5, 6), "layer 2 needs 4 of the 8 layers outside its set"),
        ("clone", tuple(range(8)), "layer 0 needs 1 of the 8 layers outside its set"),
        ("predicted", (1, 4), "predicted weights exist for layers 2 to 7 .* got layer 1"),
    ],
)
def test_sets_that_do_not_fit_are_refused(strategy, layers, message):
    with pytest.raises(InputError, match=message):
        strategy_variant(DEEP, strategy, LayerSet("s", layers))


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [("clone", {}), ("clone_high", {}), ("blend_2", {}), ("low_rank", {"rank": "full"})],
)
def test_layers_of_other_shapes_are_named(strategy, settings):
    message = (
        "at layer 2 needs layers of one shape; layer 2 has 2 heads, 1 KV heads and FFN width 24, "
        "layer [13] has 4 heads, 2 KV heads and FFN width"
    )
    with pytest.raises(InputError, match=message):
        strategy_variant(MIXED_SHAPES, strategy, LayerSet("layer_2", (2,)), **settings)
    for alone, given in (("zero", {}), ("scale", {"alpha": 0.9}), ("own_svd", {"rank": 4})):
        assert strategy_variant(MIXED_SHAPES, alone, LayerSet("layer_2", (2,)), **given)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clones", "unknown strategy 'clones'; did you mean 'clone"),
        ("blend_3", "unknown strategy 'blend_3'; did you mean 'blend_"),
        ("clone_0.9", "unknown strategy 'clone_0.9'"),
        ("scale_ALPHA", "finite number, for example 0.9; got 'ALPHA'"),
        ("scale_", "finite number, for example 0.9; got ''"),
        ("low_rank_1.5", "'full', 'half' or a whole number .* got 1.5"),
        ("low_rank_third", "got 'third'"),
    ],
)
def test_names_of_no_strategy_are_refused(name, message):
    def build():
        strategy, settings = parse_strategy(name)
        strategy_variant(DEEP, strategy, SET, **settings)

    with pytest.raises(InputError, match=message):
        build()

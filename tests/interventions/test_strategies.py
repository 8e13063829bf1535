"""Strategies on sets of layers: what is read from where, names, and what is refused."""

import dataclasses
import itertools
import json

import pytest
from naive import CONFIG, MIXED_SHAPES, probes

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.cells import ablations
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.interventions.intervention import variant
from jaxanatomy.interventions.registry import (
    INTERVENTIONS,
    choose_intervention,
    describe_interventions,
)
from jaxanatomy.interventions.sets import PAPER
from jaxanatomy.interventions.sources import Outside
from jaxanatomy.interventions.variants import Step, baseline, baseline_steps
from jaxanatomy.interventions.where import together
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep.plan import Plan

DEEP = CONFIG.with_layers(CONFIG.layers[:1] * 8)
SET = (2, 3, 6)
# Which change weights of whole layers, each with a setting.
ORDERS = ("zero", "cut", "repeat", "repeat_damped", "swap", "reverse", "exit")
SETTINGS = {"": "", "alpha": "_0.5", "rank": "_half"}
EVERY = [name + SETTINGS[i.takes] for name, i in INTERVENTIONS.items() if name not in ORDERS]


def changed(name, layers=SET, config=DEEP):
    return variant(config, choose_intervention(name), together(config.num_layers, layers))


def edits(name, layers=SET):
    """The edits by layer."""
    steps = changed(name, layers).steps
    assert all(step.factors == () and step.positions.name == "all" for step in steps)
    return {step.layer: step.edit for step in steps if step.edit}


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
    assert edits("scale_0.9")[2].arguments == (("alpha", 0.9),)
    assert edits("low_rank_3")[3].arguments == (("rank", 3),)
    assert edits("own_svd_half")[3].arguments == (("rank", "half"),)
    assert edits("low_rank_full")[3].sources == (4,)
    assert edits("own_svd_full")[3].sources == ()
    assert dict(edits("perturb_0.1#4")[3].arguments) == {"alpha": 0.1, "layer": 3, "seed": 4}
    assert dict(edits("matched_noise#4")[3].arguments) == {"seed": (10_003, 4)}


@pytest.mark.parametrize("name", EVERY)
def test_only_the_layers_of_the_set_change_and_norms_stay(name):
    steps = changed(name).steps
    assert [step.layer for step in steps] == list(range(8))
    assert [step.layer for step in steps if step.edit] == [2, 3, 6]
    scope = {
        "clone_with_norms": tree.MATRICES + tree.NORMS,
        "neighbour_mean_with_norms": tree.MATRICES + tree.NORMS,
        "scale_output_0.5": ("o_proj", "down_proj"),
    }.get(name, tree.MATRICES)
    assert {step.edit.scope for step in steps if step.edit} == {scope}


def test_zero_and_cut_leave_the_layers_out():
    left = tuple(Step(layer) for layer in (0, 1, 4, 5, 7))
    assert changed("zero").steps == changed("cut").steps == left


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("zero", {"strategy": "zero"}),
        ("clone", {"strategy": "clone"}),
        ("scale_0.9", {"strategy": "scale", "alpha": 0.9}),
        ("scale_1", {"strategy": "scale", "alpha": 1.0}),
        ("scale_0", {"strategy": "scale", "alpha": 0.0}),
        ("scale_0.1234567890123", {"strategy": "scale", "alpha": 0.1234567890123}),
        ("scale_-10", {"strategy": "scale", "alpha": -10.0}),
        ("scale_1e-07", {"strategy": "scale", "alpha": 1e-7}),
        ("scale_output_0.5", {"strategy": "scale_output", "alpha": 0.5}),
        ("low_rank_full", {"strategy": "low_rank", "rank": "full"}),
        ("low_rank_4", {"strategy": "low_rank", "rank": 4}),
        ("own_svd_half", {"strategy": "own_svd", "rank": "half"}),
        ("blend_2", {"strategy": "blend_2"}),
        ("predicted", {"strategy": "predicted"}),
    ],
)
def test_names_and_labels(name, labels):
    found = changed(name)
    assert found.name == f"{name}/set/2,3,6"
    rest = {"set": "2,3,6", "layers": [2, 3, 6]}
    assert found.labels == {"alpha": None, "rank": None, **labels, **rest}
    assert json.loads(json.dumps(found.labels)) == found.labels
    assert type(found.labels["alpha"]) in (float, type(None))
    # The name says all: it gives the same variant again.
    assert parse_variants(DEEP, [found.name]) == [found]


def test_equal_content_is_an_equal_edit_whatever_the_set_and_name():
    other = (3, 6)
    assert edits("clone", other)[6] == edits("clone")[6]
    assert edits("clone_high", other)[3].sources == edits("clone")[3].sources == (4,)
    assert edits("clone", other)[3].sources == (2,)
    assert edits("scale_0.9", other)[6] == edits("scale_0.9")[6]
    assert edits("low_rank_2", other)[6] == edits("low_rank_2")[6]
    assert edits("blend_2", other)[6] == edits("blend_2")[6]
    mean = ablations(DEEP, layers=[6])[1].steps[6].edit
    assert edits("neighbour_mean")[6] == mean


def test_the_sweep_computes_each_distinct_beginning_once():
    def variants(*sets):
        return [changed(name, layers) for layers in sets for name in [*EVERY, "zero", "scale_0.25"]]

    def applications(listed):
        return Plan(DEEP, [baseline(8), *listed], probes(nll=nll)).applications

    listed = variants((3, 6), (2, 3), SET)
    beginnings = {
        steps[: end + 1]
        for steps in [baseline_steps(8), *(each.steps for each in listed)]
        for end in range(len(steps))
    }
    assert applications(listed) == len(beginnings)
    assert len(beginnings) < 0.7 * sum(len(each.steps) for each in listed)
    # The same layers under another name cost nothing.
    renamed = [dataclasses.replace(each, name=f"again {each.name}") for each in variants(SET)]
    assert applications([*listed, *renamed]) == len(beginnings)


def test_what_exists_depends_on_what_is_left():
    def absent(*layers):
        where = together(8, layers)
        return {name for name, each in INTERVENTIONS.items() if not each.exists(DEEP, where)}

    predictions = {"predicted", "predicted_noise"}
    assert absent(2, 3, 6) == set()
    assert absent(1, 3) == predictions
    assert absent(2, 3, 4, 5, 6) == {"blend_4"}
    assert absent(1, 2, 3, 4, 5, 6, 7) == {"blend_4", "blend_2", "copy_next", *predictions}
    reads_outside = {"clone", "clone_high", "clone_with_norms", "low_rank", "blend_2", "blend_4"}
    ends = {"copy_previous", "copy_next", *predictions}
    assert absent(*range(8)) == reads_outside | ends


def test_everything_exists_where_it_says():
    for layers in ((2, 3, 6), (0, 7), (2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 7)):
        where = together(8, layers)
        for name in EVERY:
            if choose_intervention(name).exists(DEEP, where):
                assert changed(name, layers)
            else:
                with pytest.raises(InputError, match=r"exists at .*; name other layers"):
                    changed(name, layers)


@pytest.mark.parametrize("higher", [False, True])
def test_outside_walks_away_from_the_layer(higher):
    for size in (1, 2, 3, 4):
        for layers in itertools.combinations(range(8), size):
            for layer, count in itertools.product(layers, (1, 2, 4)):
                found = Outside(count, higher).at(8, layers, layer)
                assert found == by_hand(8, layers, layer, count, higher)


def by_hand(num_layers, layers, layer, count, higher):
    """Walks away from the layer, one step at a time."""
    found = []
    for distance in range(1, num_layers):
        sides = (layer - distance, layer + distance)
        for other in sides[::-1] if higher else sides:
            if 0 <= other < num_layers and other not in layers and len(found) < count:
                found.append(other)
    return tuple(found)


def test_outside_the_papers_set():
    # Layer 5's neighbour 6 is in the set; 4 is at distance 1, then 7 at 2 beats 2 and 8 at 3.
    assert Outside(4).at(30, PAPER, 5) == (4, 7, 2, 8)
    assert Outside(1).at(30, PAPER, 12) == (11,)
    assert Outside(1, higher=True).at(30, PAPER, 12) == (13,)
    assert Outside(2).at(30, PAPER, 0) == (1, 2)
    assert Outside(2, higher=True).at(30, PAPER, 29) == (28, 27)
    assert Outside(2).at(4, (1, 2, 3), 3) is None


def test_listing_has_what_each_takes():
    lines = dict(describe_interventions())
    assert {"zero", "scale_ALPHA", "scale_output_ALPHA", "clone", "low_rank_RANK"} < set(lines)
    assert lines["blend_4"].endswith("(layers that leave 4 layers of the model unchanged)")
    assert lines["predicted"].endswith("(the layers from 2 on)")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clon", "unknown intervention 'clon'; did you mean 'clone'"),
        ("blend_3", "unknown intervention 'blend_3'; did you mean 'blend_"),
        ("clone_0.9", "unknown intervention 'clone_0.9'"),
        ("scale", "'scale' needs alpha; got none; put it into the name: 'scale_0.9'"),
        ("low_rank", "'low_rank' needs rank; got none; put it into the name: 'low_rank_half'"),
        ("scale_inf", "alpha must be a finite number, .* got inf"),
        ("scale_output_nan", "alpha must be a finite number, .* got nan"),
        ("scale_", "alpha must be a finite number, .* got ''"),
        ("scale_ALPHA", "finite number, for example 0.9; got 'ALPHA'"),
        ("own_svd_9", "a whole number from 1 to 8, the shortest side .* got 9"),
        ("own_svd_0", "a whole number from 1 to 8, the shortest side .* got 0"),
        ("low_rank_1.5", "'full', 'half' or a whole number .* got 1.5"),
        ("low_rank_quarter", "'full', 'half' or a whole number .* got 'quarter'"),
        ("clone#1", r"a draw is named as matched_noise#2, .*perturb_ALPHA\); got 'clone#1'"),
    ],
)
def test_names_and_settings_that_do_not_fit_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        changed(name)


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("zero", (2, 8), "layers of this model are 0 to 7; got 8"),
        ("blend_4", (2, 3, 4, 5, 6), "exists at layers that leave 4 layers .*; got set/2-6"),
        ("clone", tuple(range(8)), "exists at layers that leave 1 layer .* of the 8; got set/0-7"),
        ("predicted", (1, 4), "predicted exists at the layers from 2 on of the 8; got set/1,4"),
    ],
)
def test_sets_that_do_not_fit_are_refused(name, layers, message):
    with pytest.raises(InputError, match=message):
        changed(name, layers)


@pytest.mark.parametrize("name", ["clone", "clone_high", "blend_2", "low_rank_full"])
def test_layers_of_other_shapes_are_named(name):
    message = (
        "at layer 2 needs layers of one shape; layer 2 has 2 heads, 1 KV heads and FFN width 24, "
        "layer [13] has 4 heads, 2 KV heads and FFN width"
    )
    with pytest.raises(InputError, match=message):
        changed(name, 2, MIXED_SHAPES)
    for alone in ("zero", "scale_0.9", "own_svd_4", "perturb_0.1"):
        assert changed(alone, 2, MIXED_SHAPES)

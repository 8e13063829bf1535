"""The arms of depth growth: literal stages, and FLOPs that are equal where they should be."""

import dataclasses
import re

import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.growth.depth_arms import (
    DepthArmSettings,
    comparisons,
    depth_arm,
    depth_arms,
    describe,
)
from jaxanatomy.growth.flops import step_flops
from jaxanatomy.growth.stages import total_flops

CONFIG = ModelConfig.uniform(6, 2, 1, 32, vocab_size=61, hidden_size=16, head_dim=8)
SETTINGS = DepthArmSettings(steps=120, block=2, growth_fraction=0.9, batch_size=4, seq_len=16)


def sizes(stages):
    return [(stage.config.num_layers, stage.steps) for stage in stages]


def test_the_baseline_is_one_stage():
    (stage,) = depth_arm("baseline", CONFIG, SETTINGS)
    assert (stage.config, stage.steps, stage.growth) == (CONFIG, 120, None)


def test_controls_have_a_constant_depth():
    (shallow,) = depth_arm("shallow", CONFIG, SETTINGS)
    assert (shallow.config.num_layers, shallow.steps) == (2, 120)
    # The first layers of the whole model.
    assert (shallow.growth.sources, shallow.growth.num_sources) == ((0, 1), 6)
    assert shallow.growth.inserted == ()
    (mean,) = depth_arm("mean_depth", CONFIG, SETTINGS)
    # (2 * 18 + 4 * 36 + 6 * 66) / 120 = 4.8 layers
    assert (mean.config.num_layers, mean.steps) == (5, 120)
    spent = total_flops(depth_arm("midas", CONFIG, SETTINGS), 4, 16)
    layer = step_flops(CONFIG, 4, 16) - step_flops(CONFIG, 4, 16, layers=range(5))
    assert abs(total_flops((mean,), 4, 16) - spent) <= 120 * layer / 2


def test_growing_arms_spread_their_share_by_prop_1_and_end_deep():
    stages = depth_arm("midas", CONFIG, SETTINGS)
    assert sizes(stages) == [(2, 18), (4, 36), (6, 66)]
    assert [stage.growth.sources for stage in stages[:1]] == [(0, 1)]
    assert [stage.growth.sources for stage in stages[1:]] == [(0, 1, 0, 1), (0, 1, 0, 1, 2, 3)]
    lidas = depth_arm("lidas", CONFIG, SETTINGS)
    assert lidas[2].growth.sources == (0, 1, 2, 1, 2, 3)
    assert sizes(lidas) == sizes(stages)


def test_ln_scaling_goes_with_growth_and_without():
    for name in ("ln_scaling", "ln_scaling_midas", "ln_scaling_lidas_equal_flops"):
        assert all(stage.config.ln_scaling for stage in depth_arm(name, CONFIG, SETTINGS))
    plain, scaled = (depth_arm(name, CONFIG, SETTINGS) for name in ("lidas", "ln_scaling_lidas"))
    assert [stage.growth for stage in plain] == [stage.growth for stage in scaled]
    assert not any(stage.config.ln_scaling for stage in plain)


@pytest.mark.parametrize("name", ["midas", "ln_scaling_lidas"])
def test_equal_flops_takes_more_steps_for_the_same_work(name):
    baseline = total_flops(depth_arm("baseline", CONFIG, SETTINGS), 4, 16)
    grown = total_flops(depth_arm(name, CONFIG, SETTINGS), 4, 16)
    equal = depth_arm(name + "_equal_flops", CONFIG, SETTINGS)
    step = step_flops(CONFIG, SETTINGS.batch_size, SETTINGS.seq_len)
    assert grown < baseline - 10 * step
    assert abs(total_flops(equal, 4, 16) - baseline) <= step
    shares = [steps / sum(n for _, n in sizes(equal)) for _, steps in sizes(equal)]
    assert shares == pytest.approx([18 / 120, 36 / 120, 66 / 120], abs=0.02)


def test_equal_flops_of_a_run_of_few_steps_takes_no_fewer():
    shallow = ModelConfig.uniform(4, 2, 1, 32, vocab_size=61, hidden_size=16, head_dim=8)
    settings = DepthArmSettings(steps=2, block=2, growth_fraction=1.0, batch_size=4, seq_len=16)
    assert sizes(depth_arm("lidas", shallow, settings)) == [(2, 1), (4, 1)]
    assert sizes(depth_arm("lidas_equal_flops", shallow, settings)) == [(2, 1), (4, 1)]


def test_a_name_says_what_differs_from_the_settings():
    assert sizes(depth_arm("flat_3", CONFIG, SETTINGS)) == [(3, 120)]
    assert sizes(depth_arm("lidas_b3", CONFIG, SETTINGS)) == [(3, 36), (6, 84)]
    assert sizes(depth_arm("lidas_prop0", CONFIG, SETTINGS)) == [(2, 36), (4, 36), (6, 48)]
    assert sizes(depth_arm("lidas_b1_prop2", CONFIG, SETTINGS))[0] == (1, 1)  # 108 / 91
    (_, *grown) = depth_arm("midas_zero_moments", CONFIG, SETTINGS)
    assert {stage.moments for stage in grown} == {"zero"}
    assert depth_arm("midas_copy_moments", CONFIG, SETTINGS) == depth_arm("midas", CONFIG, SETTINGS)


def test_one_step_expansion_copies_each_layer_to_the_places_above_it():
    first, rest = depth_arm("expand_2_at_70", CONFIG, SETTINGS)
    assert sizes((first, rest)) == [(2, 84), (6, 36)]
    assert rest.growth.sources == (0, 0, 0, 1, 1, 1)
    _, rest = depth_arm("expand_4_at_50", CONFIG, SETTINGS)
    assert rest.growth.sources == (0, 0, 1, 2, 2, 3)


def test_controls_insert_where_lidas_does():
    plain = depth_arm("lidas", CONFIG, SETTINGS)
    fresh = depth_arm("fresh_layers", CONFIG, SETTINGS)
    assert sizes(fresh) == sizes(plain)
    assert [stage.growth for stage in fresh] == [stage.growth for stage in plain]
    # Layer 1 comes to the top; each new one has a number, and so initial weights, of its own.
    assert [(stage.layers, stage.fresh) for stage in fresh] == [
        ((0, 1), ()),
        ((0, 1, 2, 3), (2, 3)),
        ((0, 1, 2, 4, 5, 3), (4, 5)),
    ]
    drawn = depth_arm("random_copies", CONFIG, SETTINGS)
    assert drawn == depth_arm("random_copies", CONFIG, SETTINGS)
    for own, other in zip(drawn[1:], plain[1:], strict=True):
        new = own.growth.inserted
        assert new == other.growth.inserted
        kept = [at for at in range(own.config.num_layers) if at not in new]
        assert [own.growth.sources[at] for at in kept] == list(range(len(kept)))
        assert all(own.growth.sources[at] != other.growth.sources[at] for at in new)


def test_growing_arms_are_compared_with_the_shallow_one_of_their_budget():
    names = ("baseline", "shallow", "lidas", "lidas_equal_seconds", "midas_equal_flops", "flat_3")
    pairs = comparisons((*names, "shallow_equal_flops"))
    assert [other for arm, other in pairs if arm == "baseline"] == []
    assert {arm for arm, other in pairs if other == "baseline"} == {
        *names[1:],
        "shallow_equal_flops",
    }
    assert [pair for pair in pairs if pair[1] != "baseline"] == [
        ("lidas", "shallow"),
        ("midas_equal_flops", "shallow_equal_flops"),
    ]


def test_equal_costs_buy_shallow_arms_more_steps():
    (stage,) = depth_arm("shallow_equal_flops", CONFIG, SETTINGS)
    step = step_flops(CONFIG, 4, 16)
    assert abs(total_flops((stage,), 4, 16) - 120 * step) <= step
    # A step of two layers takes 2 + 1 of the time of a layer, one of six takes 6 + 1.
    settings = dataclasses.replace(SETTINGS, step_overhead=1.0)
    assert sizes(depth_arm("shallow_equal_seconds", CONFIG, settings)) == [(2, 280)]
    assert sizes(depth_arm("flat_2_equal_seconds", CONFIG, SETTINGS)) == [(2, 360)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("midsa", r"unknown arm 'midsa'.*midas"),
        ("flat_D", "write numbers for its capital letters"),
        ("flat_7", "7 layers of a model of 6; as many or fewer are needed"),
        ("flat_0", "needs a layer or more"),
        ("expand_6_at_50", "6 layers of a model of 6; fewer are needed"),
        ("expand_0_at_50", "needs a layer or more"),
        ("expand_2_at_0", "1 to 99 %"),
        ("expand_2_at_100", "1 to 99 %"),
        ("shallow_b2", "makes no use of block; leave it out"),
        ("baseline_prop1", "makes no use of alpha; leave it out"),
        ("baseline_equal_flops", "leave 'equal' out"),
        ("lidas_b4", "arm 'lidas_b4': .*got a target of 6"),
        ("lidas_b0", "block must be a whole number, 1 or above; got 0"),
        (
            "lidas_equal_hours",
            "unknown arm .*'lidas' is one; after it may come, in this order: _bN",
        ),
        ("lidas_prop2_b2", "'lidas' is one; after it may come, in this order: _bN, _propA, "),
        ("lidas_b99999999999", "'lidas' is one"),
        ("flat_" + "9" * 5000, "flat_D"),
        ("ln_scaling_flat_2", "ln_scaling stands alone or before midas, lidas, "),
        ("flat_002", "write 'flat_2'"),
        ("expand_02_at_070", "write 'expand_2_at_70'"),
        ("lidas_b02_prop1.0", "write 'lidas_b2_prop1'"),
        ("lidas_prop0.50", "'lidas' is one"),
        ("lidas_b\u0662", "'lidas' is one"),
        ("expand_2_at_70_b2", "makes no use of block"),
        ("expand_2_at_70_prop2", "makes no use of alpha"),
        ("fresh_layers_rescale_moments", "makes no use of moments"),
        ("expand_2_at_1", "arm 'expand_2_at_1': 30 steps are too few"),
    ],
)
def test_names_that_say_nothing_are_refused(name, message):
    settings = dataclasses.replace(SETTINGS, steps=30)
    with pytest.raises(InputError, match=message):
        depth_arm(name, CONFIG, settings)


@pytest.mark.parametrize(
    "names",
    [
        ("lidas", "lidas_b2"),
        ("lidas_prop1", "lidas_copy_moments"),
        ("shallow", "flat_2"),
        ("baseline", "flat_6"),
        ("flat_6_equal_flops", "baseline"),
        ("expand_2_at_70_copy_moments", "expand_2_at_70"),
        ("mean_depth", "flat_5"),
        ("shallow_equal_flops", "flat_2_equal_flops"),
    ],
)
def test_an_arm_under_two_names_is_refused(names):
    with pytest.raises(InputError, match=f"'{names[0]}' and '{names[1]}' are the same; leave one"):
        depth_arms(names, CONFIG, SETTINGS)


@pytest.mark.parametrize("names", [("baseline", "shallow"), ("baseline",), ("flat_2", "midas")])
@pytest.mark.parametrize("block", [4, 6, 7])
def test_a_block_that_leaves_nothing_to_grow_is_refused_by_its_name(names, block):
    settings = dataclasses.replace(SETTINGS, block=block)
    with pytest.raises(InputError, match=f"^block must be .* 6 layers, .*; got {block}; lower it"):
        depth_arms(names, CONFIG, settings)
    assert set(depth_arms(names, CONFIG, dataclasses.replace(SETTINGS, block=3))) == {*names}


def test_arms_that_differ_stand_side_by_side():
    names = ("lidas", "lidas_b3", "lidas_prop0.5", "lidas_equal_flops", "lidas_zero_moments")
    names += ("midas", "flat_2", "flat_2_equal_flops", "flat_2_equal_seconds", "ln_scaling")
    names += (
        "baseline",
        "expand_2_at_70",
        "expand_2_at_70_equal_flops",
        "expand_2_at_70_zero_moments",
    )
    arms = depth_arms(names, CONFIG, SETTINGS)
    assert arms == {name: depth_arm(name, CONFIG, SETTINGS) for name in names}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("flat_3", "D layers from the first step to the last"),
        ("lidas_b1_equal_flops", "1 layers a growth step; as many steps as the baseline's FLOPs"),
        ("midas_prop2", "by PROP-2"),
        ("ln_scaling", r"divided by sqrt\(l\)"),
        ("ln_scaling_lidas", "both: LN-scaling, and lidas"),
        ("lidas_zero_moments", "new layers start without"),
    ],
)
def test_a_name_is_put_in_words(name, words):
    assert re.search(words, describe(name))


def test_refusals():
    with pytest.raises(InputError, match="growth_fraction must be above 0"):
        DepthArmSettings(steps=9, block=2, growth_fraction=1.5)
    with pytest.raises(InputError, match="6"):
        depth_arm("midas", CONFIG, DepthArmSettings(steps=120, block=4))

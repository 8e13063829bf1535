"""The arms of depth growth: literal stages, and FLOPs that are equal where they should be."""

import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.growth.depth_arms import DepthArmSettings, arm_names, depth_arm
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
    assert (shallow.config.num_layers, shallow.steps, shallow.growth) == (2, 120, None)
    (mean,) = depth_arm("mean_depth", CONFIG, SETTINGS)
    # (2 * 18 + 4 * 36 + 6 * 66) / 120 = 4.8 layers
    assert (mean.config.num_layers, mean.steps) == (5, 120)
    spent = total_flops(depth_arm("midas", CONFIG, SETTINGS), 4, 16)
    layer = step_flops(CONFIG, 4, 16) - step_flops(CONFIG, 4, 16, layers=range(5))
    assert abs(total_flops((mean,), 4, 16) - spent) <= 120 * layer / 2


def test_growing_arms_spread_their_share_by_prop_1_and_end_deep():
    stages = depth_arm("midas", CONFIG, SETTINGS)
    assert sizes(stages) == [(2, 18), (4, 36), (6, 66)]
    assert stages[0].growth is None
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


def test_refusals():
    with pytest.raises(InputError, match=r"unknown arm 'midsa'.*midas"):
        depth_arm("midsa", CONFIG, SETTINGS)
    with pytest.raises(InputError, match="growth_fraction must be above 0"):
        DepthArmSettings(steps=9, block=2, growth_fraction=1.5)
    with pytest.raises(InputError, match="6"):
        depth_arm("midas", CONFIG, DepthArmSettings(steps=120, block=4))
    assert "baseline_equal_flops" not in arm_names()

"""The arms of the developmental experiment, as stages."""

import dataclasses

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.growth import arms, phases
from jaxanatomy.growth.flops import step_flops
from jaxanatomy.growth.stages import total_flops

CONFIG = phases.growth_transformer()
SETTINGS = arms.ArmSettings(656, 416, "text", "absent", 0, 8, 12)


def plan(name, settings=SETTINGS):
    return arms.arm_stages(name, CONFIG, settings)


def test_the_paper_s_arms_have_its_steps():
    assert [sum(stage.steps for stage in plan(name)) for name in arms.MAIN] == [656, 416, 656]
    assert [stage.name for stage in plan("uniform_100")] == ["uniform"]
    assert [stage.steps for stage in plan("growth_50")] == [121, 81, 81, 48, 24, 61]


def test_equal_flops_are_equal_within_half_a_step():
    growth, uniform = (total_flops(plan(name), 8, 12) for name in ("growth_100", "equal_flops"))
    each = plan("uniform_100")[0].step_flops(8, 12)
    assert abs(growth - uniform) <= each / 2
    assert sum(stage.steps for stage in plan("equal_flops")) < 656


def test_flops_of_a_stage_are_those_of_its_layers_in_the_whole_model():
    for stage in plan("growth_100"):
        expected = step_flops(CONFIG, 8, 12, stage.layers, stage.train, stage.train_ends)
        assert stage.step_flops(8, 12) == expected


def test_shuffled_phases_have_the_shares_of_the_phases_in_another_order():
    given, shuffled = plan("growth_100"), plan("shuffled_phases")
    names = [stage.name for stage in given]
    assert sorted(stage.name for stage in shuffled) == sorted(names)
    assert [stage.name for stage in shuffled] != names
    assert shuffled[-1].name == "maturation"
    assert {s.name: s.steps for s in shuffled} == {s.name: s.steps for s in given}
    assert len({arms.random_order(5, seed) for seed in range(20)}) > 10
    assert all(arms.random_order(2, seed) == (1, 0) for seed in range(5))


def test_orders_of_the_phases_differ_and_two_of_them_give_the_core_the_steps_of_growth():
    given = plan("growth_100")
    orders = {name: plan(name) for name in (*arms.ORDERS, "shuffled_phases")}
    assert len({tuple(stage.name for stage in each) for each in (given, *orders.values())}) == 5
    for each in orders.values():
        assert {stage.name: stage.steps for stage in each} == {s.name: s.steps for s in given}
    # 191 + 127 + 127 steps of phases 1 to 3, 96 of phase 6.
    core = {name: arms.core_steps(each) for name, each in orders.items()}
    assert arms.core_steps(given) == 191 + 127 + 127 + 96 == 541
    assert core["core_first_phases"] == core["core_third_phases"] == 541
    assert core["reversed_phases"] == 191 + 96
    assert [stage.train_ends for stage in orders["core_first_phases"]] == [
        True,
        False,
        False,
        True,
        True,
        True,
    ]
    assert orders["core_third_phases"][0].layers == (7, 10)
    assert all(arms.random_order(5, seed) not in arms.ORDERS.values() for seed in range(200))


def test_uniform_training_that_starts_anew_does_so_where_the_grown_one_does():
    given, restarted = plan("growth_100"), plan("uniform_restarts")
    assert [(s.name, s.steps) for s in restarted] == [(s.name, s.steps) for s in given]
    everything = tuple(range(12))
    for stage in restarted:
        assert (stage.layers, stage.train) == (everything, everything)
        assert (stage.train_ends, stage.growth.inserted) == (True, ())
        assert stage.moments == "restart"
    assert arms.core_steps(restarted) == arms.core_steps(plan("uniform_100")) == 656


def test_the_core_alone_trains_at_every_step_and_nothing_grows():
    for settings in (SETTINGS, dataclasses.replace(SETTINGS, not_yet_grown="frozen")):
        (only,) = plan("core_alone", settings)
        assert (only.layers, only.train, only.train_ends, only.steps) == ((4, 5), (4, 5), True, 656)
        assert only.growth.sources == (4, 5)
    each = plan("growth_100")[0].step_flops(8, 12)
    assert total_flops((only,), 8, 12) == 656 * each


def test_an_unknown_arm_is_refused():
    with pytest.raises(InputError, match="did you mean 'uniform_100'"):
        plan("uniform")

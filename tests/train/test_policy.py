"""A policy: its step against jax.grad, a world in which one coefficient counts, one without."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.train.policy import (
    LARGEST,
    Lever,
    PolicySettings,
    PolicyState,
    at_clamp,
    draw,
    start,
    update,
)

SETTINGS = PolicySettings()
LEVER = Lever("layer_decays", ("a", "b", "c"), 0.1, 0.001, 10.0)
LAYERS = 2


def learned(reward, steps, seeds, settings=SETTINGS, lever=LEVER):
    """The state after some rewards, each a function of the step and of the proposal."""
    state = start(settings, lever, LAYERS, seeds)
    for step in range(steps):
        x_MLC = draw(state, range(seeds), step)
        state = update(settings, lever, state, x_MLC, reward(step, x_MLC))
    return state


def drift(state, lever=LEVER):
    return state.mean_MLC - np.log(lever.begin)


def test_a_step_is_the_natural_gradient_of_advantage_and_entropy():
    rng = np.random.default_rng(0)
    shape = (3, LAYERS, 3)
    state = PolicyState(
        np.log(LEVER.begin) + 0.2 * rng.normal(size=shape),
        np.log(SETTINGS.spread) + 0.1 * rng.normal(size=shape),
        np.array([0.1, -0.2, 0.0]),
        np.array([0.04, 0.01, 0.09]),
        7,
    )
    x_MLC, reward_M = draw(state, (5, 6, 7), 3), np.array([0.2, -0.1, 9.0])
    advantage_M = np.clip((reward_M - state.baseline_M) / np.sqrt(state.variance_M), -2, LARGEST)
    np.testing.assert_allclose(advantage_M, [0.5, 1.0, 2.0])

    def objective(mean, log_std):
        log_p = -0.5 * ((x_MLC - mean) / jnp.exp(log_std)) ** 2 - log_std
        entropy = log_std
        return (advantage_M[:, None, None] * log_p + SETTINGS.entropy * entropy).sum()

    of_mean, of_log_std = jax.grad(objective, (0, 1))(state.mean_MLC, state.log_std_MLC)
    found = update(SETTINGS, LEVER, state, x_MLC, reward_M)
    variance_MLC = np.exp(2 * state.log_std_MLC)
    moved = state.mean_MLC + SETTINGS.rate * variance_MLC * of_mean
    np.testing.assert_allclose(found.mean_MLC, moved, rtol=1e-5)
    widened = state.log_std_MLC + SETTINGS.rate / 2 * of_log_std
    np.testing.assert_allclose(found.log_std_MLC, widened, rtol=1e-5)
    share = 1 - SETTINGS.memory
    excess_M = reward_M - state.baseline_M
    np.testing.assert_allclose(found.baseline_M, state.baseline_M + share * excess_M)
    np.testing.assert_allclose(found.variance_M, 0.8 * state.variance_M + share * excess_M**2)


def test_the_coefficient_that_counts_is_found_and_the_others_stay():
    """The reward is highest where one of six is twice what all begin with."""
    best = np.log(2 * LEVER.begin)
    state = learned(lambda step, x_MLC: -((x_MLC[:, 1, 2] - best) ** 2), 200, 40)
    found_MLC = drift(state)
    assert abs(found_MLC[:, 1, 2].mean() - np.log(2)) < 0.1
    found_MLC[:, 1, 2] = 0
    error = found_MLC.std(axis=0) / np.sqrt(len(found_MLC))
    assert (np.abs(found_MLC.mean(axis=0)) <= 4 * error).all()


@pytest.mark.parametrize("trend", [0.0, 5.0])
def test_where_nothing_counts_proposals_stay_at_their_start_within_noise(trend):
    """Also where the loss falls fast at first, whatever is proposed."""
    rng, steps, seeds = np.random.default_rng(1), 60, 300
    state = learned(lambda step, _: trend / (1 + step) + rng.normal(size=seeds), steps, seeds)
    found_MLC = drift(state)
    walk = SETTINGS.rate * SETTINGS.spread * np.sqrt(steps)
    assert np.abs(found_MLC.mean(axis=0)).max() < 4 * walk / np.sqrt(seeds)
    assert found_MLC.std() < 1.4 * walk
    assert np.abs(np.exp(state.log_std_MLC) / SETTINGS.spread - 1).mean() < 0.5


def test_the_clamp_holds_and_is_told():
    lever = dataclasses.replace(LEVER, low=0.05, high=0.2)
    state = learned(lambda step, x_MLC: x_MLC[:, 0, 0], 200, 4, lever=lever)
    assert at_clamp(lever, state)[:, 0, 0].all()
    assert not at_clamp(LEVER, start(SETTINGS, LEVER, LAYERS, 4)).any()
    assert np.exp(state.mean_MLC.max()) == pytest.approx(lever.high, rel=1e-12)
    np.testing.assert_array_equal(lever.coefficient(state.mean_MLC + 9), 0.2)
    assert lever.coefficient(np.log(0.01)) == pytest.approx(0.05)
    # A third of what is proposed from there is clamped.
    edge = np.log(lever.high) - 0.43 * np.exp(state.log_std_MLC)
    x_NMLC = [draw(state._replace(mean_MLC=edge), range(4), at) for at in range(400)]
    assert np.mean(lever.coefficient(np.array(x_NMLC)) == 0.2) == pytest.approx(1 / 3, abs=0.02)


def test_a_reward_that_is_not_finite_teaches_its_seed_nothing():
    before = learned(lambda step, x_MLC: x_MLC[:, 0, 0], 5, 2)
    x_MLC = draw(before, range(2), 5)
    after = update(SETTINGS, LEVER, before, x_MLC, np.array([np.nan, 1.0]))
    for name in ("mean_MLC", "log_std_MLC", "baseline_M", "variance_M"):
        own, new = getattr(before, name), getattr(after, name)
        np.testing.assert_array_equal(new[0], own[0], err_msg=name)
        assert not np.array_equal(new[1], own[1]), name


def test_a_policy_goes_through_json_to_the_bit_and_noise_is_of_seed_and_number():
    state = learned(lambda step, x_MLC: x_MLC[:, 0, 1], 7, 2)
    again = PolicyState.from_json(json.loads(json.dumps(state.to_json())))
    for own, other in zip(state, again, strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(draw(state, (0, 1), 4), draw(again, (0, 1), 4))
    assert not np.array_equal(draw(state, (0, 1), 4), draw(state, (0, 1), 5))
    first, other = draw(start(SETTINGS, LEVER, LAYERS, 2), (3, 3), 0)
    np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"every": 0}, "policy.every must be a whole number"),
        ({"spread": 0.0}, "policy.spread must be finite and above 0"),
        ({"rate": np.inf}, "policy.rate must be finite"),
        ({"entropy": -0.1}, "policy.entropy must be finite and 0 or above"),
        ({"memory": 1.0}, "policy.memory must be at least 0 and below 1; got 1.0"),
        ({"decay": (0.0, 1.0)}, "policy.decay must be two numbers above 0"),
        ({"decay": (1.0, 0.1)}, "the lower first"),
        ({"rate_scale": (0.3,)}, "policy.rate_scale must be two numbers"),
        ({"rate_scale": (2.0, 3.0)}, "policy.rate_scale must hold 1"),
        ({"rate_scale": (0.3, np.nan)}, "policy.rate_scale must be two numbers"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(fields, message):
    with pytest.raises(InputError, match=message) as refused:
        PolicySettings(**fields)
    assert "\n" not in str(refused.value)

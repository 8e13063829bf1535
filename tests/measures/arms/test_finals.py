"""Arms against each other: worlds in which all are equal, and literal differences."""

import math

import numpy as np
import pytest

from jaxanatomy.measures.arms.finals import (
    Losses,
    by_seed,
    difference,
    difference_fields,
    family_level,
)
from jaxanatomy.measures.arms.tuning import FINAL, MAIN

WORLDS = 400


def rows(arm, mean_SU, tokens_U):
    """Final rows from the mean loss of each seed on each unit."""
    of_a_run = {"kind": FINAL, "purpose": MAIN, "reason": None, "learning_rate": 1e-3}
    of_a_run["unit_tokens"] = tokens_U.tolist()
    return [
        {"arm": arm, "seed": seed, "unit_nll": (own_U * tokens_U).tolist(), **of_a_run}
        | {"eval_nll": float((own_U * tokens_U).sum() / tokens_U.sum())}
        for seed, own_U in enumerate(mean_SU)
    ]


def world(generator, arms, seeds, units, of_seed, of_unit, effect=0.0):
    """Losses that differ by seed, by unit, and by what a seed makes of a unit; skewed lengths.

    All arms see the same units. How an arm's seeds lie, and which units it likes, is chance.
    """
    tokens_U = np.ceil(generator.lognormal(3, 0.5, units))
    hard_U = generator.gamma(4, 0.25, units)
    found = []
    for arm in range(arms):
        shape = (seeds, 1), (1, units), (seeds, units)
        spread = (of_seed, of_unit, 0.1)
        noise = [s * generator.normal(size=size) for s, size in zip(spread, shape, strict=True)]
        found += rows(str(arm), hard_U + sum(noise) + effect * (arm > 0), tokens_U)
    return found


def of_pairs(finals):
    """Differences that know the two arms alone."""
    return lambda arms, level: difference(*(by_seed(finals, arm) for arm in arms), level)


def of_losses(finals):
    """Those of `Losses`, which knows the spread of all arms."""
    return Losses.of(finals).difference


def told_apart(finals, arms, method):
    """How many arms the intervals put above or below the first, all at once."""
    differ, level = method(finals), family_level(arms - 1)
    found = [differ((str(arm), "0"), level)[0] for arm in range(1, arms)]
    return sum(not each.low <= 0 <= each.high for each in found)


@pytest.mark.parametrize("method", [of_pairs, of_losses])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seed", "of_unit"), [(0.05, 0.0), (0.05, 0.2), (0.005, 0.2), (0, 0)])
def test_where_all_arms_are_equal_one_in_twenty_runs_tells_some_apart_at_most(
    seeds, of_seed, of_unit, method
):
    generator = np.random.default_rng(seeds)
    wrong = sum(
        told_apart(world(generator, 6, seeds, 32, of_seed, of_unit), 6, method) > 0
        for _ in range(WORLDS)
    )
    assert wrong <= 0.05 * WORLDS + 2 * math.sqrt(0.05 * 0.95 * WORLDS)


@pytest.mark.parametrize("noisy", [0, 1])
def test_where_one_of_two_arms_lacks_a_seed_equal_ones_are_not_told_apart(noisy):
    """Nothing can be pooled; the arm that lacks one may be the noisier one."""
    generator, wrong = np.random.default_rng(noisy), 0
    for _ in range(WORLDS):
        arms = [
            row
            for arm in range(2)
            for row in rows(
                str(arm),
                3 + (1 + 4 * (arm == noisy)) * 0.05 * generator.normal(size=(3, 1)) * np.ones(8),
                np.ones(8),
            )
            if (arm, row["seed"]) != (1, 0)
        ]
        wrong += told_apart(arms, 2, of_losses)
    assert wrong <= 0.05 * WORLDS + 2 * math.sqrt(0.05 * 0.95 * WORLDS)


@pytest.mark.parametrize("method", [of_pairs, of_losses])
def test_arms_that_differ_are_told_apart(method):
    generator = np.random.default_rng(0)
    worlds = [world(generator, 3, 3, 32, 0.01, 0.1, effect=0.4) for _ in range(100)]
    assert np.mean([told_apart(each, 3, method) for each in worlds]) >= 0.9 * 2


def test_pooling_over_arms_tells_more_among_many_arms():
    generator = np.random.default_rng(0)
    worlds = [world(generator, 9, 3, 200, 0.02, 0.02, effect=0.2) for _ in range(50)]
    alone, pooled = (
        np.mean([told_apart(each, 9, method) for each in worlds])
        for method in (of_pairs, of_losses)
    )
    assert pooled > 1.2 * alone


def test_a_difference_in_nats_has_the_interval_of_the_log_ratio():
    tokens_U = np.array([2.0, 4.0])
    own = rows("a", np.array([[1.1, 1.3], [2.2, 2.0]]), tokens_U)
    finals = [*own, *rows("b", np.array([[1.0, 1.0], [2.0, 2.0]]), tokens_U)]
    found, seeds = Losses.of(finals).difference(("a", "b"))
    log, _ = Losses.of(finals).log_ratio(("a", "b"))
    means = (7.4 + 12.4) / 12, 1.5
    assert (found.value, seeds) == (pytest.approx(means[0] - means[1]), 2)
    for end, of_log in ((found.low, log.low), (found.high, log.high)):
        assert end - found.value == pytest.approx(np.mean(means) * (of_log - log.value))
    gone = Losses.of(own).difference(("a", "b"))
    assert difference_fields(gone) == {"mean": None, "low": None, "high": None, "seeds": 0}


def test_an_interval_over_seeds_alone_would_take_one_text_for_all_text():
    """Seeds that agree on a text which one arm happens to like."""
    less_U = np.array([0.3, -0.1, 0.2, 0.1, -0.2, 0.3])
    own, other = (
        rows(arm, np.ones((3, 1)) + less, np.ones(6)) for arm, less in ((1, less_U), (0, 0))
    )
    found, seeds = difference(by_seed([*own, *other], 1), by_seed(other, 0))
    half = 2.570582 * less_U.std(ddof=1) / math.sqrt(6)
    assert (found.value, found.high) == (pytest.approx(0.1), pytest.approx(0.1 + half))
    assert (found.low < 0, seeds) == (True, 3)


def test_seeds_without_a_partner_or_a_loss_are_left_out():
    own = {0: {"x": [1.0], "n": [1]}, 1: {"x": None, "n": [1]}, 2: {"x": [9.0], "n": [1]}}
    other = {0: {"x": [0.5], "n": [1]}, 1: {"x": [0.5], "n": [1]}}
    found = difference(own, other, values="x", sizes="n")
    nothing = {"low": None, "high": None}
    assert difference_fields(found) == {"mean": 0.5, "seeds": 1, **nothing}
    gone = difference(own, {1: other[1]}, values="x", sizes="n")
    assert difference_fields(gone) == {"mean": None, "seeds": 0, **nothing}


def test_the_level_of_a_family():
    assert family_level(1) == family_level(0) == pytest.approx(0.95)
    assert family_level(10) == pytest.approx(0.995)
    assert family_level(4, 0.9) == pytest.approx(0.975)

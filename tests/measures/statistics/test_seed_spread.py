"""Intervals of arms from variances pooled over arms: worlds in which all arms are equal."""

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from jaxanatomy.measures.arms.finals import family_level
from jaxanatomy.measures.statistics.seed_spread import seed_spread

RUNS = 400


def arms_of(generator, deviations, seeds, shared=0.0):
    """Values by arm and seed, all of mean 0; `shared` is what a seed does to all arms."""
    value_AS = np.array(deviations)[:, None] * generator.normal(size=(len(deviations), seeds))
    value_AS += shared * generator.normal(size=seeds)
    return {str(arm): dict(enumerate(row)) for arm, row in enumerate(value_AS.tolist())}


def pairs_of(arms):
    """All with the first, and all but the first two with the second."""
    return [(str(arm), "0") for arm in range(1, arms)] + [(str(arm), "1") for arm in range(2, arms)]


def told_apart(values, pairs):
    """Which pairs are told apart, of intervals that are to hold all at once."""
    spread, level = seed_spread(values, True), family_level(len(pairs))
    found = []
    for one, two in pairs:
        seeds = len(values[one])
        less = np.mean([values[one][seed] - values[two][seed] for seed in values[one]])
        found.append(abs(less) > spread.half_width((one, two), seeds, level))
    return found


def wrong_runs(deviations, seeds, shared=0.0):
    """The share of runs that tell any two arms apart."""
    generator, pairs = np.random.default_rng([len(deviations), seeds]), pairs_of(len(deviations))
    return np.mean(
        [any(told_apart(arms_of(generator, deviations, seeds, shared), pairs)) for _ in range(RUNS)]
    )


WORLDS = {
    "equal": lambda arms: [1.0] * arms,
    "one is noisy: the baseline": lambda arms: [5.0] + [1.0] * (arms - 1),
    "one is noisy": lambda arms: [1.0] * (arms - 1) + [5.0],
    "two are noisy": lambda arms: [5.0] + [1.0] * (arms - 2) + [5.0],
    "half are noisy": lambda arms: [5.0, 1.0] * (arms // 2),
    "graded": lambda arms: np.geomspace(5, 1, arms),
    "one is quiet": lambda arms: [1.0] + [5.0] * (arms - 1),
}


# Two standard errors of 400 runs above 5 %.
MOST = 0.05 + 2 * math.sqrt(0.05 * 0.95 / RUNS)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("arms", [4, 8, pytest.param(32, marks=pytest.mark.slow)])
def test_where_all_arms_are_equal_one_run_in_twenty_tells_two_apart_at_most(arms, seeds, name):
    assert wrong_runs(WORLDS[name](arms), seeds) <= MOST


@pytest.mark.parametrize("name", WORLDS)
def test_where_no_arm_has_an_effect_one_run_in_twenty_shows_one_at_most(name):
    generator, level = np.random.default_rng(0), family_level(8)
    wrong = 0
    for _ in range(RUNS):
        values = arms_of(generator, WORLDS[name](8), 3)
        spread = seed_spread(values, False)
        wrong += any(
            abs(np.mean(list(own.values()))) > spread.half_width((arm,), 3, level)
            for arm, own in values.items()
        )
    assert wrong <= MOST * RUNS


def test_what_a_seed_does_to_all_arms_is_no_difference():
    assert wrong_runs([1.0] * 8, 3, shared=10.0) <= MOST
    generator = np.random.default_rng(0)
    widths = [
        np.median(
            [
                seed_spread(arms_of(generator, [1.0] * 8, 3, shared), True).half_width(
                    ("0", "1"), 3, 0.99
                )
                for _ in range(100)
            ]
        )
        for shared in (0.0, 10.0)
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_arms_that_differ_are_told_apart_where_a_pair_alone_would_not_do():
    generator, pairs = np.random.default_rng(0), pairs_of(8)
    level = family_level(len(pairs))
    ours = students = 0
    for _ in range(100):
        values = arms_of(generator, [1.0] * 8, 3)
        values["0"] = {seed: value + 6.5 for seed, value in values["0"].items()}
        ours += np.mean(told_apart(values, pairs)[:7])
        one, two = (list(values[arm].values()) for arm in ("0", "1"))
        students += ttest_rel(one, two).pvalue < 1 - level
    assert ours >= 85
    assert students <= 30


def test_two_arms_are_students_pairs():
    values = {"a": {0: 1.0, 1: 2.0, 2: 4.0}, "b": {0: 1.5, 1: 1.0, 2: 1.0}}
    low, high = ttest_rel([1.0, 2.0, 4.0], [1.5, 1.0, 1.0]).confidence_interval(0.95)
    half = seed_spread(values, True).half_width(("a", "b"), 3, 0.95)
    assert half == pytest.approx((high - low) / 2)


def test_variances_of_one_sample_and_of_differences():
    values = {"a": {0: 0.0, 1: 2.0}, "b": {0: 0.0, 1: 4.0}, "c": {0: 0.0, 1: 0.0}}
    alone, less = seed_spread(values, False), seed_spread(values, True)
    assert alone.own == {"a": (2.0, 1), "b": (8.0, 1), "c": (0.0, 1)}
    assert alone.pooled == (pytest.approx(10 / 3), 3)
    # Residuals of the second seed: 0, 1 and -1; squares counted twice, times 3 / 2.
    assert less.own == {"a": (0.0, 1), "b": (pytest.approx(3.0), 1), "c": (pytest.approx(3.0), 1)}
    assert less.pooled == (pytest.approx(2.0), 2)
    # The pooled variance of c, of 3 degrees of freedom.
    half = t.ppf(0.975, 3) * math.sqrt(10 / 3 / 2)
    assert alone.half_width(("c",), 2, 0.95) == pytest.approx(half)
    # Its own of b, of one, at an error of 5 %, is wider than of 3 at that error.
    half = t.ppf(0.975, 1) * math.sqrt(8 / 2)
    assert alone.half_width(("b",), 2, 0.95) == pytest.approx(half)


def test_an_arm_that_lost_a_seed_is_not_pooled_and_has_an_interval():
    values = {"a": {0: 0.0, 1: 2.0, 2: 1.0}, "b": {0: 1.0, 1: 1.5, 2: 2.0}, "c": {0: 0.0, 2: 2.0}}
    spread = seed_spread(values, True)
    assert spread.pooled == seed_spread({name: values[name] for name in "ab"}, True).pooled
    assert spread.own["c"] == (2.0, 1)
    assert spread.half_width(("a", "c"), 2, 0.95) > 0


@pytest.mark.parametrize(
    "values", [{"a": {0: 1.0}, "b": {0: 2.0}}, {"a": {0: 1.0, 1: 2.0}, "b": {0: 1.0}}, {"b": {}}]
)
def test_too_few_seeds_have_no_interval(values):
    assert math.isnan(seed_spread(values, True).half_width(("b",), 1, 0.95))

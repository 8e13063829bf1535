"""The interval over draws and documents: coverage where both matter, closed forms, no interval."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxanatomy.measures.statistics.estimates import draws_interval

WORLDS = 3000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draws", "units", "spread_draw", "spread_unit", "spread_both"),
    [
        (3, 40, 1.0, 1.0, 1.0),
        (3, 40, 0.0, 1.0, 0.0),
        (3, 10, 1.0, 0.0, 1.0),
        (3, 160, 0.66, 1.0, 0.0),
        (5, 10, 0.5, 1.0, 0.2),
        (2, 40, 1.0, 2.0, 1.0),
        (3, 40, 0.05, 0.05, 1.0),
    ],
)
@pytest.mark.parametrize("level", [0.95, 0.995])
def test_it_covers(draws, units, spread_draw, spread_unit, spread_both, level):
    """Also far out, where a family of comparisons needs it."""
    generator = np.random.default_rng(draws * units)
    tokens_U = np.full(units, 10)
    missed = 0
    for _ in range(WORLDS):
        mean_SU = (
            spread_draw * generator.normal(size=(draws, 1)) / 3
            + spread_unit * generator.normal(size=units)
            + spread_both * generator.normal(size=(draws, units))
        )
        found = draws_interval(tokens_U * mean_SU, tokens_U, level)
        missed += not found.low <= 0 <= found.high
    misses = (1 - level) * WORLDS
    assert missed <= misses + 2.5 * math.sqrt(misses)  # and the simulation's own error


def test_without_a_spread_of_units_it_is_students_over_draws():
    values = np.array([1.0, 2.0, 4.0])
    found = draws_interval(values[:, None] * np.full(5, 10), np.full(5, 10), level=0.9)
    expected = scipy.stats.t.interval(0.9, 2, values.mean(), scipy.stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)


def test_a_pooled_spread_is_used_where_it_is_larger():
    sums_SU, tokens_U = np.array([[1.0, 1.0], [3.0, 3.0]]), np.ones(2)
    pooled = draws_interval(sums_SU, tokens_U, spread=(50.0, 30))
    half = scipy.stats.t.ppf(0.975, 30) * math.sqrt(50 / 2)
    assert (pooled.value, pooled.high) == pytest.approx((2.0, 2.0 + half))
    own = draws_interval(sums_SU, tokens_U)
    assert draws_interval(sums_SU, tokens_U, spread=(1e-9, 30)) == own
    assert math.isnan(draws_interval(sums_SU[:1], tokens_U).low)
    assert draws_interval(sums_SU[:1], tokens_U, spread=(1.0, 30)).low < 0


def test_what_has_no_spread_at_all_is_exact_and_what_is_not_finite_has_no_value():
    assert draws_interval(np.ones((3, 4)), np.ones(4)).high == 1.0
    assert math.isnan(draws_interval(np.array([[1.0, np.nan]] * 2), np.ones(2)).value)
    assert math.isnan(draws_interval(np.ones((3, 1)), np.ones(1)).low)

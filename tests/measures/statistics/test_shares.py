"""Intervals of shares: of several runs a seed, and Newcombe's of a paired difference."""

import math

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import wilson_interval
from jaxanatomy.measures.statistics.shares import clustered_share, paired_share_difference


def paired(both, own, other, neither):
    """Two lists of answers with so many items of each kind."""
    cells = ((1, 1), (1, 0), (0, 1), (0, 0))
    return np.repeat(np.array(cells), (both, own, other, neither), axis=0).T


def test_newcombes_example():
    found = paired_share_difference(*paired(36, 12, 2, 0))
    # Newcombe (1998), Table II, method 10.
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=1e-4)


def test_where_all_items_of_one_are_right_nothing_is_in_common():
    found = paired_share_difference(*paired(36, 14, 0, 0))
    own, other = wilson_interval(1.0, 50), wilson_interval(0.72, 50)
    low = 0.28 - math.hypot(1 - own.low, other.high - 0.72)
    assert (found.low, found.high) == pytest.approx((low, 0.28 + 0.72 - other.low))


def test_exchanged_lists_give_the_opposite():
    one, other = paired(10, 7, 2, 5)
    found, back = paired_share_difference(one, other), paired_share_difference(other, one)
    assert (found.value, found.low, found.high) == pytest.approx(
        (-back.value, -back.high, -back.low)
    )


def test_items_that_all_stay_as_they_are_leave_a_width():
    right = np.arange(40) % 2
    found = paired_share_difference(right, right)
    assert found.low < found.value == 0 < found.high < 0.2


@pytest.mark.parametrize(("shift", "flips"), [(0.0, 0.1), (0.0, 0.5), (0.15, 0.4)])
@pytest.mark.parametrize("items", [40, 200])
def test_it_covers_where_nothing_happens_and_where_something_does(items, shift, flips):
    rng, held, draws = np.random.default_rng(items), 0, 800
    for _ in range(draws):
        own = rng.random(items) < 0.4
        redrawn = rng.random(items) < flips
        other = np.where(redrawn, rng.random(items) < 0.4 + shift / flips, own)
        found = paired_share_difference(other, own)
        held += found.low <= shift <= found.high
    assert held / draws > 0.93


def test_other_items_are_refused():
    with pytest.raises(InputError, match="shares of the same items"):
        paired_share_difference(np.ones(3), np.ones(4))
    with pytest.raises(InputError, match="shares of the same items"):
        paired_share_difference(np.ones(0), np.ones(0))


@pytest.mark.parametrize(("share", "alike"), [(0.75, 0.0), (0.75, 0.3), (0.9, 1.0)])
def test_intervals_hold_however_alike_the_runs_of_a_seed_are(share, alike):
    """400 worlds of 20 seeds with one to four runs each.

    Wilson's over runs holds 73 % where runs of a seed are all the same; at 0.3 it holds 88 %, which
    so few worlds do not tell from 90.
    """
    rng, held, narrow = np.random.default_rng(0), 0, 0
    for _ in range(400):
        runs_S = rng.integers(1, 5, 20)
        if 0 < alike < 1:
            spread = 1 / alike - 1
            hits_S = rng.binomial(runs_S, rng.beta(share * spread, (1 - share) * spread, 20))
        else:
            hits_S = runs_S * (rng.random(20) < share) if alike else rng.binomial(runs_S, share)
        found = clustered_share(hits_S, runs_S)
        over_runs = wilson_interval(hits_S.sum() / runs_S.sum(), int(runs_S.sum()))
        held += found.low <= share <= found.high
        narrow += over_runs.low <= share <= over_runs.high
    assert held >= 0.92 * 400
    assert alike < 1 or narrow <= 0.8 * 400


@pytest.mark.parametrize("alike", [0.2, 0.5])
def test_intervals_of_shares_near_one_cover_where_seeds_differ(alike):
    generator, share, within = np.random.default_rng(0), 0.95, 0
    of_seed = (1 - alike) / alike  # beta-binomial, with that correlation in a seed
    for _ in range(600):
        own_S = generator.beta(share * of_seed, (1 - share) * of_seed, 20)
        found = clustered_share(generator.binomial(6, own_S), np.full(20, 6))
        within += found.low <= share <= found.high
    assert within >= (0.95 - 2 * (0.95 * 0.05 / 600) ** 0.5) * 600


def test_runs_of_a_seed_that_all_come_out_alike_are_worth_one():
    assert clustered_share([3] * 20, [3] * 20).ends == wilson_interval(1.0, 20).ends
    assert clustered_share([1, 0] * 10, [1] * 20).ends == wilson_interval(0.5, 20).ends
    # 7 / 25 in float64, times 25, is not 7: no difference between seeds.
    assert clustered_share([7] * 3, [25] * 3).ends == wilson_interval(7 / 25, 3).ends
    assert clustered_share([15] * 20, [22] * 20).ends == wilson_interval(15 / 22, 20).ends
    # Seeds of unlike size, after Kish: 25 / 17 of them.
    assert clustered_share([4, 1], [4, 1]).low == wilson_interval(1.0, 1).low

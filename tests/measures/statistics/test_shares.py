"""Newcombe's interval of a paired difference: his own example, and its coverage."""

import math

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import wilson_interval
from jaxanatomy.measures.statistics.shares import paired_share_difference


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

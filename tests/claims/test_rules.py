"""Rules: three values, levels that pay for every look, and what is missing."""

import functools
import math
from statistics import NormalDist

import numpy as np
import pytest

from jaxanatomy.claims.rules import ALL, ANY, MOST, Measured, any_differs, every
from jaxanatomy.measures.statistics.estimates import Estimate

DRAWS = 1000


def fixed(*ends):
    """Parts with the same interval at every level; None was not measured."""
    return [
        Measured(f"p{at}", None if each is None else lambda _, e=each: Estimate(sum(e) / 2, *e))
        for at, each in enumerate(ends)
    ]


BELOW, ABOVE, ACROSS = (-2.0, -1.0), (1.0, 2.0), (-1.0, 1.0)


@pytest.mark.parametrize(
    ("ends", "all_", "any_", "most"),
    [
        ([BELOW, BELOW, BELOW], True, True, True),
        ([BELOW, ACROSS, BELOW], None, True, True),
        ([BELOW, ACROSS, ABOVE], False, True, None),
        ([BELOW, None, BELOW], None, True, True),
        ([None, None], None, None, None),
        ([ABOVE, ACROSS], False, None, False),
        ([ABOVE, ABOVE, BELOW], False, True, False),
        ([ABOVE, ABOVE], False, False, False),
    ],
)
def test_how_many_parts_it_takes(ends, all_, any_, most):
    rules = ALL.below(0.0), ANY.below(0.0), MOST.below(0.0)
    assert tuple(rule.decide(fixed(*ends), 0.05) for rule in rules) == (all_, any_, most)


@pytest.mark.parametrize(
    ("ends", "answer"),
    [
        ((100.1, 120.0), True),
        ((100.0, 120.0), None),
        ((80.0, 100.0), False),
        ((math.inf, math.inf), True),
        ((math.nan, math.nan), None),
    ],
)
def test_a_whole_interval_lies_above_or_not(ends, answer):
    assert ALL.above(100.0).decide(fixed(ends), 0.05) is answer


def test_what_is_equal_lies_on_neither_side_of_itself():
    assert ALL.below(0.0).decide(fixed((0.0, 0.0)), 0.05) is False
    assert ALL.above(0.0).decide(fixed((0.0, 0.0)), 0.05) is False


def test_between_two_thresholds():
    rule = ALL.within(-1.0, 1.0)
    assert [rule.decide(fixed(each), 0.05) for each in ((-0.5, 0.5), (0.5, 1.5), (2, 3))] == [
        True,
        None,
        False,
    ]


@pytest.mark.parametrize(
    ("rule", "parts", "levels"),
    [
        (ALL.below(0.0), 10, (0.95, 0.995)),
        (ANY.below(0.0), 10, (0.995, 0.95)),
        (MOST.below(0.0), 10, (0.99, 1 - 0.05 / 6)),
    ],
)
def test_a_rule_pays_for_its_looks(rule, parts, levels):
    assert rule.levels(parts, 0.05) == pytest.approx(levels)


@pytest.mark.parametrize("count", [ALL, ANY, MOST])
@pytest.mark.parametrize("true", [0, 4, 9])
def test_noise_says_neither_holds_nor_fails(count, true):
    """Of ten parts some lie far below 0 and the others on it: the count is one short at most."""
    needed = count.of(10)
    true = min(true, needed - 1)
    generator = np.random.default_rng(true)
    centres = np.where(np.arange(10) < true, -50.0, 0.0)
    answers = [
        count.below(0.0).decide([_normal(value) for value in row], 0.05)
        for row in centres + generator.normal(size=(DRAWS, 10))
    ]
    assert answers.count(True) <= 0.05 * DRAWS
    assert answers.count(False) <= 0.05 * DRAWS


def _normal(value):
    return Measured("p", functools.partial(_interval, value))


@functools.cache
def _half(level):
    return NormalDist().inv_cdf((1 + level) / 2)


def _interval(value, level):
    half = _half(level)
    return Estimate(value, value - half, value + half)


def test_some_part_is_apart_or_all_are_shown_to_be_alike():
    rule = any_differs(-10.0, 10.0)
    assert rule.decide(fixed(ACROSS, ABOVE), 0.05) is True
    assert rule.decide(fixed(ACROSS, ACROSS), 0.05) is False
    assert rule.decide(fixed(ACROSS, (-20.0, 1.0)), 0.05) is None
    assert rule.decide(fixed(ACROSS, None), 0.05) is None
    ends = ACROSS, ABOVE, (-20.0, 1.0)
    assert [rule.answer(Estimate(0.0, *each)) for each in ends] == [False, True, None]


def test_all_of_several_answers():
    assert every([True, True]) is True
    assert every([True, None]) is None
    assert every([None, False]) is False

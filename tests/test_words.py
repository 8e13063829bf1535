"""Numbers as words: signs, infinities, units."""

import math

import pytest

from jaxanatomy.words import (
    COUNT,
    NATS,
    PERCENT,
    PLAIN,
    exponent,
    first,
    interval,
    plain,
    threshold,
)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((-1234.567,), "−1,234.57"),
        ((-0.001,), "0.00"),
        ((-0.001, 3), "−0.001"),
        ((0.0, 1, "+"), "+0.0"),
        ((-0.04, 1, "+"), "+0.0"),
        ((2.0, 1, "+"), "+2.0"),
        ((None,), "–"),
    ],
)
def test_a_number_has_a_minus_sign_where_it_is_not_0(args, words):
    assert plain(*args) == words


@pytest.mark.parametrize(
    ("ends", "unit", "words"),
    [
        ((2.0, 1.0, 3.0), PERCENT, "+2.0 % [+1.0, +3.0]"),
        ((-0.0001, -0.1, 0.1), NATS, "+0.000 nats [−0.100, +0.100]"),
        ((1.5, 1.0, 2.0), COUNT, "1.50 times [1.00, 2.00]"),
        ((0.5, 0.5, 0.5), PLAIN, "0.50"),
        ((0.5, math.nan, math.nan), PLAIN, "0.50"),
        ((2.0, 1.0, math.inf), COUNT, "2.00 times"),
        ((math.inf, math.inf, math.inf), PERCENT, "not finite"),
        ((math.nan, math.nan, math.nan), PERCENT, "no value"),
    ],
)
def test_a_value_has_its_unit_and_its_interval(ends, unit, words):
    assert interval(*ends, unit) == words


def test_thresholds_keep_their_digits():
    said = [threshold(442000.0, PERCENT), threshold(-0.02, NATS), threshold(0.5)]
    assert said == ["442,000 %", "−0.02 nats", "0.5"]


def test_small_numbers_have_exponents():
    assert (exponent(2e-5), exponent(4.9e-10, 1, "+")) == ("2e−05", "+4.9e−10")


def test_of_many_names_the_first_are_said():
    assert first(["a", "b", "c"], 2) == "a, b and 1 more"
    assert first(["a", "b"], 2) == "a, b"

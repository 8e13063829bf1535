"""Student's interval of a difference, and improvements among many that were tried."""

import dataclasses
import math

import numpy as np
import pytest

from jaxanatomy.measures.statistics import paired_difference
from jaxanatomy.report.claims.tried import gains, improves

# Upper 2.5 % of Student's t with 3 degrees of freedom, from a printed table.
T_3 = 3.182446305284263


def row(nll, tokens, **more):
    return {"unit_nll": nll, "unit_tokens": tokens, "nll": sum(nll), **more}


def test_documents_of_one_length_give_students_interval_of_their_means():
    own, other = row([31.0, 33.0, 30.0, 34.0], [10] * 4), row([30.0] * 4, [10] * 4)
    half = T_3 * math.sqrt((1.0 + 1.0 + 4.0 + 4.0) / 3 / 4) / 10
    found = dataclasses.astuple(paired_difference(own, other))
    np.testing.assert_allclose(found, (0.2, 0.2 - half, 0.2 + half), rtol=1e-9)


def test_longer_documents_weigh_more():
    own, other = (
        row([31.0, 64.0, 30.0, 17.0], [10, 20, 10, 5]),
        row([30, 60, 30, 15], [10, 20, 10, 5]),
    )
    mean = 7 / 45
    residuals = [1 - 10 * mean, 4 - 20 * mean, 0 - 10 * mean, 2 - 5 * mean]
    half = T_3 * math.sqrt(4 / 3 * sum(value**2 for value in residuals)) / 45
    found = paired_difference(own, other)
    assert (found.value, found.high) == pytest.approx((mean, mean + half), rel=1e-9)
    assert found.low < mean - half  # the longer tail


@pytest.mark.parametrize(("nll", "tokens"), [([30.0], [10]), ([30.0, None], [10, 10])])
def test_without_an_interval_nothing_is_gained(nll, tokens):
    own = {"unit_nll": nll, "unit_tokens": tokens}
    other = row([31.0] * len(nll), [10] * len(nll))
    assert math.isnan(paired_difference(own, other).high)
    assert not gains(own, other, 1)


def test_among_many_without_an_effect_hardly_any_search_finds_one():
    draws = np.random.default_rng(0).standard_normal((1000, 20, 10))
    other = row([0.0] * 10, [1] * 10)
    found = [
        any(gains(row(list(nll), [1] * 10), other, len(search)) for nll in search)
        for search in draws[:300]
    ]
    # A gain is one side of an interval at 5 %: 2.5 % of the searches, 7.5 of 300.
    assert sum(found) <= 15
    alone = [gains(row(list(nll), [1] * 10), other, 1) for nll in draws.reshape(-1, 10)[:2000]]
    assert 30 <= sum(alone) <= 70  # 2.5 % of 2,000 is 50


@pytest.mark.parametrize(
    ("ends", "nll", "answer"),
    [
        ([-3.0, -1.0], [29.0, 29.1] * 4, True),
        ([-3.0, 1.0], [29.0, 29.1] * 4, True),
        ([-3.0, -1.0], [25.0, 34.0] * 4, None),
        ([0.0, 2.0], [31.0, 31.1] * 4, False),
        (None, [31.0, 31.1] * 4, None),
    ],
)
def test_a_variant_improves_does_not_or_cannot_tell(ends, nll, answer):
    own = row(nll, [10] * 8, degradation_percent=1.0, ci95=ends)
    assert improves(own, row([30.0] * 8, [10] * 8), 1) is answer
    assert improves(own, None, 1) is (False if answer is False else None)
    lost = own | {"degradation_percent": None, "nll": None, "ci95": None}
    assert improves(lost, None, 1) is False

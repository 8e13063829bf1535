"""Several draws of one change: the median draw, the range and the interval, against literals."""

import math

import numpy as np
import pytest
from scipy.stats import t

from jaxanatomy.measures.importance_summary import compare_controls
from jaxanatomy.measures.statistics.draws import (
    draws_degradation,
    draws_range,
    median_draw,
    spread_over_draws,
)

TOKENS_U = [4, 6]


def row(*unit_nll, layer=1, intervention="matched_noise", draw=0):
    finite = None not in unit_nll
    return {
        "variant": f"{intervention}#{draw}/layer/{layer}",
        "intervention": intervention,
        "scope": "layer",
        "positions": "all",
        "layer": layer,
        "draw": draw,
        "boundary": False,
        "nll": sum(unit_nll) if finite else None,
        "tokens": 10,
        "unit_nll": list(unit_nll),
        "unit_tokens": TOKENS_U,
        "degradation_percent": 100 * math.expm1(sum(unit_nll) / 10 - 1) if finite else None,
    }


BASELINE = row(4.0, 6.0, intervention="none", draw=None) | {"variant": "baseline"}
DRAWS = [row(8.0, 12.0), row(6.0, 9.0), row(20.0, 30.0), row(7.0, 11.0)]


@pytest.mark.parametrize(("count", "middle"), [(1, 0), (2, 1), (3, 0), (4, 3)])
def test_the_middle_draw_stands_for_all(count, middle):
    assert median_draw(DRAWS[:count]) is DRAWS[middle]


def test_a_draw_that_is_lost_is_the_worst():
    lost = row(5.0, None)
    assert median_draw([lost, *DRAWS[:2]]) is DRAWS[0]
    assert draws_range([lost, DRAWS[1]], BASELINE).high == math.inf
    assert spread_over_draws([lost, DRAWS[1]]) == math.inf


def test_the_range_spans_the_draws():
    found = draws_range(DRAWS, BASELINE)
    assert found.value == pytest.approx(100 * math.expm1(0.8))
    assert found.low == pytest.approx(100 * math.expm1(0.5))
    assert found.high == pytest.approx(100 * math.expm1(4.0))
    assert spread_over_draws(DRAWS) == pytest.approx(math.exp(3.5))
    assert math.isnan(spread_over_draws(DRAWS[:1]))


def test_the_interval_is_for_other_draws_and_documents():
    found = draws_degradation(DRAWS, BASELINE)
    change_S = np.array([1.0, 0.5, 4.0, 0.8])
    mean = change_S.mean()
    assert found.value == pytest.approx(100 * math.expm1(mean))
    # The units differ by next to nothing, so the interval is that over draws.
    half = t.ppf(0.975, 3) * change_S.std(ddof=1) / 2
    assert found.high > 100 * math.expm1(mean + 0.9 * half)
    assert found.low < 100 * math.expm1(mean - 0.9 * half)


def test_equal_draws_have_no_spread():
    assert spread_over_draws([DRAWS[0]] * 4) == 1.0
    found = draws_range([DRAWS[0]] * 4, BASELINE)
    assert found.low == found.value == found.high


def test_controls_are_compared_by_their_median_draw():
    main = [row(6.5, 10.0, layer=n, intervention="neighbour_mean", draw=None) for n in (1, 2)]
    noise = [each | {"layer": n, "draw": k} for n in (1, 2) for k, each in enumerate(DRAWS)]
    zero = [row(5.0, 7.0, layer=n, intervention="zero", draw=None) for n in (1, 2)]
    found = compare_controls([BASELINE, *main, *noise, *zero])
    assert found["matched_noise"]["layers"] == 2
    assert found["matched_noise"]["median_difference"] == pytest.approx(1.8 - 1.65)
    assert found["matched_noise"]["draws"] == 4
    assert found["matched_noise"]["median_spread_over_draws"] == pytest.approx(math.exp(3.5))
    assert "draws" not in found["zero"]

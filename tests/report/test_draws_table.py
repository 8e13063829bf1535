"""The table of a control that is random, against literals."""

import math

import pytest

from jaxanatomy.report.cells import by_text
from jaxanatomy.report.importance.draws import random_tables


def row(name, draw, *unit_nll):
    return {
        "variant": name,
        "intervention": name,
        "layer": 1,
        "draw": draw,
        "nll": None if None in unit_nll else sum(unit_nll),
        "tokens": 10,
        "unit_nll": list(unit_nll),
        "unit_tokens": [5, 5],
        "ci95": [10.0, 20.0],
        "text": "sentences",
    }


BASELINE = row("baseline", None, 5.0, 5.0) | {"layer": None}
NOISE = [row("matched_noise", draw, 7.5 + draw, 7.5 + draw) for draw in range(3)]


def texts_of(*rows):
    (cells,) = by_text([BASELINE, row("zero", None, 9.0, 9.0), *rows])
    return [[cell.text for cell in line] for table in random_tables(cells) for line in table.rows]


def test_median_range_and_interval_of_each_layer():
    ((layer, value, documents, span, both),) = texts_of(*NOISE)
    assert (layer, documents) == ("1", "+10.0 to +20.0")
    # Mean losses 0.5, 0.7 and 0.9 nats above the baseline's.
    assert float(value) == pytest.approx(100 * math.expm1(0.7), abs=0.5)
    low, high = map(float, span.split(" to "))
    assert (low, high) == pytest.approx((64.9, 146.0), abs=0.5)
    low, high = map(float, both.split(" to "))
    assert low < 64.9 < 146.0 < high


def test_a_lost_draw_leaves_a_median_and_no_range():
    ((_, value, _, span, both),) = texts_of(*NOISE[:2], row("matched_noise", 2, 5.0, None))
    assert float(value) == pytest.approx(100 * math.expm1(0.7), abs=0.5)
    assert (span, both) == ("–", "–")


def test_what_is_drawn_once_has_no_table():
    assert texts_of(NOISE[0]) == []

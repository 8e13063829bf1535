import math

import pytest

from jaxanatomy.report.cells import by_text, category, interval, is_certain, label, number
from jaxanatomy.report.importance.controls import draw_ratios, ratios


def test_texts_keep_their_order_and_baselines(two_texts):
    first, second = by_text(two_texts)
    assert (first.text, second.text) == ("sentences", "paragraphs")
    assert first.baseline["variant"] == second.baseline["variant"] == "baseline"
    assert first.layers == range(5)
    assert second.interventions == ("neighbour_mean",)
    assert by_text((first, second)) == (first, second)


def test_a_profile_tells_missing_from_not_finite(rows, change):
    change(rows, "zero/layer/2", degradation_percent=None)
    (cells,) = by_text(row for row in rows if row["variant"] != "zero/layer/1")
    values = cells.profile("zero")
    assert math.isnan(values[1])
    assert math.isinf(values[2])
    assert values[3] == 34_000 * 1.5


def test_a_data_frame_works(rows, change):
    change(rows, "zero/layer/2", degradation_percent=None, category=None)

    class Frame:
        """What pandas makes of the rows: null becomes NaN."""

        def to_dict(self, orient):
            assert orient == "records"
            nan = float("nan")
            return [{k: nan if v is None else v for k, v in row.items()} for row in rows]

    (cells,), (expected,) = by_text(Frame()), by_text(rows)
    assert cells.cells == expected.cells


@pytest.mark.parametrize(
    ("degradation", "name"),
    [
        (-5.0, "redundant"),
        (9.99, "redundant"),
        (10.0, "minor"),
        (30.0, "important"),
        (1e2, "critical"),
    ],
)
def test_category_is_worked_out_where_absent(degradation, name):
    assert category({"degradation_percent": degradation}) == name
    assert category({"degradation_percent": degradation, "category": "given"}) == "given"


@pytest.mark.parametrize(
    ("ends", "certain"), [([11.0, 29.0], True), ([9.0, 29.0], False), ([11.0, 31.0], False)]
)
def test_a_category_is_certain_if_the_interval_is_in_it(ends, certain):
    row = {"degradation_percent": 20.0, "category": "minor", "ci95": ends}
    assert is_certain(row) is certain
    assert not is_certain({**row, "ci95": None})


def test_numbers_and_intervals():
    row = {"a": 1, "b": None, "ci95": [1, 2.5]}
    assert (number(row, "a"), number(row, "b")) == (1.0, math.inf)
    assert math.isnan(number(row, "c"))
    assert interval(row) == (1.0, 2.5)
    assert interval({"ci95": [1, None]}) is interval({}) is None


def test_labels():
    names = ("neighbour_mean", "q_proj", "mlp", "head_11", "my_own_edit")
    assert [label(n) for n in names] == [
        "neighbour mean",
        "q_proj",
        "MLP",
        "head 11",
        "my own edit",
    ]


def test_the_median_draw_stands_for_what_is_random():
    def drawn(draw, nll):
        return {
            "variant": f"matched_noise#{draw}/layer/1",
            "intervention": "matched_noise",
            "layer": 1,
            "draw": draw,
            "nll": nll,
            "tokens": 10,
            "ppl": math.exp(nll / 10),
        }

    rows = [drawn(draw, nll) for draw, nll in enumerate((30.0, 10.0, 50.0))]
    mean = drawn(None, 20.0) | {"intervention": "neighbour_mean"}
    (cells,) = by_text([*rows, mean])
    assert cells.row("matched_noise", 1) is rows[0]
    assert cells.draws("matched_noise", 1) == tuple(rows)
    assert ratios(cells, "matched_noise") == {1: pytest.approx(math.e)}
    assert draw_ratios(cells, "matched_noise") == {
        1: (pytest.approx(math.exp(-1)), pytest.approx(math.exp(3)))
    }
    assert cells.draws("neighbour_mean", 1) == (mean,)
    assert draw_ratios(cells, "neighbour_mean") == {}

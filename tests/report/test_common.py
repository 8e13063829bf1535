"""What the pages share."""

import gc
import weakref

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report.common import estimate, in_panels, once, told


def row(model, text, nll=9.0, **more):
    return {"variant": "zero/layer/3", "nll": nll, "model": model, "text": text, **more}


def test_panels_name_the_model_only_where_there_are_several():
    one = in_panels([row("a", "letters"), row("a", "numbers")])
    assert [each["panel"] for each in one] == ["letters", "numbers"]
    two = in_panels([row("a", "letters"), row("b", "letters", 8.0), row(None, "letters")])
    expected = ["a, letters", "b, letters", "model without a name, letters"]
    assert [each["panel"] for each in two] == expected
    assert [each["panel"] for each in in_panels([{"variant": "zero", "nll": 1.0}])] == [""]


def test_the_same_figures_come_once_and_others_are_refused():
    assert len(in_panels([row("a", "letters"), row("a", "letters")])) == 1
    with pytest.raises(InputError, match="zero/layer/3 on letters came twice with different"):
        in_panels([row("a", "letters"), row("a", "letters", 8.0)])
    draws = [row("a", "letters", draw=0), row("a", "letters", 8.0, draw=1)]
    assert len(in_panels(draws)) == 2


def test_what_is_made_of_a_run_is_made_once_for_each_and_goes_with_it():
    made = []

    @once
    def count(record):
        made.append(len(record))
        return [*record]

    one, other = RunRecord.of_rows([row("a", "letters")]), RunRecord.of_rows([])
    assert count(one) is count(one)
    assert (count(one), count(other), made) == (one.rows, [], [1, 0])
    kept = weakref.ref(one)
    del one
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("ends", [None, [None, 2.0], [1.0, None], ()])
def test_a_figure_without_both_ends_stands_alone(ends):
    assert estimate(1.5, ends) == 1.5
    assert estimate(None, ends) is None
    assert estimate(1.5, [1.0, 2.0]) == Estimate(1.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Estimate(-1.0, -2.0, -0.1), "better than"),
        (Estimate(1.0, 0.1, 2.0), "worse than"),
        (Estimate(1.0, 0.0, 2.0), "not told apart from"),
        (Estimate(-1.0, -2.0, 0.0), "not told apart from"),
        (None, "not told apart from"),
    ],
)
def test_arms_are_told_apart_by_intervals_clear_of_zero(found, words):
    assert told(found) == words

"""What the pages share."""

import gc
import weakref

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report.common import (
    counted,
    entries,
    estimate,
    flattened,
    in_panels,
    joined,
    merged,
    once,
    only,
    sides,
    tally,
)


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
        (Estimate(-1.0, -2.0, -0.1), "below 0: a"),
        (Estimate(1.0, 0.1, 2.0), "above 0: a"),
        (Estimate(1.0, 0.0, 2.0), "not told apart: a"),
        (Estimate(-1.0, -2.0, 0.0), "not told apart: a"),
        (None, "no interval: a"),
        (1.0, "no interval: a"),
    ],
)
def test_arms_are_told_apart_by_intervals_clear_of_zero(found, words):
    assert sides([{"arm": "a", "less": found}], "less") == words


def test_sides_and_counts_of_several_rows():
    ends = {"a": (1, 2), "b": (3, 4), "c": (-1, 1)}
    rows = [{"name": name, "x": Estimate(0.0, *own)} for name, own in ends.items()]
    assert sides(rows, "x", zero=2.5, name="name") == "below 2.5: a, c; above 2.5: b"
    assert tally(rows, "x") == "of 3 intervals 2 lie above 0 and 0 below"
    assert (sides([], "x"), tally([{"x": 1.0}], "x")) == ("", "")


def test_entries_of_a_summary_are_rows_of_figures_with_their_intervals():
    figure = {"mean": 2.0, "low": 1.0, "high": 3.0, "seeds": 4}
    arm = {"loss": figure, "gone": None, "rank": {"gate": {"largest": 5}}, "steps": [1, 2]}
    summary = {"arms": {"a": arm}, "moves": [{"arm": "b", "loss": figure | {"ci95": None}}]}
    record = RunRecord("run", [], {}, {}, summary)
    own = {"loss": Estimate(2.0, 1.0, 3.0), "rank.gate.largest": 5, "steps": [1, 2]}
    assert entries("arms", key="name")(record) == [{"name": "a", **own}]
    assert entries("moves")(record) == [{"arm": "b", "loss": 2.0}]
    assert entries("none", "such")(record) == []
    less = {"less": figure}
    assert flattened({"loss": {"mean": 1.0, "ci95": [0.5, 1.5], **less}}) == {
        "loss": Estimate(1.0, 0.5, 1.5),
        "loss.less": Estimate(2.0, 1.0, 3.0),
    }


def test_figures_of_rows_are_joined_with_their_intervals():
    row = {"kl": 0.5, "kl_ci95": [0.25, 1.0], "degradation_percent": 3.0, "ci95": [-1.0, 5.0]}
    found = joined(row)
    assert (found["kl"], found["change"]) == (Estimate(0.5, 0.25, 1.0), Estimate(3.0, -1.0, 5.0))
    assert found["undecided"]
    assert not joined(row | {"ci95": [1.0, 5.0]})["undecided"]
    assert joined({"s": 1.0, "s_range": None}) == {"s": 1.0}


def test_rows_of_one_key_are_merged_and_some_are_left_out():
    rows = [{"layer": 0, "a": 1}, {"layer": 1, "a": 2}, {"layer": 0, "b": 3}]
    assert merged(rows, "layer") == [{"layer": 0, "a": 1, "b": 3}, {"layer": 1, "a": 2}]
    assert only(lambda record: rows, lambda row: "b" in row)(None) == [rows[2]]
    assert counted(rows, layers="layer", lots="b") == "2 layers, 1 lot."

"""The depth score, its interval and its null."""

import math

import numpy as np
import pytest

from jaxanatomy.measures.depth_score import (
    changes,
    depth_difference_rows,
    depth_score,
    depth_score_difference,
    depth_score_rows,
)
from jaxanatomy.measures.statistics import ratio_intervals


def test_closed_forms():
    assert depth_score([[0, 0, 3.0, 0]] * 6).value == 2
    assert depth_score([[1.0, 1, 1, 1]] * 6).value == 1.5
    # The mean over examples comes first: a large example weighs more.
    assert depth_score([[1.0, 0, 0], [0, 0, 3.0]]).value == 1.5
    assert math.isnan(depth_score([[0.0, 0]]).value)
    assert math.isnan(depth_score([[1.0, math.inf]]).value)


def test_the_interval_is_that_of_a_ratio_over_examples():
    change_EL = np.random.default_rng(0).uniform(0.1, 1, (8, 5))
    found = depth_score(change_EL)
    weights_L = change_EL.mean(axis=0) / change_EL.mean()
    assert found.value == pytest.approx((np.arange(5) * weights_L).sum() / 5)
    moments_E = (np.arange(5) * change_EL).sum(axis=1)
    (expected,) = ratio_intervals(moments_E[None], change_EL.sum(axis=1))
    assert [found.value, *found.ends] == pytest.approx(expected.tolist())
    assert depth_score(change_EL[:1]).ends is None


def row(kind, source, examples, boundary="1/2", **more):
    labels = {"convention": "paper", "part": "layer", "when": "future", "spread": "propagated"}
    return {"kind": kind, **labels, "source": source, "boundary": boundary, "text": "t"} | {
        "examples": examples,
        **more,
    }


ROWS = [
    row("output", 0, [1.0, 2.0]),
    row("output", 0, [3.0, 0.0], "1/4"),
    row("output", 1, [1.0, 2.0]),
    row("effect", 0, [0.5, 0.25], target=1),
    row("effect", 0, [9.0, 9.0], target=1, spread="local"),
    row("output", 1, [9.0, 9.0], when="current"),
    {"kind": "lens"},
]


def test_changes_are_the_largest_over_boundaries_of_future_effects():
    (found,) = changes(ROWS, "output").values()
    np.testing.assert_array_equal(found, [[3, 1], [2, 2]])
    (found,) = changes(ROWS, "layer").values()
    np.testing.assert_array_equal(found, [[0.5, 0], [0.25, 0]])


def test_rows_of_the_score():
    rows = depth_score_rows(ROWS)
    found = {(r["effect"], r["over"], r["example"]): r for r in rows}
    assert len(found) == len(rows) == 8
    assert found["output", "mean", None]["value"] == pytest.approx(3 / 8)
    assert found["output", "max", None]["value"] == pytest.approx(2 / 5)
    assert found["output", "max", None]["ci95"] is None
    assert [found["output", None, e]["value"] for e in (0, 1)] == pytest.approx([1 / 4, 1 / 2])
    assert found["layer", "mean", None]["value"] == 0
    assert len(found["output", "mean", None]["ci95"]) == 2


def test_a_model_in_which_nothing_reaches_later_tokens_has_no_score():
    rows = depth_score_rows([row("output", 0, [0.0, 0.0]), row("output", 1, [0.0, None])])
    assert {r["value"] for r in rows if r["effect"] == "output"} == {None}
    assert all("reason" in r for r in rows if r["value"] is None)


def test_a_difference_of_scores_is_that_of_a_plain_jackknife():
    rng = np.random.default_rng(0)
    one_EL, other_EL = rng.uniform(size=(2, 40, 7)) ** 2
    found = depth_score_difference(one_EL, other_EL)

    def difference(keep):
        return depth_score(one_EL[keep]).value - depth_score(other_EL[keep]).value

    everything = np.arange(40)
    without_E = np.array([difference(everything != each) for each in everything])
    error = np.sqrt(39 / 40 * ((without_E - without_E.mean()) ** 2).sum())
    assert found.value == pytest.approx(difference(everything), abs=1e-12)
    assert found.high - found.low == pytest.approx(2 * 2.023 * error, rel=0.03)
    assert depth_score_difference(one_EL, one_EL).ends == [0.0, 0.0]
    assert math.isnan(depth_score_difference(one_EL, 0 * one_EL).value)
    assert depth_score_difference(one_EL[:1], other_EL[:1]).ends is None


def test_a_model_of_another_depth_has_no_difference_and_a_reason():
    own = [row("output", layer, [1.0, 2.0]) for layer in range(3)]
    (found,) = depth_difference_rows(own, {"deeper": [*own, row("output", 3, [1.0, 2.0])]})[:1]
    assert (found["model"], found["value"], found["ci95"]) == ("deeper", None, None)
    assert found["reason"] == "examples, layers (2, 3) and (2, 4) do not compare"


def test_models_that_differ_by_prompts_alone_are_told_apart_as_often_as_the_level_says():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(600):
        one_EL, other_EL = np.exp(
            0.5 * rng.normal(size=(2, 12, 6)) + 0.7 * rng.normal(size=(1, 12, 1))
        )
        found = depth_score_difference(one_EL, other_EL)
        covered.append(found.low <= 0 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98

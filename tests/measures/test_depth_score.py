"""The depth score, its interval and its null."""

import math

import numpy as np
import pytest

from jaxanatomy.measures.depth_score import (
    changes,
    depth_difference_rows,
    depth_score,
    depth_score_beyond_draws,
    depth_score_difference,
    depth_score_rows,
    untrained_draws,
    untrained_id,
)


def test_closed_forms():
    assert depth_score([[0, 0, 3.0, 0]] * 6).value == 2
    assert depth_score([[1.0, 1, 1, 1]] * 6).value == 1.5
    # The mean over examples comes first: a large example weighs more.
    assert depth_score([[1.0, 0, 0], [0, 0, 3.0]]).value == 1.5
    assert math.isnan(depth_score([[0.0, 0]]).value)
    assert math.isnan(depth_score([[1.0, math.inf]]).value)


def test_the_interval_of_a_score_is_that_of_a_plain_jackknife():
    change_EL = np.random.default_rng(0).uniform(size=(40, 7)) ** 2
    found = depth_score(change_EL)
    weights_L = change_EL.mean(axis=0) / change_EL.mean()
    assert found.value == pytest.approx((np.arange(7) * weights_L).sum() / 7)
    without_E = np.array([depth_score(np.delete(change_EL, at, axis=0)).value for at in range(40)])
    error = np.sqrt(39 / 40 * ((without_E - without_E.mean()) ** 2).sum())
    assert found.high - found.low == pytest.approx(2 * 2.023 * error, rel=0.03)
    assert found.low < found.value < found.high


def test_a_score_has_no_interval_of_one_example_that_makes_all_changes():
    for change_EL in ([[1.0, 2.0]], [[1.0, 2.0], [0.0, 0.0]]):
        found = depth_score(change_EL)
        assert (found.value, found.ends) == (pytest.approx(2 / 3), None)
        difference = depth_score_difference(change_EL, np.ones_like(change_EL))
        assert (difference.value, difference.ends) == (pytest.approx(2 / 3 - 1 / 2), None)


LAYERS, EXAMPLES = 30, 8


def drawn_examples(rng, draws, shift):
    """Changes that fall with depth [draws, E, L]: examples differ in size, and in how they fall."""
    fall_E1 = 1.5 + shift * rng.normal(size=(draws, EXAMPLES, 1))
    size_E1 = rng.normal(size=(draws, EXAMPLES, 1))
    noise_EL = 0.3 * rng.normal(size=(draws, EXAMPLES, LAYERS))
    return np.exp(size_E1 + noise_EL - fall_E1 * np.linspace(0, 1, LAYERS))


@pytest.mark.parametrize(("shift", "least"), [(0.0, 0.91), (1.0, 0.885)])
def test_the_interval_of_a_score_covers_it_as_often_as_the_docstring_says(shift, least):
    """Sizes of examples have a standard deviation of 1; a linearised ratio covers 88 and 85 %."""
    rng = np.random.default_rng(0)
    many = [drawn_examples(rng, 2000, shift).sum(axis=(0, 1)) for _ in range(20)]
    truth = depth_score(np.sum(many, axis=0)[None]).value
    found = [depth_score(each_EL) for each_EL in drawn_examples(rng, 1500, shift)]
    covered = np.mean([each.low <= truth <= each.high for each in found])
    assert least <= covered <= 0.96, covered


def row(kind, source, examples, boundary="1/2", **more):
    labels = {"convention": "paper", "part": "layer", "when": "future", "spread": "propagated"}
    return {
        "kind": kind,
        "model": "m",
        **labels,
        "source": source,
        "boundary": boundary,
        "text": "t",
    } | {
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


def test_draws_of_the_untrained_model_are_known_by_their_names():
    models = ["m", "random:m", "random:m#2", "random:mm", "random:m#1x", "random:m#"]
    assert untrained_draws("m", models) == ["random:m", "random:m#2"]
    assert [untrained_id("m", draw) for draw in (0, 2)] == ["random:m", "random:m#2"]


def test_draws_add_their_spread_to_the_interval():
    rng = np.random.default_rng(0)
    own_EL, *draws = rng.uniform(size=(4, 8, 7))
    found = depth_score_beyond_draws(own_EL, draws)
    scores = [depth_score(each).value for each in draws]
    assert found.value == pytest.approx(depth_score(own_EL).value - np.mean(scores))
    # Draws that are all the same one add nothing.
    alike = depth_score_beyond_draws(own_EL, [draws[0]] * 3)
    assert alike.ends == pytest.approx(depth_score_difference(own_EL, draws[0]).ends)
    # Student's quantile of two degrees of freedom.
    half = 4.303 * np.std(scores, ddof=1) * np.sqrt(1 + 1 / 3)
    assert min(found.high - found.value, found.value - found.low) >= half
    at_level = depth_score_beyond_draws(own_EL, draws, 0.99)
    assert at_level.low < found.low < found.high < at_level.high


@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0])
def test_a_model_that_is_one_more_untrained_draw_is_told_apart_no_more_often_than_the_level(spread):
    """Draws differ in how their changes fall with depth, and by examples."""
    rng = np.random.default_rng(0)
    depth_L, covered = np.linspace(0, 1, 12), []
    for _ in range(600):
        fall_D11 = 1.5 + spread * rng.normal(size=(4, 1, 1))
        size_1E1 = 0.5 * rng.normal(size=(1, 8, 1))
        noise_DEL = 0.3 * rng.normal(size=(4, 8, 12))
        own_EL, *draws = np.exp(size_1E1 + noise_DEL - fall_D11 * depth_L)
        found = depth_score_beyond_draws(own_EL, draws)
        covered.append(found.low <= 0 <= found.high)
    assert np.mean(covered) >= 0.93


def test_untrained_draws_are_compared_together_and_others_alone():
    def model(rng):
        return [row("output", layer, (1 + rng.uniform(size=8)).tolist()) for layer in range(5)]

    rng = np.random.default_rng(0)
    given = model(rng)
    others = {name: model(rng) for name in ("other", "random:m", "random:m#1", "random:m#2")}
    found = {each["model"]: each for each in depth_difference_rows(given, others)}
    assert [*found] == ["other", "random:m"]
    assert found["other"]["draw_scores"] is None
    change_EL = {name: next(iter(changes(own, "output").values())) for name, own in others.items()}
    own_EL = next(iter(changes(given, "output").values()))
    draws = [change_EL[name] for name in others if name != "other"]
    assert found["random:m"]["draw_scores"] == [depth_score(each).value for each in draws]
    expected = depth_score_beyond_draws(own_EL, draws, 0.975)  # two comparisons
    assert found["random:m"]["value"] == pytest.approx(-expected.value)
    assert found["random:m"]["ci95"] == pytest.approx([-expected.high, -expected.low])
    alone = depth_score_difference(change_EL["other"], own_EL, 0.975)
    assert found["other"]["ci95"] == pytest.approx(alone.ends)

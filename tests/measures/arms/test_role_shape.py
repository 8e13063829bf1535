"""Where specialist layers stand: closed forms, and worlds in which widths do something or not."""

import math

import numpy as np
import pytest

from jaxanatomy.measures.arms import role_shape

L = 6
WIDTH_L = np.linspace(0.7, 1.3, L)


def test_centre_and_spread_by_hand():
    assert role_shape.centre([1, 1, 1, 1]) == pytest.approx(0.5)
    assert role_shape.centre([0, 0, 2]) == 1.0
    assert role_shape.centre([3, 0, 1]) == pytest.approx(0.25)
    assert role_shape.spread([2, 2, 2]) == pytest.approx(3)
    assert role_shape.spread([0, 5, 0]) == pytest.approx(1)
    assert role_shape.spread([1, 3]) == pytest.approx(4 / 3**0.75)


def test_a_slope_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    even, own = rng.random((2, L)) + 0.5
    expected = np.polyfit(WIDTH_L, own / even - 1, 1)[0]
    assert role_shape.width_slope(own, even, WIDTH_L) == pytest.approx(expected)
    assert role_shape.width_slope(even * WIDTH_L, even, WIDTH_L) == pytest.approx(1)


def test_strips_differ_where_their_distance_is_beyond_that_of_seeds():
    one, other = [["a"] * 4] * 4, [["b"] * 4] * 4
    found = role_shape.strips_differ(one, other)
    assert found == {"between": 1.0, "within": 0.0, "p": pytest.approx(2 / 70)}
    same = role_shape.strips_differ(one, one)
    assert same == {"between": 0.0, "within": 0.0, "p": 1.0}
    assert role_shape.strips_differ(one, other[:1]) == {"between": None, "within": None, "p": None}
    found = role_shape.strips_differ(["aa", "ab"], ["bb", "bb"])
    # Of the three ways to pair four strips none other has its halves so far apart.
    assert found == pytest.approx({"between": 0.75, "within": 0.25, "p": 2 / 6})
    assert role_shape.strip_distance("abca", "abbb") == 0.5


def test_strips_of_one_kind_are_told_apart_once_in_twenty():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        own, other = rng.choice(["a", "b", "c", "d"], (2, 5, L), p=[0.4, 0.3, 0.2, 0.1])
        found.append(role_shape.strips_differ(own.tolist(), other.tolist())["p"])
    assert np.mean(np.array(found) <= 0.05) <= 0.08
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_of_many_strips_some_splits_are_drawn():
    rng = np.random.default_rng(0)
    own, other = rng.choice(["a", "b"], (2, 10, L)).tolist()
    assert 0.001 < role_shape.strips_differ(own, other)["p"] <= 1


def arms(rng, effect, seeds=5):
    """CVs that rise with depth, those of wide layers more by some effect."""

    def seed(width_L):
        cv_L = np.linspace(0.3, 0.9, L) * (1 + effect * (width_L - 1))
        return np.exp(np.log(cv_L) + 0.1 * rng.normal(size=L))

    widths = {"uniform": np.ones(L), "wide_late": WIDTH_L, "wide_early": WIDTH_L[::-1]}
    return {
        arm: {
            at: {
                "reason": "",
                "roles": rng.choice(["a", "b"], L).tolist(),
                "features": {"co_magnitude_cv": seed(width_L).tolist()},
                **({} if arm == "uniform" else {"widths": width_L.tolist()}),
            }
            for at in range(seeds)
        }
        for arm, width_L in widths.items()
    }


def test_specialists_follow_widths_where_they_do():
    found = role_shape.summarise_widths(arms(np.random.default_rng(0), 0.8), "uniform")
    assert found["slope"]["low"] > 0
    assert found["slope"]["mean"] == pytest.approx(0.8, abs=0.2)
    late, early = (found["arms"][arm]["centre"] for arm in ("wide_late", "wide_early"))
    assert early["high"] < 0 < late["low"]
    assert found["arms"]["wide_late"]["widths"] == WIDTH_L.tolist()
    spread = {arm: found["arms"][arm]["spread"]["mean"] for arm in ("wide_late", "wide_early")}
    assert spread["wide_late"] < 0 < spread["wide_early"]


def test_widths_that_do_nothing_are_told_apart_once_in_twenty_for_all_figures_together():
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(150):
        found = role_shape.summarise_widths(arms(rng, 0.0), "uniform")
        all_ = [found["slope"]]
        all_ += [own[name] for own in found["arms"].values() for name in ("centre", "spread")]
        false += any(each["low"] > 0 or each["high"] < 0 for each in all_)
    assert false <= 0.08 * 150


def test_seeds_that_are_lost_count_in_no_difference():
    own = arms(np.random.default_rng(0), 0.5)
    own["wide_late"][1]["reason"] = "diverged"
    own["uniform"][2] = {"reason": "diverged"}
    found = role_shape.summarise_widths(own, "uniform")
    assert found["arms"]["wide_late"]["centre"]["seeds"] == 3
    assert found["slope"]["seeds"] == 3
    cv = "co_magnitude_cv"
    expected = np.mean(
        [
            role_shape.centre(own["wide_late"][seed]["features"][cv])
            - role_shape.centre(own["uniform"][seed]["features"][cv])
            for seed in (0, 3, 4)
        ]
    )
    assert found["arms"]["wide_late"]["centre"]["mean"] == pytest.approx(expected)


def test_without_uneven_arms_or_equal_ones_nothing_is_said():
    own = arms(np.random.default_rng(0), 0.5)
    assert role_shape.summarise_widths({"uniform": own["uniform"]}, "uniform") is None
    assert role_shape.summarise_widths({"wide_late": own["wide_late"]}, "uniform") is None
    assert not math.isnan(role_shape.summarise_widths(own, "uniform")["slope"]["mean"])

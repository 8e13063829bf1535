"""Roles over runs: when they settle, and changes beside falls of the loss, told from chance."""

import itertools
import math

import numpy as np
import pytest

from jaxanatomy.measures.arms.role_courses import (
    changes_and_falls,
    coincidence,
    commitment,
    courses_of,
    fall_interval,
    settled,
    summarise_courses,
)

LOOKS = 16


def test_roles_settle_where_they_change_for_the_last_time():
    changing = {0: "aaaa", 1: "abbb", 2: "abab", 3: "aaab"}
    rows = [
        {"kind": "role", "step": 10 * at, "layer": layer, "role": role}
        for layer, course in changing.items()
        for at, role in enumerate(course)
    ]
    assert settled(rows) == {0: 0, 1: 10, 2: 30, 3: 30}


def test_a_coincidence_is_that_of_loops():
    rng = np.random.default_rng(0)
    change_SI, fall_SI = rng.poisson(2, (4, 5)), rng.normal(size=(4, 5))

    def together(order):
        total = 0.0
        for look in range(5):
            mean = [sum(each[:, look]) / 4 for each in (change_SI, fall_SI)]
            for seed in range(4):
                own = change_SI[order[seed], look] - mean[0]
                total += own * (fall_SI[seed, look] - mean[1])
        return total

    given = together(range(4))
    as_well = [together(order) >= given - 1e-12 for order in itertools.permutations(range(4))]
    found = coincidence(change_SI.astype(float), fall_SI)
    assert found.p == pytest.approx(sum(as_well) / 24)
    assert found.least_p == pytest.approx(1 / 24)
    size = sum(
        (change_SI[:, look] - change_SI[:, look].mean()) @ change_SI[:, look] for look in range(5)
    )
    assert found.fall_percent == pytest.approx(100 * (1 - math.exp(-given / size)))


def a_world(rng, seeds, effect):
    """Changes and falls that both fade over a run, each seed with a pace of its own in either."""
    trend_I = np.exp(-np.arange(LOOKS) / 5)
    pace_2S1 = rng.gamma(20, 1 / 20, (2, seeds, 1))
    change_SI = rng.poisson(6 * trend_I * pace_2S1[0])
    fall_SI = trend_I * pace_2S1[1] * rng.gamma(10, 1 / 10, (seeds, LOOKS))
    return change_SI.astype(float), fall_SI + effect * change_SI


def test_where_nothing_happens_chance_is_as_rare_as_it_says_whatever_the_trend():
    rng = np.random.default_rng(1)
    found = [coincidence(*a_world(rng, 5, 0.0)) for _ in range(400)]
    assert np.mean([each.raw > 0.5 for each in found]) > 0.95  # the trend alone
    for level in (0.05, 0.2):
        assert np.mean([each.p <= level for each in found]) < level + 3 * math.sqrt(level / 400)


@pytest.mark.parametrize("seeds", [5, 8])
def test_a_planted_coincidence_is_found(seeds):
    rng = np.random.default_rng(2)
    found = [coincidence(*a_world(rng, seeds, 0.1)) for _ in range(40)]
    assert np.mean([each.p <= 0.05 for each in found]) > 0.9
    assert np.median([each.fall_percent for each in found]) == pytest.approx(9.5, abs=1.5)


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_intervals_of_falls_cover_what_they_say_where_nothing_happens(seeds):
    rng = np.random.default_rng(3)
    worlds = [a_world(rng, seeds, 0.0) for _ in range(600)]
    for level in (0.95, 0.99):
        found = [fall_interval(*world, level) for world in worlds]
        missed = np.mean([each.low > 0 or each.high < 0 for each in found])
        assert missed < 1 - level + 3 * math.sqrt((1 - level) / 600)
        above = np.mean([each.low > 0 for each in found])
        assert above < (1 - level) / 2 + 3 * math.sqrt((1 - level) / 2 / 600)


def test_a_planted_fall_lies_in_its_interval_and_the_value_is_that_of_the_coincidence():
    rng = np.random.default_rng(4)
    worlds = [a_world(rng, 5, 0.1) for _ in range(200)]
    found = [fall_interval(*world, 0.95) for world in worlds]
    truth = 100 * (1 - math.exp(-0.1))
    assert np.mean([each.low <= truth <= each.high for each in found]) > 0.9
    for each, world in zip(found, worlds, strict=True):
        assert each.value == pytest.approx(coincidence(*world).fall_percent)


def test_equal_seeds_say_nothing():
    found = coincidence(np.ones((3, 4)), np.ones((3, 4)))
    assert all(math.isnan(each) for each in (found.fall_percent, found.correlation, found.p))
    assert math.isnan(fall_interval(np.ones((3, 4)), np.ones((3, 4)), 0.95).value)


def looks(arm, seed, courses, losses, stage=0, first=0):
    """Rows of looks and points of a curve; `courses` has a letter of each look for each layer."""
    for at, (roles, loss) in enumerate(zip(zip(*courses, strict=True), losses, strict=True)):
        place = {
            "purpose": "main",
            "arm": arm,
            "seed": seed,
            "stage": stage,
            "step": first + 10 * at,
        }
        yield {**place, "kind": "roles", "roles": [*roles], "features": {}}
        yield {
            **place,
            "kind": "curve",
            "eval_nll": loss,
        }  # those of `developmental` have no reason


def test_a_summary_compares_looks_of_one_stage_and_of_seeds_that_go_on():
    rows = [
        *looks("lidas", 0, ("aaa", "aab"), (4.0, 2.0, 1.0)),
        *looks("lidas", 1, ("abb", "aaa"), (4.0, 1.0, 1.0)),
        # It has grown: other layers, and what the step from 4 to 2 layers does is no change.
        *looks("lidas", 0, ("aa", "bb", "cc"), (3.0, 1.0), stage=1, first=20),
        *looks("lidas", 1, ("ab", "bb", "cc"), (3.0, 1.0), stage=1, first=20),
        *looks("lidas", 2, ("abc", "abc"), (4.0, 2.0, 1.0)),
    ]
    rows[-1]["reason"] = "diverged"
    found = summarise_courses(rows)["roles"]
    assert found["settled"] == [
        {"arm": "lidas", "layer": 0, "roles": ["a", "b"], "steps": [20, 30]},
        {"arm": "lidas", "layer": 1, "roles": ["b", "b"], "steps": [20, 20]},
        {"arm": "lidas", "layer": 2, "roles": ["c", "c"], "steps": [20, 20]},
    ]
    own = found["coincidence"]
    assert (own["seeds"], own["intervals"], own["changes"]) == (2, 3, 3)
    # Deviations of changes: -1/2, 1/2, -1/2 of seed 0; of falls: half of log 2 less, more, none.
    assert own["correlation"] == pytest.approx(
        math.log(2) / math.sqrt(1.5 * math.log(2) ** 2), abs=1e-9
    )
    assert (own["p"], own["least_p"]) == (0.5, 0.5)
    assert summarise_courses([row for row in rows if row["kind"] == "curve"]) == {}
    alone = summarise_courses([row for row in rows if row["seed"] == 0])["roles"]
    assert alone["coincidence"] is None


def test_layers_are_committed_whose_role_stays_and_changes_are_counted_before_and_after():
    # A look every ten steps to 80: looks at 0 to 30 are before, intervals from 30 on after.
    courses = ("abbbbbbbb", "aabbbbbbb", "aaaaaaaab", "babababaa", "aaaabbbbb")
    rows = [row for row in looks("baseline", 0, courses, [1.0] * 9) if row["kind"] == "roles"]
    committed, fewer = commitment(rows, 0.4)
    assert committed == 2 / 5  # the last layer has its role from step 40 on
    before, after = (2 / 5, 2 / 5, 1 / 5), (2 / 5, 1 / 5, 1 / 5, 1 / 5, 1 / 5)
    assert fewer == pytest.approx(np.mean(before) - np.mean(after))
    # Roles by other features than the last look's are no changes, nor is what came before it grew.
    rows[0]["features"] = {"coupling": []}
    assert commitment(rows, 0.4)[1] == pytest.approx(np.mean(before[1:]) - np.mean(after))
    rows[1]["stage"] = 7
    rows[2]["stage"] = 7
    assert commitment(rows, 0.4) is None
    assert commitment(rows[:1], 0.4) is None


def test_changes_and_falls_are_those_of_the_summary():
    rows = [
        *looks("lidas", 0, ("aaa", "aab"), (4.0, 2.0, 1.0)),
        *looks("lidas", 1, ("abb", "aaa"), (4.0, 1.0, 1.0)),
    ]
    seeds, change_SI, fall_SI = changes_and_falls(rows, courses_of(rows))
    assert seeds == [0, 1]
    assert change_SI.tolist() == [[0, 1], [1, 0]]
    np.testing.assert_allclose(fall_SI, np.log([[2, 2], [4, 1]]))
    assert changes_and_falls(rows[:1], courses_of(rows[:1])) is None

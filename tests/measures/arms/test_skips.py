"""Where skip gates stand: ranks by hand, and worlds in which roles say something and nothing."""

import itertools

import numpy as np
import pytest

from jaxanatomy.measures.arms import skips


def row(damage, score, roles=None, most=2):
    """A seed in which what sets of layers cost is the sum of their damages."""
    sets = skips.all_sets(len(damage), most)
    return {
        "skip_roles": list(roles or ["hub"] * len(damage)),
        "skip_scores": list(score),
        "skip_whole": 3.0,
        "skip_sets": [list(own) for own in sets],
        "skip_nll": [3 + float(sum(damage[layer] for layer in own)) for own in sets],
    }


def test_all_sets_of_some_layers():
    assert skips.all_sets(3, 2) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]


def test_a_rank_is_the_share_of_sets_of_its_size_that_are_beaten():
    found = skips.ranks([(0,), (1,), (2,), (0, 1)], [5.0, 4.0, None, 1.0])
    assert found == pytest.approx([1.5 / 3, 2.5 / 3, 0.5 / 3, 0.5])


def test_orders_are_those_that_are_said():
    score = (0.1, 0.9, 0.5, 0.8, 0.2)
    own = row((5, 4, 3, 2, 1), score, ("hub", "hub", "passthrough", "hub", "passthrough"))
    other = row((1, 2, 3, 4, 5), score[::-1])
    found = skips.layer_orders([own, other])
    assert found["by_role"][0].tolist() == [2, 4, 1, 3, 0]
    assert found["by_score"][0].tolist() == [1, 3, 2, 4, 0]
    assert found["by_damage"][0].tolist() == [4, 3, 2, 1, 0]
    assert found["by_others"][0].tolist() == found["by_score"][1].tolist() == [3, 1, 2, 0, 4]
    assert "by_others" not in skips.layer_orders([own])


def test_a_placement_by_hand():
    found = skips.placements([row((5, 4, 3, 2, 1), (0.1, 0.2, 0.3, 0.4, 0.5))], 0.95)
    best = found["by_score"]
    # Of five layers and of ten pairs the cheapest one.
    assert best["share_K"] == pytest.approx([4.5 / 5, 9.5 / 10])
    assert best["cost_K"] == pytest.approx([1, 3])
    assert best["random_K"] == pytest.approx([3, 6])
    assert best["share"].value == pytest.approx((0.9 + 0.95) / 2 - 0.5)
    # Six of 120 orders begin with these two: the quantile of the null that counts is among them.
    assert best["share"].low == pytest.approx(0, abs=1e-12)
    deeper = skips.placements([row(range(6, 0, -1), range(6), most=3)], 0.95)
    assert deeper["by_score"]["share"].low > 0  # six of 720
    assert found["by_damage"]["share_K"] == best["share_K"]


def test_deals_are_all_orders_of_few_layers_and_draws_of_many():
    assert sorted(map(tuple, skips.deals(3))) == sorted(itertools.permutations(range(3)))
    many = skips.deals(12)
    assert many[0].tolist() == list(range(12))
    assert len(many) == 10_000
    assert len({tuple(own) for own in many}) > 9_990


def worlds(rng, own_place, known):
    """Five seeds; damage of layers by their place and their own, a score that knows it or not."""
    place = rng.normal(size=6)
    shown = rng.normal(size=6)
    rows = []
    for _ in range(5):
        damage = np.exp(2 * (place if own_place else rng.normal(size=6)))
        score = -damage if known else shown if own_place else rng.normal(size=6)
        rows.append(row(damage, score, most=3))
    return skips.placements(rows, 0.95)["by_score"]["share"]


@pytest.mark.parametrize("own_place", [True, False])
def test_scores_that_know_nothing_are_told_apart_once_in_twenty_even_if_seeds_agree(own_place):
    rng = np.random.default_rng(1)
    found = [worlds(rng, own_place, known=False) for _ in range(150)]
    false = np.mean([each.low > 0 or each.high < 0 for each in found])
    assert false <= 0.08
    assert np.mean([each.value for each in found]) == pytest.approx(0, abs=0.04)
    assert all(worlds(rng, own_place, known=True).low > 0 for _ in range(20))

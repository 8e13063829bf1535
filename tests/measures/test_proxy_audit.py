"""Which proxies are trusted: the statistics by themselves, and in worlds that are known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxanatomy.measures import proxy_audit
from jaxanatomy.measures.proxy_audit import (
    BETTER,
    NOT,
    TRUSTED,
    UNKNOWN,
    Agreement,
    Quantity,
    agreements,
    turns,
    weakest,
)
from jaxanatomy.measures.statistics.estimates import Estimate

LAYERS, UNITS = 30, 16


def smooth(rng, count, keep=0.7):
    """A series over depth in which neighbours are alike."""
    found = [rng.standard_normal()]
    for _ in range(count - 1):
        found.append(keep * found[-1] + np.sqrt(1 - keep**2) * rng.standard_normal())
    return np.array(found)


def of_runs(value_L, size):
    """Sums over every run of layers: neighbouring cuts share all but two of them."""
    return np.convolve(value_L, np.ones(size), "valid")


def measured(rng, value_V, noise=0.3):
    """A quantity that documents see with noise of their own."""
    count_U = rng.integers(60, 140, UNITS)
    seen_VU = value_V[:, None] + noise * rng.standard_normal((len(value_V), UNITS))
    return Quantity.of_sums(seen_VU * count_U, count_U)


def verdict_of(damage, proxy, others, apart):
    """With and without the first and the last cut, beside other proxies."""
    looks = []
    for kept_V in (slice(None), slice(1, -1)):
        is_kept_V = np.zeros(len(damage.value_V), bool)
        is_kept_V[kept_V] = True
        family = {"it": proxy, **{str(n): each for n, each in enumerate(others)}}
        kept = {name: each.at(is_kept_V) for name, each in family.items()}
        found = agreements(damage.at(is_kept_V), kept, apart)
        looks.append({name: each.verdict for name, each in found.items()})
    return {name: weakest([look[name] for look in looks]) for name in looks[0]}


def draw(seed, size, related):
    """The verdicts of a proxy that is the damage, or has nothing to do with it, and of others."""
    rng = np.random.default_rng(seed)
    damage_V = of_runs(smooth(rng, LAYERS), size)
    others = [measured(rng, of_runs(smooth(rng, LAYERS), size)) for _ in range(2)]
    others.append(Quantity(of_runs(smooth(rng, LAYERS), size)))
    value_V = damage_V if related else of_runs(smooth(rng, LAYERS), size)
    return verdict_of(measured(rng, damage_V), measured(rng, value_V), others, LAYERS // size)


def shares(size, draws, monkeypatch):
    monkeypatch.setattr(proxy_audit, "DRAWS", 400)
    nothing = [set(draw(seed, size, False).values()) for seed in range(draws)]
    true = [draw(seed, size, True)["it"] for seed in range(draws)]
    wrong = np.mean([bool(found & {TRUSTED, BETTER}) for found in nothing])
    right = np.mean([found == TRUSTED for found in true])
    return wrong, right


def test_a_proxy_is_trusted_where_it_is_the_damage_and_not_where_nothing_happens(monkeypatch):
    wrong, right = shares(1, 20, monkeypatch)
    assert wrong <= 0.1
    assert right >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("size", "least"), [(1, 0.9), (3, 0.9), (6, 0.6)])
def test_of_many_worlds_in_which_nothing_happens_chance_decides_one_in_twenty(
    size, least, monkeypatch
):
    wrong, right = shares(size, 300, monkeypatch)
    assert wrong <= 0.05 + 0.025  # two standard errors of 300 draws
    assert right >= least


def test_turns_keep_neighbours_and_are_a_group():
    found = turns(4).tolist()
    assert found[0] == [0, 1, 2, 3]
    assert found[1] == [1, 2, 3, 0]
    assert found[4] == [3, 2, 1, 0]
    assert len({tuple(order) for order in found}) == 8
    for order in found:
        steps = {abs(a - b) for a, b in itertools.pairwise(order)}
        assert steps <= {1, 3}
    composed = {tuple(np.array(one)[other]) for one in found for other in found}
    assert composed == {tuple(order) for order in found}


def test_chance_is_that_of_the_best_of_all_proxies():
    rng = np.random.default_rng(0)
    damage_V = rng.standard_normal(12)
    values = {name: rng.standard_normal(12) for name in ("a", "b")}
    found = agreements(
        Quantity(damage_V, damage_V[:, None], np.ones(1)),
        {n: Quantity(x) for n, x in values.items()},
        12,
    )
    for name, value_V in values.items():
        own = stats.spearmanr(value_V, damage_V).statistic
        as_good = 0
        for order in turns(12):
            largest = max(stats.spearmanr(x[order], damage_V).statistic for x in values.values())
            as_good += largest >= own - 1e-9
        assert found[name].correlation.value == pytest.approx(own)
        assert found[name].p == pytest.approx(as_good / 24)


def test_documents_are_drawn_for_damage_and_proxy_together():
    # Damage and proxy are the same noise: any draw of documents keeps them equal.
    rng = np.random.default_rng(1)
    both = Quantity.of_sums(rng.standard_normal((12, UNITS)), np.ones(UNITS))
    found = agreements(both, {"same": both}, 12)["same"].correlation
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    other = Quantity.of_sums(rng.permuted(both.sums_VU, axis=1), np.ones(UNITS))
    assert agreements(both, {"other": other}, 12)["other"].correlation.low < 0.9


def test_a_draw_weighs_documents_by_their_tokens():
    quantity = Quantity.of_sums([[2.0, 9.0], [4.0, 3.0]], [1, 3])
    assert quantity.value_V.tolist() == [11 / 4, 7 / 4]
    assert quantity.drawn(np.array([[2, 0], [1, 1]])).tolist() == [[2, 4], [11 / 4, 7 / 4]]
    assert Quantity(np.array([5.0, 6.0])).drawn(np.ones((2, 2))).tolist() == [[5, 6], [5, 6]]


def test_what_is_not_finite_is_the_worst_damage():
    quantity = Quantity.of_sums([[1.0, np.nan], [1.0, 2.0]], [1, 1])
    assert quantity.value_V.tolist() == [np.inf, 1.5]
    assert quantity.drawn(np.ones((1, 2))).tolist() == [[np.inf, 1.5]]


@pytest.mark.parametrize(
    ("p", "low", "verdict"),
    [
        (0.05, 0.51, TRUSTED),
        (0.05, 0.5, BETTER),
        (0.051, 0.9, NOT),
        (0.01, 0.0, NOT),
        (np.nan, 0.9, UNKNOWN),
        (0.01, np.nan, UNKNOWN),
    ],
)
def test_verdicts(p, low, verdict):
    assert Agreement(Estimate(0.95, low, 1.0), p).verdict == verdict


def test_the_weakest_look_decides():
    assert weakest([TRUSTED, BETTER]) == BETTER
    assert weakest([TRUSTED, NOT, BETTER]) == NOT
    assert weakest([UNKNOWN, TRUSTED]) == UNKNOWN


@pytest.mark.parametrize("cuts", [0, 1, 2, 9])
def test_few_cuts_decide_nothing(cuts):
    value_V = np.arange(float(cuts))
    damage = Quantity.of_sums(value_V[:, None] * np.ones(8), np.ones(8))
    found = agreements(damage, {"same": Quantity(value_V)}, cuts)["same"]
    assert found.verdict == UNKNOWN
    assert np.isnan(found.p)


def test_cuts_of_which_few_share_no_layer_decide_nothing():
    assert draw(0, 6, True)["it"] == TRUSTED
    assert set(draw(0, 7, True).values()) == {UNKNOWN}


def test_one_document_gives_no_interval_and_equal_values_no_order():
    value_V = np.arange(12.0)
    damage = Quantity.of_sums(value_V[:, None], [3])
    found = agreements(damage, {"same": Quantity(value_V), "flat": Quantity(np.ones(12))}, 12)
    assert found["same"].correlation.value == 1
    assert found["same"].verdict == found["flat"].verdict == UNKNOWN
    assert np.isnan(found["flat"].correlation.value)
    assert found["flat"].p == 1

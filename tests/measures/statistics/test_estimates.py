"""Statistics against brute-force loops, closed forms and SciPy."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import (
    Estimate,
    degradation_percent,
    effective_pairs,
    paired_difference,
    perplexity,
    ratio_intervals,
    sampling_units,
    simultaneous_intervals,
    spearman,
    spearman_interval,
    wilson_interval,
    z_score,
)


def test_perplexity():
    assert perplexity(20.0, 10) == (math.exp(2.0), None)
    assert perplexity(8000.0, 10) == (None, "a mean NLL of 800 nats overflows float64")
    assert perplexity(math.inf, 10) == (None, "the summed NLL is inf")
    assert perplexity(math.nan, 10)[0] is None
    assert perplexity(0.0, 0) == (None, "no token is predicted")


def test_degradation_is_the_ratio_of_perplexities_less_one():
    assert degradation_percent(math.log(25 / 20)) == pytest.approx(25.0, rel=1e-12)
    assert degradation_percent(0.0) == 0.0
    np.testing.assert_array_equal(degradation_percent(np.array([1000.0, -1000.0])), [np.inf, -100])


def test_units_are_documents_if_there_are_five():
    lengths = [2, 1, 200, 1, 3]
    np.testing.assert_array_equal(
        sampling_units(np.repeat([3, 4, 7, 8, 9], lengths)), np.repeat([0, 1, 2, 3, 4], lengths)
    )


def test_units_are_blocks_of_64_tokens_inside_documents_if_there_are_fewer():
    unit_P = sampling_units(np.repeat([0, 1], [130, 64]))
    np.testing.assert_array_equal(unit_P, np.repeat([0, 1, 2, 3], [64, 64, 2, 64]))


def loop_interval(sums_U, tokens_U, quantile, skewness=None):
    """Mean over tokens with its interval, by hand; Hall's g inverted by a search for its root."""
    units, total = len(tokens_U), sum(tokens_U)
    mean = sum(sums_U) / total
    residuals = [d - mean * n for d, n in zip(sums_U, tokens_U, strict=True)]
    squares = sum(value**2 for value in residuals)
    error = math.sqrt(units / (units - 1) * squares) / total
    if skewness is None:
        skewness = sum(value**3 for value in residuals) / units / (squares / units) ** 1.5
    a = skewness / math.sqrt(units)

    def hall(t):
        return t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6

    low, high = (
        scipy.optimize.brentq(lambda t, q=q: hall(t) - q, -1e3, 1e3, xtol=1e-13)
        for q in (quantile, -quantile)
    )
    return mean, mean - error * max(quantile, low), mean - error * min(-quantile, high)


# Upper 2.5 % of Student's t with 5 and 3 degrees of freedom, from a printed table.
T_5, T_3 = 2.570581835636314, 3.182446305284263


def test_ratio_intervals_are_the_loop_over_units():
    generator = np.random.default_rng(0)
    sums_VU, tokens_U = generator.normal(size=(3, 6)), np.array([3, 8, 1, 5, 9, 4])
    expected = [loop_interval(sums_U, tokens_U, T_5) for sums_U in sums_VU]
    np.testing.assert_allclose(ratio_intervals(sums_VU, tokens_U), expected, rtol=1e-12)


def test_units_of_one_length_and_no_skewness_give_students_interval_of_their_means():
    sums_U = np.random.default_rng(1).normal(size=20)
    sums_U = np.concatenate([sums_U, -sums_U]) + 3.0
    half = scipy.stats.sem(sums_U / 10) * scipy.stats.t.ppf(0.95, 39)
    ((_, low, high),) = ratio_intervals(sums_U[None], np.full(40, 10), level=0.9)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), rel=1e-6)


@pytest.mark.parametrize("intervals", [ratio_intervals, simultaneous_intervals])
class TestBothIntervals:
    def test_a_constant_shift_has_no_width(self, intervals):
        tokens_U = np.array([4, 5, 6])
        np.testing.assert_allclose(intervals(0.5 * tokens_U[None], tokens_U), [[0.5] * 3])

    def test_only_variants_that_are_not_finite_lack_one(self, intervals):
        sums_VU, tokens_U = np.random.default_rng(2).normal(size=(3, 6)), np.full(6, 4)
        clean = intervals(sums_VU[[0, 2]], tokens_U)
        sums_VU[1, 3] = np.inf
        found = intervals(sums_VU, tokens_U)
        assert np.isnan(found[1]).all()
        np.testing.assert_array_equal(found[[0, 2]], clean)
        assert np.isnan(intervals(sums_VU[[1]], tokens_U)).all()

    def test_one_unit_gives_a_value_alone(self, intervals):
        ((value, low, high),) = intervals(np.array([[8.0]]), np.array([4]))
        assert value == 2.0
        assert math.isnan(low)
        assert math.isnan(high)


def test_one_variant_alone_has_its_pointwise_interval():
    sums_VU, tokens_U = np.random.default_rng(3).normal(size=(1, 10)), np.full(10, 7)
    ((_, low, high),) = simultaneous_intervals(sums_VU, tokens_U)
    ((_, expected_low, expected_high),) = ratio_intervals(sums_VU, tokens_U)
    # The quantile is drawn: its Monte Carlo error is 2 %.
    assert high - low == pytest.approx(expected_high - expected_low, rel=0.06)


def test_a_band_does_not_hang_on_the_order_of_the_variants():
    """A run that was stopped has its rows in another order."""
    generator = np.random.default_rng(5)
    sums_VU, tokens_U = generator.normal(size=(40, 10)), generator.integers(5, 20, 10)
    order = generator.permutation(40)
    straight, mixed = (simultaneous_intervals(each, tokens_U) for each in (sums_VU, sums_VU[order]))
    np.testing.assert_allclose(mixed, straight[order], rtol=1e-9)


def test_copies_of_one_variant_need_no_wider_band_and_others_do():
    generator = np.random.default_rng(4)
    one_VU, tokens_U = generator.normal(size=(1, 10)), np.full(10, 7)
    width = lambda found: found[0, 2] - found[0, 1]  # noqa: E731
    alone = width(simultaneous_intervals(one_VU, tokens_U))
    copies = width(simultaneous_intervals(np.repeat(one_VU, 20, axis=0), tokens_U))
    others_VU = np.concatenate([one_VU, generator.normal(size=(19, 10))])
    assert copies == pytest.approx(alone, rel=0.06)  # other draws
    assert width(simultaneous_intervals(others_VU, tokens_U)) > 1.3 * alone


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_agrees_with_scipy(ties):
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(2, 25))
    if ties:
        x, y = np.round(x), np.round(y + x)
    assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


def test_spearman_of_ranks_of_infinite_and_constant_values():
    assert spearman([1.0, 2.0, math.inf], [1.0, 5.0, 9.0]) == pytest.approx(1.0, abs=1e-12)
    assert math.isnan(spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    assert math.isnan(spearman([1.0, math.nan, 1.0], [1.0, 2.0, 3.0]))


def test_spearman_interval_is_symmetric_in_fishers_z():
    x, y = np.arange(12.0), np.array([0, 3, 1, 2, 4, 7, 5, 6, 11, 8, 10, 9.0])
    found = spearman_interval(x, y, level=0.9)
    assert found.value == spearman(x, y)
    z, half = np.arctanh(found.value), 1.6448536269514722 * math.sqrt((1 + found.value**2 / 2) / 9)
    assert found.ends == pytest.approx([np.tanh(z - half), np.tanh(z + half)], rel=1e-9)


def test_few_pairs_that_agree_prove_little():
    found = spearman_interval(np.arange(5.0), np.arange(5.0))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.4
    assert spearman_interval(np.arange(3.0), np.arange(3.0)).ends is None


def test_spearman_interval_of_constant_values_is_unknown():
    assert spearman_interval([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]).ends is None


@pytest.mark.parametrize(("right", "count"), [(0, 40), (1, 1), (8, 40), (100, 100), (37, 100)])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_wilson_interval_agrees_with_scipy(right, count, level):
    found = scipy.stats.binomtest(right, count).proportion_ci(level, method="wilson")
    expected = (right / count, found.low, found.high)
    estimate = wilson_interval(right / count, count, level)
    assert dataclasses.astuple(estimate) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.123, 0.5, 1.0])
def test_the_ends_of_wilsons_interval_are_z_standard_errors_from_the_share(share):
    """The equation that it solves, at shares that are no whole number of trials, too."""
    for end in wilson_interval(share, 30).ends:
        error = math.sqrt(end * (1 - end) / 30)
        assert abs(share - end) == pytest.approx(1.959963984540054 * error, abs=1e-9)


def test_z_score():
    assert z_score(5.0, [1.0, 2.0, 3.0]) == pytest.approx(3.0, abs=1e-12)
    assert math.isnan(z_score(5.0, [2.0, 2.0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: z_score(1.0, [2.0]), "at least two null values; got 1"),
        (lambda: spearman([1.0, 2.0], [1.0]), r"got shapes \(2,\) and \(1,\)"),
        (lambda: wilson_interval(0.0, 0), "at least one trial; got 0"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def loss_row(nll_P, unit_P, variant="some"):
    return {
        "variant": variant,
        "unit_nll": [float(nll_P[unit_P == unit].sum()) for unit in range(unit_P.max() + 1)],
        "unit_tokens": np.bincount(unit_P).tolist(),
    }


def test_two_rows_compare_like_their_tokens():
    generator = np.random.default_rng(3)
    unit_P = np.sort(generator.integers(4, size=60))
    own_P, other_P = generator.normal(3, 1, 60), generator.normal(2.9, 1, 60)
    found = paired_difference(loss_row(own_P, unit_P), loss_row(other_P, unit_P))
    assert found.value == pytest.approx(own_P.mean() - other_P.mean(), rel=1e-12)
    sums_U = [(own_P - other_P)[unit_P == unit].sum() for unit in range(4)]
    expected = loop_interval(sums_U, np.bincount(unit_P), T_3)
    assert dataclasses.astuple(found) == pytest.approx(expected, rel=1e-9)


def test_rows_of_different_texts_are_not_compared():
    unit_P = np.repeat(np.arange(3), 2)
    with pytest.raises(InputError, match=r"rows of one text.*6 and 4 tokens"):
        paired_difference(loss_row(np.ones(6), unit_P), loss_row(np.ones(4), unit_P[:4]))


def test_a_loss_that_is_not_finite_has_no_difference():
    row = loss_row(np.ones(6), np.repeat(np.arange(3), 2))
    unknown = row | {"unit_nll": [None, 2.0, 2.0]}
    assert np.isnan(dataclasses.astuple(paired_difference(unknown, row))).all()


def test_an_estimate_goes_through_an_increasing_function():
    found = Estimate(0.0, -math.log(2), math.log(3)).degradation_percent()
    assert dataclasses.astuple(found) == pytest.approx((0.0, -50.0, 200.0))
    assert Estimate(0.1, -1.0, 800.0).degradation_percent().ends is None  # overflows
    assert Estimate(0.1).ends is None


def test_smooth_sequences_are_worth_fewer_pairs():
    rng = np.random.default_rng(0)
    plain_N, other_N = rng.normal(size=(2, 4000))
    assert effective_pairs(plain_N, other_N) == pytest.approx(4000, rel=0.02)
    rises = np.arange(40.0)
    rank = rises - rises.mean()
    lag = (rank[1:] @ rank[:-1] / (rank @ rank)) ** 2
    assert effective_pairs(rises, np.exp(rises)) == pytest.approx(40 * (1 - lag) / (1 + lag))
    swings = np.tile([0.0, 1.0], 20)
    assert effective_pairs(swings, rises) == 40
    whole, few = (spearman_interval(plain_N[:30], other_N[:30], pairs=n) for n in (None, 10.0))
    assert whole == spearman_interval(plain_N[:30], other_N[:30], pairs=30)
    assert few.value == whole.value
    assert few.low < whole.low < whole.high < few.high
    assert math.isnan(spearman_interval(plain_N[:30], other_N[:30], pairs=3.9).low)


def test_smooth_curves_that_mean_nothing_are_told_apart_from_chance_in_5_percent_at_most():
    rng, found = np.random.default_rng(1), {"all": 0, "worth": 0}
    for _ in range(400):
        x_N, y_N = (np.convolve(rng.normal(size=34), np.ones(5), "valid") for _ in range(2))
        for name, pairs in (("all", None), ("worth", effective_pairs(x_N, y_N))):
            estimate = spearman_interval(x_N, y_N, pairs=pairs)
            found[name] += estimate.low > 0 or estimate.high < 0
    assert found["worth"] <= 0.05 * 400
    assert found["all"] > 0.2 * 400

"""Statistics against brute-force loops, closed forms and SciPy."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics import (
    bootstrap_units,
    degradation_percent,
    paired_bootstrap,
    paired_difference,
    perplexity,
    spearman,
    spearman_interval,
    wilson_interval,
    z_score,
)


def text(lengths, variants, seed=0):
    """Random NLLs of a text: variants, baseline, document of each token."""
    generator = np.random.default_rng(seed)
    tokens = sum(lengths)
    nll_VP = generator.gamma(2.0, size=(variants, tokens)).astype(np.float32)
    baseline_P = generator.gamma(2.0, size=tokens).astype(np.float32)
    return nll_VP, baseline_P, np.repeat(np.arange(len(lengths)), lengths)


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
        bootstrap_units(np.repeat([3, 4, 7, 8, 9], lengths)), np.repeat([0, 1, 2, 3, 4], lengths)
    )


def test_units_are_blocks_of_64_tokens_inside_documents_if_there_are_fewer():
    unit_P = bootstrap_units(np.repeat([0, 1], [130, 64]))
    np.testing.assert_array_equal(unit_P, np.repeat([0, 1, 2, 3], [64, 64, 2, 64]))


def test_paired_bootstrap_is_the_loop_over_resamples():
    lengths = [3, 8, 1, 5, 9, 4]
    nll_VP, baseline_P, document_P = text(lengths, variants=3)
    found = paired_bootstrap(nll_VP, baseline_P, document_P, samples=300, seed=5)
    counts_SU = np.random.default_rng(5).multinomial(6, [1 / 6] * 6, size=300)
    for variant, interval in enumerate(found):
        draws = []
        for counts in counts_SU:
            tokens = [p for p in range(30) for _ in range(counts[document_P[p]])]
            own = [float(nll_VP[variant, p]) for p in tokens]
            draws.append(np.mean(own) - np.mean([float(baseline_P[p]) for p in tokens]))
        np.testing.assert_allclose(interval, np.percentile(draws, [2.5, 97.5]), atol=1e-12)


def test_paired_bootstrap_takes_tokens_in_any_order():
    nll_VP, baseline_P, document_P = text([3, 8, 1, 5, 9, 4], variants=2)
    order = np.random.default_rng(1).permutation(30)
    np.testing.assert_allclose(
        paired_bootstrap(nll_VP[:, order], baseline_P[order], document_P[order], samples=50),
        paired_bootstrap(nll_VP, baseline_P, document_P, samples=50),
        atol=1e-12,
    )


def test_paired_bootstrap_agrees_with_scipy():
    """Units of equal length, so the ratio of sums is a plain mean; draws differ."""
    nll_VP, baseline_P, document_P = text([10] * 40, variants=1)
    means = (nll_VP[0] - baseline_P).astype(float).reshape(40, 10).mean(1)
    expected = scipy.stats.bootstrap(
        (means,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    found = paired_bootstrap(nll_VP, baseline_P, document_P, samples=20_000)[0]
    # The Monte Carlo error of either end is about 2 % of the width.
    np.testing.assert_allclose(found, expected, atol=0.05 * (expected.high - expected.low))


def test_variants_may_come_in_portions():
    nll_VP, baseline_P, document_P = text([4] * 6, variants=150)
    whole = paired_bootstrap(nll_VP, baseline_P, document_P, samples=100)
    for variant in (0, 70, 149):
        alone = paired_bootstrap(nll_VP[variant], baseline_P, document_P, samples=100)
        np.testing.assert_array_equal(alone[0], whole[variant])


def test_a_constant_shift_has_an_interval_of_no_width():
    _, baseline_P, document_P = text([4] * 6, variants=1)
    interval = paired_bootstrap(baseline_P.astype(np.float64) + 0.5, baseline_P, document_P)[0]
    np.testing.assert_allclose(interval, [0.5, 0.5], atol=1e-12)


def test_only_variants_that_are_not_finite_lack_an_interval():
    nll_VP, baseline_P, document_P = text([4] * 6, variants=3)
    clean = paired_bootstrap(nll_VP, baseline_P, document_P)
    nll_VP[1, 7] = np.inf
    found = paired_bootstrap(nll_VP, baseline_P, document_P)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], clean[[0, 2]])
    assert np.isnan(paired_bootstrap(nll_VP[1], baseline_P, document_P)).all()


def test_one_unit_gives_no_interval():
    nll_VP, baseline_P, document_P = text([40], variants=2)
    unit_P = bootstrap_units(document_P)
    assert np.isnan(paired_bootstrap(nll_VP, baseline_P, unit_P)).all()


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


def test_spearman_interval_is_the_loop_over_resampled_pairs():
    generator = np.random.default_rng(3)
    x = generator.normal(size=15)
    y = x + generator.normal(size=15)
    rows = np.random.default_rng(7).integers(15, size=(200, 15))
    draws = [scipy.stats.spearmanr(x[row], y[row]).statistic for row in rows]
    np.testing.assert_allclose(
        spearman_interval(x, y, samples=200, seed=7), np.percentile(draws, [2.5, 97.5]), atol=1e-12
    )


def test_spearman_interval_of_constant_values_is_unknown():
    assert np.isnan(spearman_interval([1.0, 1.0], [1.0, 2.0], samples=10)).all()


@pytest.mark.parametrize(("right", "count"), [(0, 40), (1, 1), (8, 40), (100, 100), (37, 100)])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_wilson_interval_agrees_with_scipy(right, count, level):
    found = scipy.stats.binomtest(right, count).proportion_ci(level, method="wilson")
    assert wilson_interval(right / count, count, level) == pytest.approx(
        (found.low, found.high), abs=1e-12
    )


@pytest.mark.parametrize("share", [0.0, 0.123, 0.5, 1.0])
def test_the_ends_of_wilsons_interval_are_z_standard_errors_from_the_share(share):
    """The equation that it solves, at shares that are no whole number of trials, too."""
    for end in wilson_interval(share, 30):
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
        (
            lambda: paired_bootstrap(np.ones(2), np.ones(2), np.arange(2), samples=0),
            "at least one sample; got 0",
        ),
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
    unit_P = np.sort(generator.integers(9, size=60))
    own_P, other_P = generator.normal(3, 1, 60), generator.normal(2.9, 1, 60)
    difference, low, high = paired_difference(
        loss_row(own_P, unit_P), loss_row(other_P, unit_P), samples=500, seed=7
    )
    assert difference == pytest.approx(own_P.mean() - other_P.mean(), rel=1e-12)
    expected = paired_bootstrap(own_P, other_P, unit_P, samples=500, seed=7)[0]
    np.testing.assert_allclose([low, high], expected, rtol=1e-9)


def test_rows_of_different_texts_are_not_compared():
    unit_P = np.repeat(np.arange(3), 2)
    with pytest.raises(InputError, match=r"rows of one text.*6 and 4 tokens"):
        paired_difference(loss_row(np.ones(6), unit_P), loss_row(np.ones(4), unit_P[:4]))


def test_a_loss_that_is_not_finite_has_no_difference():
    row = loss_row(np.ones(6), np.repeat(np.arange(3), 2))
    unknown = row | {"unit_nll": [None, 2.0, 2.0]}
    assert np.isnan(paired_difference(unknown, row)).all()

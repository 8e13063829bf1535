"""Metrics against literal vectors, nulls against literal draws, and planted structure."""

import numpy as np
import pytest

from jaxanatomy.forensics import structure
from jaxanatomy.forensics.gram import Moments, gram

COUNT = 600


def moments_of(x_LN):
    return gram([row.reshape(20, -1) for row in x_LN])


def random_layers(number=7, seed=0, count=COUNT):
    """Layers with means and spreads of their own, and some resemblance."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=count)
    return np.stack(
        [0.2 * k + (1 + 0.3 * k) * rng.normal(size=count) + 0.5 * common for k in range(number)]
    )


def naive_delta_correlation(x_LN, lag):
    delta = [x_LN[k + 1] - x_LN[k] for k in range(len(x_LN) - 1)]
    pairs = range(len(delta) - lag)
    return [np.corrcoef(delta[k], delta[k + lag])[0, 1] for k in pairs]


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_delta_correlation_is_that_of_literal_deltas(lag):
    x_LN = random_layers()
    found = structure.delta_correlation(moments_of(x_LN), lag)
    np.testing.assert_allclose(found, naive_delta_correlation(x_LN, lag), atol=1e-10)


def test_cosine_is_that_of_literal_vectors():
    x_LN = random_layers()
    unit = x_LN / np.linalg.norm(x_LN, axis=1, keepdims=True)
    expected = unit @ unit.T
    np.testing.assert_allclose(structure.cosine(moments_of(x_LN)), expected, atol=1e-10)
    pairs = [expected[k, j] for k in range(7) for j in range(k + 1, 7)]
    assert structure.mean_cosine(moments_of(x_LN)) == pytest.approx(np.mean(pairs), abs=1e-10)


def naive_pca_shares(x_LN):
    """Explained variance ratios as scikit-learn's PCA has them, from an SVD."""
    singular = np.linalg.svd(x_LN - x_LN.mean(0), compute_uv=False)
    return singular**2 / (singular**2).sum()


def test_pca_shares_are_those_of_an_svd_of_the_data():
    x_LN = random_layers()
    found = structure.pca_shares(moments_of(x_LN))
    np.testing.assert_allclose(found, naive_pca_shares(x_LN), atol=1e-10)
    assert found[-1] == pytest.approx(0, abs=1e-12)


def test_effective_rank_counts_even_shares():
    shares = np.array([[0.25, 0.25, 0.25, 0.25, 0], [1, 0, 0, 0, 0], [0.5, 0.25, 0.25, 0, 0]])
    found = structure.effective_rank(shares)
    np.testing.assert_allclose(found, [4, 1, 2**1.5], atol=1e-12)


def test_readings_of_draws_are_those_of_each_draw():
    many = [moments_of(random_layers(seed=seed)) for seed in range(3)]
    stacked = Moments(np.stack([m.gram_LL for m in many]), np.stack([m.sum_L for m in many]), COUNT)
    together = structure.order_readings(stacked)
    together |= structure.other_readings(stacked, structure.pca_shares(stacked))
    assert list(together) == list(structure.METRICS)
    for index, one in enumerate(many):
        alone = structure.order_readings(one)
        alone |= structure.other_readings(one, structure.pca_shares(one))
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][index], value, atol=1e-12)


def readings_of(x_LN, initial=None, samples=400, seed=0):
    found = structure.analyse(moments_of(x_LN), initial, samples, seed)
    return {(r.metric, r.layer, r.null): r for r in found.readings}


def test_closed_forms_are_their_formulas():
    x_LN = random_layers()
    found = readings_of(x_LN)
    s2, mean, norm = x_LN.var(1), x_LN.mean(1), np.linalg.norm(x_LN, axis=1)
    expected = [
        -s2[k + 1] / np.sqrt((s2[k] + s2[k + 1]) * (s2[k + 1] + s2[k + 2])) for k in range(5)
    ]
    for layer, value in enumerate(expected):
        reading = found["delta_correlation", layer, "closed_form"]
        assert reading.null_value == pytest.approx(value, abs=1e-10)
        assert (reading.null_low, reading.null_high, reading.z) == (None, None, None)
    average = found["delta_correlation", None, "closed_form"].null_value
    assert average == pytest.approx(np.mean(expected), abs=1e-10)
    for layer in (None, 0, 1, 2, 3):
        lag2 = found["lag2_delta_correlation", layer, "closed_form"].null_value
        assert lag2 == pytest.approx(0, abs=1e-12)
    pairs = [
        COUNT * mean[k] * mean[j] / (norm[k] * norm[j]) for k in range(7) for j in range(k + 1, 7)
    ]
    cosine = found["mean_cosine", None, "closed_form"].null_value
    assert cosine == pytest.approx(np.mean(pairs), abs=1e-10)


def test_equal_variances_give_minus_one_half_to_the_last_digit():
    even = Moments(np.eye(9) * 40.0, np.zeros(9), 10)
    found = structure.delta_correlation(even.independent())
    np.testing.assert_allclose(found, [-0.5] * 7, rtol=1e-15)


@pytest.mark.parametrize("count", [3, 6, 7, 40])
def test_gaussian_moments_have_the_law_of_literal_draws(count):
    """Mean and spread of every entry, and of a metric, within their sampling errors."""
    draws, rng = 40_000, np.random.default_rng(5)
    x_LN = random_layers(5, count=20 * 9)[:, :count]
    moments = Moments(x_LN @ x_LN.T, x_LN.sum(1), count)
    drawn = structure.gaussian_moments(moments, draws, rng)
    mean, std = x_LN.mean(1)[:, None], x_LN.std(1)[:, None]
    y_SLN = mean + std * rng.standard_normal((draws, 5, count))
    literal = Moments(y_SLN @ y_SLN.swapaxes(1, 2), y_SLN.sum(2), count)
    assert_same_law(drawn.sum_L, literal.sum_L)
    assert_same_law(drawn.gram_LL, literal.gram_LL)
    assert_same_law(structure.delta_correlation(drawn), structure.delta_correlation(literal))
    assert_same_law(structure.pca_shares(drawn)[:, :2], structure.pca_shares(literal)[:, :2])


def assert_same_law(a_S, b_S):
    """Means and mean squares agree within five standard errors."""
    for power in (1, 2):
        a, b = a_S**power, b_S**power
        error = np.sqrt((a.var(0) + b.var(0)) / len(a))
        assert (np.abs(a.mean(0) - b.mean(0)) <= 5 * error + 1e-12).all()


def test_random_orders_are_permutations_and_all_come_up():
    orders = structure.random_orders(3, 600, np.random.default_rng(0))
    found, numbers = np.unique(orders, axis=0, return_counts=True)
    assert len(found) == 6
    assert (np.sort(orders, axis=1) == np.arange(3)).all()
    assert numbers.min() > 60


def test_shuffled_layers_are_the_metric_of_layers_in_other_orders():
    """Four layers have 24 orders; many draws come near the mean and the ends of them all."""
    import itertools

    x_LN = random_layers(4)
    x_LN[2] += 3 * x_LN[1]
    every = [
        np.mean(naive_delta_correlation(x_LN[list(order)], 1))
        for order in itertools.permutations(range(4))
    ]
    reading = readings_of(x_LN, samples=20_000)["delta_correlation", None, "shuffled_layers"]
    assert reading.null_value == pytest.approx(np.mean(every), abs=5 * np.std(every) / 140)
    assert reading.null_low == pytest.approx(min(every), abs=1e-10)
    assert reading.null_high == pytest.approx(max(every), abs=1e-10)
    expected = (reading.value - np.mean(every)) / np.std(every)
    assert reading.z == pytest.approx(expected, abs=0.05)


def test_a_z_score_counts_the_standard_deviations_of_a_sample():
    x_LN, rng = random_layers(5), np.random.default_rng(4)
    found = readings_of(x_LN, samples=3, seed=4)
    reading = found["delta_correlation", None, "shuffled_layers"]
    structure.gaussian_moments(moments_of(x_LN), 3, rng)  # drawn first
    orders = structure.random_orders(5, 3, rng)
    drawn = [np.mean(naive_delta_correlation(x_LN[order], 1)) for order in orders]
    spread = np.sqrt(np.square(drawn - np.mean(drawn)).sum() / 2)
    assert reading.z == pytest.approx((reading.value - np.mean(drawn)) / spread, rel=1e-9)
    assert {each.z for each in readings_of(x_LN, samples=1).values()} == {None}


def test_standardised_and_random_init_are_the_metric_of_those_layers():
    x_LN, other = random_layers(), random_layers(seed=1)
    z_LN = (x_LN - x_LN.mean(1, keepdims=True)) / x_LN.std(1, keepdims=True)
    found = readings_of(x_LN, initial=moments_of(other))
    for null, data in (("standardised", z_LN), ("random_init", other)):
        expected = {
            "delta_correlation": np.mean(naive_delta_correlation(data, 1)),
            "lag2_delta_correlation": np.mean(naive_delta_correlation(data, 2)),
            "pca_top1": naive_pca_shares(data)[0],
            "pca_top5": naive_pca_shares(data)[:5].sum(),
        }
        for metric, value in expected.items():
            reading = found[metric, None, null]
            assert reading.null_value == pytest.approx(value, abs=1e-10)
            assert reading.z is None


def test_each_metric_has_its_nulls():
    found = readings_of(random_layers(), initial=moments_of(random_layers(seed=1)))
    nulls = {}
    for metric, _, null in found:
        nulls.setdefault(metric, set()).add(null)
    everything = set(structure.NULLS)
    assert nulls == {
        **dict.fromkeys(structure.ORDER_METRICS, everything),
        "mean_cosine": everything - {"shuffled_layers"},
        **dict.fromkeys(
            ("pca_top1", "pca_top5", "pca_effective_rank"),
            everything - {"shuffled_layers", "closed_form"},
        ),
    }
    layers = {layer for metric, layer, _ in found if metric == "delta_correlation"}
    assert layers == {None, 0, 1, 2, 3, 4}
    assert not any(null == "random_init" for _, _, null in readings_of(random_layers()))


class TestPlanted:
    """What the metric would look like if the paper's claim held, and what it looks like here."""

    def noise(self, number=12, seed=0):
        return np.random.default_rng(seed).normal(size=(number, 2_000))

    def test_independent_layers_are_inside_the_nulls(self):
        found = readings_of(self.noise())
        for null in ("gaussian", "shuffled_layers"):
            reading = found["delta_correlation", None, null]
            assert reading.value == pytest.approx(-0.5, abs=0.01)
            assert reading.null_low < reading.value < reading.null_high
            assert abs(reading.z) < 3

    def test_an_oscillation_is_far_below_minus_one_half(self):
        sign = (-1.0) ** np.arange(12)[:, None]
        x_LN = self.noise() + 2 * sign * self.noise(1, seed=1)
        found = readings_of(x_LN)
        for null in ("gaussian", "shuffled_layers"):
            reading = found["delta_correlation", None, null]
            assert reading.value < -0.85
            assert reading.value < reading.null_low
            assert reading.z < -4
        assert found["lag2_delta_correlation", None, "gaussian"].z > 50
        assert found["pca_top1", None, "gaussian"].z > 50

    def test_a_random_walk_has_none(self):
        found = readings_of(self.noise().cumsum(0))
        assert found["delta_correlation", None, "closed_form"].value == pytest.approx(0, abs=0.02)
        for null in ("gaussian", "shuffled_layers"):
            reading = found["delta_correlation", None, null]
            assert reading.value > reading.null_high
            assert reading.z > 3

    def test_a_trend_of_scale_alone_is_explained_by_the_closed_form(self):
        """Growing layers move the figure off -0.5 though no layer resembles another."""
        found = readings_of(self.noise() * 1.5 ** np.arange(12)[:, None])
        reading = found["delta_correlation", None, "gaussian"]
        expected = -1 / (1.5 + 1 / 1.5)  # -0.4615
        assert reading.value == pytest.approx(expected, abs=0.015)
        closed = found["delta_correlation", None, "closed_form"].null_value
        assert closed == pytest.approx(expected, abs=0.005)
        assert abs(reading.z) < 3
        standardised = found["delta_correlation", None, "standardised"].null_value
        assert standardised == pytest.approx(-0.5, abs=0.015)


class TestUndefined:
    def test_equal_layers_have_no_delta_and_the_mean_leaves_them_out(self):
        x_LN = random_layers().astype(np.float32)
        x_LN[3] = x_LN[2]
        found = readings_of(x_LN)
        values = [found["delta_correlation", k, "gaussian"].value for k in range(5)]
        assert [value is None for value in values] == [False, True, True, False, False]
        mean = found["delta_correlation", None, "gaussian"].value
        expected = [naive_delta_correlation(x_LN[list(at)], 1)[0] for at in ((0, 1, 2), (3, 4, 5))]
        expected.append(naive_delta_correlation(x_LN[[4, 5, 6]], 1)[0])
        assert mean == pytest.approx(np.mean(expected), abs=1e-6)
        assert found["delta_correlation", 1, "gaussian"].z is None

    def test_what_differs_by_rounding_only_is_equal(self):
        x_LN = random_layers()
        x_LN[3] = x_LN[2] * (1 + 1e-9)
        value = readings_of(x_LN)["delta_correlation", 1, "gaussian"].value
        assert value is None

    @pytest.mark.parametrize("fill", [0.0, 0.1], ids=["zeros", "constant"])
    def test_a_model_without_spread_gives_no_numbers_and_no_warnings(self, fill):
        found = readings_of(np.full((5, COUNT), fill, np.float32))
        for reading in found.values():
            if reading.metric != "mean_cosine":
                assert (reading.value, reading.z) == (None, None)
        cosine = found["mean_cosine", None, "closed_form"].value
        assert cosine is None if fill == 0 else cosine == pytest.approx(1)


def test_the_same_seed_gives_the_same_readings():
    x_LN = random_layers()
    assert readings_of(x_LN, seed=[3, 1]) == readings_of(x_LN, seed=[3, 1])
    assert readings_of(x_LN, seed=[3, 1]) != readings_of(x_LN, seed=[3, 2])

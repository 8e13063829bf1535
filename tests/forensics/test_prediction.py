"""Predicting layers from earlier ones, against least squares written out and planted cases."""

import dataclasses

import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.forensics import prediction
from jaxanatomy.forensics.prediction import READINGS, ridge_weights

L = 9


def features(layer, num_layers):
    angle = layer * np.pi / num_layers
    return np.array([layer, layer**2, np.sin(angle), np.cos(angle)])


def ridge_by_least_squares(fitted, values, target, num_layers, penalty):
    """Ridge as ordinary least squares with rows sqrt(penalty) for each slope, none for the
    intercept; predicts a list of values."""
    X = np.array([[1.0, *features(layer, num_layers)] for layer in fitted])
    rows = np.sqrt(penalty) * np.eye(5)[1:]
    zeros = np.zeros((4, values.shape[1]))
    beta = np.linalg.lstsq(np.vstack([X, rows]), np.vstack([values, zeros]), rcond=None)[0]
    return np.array([1.0, *features(target, num_layers)]) @ beta


def r2(actual, predicted):
    return 1 - ((actual - predicted) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def naive(reading, values, penalty=1.0):
    """Scores of each target, one regression at a time."""
    scores = []
    for t in range(2, len(values)):
        fitted = range(t + 1) if reading == "target_included" else range(t)
        targets = fitted if reading == "in_sample" else [t]
        predicted = np.array(
            [
                ridge_by_least_squares(fitted, values[: len(fitted)], target, len(values), penalty)
                for target in targets
            ]
        )
        actual = values[list(targets)]
        scores.append((r2(actual, predicted), cosine(actual, predicted)))
    return np.array(scores).T


@pytest.fixture(scope="module")
def values():
    """Layers that drift: a shared part, a trend and noise, with a mean away from zero."""
    rng = np.random.default_rng(3)
    trend = np.linspace(-0.3, 1, L)[:, None]
    noise = rng.normal(0, 0.5, (L, 40))
    return 0.2 + rng.normal(size=40) + trend * rng.normal(size=40) + noise


@pytest.mark.parametrize("penalty", [1.0, 1e-6, 50.0])
@pytest.mark.parametrize(
    ("fitted", "target"), [(range(2), 2), (range(8), 8), (range(9), 8), ([1, 4, 5], 2), ([3], 7)]
)
def test_ridge_weights_are_those_of_augmented_least_squares(fitted, target, penalty):
    weights = ridge_weights(fitted, target, 30, penalty)
    unit = np.eye(len(fitted))
    expected = ridge_by_least_squares(fitted, unit, target, 30, penalty)
    np.testing.assert_allclose(weights, expected, rtol=1e-7, atol=1e-7)
    assert weights.dtype == np.float64
    assert weights.sum() == pytest.approx(1, abs=1e-9)


def test_a_single_layer_predicts_itself():
    assert ridge_weights([3], 7, 30).tolist() == [1.0]


@pytest.mark.parametrize("reading", ["extrapolate", "in_sample", "target_included"])
def test_readings_are_regressions_written_out(values, reading):
    scores = READINGS[reading](values)
    expected = naive(reading, values)
    np.testing.assert_allclose(scores.r2_T, expected[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scores.cosine_T, expected[1], rtol=1e-9, atol=1e-9)
    assert scores.r2_T.shape == scores.cosine_T.shape == (L - 2,)


@pytest.mark.parametrize(("reading", "penalty"), [("sorted", 1.0), ("sorted_weak", 1e-6)])
def test_sorted_readings_extrapolate_the_order_statistics(values, reading, penalty):
    scores = READINGS[reading](values)
    expected = naive("extrapolate", np.sort(values, axis=1), penalty)
    np.testing.assert_allclose([scores.r2_T, scores.cosine_T], expected, rtol=1e-7, atol=1e-7)


def test_statistics_extrapolate_nine_numbers(values):
    quantiles = [np.quantile(values, q, axis=1) for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)]
    table = np.stack([values.mean(1), values.std(1), *quantiles], axis=1)
    scores = READINGS["statistics"](values)
    np.testing.assert_allclose(
        [scores.r2_T, scores.cosine_T], naive("extrapolate", table), rtol=1e-9, atol=1e-9
    )


def test_a_planted_trend_is_found_and_its_noise_is_not():
    rng = np.random.default_rng(0)
    layer = np.arange(12.0)[:, None]
    values = rng.normal(size=500) + layer * rng.normal(size=500)
    extrapolate = dataclasses.replace(READINGS["extrapolate"], penalty=1e-9)
    found = extrapolate(values)
    # Four features share a trend of one dimension out: exact from the fourth target on.
    assert found.r2_T[3:].min() > 1 - 1e-6
    null = extrapolate(prediction.gaussian_like(values, rng))
    assert null.r2_T[3:].max() < 0


def test_independent_layers_lie_inside_their_null():
    rng = np.random.default_rng(1)
    values = rng.normal(0.1, 0.5, (14, 2_000)) * np.linspace(1, 2, 14)[:, None]
    for name, reading in READINGS.items():
        null = [reading(prediction.gaussian_like(values, rng)).r2_T.mean() for _ in range(40)]
        distance = abs(reading(values).r2_T.mean() - np.mean(null))
        assert distance < 3.5 * np.std(null, ddof=1), name


def test_a_null_keeps_mean_and_deviation_of_each_layer():
    rng = np.random.default_rng(2)
    values = rng.laplace(size=(4, 50_000)) * np.array([[1], [2], [3], [4]]) + 0.5
    null = prediction.gaussian_like(values, rng)
    np.testing.assert_allclose(null.mean(1), values.mean(1), atol=0.1)
    np.testing.assert_allclose(null.std(1), values.std(1), rtol=0.02)
    kurtosis = (((null - null.mean(1, keepdims=True)) / null.std(1, keepdims=True)) ** 4).mean(1)
    np.testing.assert_allclose(kurtosis, 3, atol=0.2)  # Gaussian, not Laplacian (6)
    assert abs(np.corrcoef(null)[0, 1]) < 0.02


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_a_layer_that_does_not_vary_has_no_r2(values, constant):
    flat = values.copy()
    flat[4] = constant
    scores = READINGS["extrapolate"](flat)
    assert np.flatnonzero(np.isnan(scores.r2_T)).tolist() == [2]
    assert np.flatnonzero(np.isnan(scores.cosine_T)).tolist() == [2]


class TestSamples:
    @pytest.fixture
    def blocks(self):
        paths = [f"attention/{name}/kernel" for name in tree.ATTENTION]
        paths += [f"mlp/{name}/kernel" for name in tree.MLP]
        kernel = np.arange(30).reshape(6, 5)
        return [
            tree.from_leaves({path: 100.0 * layer + kernel for path in paths}) for layer in range(3)
        ]

    def test_every_layer_gives_the_same_positions_once(self, blocks):
        found = prediction.sample_component(blocks, "q_proj", 12, seed=0)
        assert found.shape == (3, 12)
        assert found.dtype == np.float64
        assert len(set(found[0])) == 12
        assert set(found[0]) < set(range(30))
        np.testing.assert_array_equal(found[2], found[0] + 200)

    def test_the_sample_is_of_a_component_and_a_seed(self, blocks):
        """Decided here and nowhere else, so that a run and a notebook read the same."""
        for component, seed in (("q_proj", 0), ("q_proj", 1), ("down_proj", 1)):
            found = prediction.sample_component(blocks, component, 12, seed)
            place = np.random.default_rng([seed, tree.MATRICES.index(component)])
            expected = np.sort(place.choice(30, 12, replace=False))
            np.testing.assert_array_equal(found[1], 100 + expected)

    @pytest.mark.parametrize("samples", [30, 10_000])
    def test_a_small_matrix_gives_all_its_parameters(self, blocks, samples):
        found = prediction.sample_component(blocks, "q_proj", samples, seed=0)
        np.testing.assert_array_equal(found[1], 100 + np.arange(30))


class TestBadInput:
    @pytest.mark.parametrize("reading", READINGS)
    def test_three_layers_are_too_few(self, reading):
        with pytest.raises(InputError, match="at least 4 layers; got 3"):
            READINGS[reading](np.ones((3, 5)))

    @pytest.mark.parametrize("penalty", [0, -1.0, float("nan")])
    def test_a_penalty_is_above_zero(self, penalty):
        with pytest.raises(InputError, match="penalty of ridge regression must be above 0; got"):
            ridge_weights([0, 1], 2, 4, penalty)

    def test_a_fit_needs_a_layer(self):
        with pytest.raises(InputError, match="at least one fitted layer; got none"):
            ridge_weights([], 2, 4)

"""Features of a layer against literal numbers, invariances, and planted effects."""

import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.forensics import layer_features as lf
from jaxanatomy.forensics.alignment import Alignment, apply_alignment
from jaxanatomy.forensics.spectra import power_law, singular_values
from jaxanatomy.weights.random_init import random_params

CONFIG = ModelConfig.uniform(1, 4, 2, 48, vocab_size=8, hidden_size=32, head_dim=8)


@pytest.fixture
def block():
    return random_params(CONFIG, np.float32, seed=1)["layers"][0]


def with_matrix(block, name, array):
    return tree.replace(block, {name: np.asarray(array, np.float32)})


@pytest.mark.parametrize("shape", [(7, 7), (5, 30), (30, 5)])
def test_singular_values_are_those_of_a_decomposition(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    expected = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(singular_values(matrix), expected, rtol=1e-10)


def test_features_of_a_matrix_by_hand():
    found = lf.matrix_features(np.diag([4.0, 2.0, 2.0, 0.0]))
    share = np.array([0.5, 0.25, 0.25])
    assert found["effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert (found["spectral_norm"], found["largest_weight"]) == (4.0, 4.0)
    assert found["frobenius_norm"] == pytest.approx(np.sqrt(24))
    zero = lf.matrix_features(np.zeros((3, 4)))
    assert np.isnan([zero["effective_rank"], zero["alpha"]]).all()
    assert zero["spectral_norm"] == 0


def test_a_power_law_is_found_with_its_error_and_where_it_begins():
    rng = np.random.default_rng(3)
    tail = (1 - rng.random(4000)) ** (-1 / 1.5)  # alpha 2.5 from 1 on
    found = power_law(np.concatenate([tail, rng.uniform(0.2, 1.0, 2000)]))
    assert found.alpha == pytest.approx(2.5, abs=4 * found.error)
    assert found.error == pytest.approx((found.alpha - 1) / np.sqrt(found.tail))
    assert 0.9 < found.least < 1.5
    assert found.distance < 0.03


def test_an_exponent_is_the_naive_one():
    values = np.sort(np.random.default_rng(4).lognormal(size=60))
    best, alphas = (np.inf,), {}
    for start in range(59):
        tail, n = values[start:], 60 - start
        alpha = alphas[n] = 1 + n / sum(np.log(x / tail[0]) for x in tail)
        law = [1 - (x / tail[0]) ** (1 - alpha) for x in tail]
        best = min(best, (max(abs(law[i] - i / n) for i in range(n)), alpha, tail[0], n))
    found = power_law(values[::-1])
    assert (found.distance, found.alpha, found.least) == pytest.approx(best[:3], rel=1e-10)
    assert found.tail == best[3]
    near = [alpha for n, alpha in alphas.items() if found.tail / 2 <= n <= 2 * found.tail]
    assert found.span == pytest.approx(max(near) - min(near), rel=1e-10)
    assert found.span > found.error  # of no power law the cut decides more than the fit


@pytest.mark.parametrize("values", [[0, 0, 0], [1, 1, 1, 1], [3, 0, 0]])
def test_a_spectrum_without_a_tail_has_no_exponent(values):
    assert np.isnan(power_law(np.array(values)).alpha)


def test_one_giant_neuron_hides_the_saturated_ones_from_the_plain_count(block):
    gate = np.array(tree.get(block, "gate_proj"))
    gate[:, :4] *= 6
    several = lf.neuron_features(with_matrix(block, "gate_proj", gate))
    gate[:, 0] *= 100
    giant = lf.neuron_features(with_matrix(block, "gate_proj", gate))
    assert (several["saturated_robust"], giant["saturated_robust"]) == (4, 4)
    assert giant["saturated"] == 1
    size_F = [
        np.linalg.norm(gate[:, p]) * np.linalg.norm(tree.get(block, "up_proj")[:, p])
        for p in range(48)
    ]
    assert giant["co_magnitude_cv"] == pytest.approx(np.std(size_F) / np.mean(size_F))
    assert giant["peak_over_mean"] == pytest.approx(max(size_F) / np.mean(size_F))
    assert giant["peak_robust"] > 100 > several["peak_robust"]


def test_a_profile_without_spread_has_no_robust_peak(block):
    ones = np.ones((32, 48))
    flat = with_matrix(with_matrix(block, "gate_proj", ones), "up_proj", ones)
    found = lf.neuron_features(flat)
    assert np.isnan(found["peak_robust"])
    assert (found["saturated"], found["saturated_robust"], found["co_magnitude_cv"]) == (0, 0, 0)


def test_groups_of_neurons_are_found_in_any_order(block):
    size_F = 50.0 ** (np.arange(48) % 2)
    gate, up, down = (np.array(tree.get(block, name)) for name in tree.MLP)
    planted = {
        "gate_proj": gate * size_F,
        "up_proj": up * size_F,
        "down_proj": down * size_F[:, None],
    }
    grouped = tree.replace(block, planted)
    label_F = lf.cluster_neurons(grouped)
    kinds = [set(label_F[start::2].tolist()) for start in range(2)]
    assert sum(map(len, kinds)) == len(set.union(*kinds))
    order_F = np.random.default_rng(0).permutation(48)
    moved = apply_alignment(grouped, Alignment(order_F, np.arange(2), np.arange(4)), 8)
    again_F = lf.cluster_neurons(moved)
    pairs = set(zip(label_F[order_F].tolist(), again_F.tolist(), strict=True))
    assert len(pairs) == len(set(label_F.tolist()))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(32, 32)))[0]
    turned = {name: turn @ planted[name] for name in ("gate_proj", "up_proj")}
    turned = tree.replace(grouped, turned | {"down_proj": planted["down_proj"] @ turn.T})
    np.testing.assert_array_equal(lf.cluster_neurons(turned), label_F)


def test_shares_of_attention_by_hand(block):
    ones = {name: np.full(tree.get(block, name).shape, 2.0) for name in tree.MATRICES}
    found = lf.layer_features(tree.replace(block, ones), 8)
    sizes = {name: array.size for name, array in ones.items()}
    attention = sum(sizes[name] for name in tree.ATTENTION)
    share = attention / sum(sizes.values())
    assert found["", "attention_share_energy"] == pytest.approx(share)
    assert found["", "attention_share_parameters"] == pytest.approx(share)
    norms = {name: np.sqrt(size) for name, size in sizes.items()}
    by_norm = sum(norms[name] for name in tree.ATTENTION) / sum(norms.values())
    assert found["", "attention_share_norm"] == pytest.approx(by_norm)
    assert found["", "attention_imbalance"] == pytest.approx(abs(share - 0.5))
    assert found["", "down_over_gate_up"] == pytest.approx(1.0)


def test_scales_by_hand_and_a_mean_that_is_near_0_divides_nothing():
    found = lf.norm_features(np.array([1.0, -1.0, 1.0, -1.0, 0.25, 1.0]))
    assert found["gamma_mean"] == pytest.approx(5.25 / 6)
    values = np.array([1.0, -1.0, 1.0, -1.0, 0.25, 1.0])
    assert found["gamma_concentration"] == pytest.approx(values.std() / (5.25 / 6))
    assert found["damped_share"] == pytest.approx(1 / 6)
    assert np.isnan(lf.norm_features(np.zeros(4))["gamma_concentration"])


def test_heads_are_known_by_where_they_read_and_write_whatever_rotates_inside(block):
    prints_HK = lf.fingerprints(block, 8)
    np.testing.assert_allclose((prints_HK**2).sum(axis=1), 1.0)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    q, o = np.array(tree.get(block, "q_proj")), np.array(tree.get(block, "o_proj"))
    q[:, :8] = q[:, :8] @ turn
    o[:8] = turn.T @ o[:8]
    turned = with_matrix(with_matrix(block, "q_proj", q), "o_proj", o)
    np.testing.assert_allclose(lf.fingerprints(turned, 8), prints_HK, atol=1e-6)
    for head in (1, 2, 3):
        q[:, 8 * head : 8 * head + 8], o[8 * head : 8 * head + 8] = q[:, :8], o[:8]
    alike = with_matrix(with_matrix(block, "q_proj", q), "o_proj", o)
    same = lf.head_features(alike, 8)
    assert same["head_diversity"] == pytest.approx(0.0, abs=1e-6)
    assert same["head_spread"] == pytest.approx(0.0, abs=1e-6)
    assert lf.head_features(block, 8)["head_diversity"] > 0.8
    assert np.isnan(lf.head_features(block, 32)["head_diversity"])
    q[:, :8], o[:8] = 3 * q[:, :8], 3 * o[:8]
    loud = lf.head_features(with_matrix(with_matrix(block, "q_proj", q), "o_proj", o), 8)
    assert loud["head_spread"] == pytest.approx(np.std([3, 1, 1, 1]) / 1.5, rel=1e-5)


def test_a_layer_has_every_feature(block):
    found = lf.layer_features(block, 8)
    assert found.keys() == {
        *((name, metric) for name in tree.MATRICES for metric in lf.MATRIX_FEATURES),
        *((name, metric) for name in tree.NORMS for metric in lf.NORM_FEATURES),
        *(("", metric) for metric in lf.LAYER_FEATURES),
    }
    assert np.isfinite(list(found.values())).all()

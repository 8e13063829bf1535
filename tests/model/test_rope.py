"""RoPE is a rotation of complex numbers; Llama 3 slows its low frequencies."""

import dataclasses
import math
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy import weights
from jaxanatomy.config import Llama3RopeScaling, ModelConfig
from jaxanatomy.model import rope

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "llama3_rope"
CONFIG = ModelConfig.uniform(
    num_layers=1,
    num_heads=3,
    num_kv_heads=1,
    ffn_width=8,
    vocab_size=10,
    hidden_size=12,
    head_dim=8,
    rope_theta=10_000.0,
)
LLAMA3 = Llama3RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=1024
)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rotated(x_BTHd, position_BT, config=CONFIG):
    return np.asarray(rope.rotate(jnp.asarray(x_BTHd), rope.tables(config, position_BT)))


def test_features_i_and_i_plus_half_rotate_as_a_complex_number():
    x_BTHd, position_BT = random(2, 5, 3, 8), np.array([[0, 1, 2, 3, 4], [7, 100, 0, 2, 31]])
    first, second = np.split(x_BTHd.astype(np.float64), 2, axis=-1)
    frequency = np.array([1.0, 0.1, 0.01, 0.001])  # 10,000 to the power -2i / 8
    angle = position_BT[:, :, None, None] * frequency
    turned = (first + 1j * second) * np.exp(1j * angle)
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(rotated(x_BTHd, position_BT), expected, rtol=0, atol=1e-5)


def test_position_0_is_left_alone():
    x_BTHd = random(1, 4, 3, 8)
    np.testing.assert_array_equal(rotated(x_BTHd, np.zeros((1, 4), int)), x_BTHd)


def test_scores_depend_on_the_distance_only():
    q, k = random(1, 1, 1, 8, seed=1), random(1, 1, 1, 8, seed=2)

    def score(query_at, key_at):
        return float((rotated(q, np.array([[query_at]])) * rotated(k, np.array([[key_at]]))).sum())

    for distance in (0, 1, 5):
        near = score(distance, 0)
        assert score(distance + 13, 13) == pytest.approx(near, abs=1e-5)
        assert score(distance + 40, 40) == pytest.approx(near, abs=1e-5)
    assert abs(score(5, 0) - score(0, 5)) > 0.1  # and on its sign
    assert abs(score(5, 0) - score(1, 0)) > 0.1


def test_the_sine_of_the_first_half_is_negative():
    cos_BTd, sin_BTd = rope.tables(CONFIG, np.array([[1, 3]]))
    angle = np.array([[1.0, 0.1, 0.01, 0.001], [3.0, 0.3, 0.03, 0.003]])
    np.testing.assert_allclose(cos_BTd[0], np.cos(np.tile(angle, 2)), rtol=0, atol=1e-6)
    signed = np.concatenate([-np.sin(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(sin_BTd[0], signed, rtol=0, atol=1e-6)
    assert cos_BTd.dtype == sin_BTd.dtype == jnp.float32


def test_frequencies_follow_the_base():
    config = dataclasses.replace(CONFIG, rope_theta=16.0)
    np.testing.assert_allclose(rope.frequencies(config), [1.0, 0.5, 0.25, 0.125], rtol=1e-12)


def test_llama3_scaling_keeps_interpolates_and_divides():
    # Wavelengths 6.28, 62.8, 628.3 and 6283.2 tokens; kept below 1024 / 4 = 256, divided by
    # 8 above 1024 / 1. Between: s = (1024 / 628.3185 - 1) / 3 = 0.2099155391, and
    # (1 - s) * 0.01 / 8 + s * 0.01 = 0.003086760967.
    config = dataclasses.replace(CONFIG, rope_scaling=LLAMA3)
    expected = [1.0, 0.1, 0.003086760967, 0.000125]
    np.testing.assert_allclose(rope.frequencies(config), expected, rtol=1e-8)


def test_llama3_scaling_as_the_formula_reads_at_the_golden_model():
    config = weights.open_model(f"file:{GOLDEN}").config
    assert config.rope_scaling == Llama3RopeScaling(8.0, 1.0, 4.0, 64)
    expected, regions = [], set()
    for i in range(config.head_dim // 2):
        frequency = config.rope_theta ** (-2 * i / config.head_dim)
        wavelength = 2 * math.pi / frequency
        if wavelength < 64 / 4.0:
            regions.add("kept")
        elif wavelength > 64 / 1.0:
            regions.add("divided")
            frequency /= 8.0
        else:
            regions.add("between")
            smooth = (64 / wavelength - 1.0) / (4.0 - 1.0)
            frequency *= (1 - smooth) / 8.0 + smooth
        expected.append(frequency)
    assert regions == {"kept", "between", "divided"}
    np.testing.assert_allclose(rope.frequencies(config), expected, rtol=1e-12)


def test_scaling_changes_the_tables():
    position_BT = np.array([[200]])
    plain, _ = rope.tables(CONFIG, position_BT)
    scaled, _ = rope.tables(dataclasses.replace(CONFIG, rope_scaling=LLAMA3), position_BT)
    angle = 200 * np.array([1.0, 0.1, 0.003086760967, 0.000125])
    np.testing.assert_allclose(scaled[0, 0, :4], np.cos(angle), rtol=0, atol=1e-5)
    assert np.abs(plain - scaled).max() > 0.1

"""Blocks against loops over heads and positions in NumPy, and causality by gradient."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import block_of

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.model import modules, rope

SHAPES = {
    "mha": LayerShape(4, 4, 20),
    "gqa": LayerShape(4, 2, 20),
    "mqa": LayerShape(4, 1, 20),
    "biases": LayerShape(4, 2, 20, biases=tree.MATRICES),
    "qk_norm": LayerShape(4, 2, 20, biases=("q_proj", "v_proj"), qk_norm=True),
    "window": LayerShape(4, 2, 20, window=2),
}
D, d, EPSILON = 12, 6, 1e-3
B, T = 2, 7
SEGMENT_BT = np.array([[0, 0, 0, 0, 1, 1, 1], [2, 2, 3, 3, 3, 3, -1]])
POSITION_BT = np.array([[0, 1, 2, 3, 0, 1, 2], [0, 1, 0, 1, 2, 3, 0]])


def config_of(shape):
    return ModelConfig(10, D, d, layers=(shape,), norm_epsilon=EPSILON)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def random_block(shape, seed=0):
    seeds = itertools.count(seed)
    return block_of(config_of(shape), 0, lambda size: 0.4 * random(*size, seed=next(seeds)))


def exact(x):
    return np.asarray(x, np.float64)


def rounded(x):
    """As an operand of a product in bfloat16."""
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)


def naive_norm(x, scale):
    return np.array([row / np.sqrt((row**2).mean() + EPSILON) * scale for row in x])


def naive_rotate(vector, position):
    turned = (vector[: d // 2] + 1j * vector[d // 2 :]) * np.exp(
        1j * position * 10_000.0 ** (-2 * np.arange(d // 2) / d)
    )
    return np.concatenate([turned.real, turned.imag])


def product(block, name, x, operand):
    bias = tree.components(block).get(f"{name}.bias", 0.0)
    return operand(x) @ operand(tree.get(block, name)) + exact(bias)


def naive_attention(block, shape, x_TD, position_T, segment_T, gate_TA, operand):
    q, k, v = (product(block, name, x_TD, operand) for name in ("q_proj", "k_proj", "v_proj"))
    if shape.qk_norm:
        q, k = (
            naive_norm(x.reshape(-1, d), exact(tree.get(block, name))).reshape(x.shape)
            for x, name in ((q, "q_norm"), (k, "k_norm"))
        )
    window = shape.window or len(x_TD)
    out = np.zeros((len(x_TD), shape.num_heads * d))
    for h in range(shape.num_heads):
        group = h // (shape.num_heads // shape.num_kv_heads)
        own, shared = slice(h * d, (h + 1) * d), slice(group * d, (group + 1) * d)
        for t in range(len(x_TD)):
            visible = [s for s in range(t + 1) if segment_T[s] == segment_T[t] and t - s < window]
            query = operand(naive_rotate(q[t, own], position_T[t]) / np.sqrt(d))
            keys = [operand(naive_rotate(k[s, shared], position_T[s])) for s in visible]
            score = np.array([query @ key for key in keys])
            weight = np.exp(score - score.max())
            value = operand(weight) @ operand(v[visible, shared])
            out[t, own] = value / weight.sum() * gate_TA[t, h]
    bias = exact(tree.components(block).get("o_proj.bias", 0.0))
    return operand(out) @ operand(tree.get(block, "o_proj")) + gate_TA[:, -1:] * bias


def naive_mlp(block, x_TD, operand):
    gated, up = (product(block, name, x_TD, operand) for name in ("gate_proj", "up_proj"))
    return product(block, "down_proj", gated / (1 + np.exp(-gated)) * up, operand)


def naive_block(block, shape, x_BTD, gate_BTA=None, operand=exact):
    gate_BTA = np.ones((B, T, shape.num_heads + 2)) if gate_BTA is None else gate_BTA
    out = []
    for b, x in enumerate(exact(x_BTD)):
        normed = naive_norm(x, tree.get(block, "attention_norm"))
        gate_TA = gate_BTA[b, :, :-1]
        x = x + naive_attention(
            block, shape, normed, POSITION_BT[b], SEGMENT_BT[b], gate_TA, operand
        )
        normed = naive_norm(x, tree.get(block, "mlp_norm"))
        out.append(x + naive_mlp(block, normed, operand) * gate_BTA[b, :, -1:])
    return np.array(out)


@functools.partial(jax.jit, static_argnames=("shape", "dtype"))
def apply(block, shape, x_BTD, gate_BTA=None, dtype=jnp.float32):
    config = config_of(shape)
    tables = rope.tables(config, POSITION_BT)
    bias_BTS = model.attention_bias(jnp.asarray(SEGMENT_BT))
    module = model.block(config, 0, dtype)
    return module.apply({"params": block}, x_BTD, tables, bias_BTS, gate_BTA)[0]


def assert_close(got, expected):
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_rms_norm():
    x_BTD, scale_D = random(2, 3, D), random(D, seed=1)
    got = modules.RMSNorm(EPSILON).apply({"params": {"scale": scale_D}}, x_BTD)
    assert_close(got, [naive_norm(row, exact(scale_D)) for row in exact(x_BTD)])


def test_rms_norm_of_zeros_is_zero():
    got = modules.RMSNorm(EPSILON).apply({"params": {"scale": np.ones(D)}}, np.zeros((1, 1, D)))
    np.testing.assert_array_equal(got, np.zeros((1, 1, D)))


@pytest.mark.parametrize("kind", SHAPES)
def test_block_is_attention_then_swiglu(kind):
    shape, x_BTD = SHAPES[kind], random(B, T, D, seed=5)
    block = random_block(shape)
    assert_close(apply(block, shape, x_BTD), naive_block(block, shape, x_BTD))


@pytest.mark.parametrize("kind", ["gqa", "biases"])
def test_mlp_is_swiglu(kind):
    block, x_BTD = random_block(SHAPES[kind]), random(B, T, D, seed=6)
    got = modules.MLP(SHAPES[kind], jnp.float32).apply({"params": block["mlp"]}, x_BTD)
    assert_close(got, [naive_mlp(block, row, exact) for row in x_BTD])


def test_attention_shifts_scores_before_it_exponentiates():
    shape = SHAPES["gqa"]
    block = random_block(shape)
    block = tree.replace(block, {"q_proj": 3000 * tree.get(block, "q_proj")})
    x_BTD = random(B, T, D, seed=5)
    assert_close(apply(block, shape, x_BTD), naive_block(block, shape, x_BTD))


@pytest.mark.parametrize("kind", ["gqa", "biases"])
def test_gates_scale_heads_and_mlp_at_each_position(kind):
    shape, x_BTD = SHAPES[kind], random(B, T, D, seed=7)
    block = random_block(shape)
    gate_BTA = np.random.default_rng(0).uniform(0, 2, (B, T, 6)).astype(np.float32)
    gate_BTA[0, :3, 1] = gate_BTA[1, 4, -1] = 0
    expected = naive_block(block, shape, x_BTD, gate_BTA)
    assert_close(apply(block, shape, x_BTD, gate_BTA), expected)
    everything_closed = apply(block, shape, x_BTD, jnp.zeros((B, T, 6)))
    np.testing.assert_array_equal(everything_closed, x_BTD)


@pytest.mark.parametrize("kind", ["gqa", "window"])
def test_outputs_depend_on_earlier_tokens_of_their_own_document_only(kind):
    shape, x_BTD = SHAPES[kind], jnp.asarray(random(B, T, D, seed=8))
    block = random_block(shape)

    def outputs(x_BTD):
        return apply(block, shape, x_BTD).sum(axis=-1)

    gradient = jax.jit(jax.jacrev(outputs))(x_BTD)  # [B, T, B, S, D]
    depends = np.asarray(jnp.abs(gradient).max(axis=-1) > 0)
    for b in range(B):
        for t in range(T):
            expected = np.zeros((B, T), bool)
            near_T = t - np.arange(T) < (shape.window or T)
            expected[b] = (np.arange(T) <= t) & (SEGMENT_BT[b] == SEGMENT_BT[b, t]) & near_T
            np.testing.assert_array_equal(depends[b, t], expected)


@pytest.mark.parametrize("kind", ["gqa", "qk_norm", "window"])
def test_cached_keys_and_values_replace_earlier_tokens(kind):
    shape, x_BTD = SHAPES[kind], random(B, T, D, seed=9)
    config, block = config_of(shape), random_block(shape)
    position_BT = np.broadcast_to(np.arange(T), (B, T))
    tables = tuple(map(np.asarray, rope.tables(config, position_BT)))
    bias_BTS = np.asarray(model.attention_bias(jnp.zeros((B, T), int)))

    @jax.jit
    def run(x_BTD, tables, bias_BTS, **cache):
        return model.block(config, 0).apply({"params": block}, x_BTD, tables, bias_BTS, **cache)

    expected, whole_cache = run(x_BTD, tables, bias_BTS)
    # What lies in unwritten places is masked, whatever it is.
    cache = tuple(np.full((B, T, 2, d), 9.0, np.float32) for _ in range(2))
    for t in range(T):
        now = slice(t, t + 1)
        tables_now = tuple(table[:, now] for table in tables)
        got, cache = run(
            x_BTD[:, now], tables_now, bias_BTS[:, now], cache=cache, cache_index=np.int32(t)
        )
        assert_close(got, expected[:, now])
    for got, whole in zip(cache, whole_cache, strict=True):
        assert_close(got, whole)


@pytest.mark.parametrize("kind", SHAPES)
def test_bfloat16_rounds_operands_of_products_and_nothing_else(kind):
    shape, x_BTD = SHAPES[kind], random(B, T, D, seed=5)
    block = random_block(shape)
    got = apply(block, shape, x_BTD, dtype=jnp.bfloat16)
    assert_close(got, naive_block(block, shape, x_BTD, operand=rounded))
    assert np.abs(got - naive_block(block, shape, x_BTD)).max() > 1e-3


def test_a_window_as_long_as_the_text_is_none():
    shape, x_BTD = SHAPES["gqa"], random(B, T, D, seed=5)
    block = random_block(shape)
    for window in (T, T + 1):
        got = apply(block, dataclasses.replace(shape, window=window), x_BTD)
        np.testing.assert_array_equal(got, apply(block, shape, x_BTD))


def test_a_closed_sublayer_is_closed_whatever_its_bias():
    shape, x_BTD = SHAPES["biases"], random(B, T, D, seed=7)
    block = random_block(shape)
    gate_BTA = np.ones((B, T, 6), np.float32)
    gate_BTA[..., :5] = 0
    silent = jax.tree.map(np.zeros_like, tree.components(block, ["o_proj"]))
    expected = apply(tree.replace(block, silent), shape, x_BTD)
    np.testing.assert_array_equal(apply(block, shape, x_BTD, gate_BTA), expected)
    gate_BTA[..., 4] = 1  # the bias stays where heads alone are closed
    assert np.abs(apply(block, shape, x_BTD, gate_BTA) - expected).max() > 0.1


def test_bfloat16_products_sum_in_float32():
    # 257 needs nine bits of mantissa; bfloat16 has eight.
    linear = modules.Linear(1, jnp.bfloat16)
    got = linear.apply({"params": {"kernel": np.ones((257, 1))}}, np.ones((1, 257)))
    assert got.dtype == jnp.float32
    assert float(got[0, 0]) == 257.0


def test_the_residual_stream_keeps_float32_beside_bfloat16_products():
    shape, x_BTD = SHAPES["gqa"], random(B, T, D, seed=5)
    block = random_block(shape)
    silent = tree.replace(
        block, {name: np.zeros_like(tree.get(block, name)) for name in ("o_proj", "down_proj")}
    )
    np.testing.assert_array_equal(apply(silent, shape, x_BTD, dtype=jnp.bfloat16), x_BTD)

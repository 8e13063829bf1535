"""Products against their formula in float64, and fused attention against plain sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy.model import products
from jaxanatomy.model.products import fused_attention, product

M, B, T, H, K, d = 3, 2, 6, 4, 2, 8


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def exact(x, dtype=jnp.float32):
    return np.asarray(x.astype(dtype), np.float64)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("lead", [(), (5,)])
def test_a_product_and_its_gradients_have_operands_in_the_dtype(dtype, lead):
    left, right, above = random(*lead, 7, 33), random(*lead, 33, 9, seed=1), random(*lead, 7, 9)
    found, pull = jax.vjp(lambda left, right: product(left, right, dtype), left, right)
    l64, r64, a64 = (exact(x, dtype) for x in (left, right, above))
    np.testing.assert_allclose(found, l64 @ r64, rtol=0, atol=1e-5)
    for own, expected in zip(
        pull(above), (a64 @ r64.swapaxes(-1, -2), l64.swapaxes(-1, -2) @ a64), strict=True
    ):
        assert own.dtype == jnp.float32
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5)


def naive(q_BTHd, k_BSKd, v_BSKd, sees_BTS):
    k_BSHd, v_BSHd = (jnp.repeat(x, H // K, axis=2) for x in (k_BSKd, v_BSKd))
    score_BHTS = jnp.einsum("BTHd,BSHd->BHTS", q_BTHd, k_BSHd)
    sees_BTS = sees_BTS & jnp.tril(jnp.ones((T, T), bool))[None]
    weight_BHTS = jax.nn.softmax(jnp.where(sees_BTS[:, None], score_BHTS, -jnp.inf))
    return jnp.einsum("BHTS,BSHd->BTHd", weight_BHTS, v_BSHd)


def test_fused_attention_of_replicas_is_that_of_each():
    q, k, v = random(M, B, T, H, d), random(M, B, T, K, d, seed=1), random(M, B, T, K, d, seed=2)
    segment_BT = jnp.array([[0, 0, 1, 1, 1, 1], [2] * 6])
    sees_BTS = segment_BT[:, :, None] == segment_BT[:, None]
    above = random(B, T, H, d, seed=3)

    def gradients(attend):
        def of(q, k, v):
            return (attend(q, k, v, sees_BTS) * above).sum()

        return jax.jit(jax.vmap(jax.value_and_grad(of, (0, 1, 2))))(q, k, v)

    found = gradients(lambda *arguments: fused_attention("xla", *arguments))
    jax.tree.map(
        lambda own, other: np.testing.assert_allclose(own, other, rtol=0, atol=2e-5),
        found,
        gradients(naive),
    )


def test_replicas_of_fused_attention_are_one_call(monkeypatch):
    attend, shapes = jax.nn.dot_product_attention, []
    products._fused.cache_clear()  # JAX may have traced it before

    def noted(q, *arguments, **options):
        shapes.append(q.shape)
        return attend(q, *arguments, **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", noted)
    q, k = random(M, B, T, H, d), random(M, B, T, K, d)
    jax.vmap(lambda q, k: fused_attention("xla", q, k, k, jnp.ones((B, T, T), bool)))(q, k)
    assert shapes[-1] == (M * B, T, H, d)

"""The streamed loss is the log-softmax of whole logits, however the vocabulary is cut."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, random_params

from jaxanatomy import model, tree

P, V, D = 6, 23, 8
TARGET_P = np.array([0, 5, 22, 22, 7, 16], np.int32)  # first and last rows, every chunk
RNG = np.random.default_rng(0)
H_PD = RNG.standard_normal((P, D)).astype(np.float32)
MATRIX_VD = RNG.standard_normal((V, D)).astype(np.float32)
# Multiples of a quarter: float32 holds their products and sums exactly, up to large ones.
QUARTERS_PD, QUARTERS_VD = np.round(4 * H_PD) / 4, np.round(4 * MATRIX_VD) / 4
TOKEN_NLL = jax.jit(model.token_nll, static_argnames=("dtype", "chunk"))
TOKEN_NLL_AT = jax.jit(model.token_nll_at, static_argnames=("dtype", "chunk"))
INVERSE_TEMPERATURE_Q = np.array([0.125, 0.8, 1.0, 3.0], np.float32)


def whole_nll(h_PD, matrix_VD):
    """From all logits, in float64."""
    score_PV = np.asarray(h_PD, np.float64) @ np.asarray(matrix_VD, np.float64).T
    top_P = score_PV.max(axis=1)
    total_P = np.exp(score_PV - top_P[:, None]).sum(axis=1)
    return top_P + np.log(total_P) - score_PV[np.arange(P), TARGET_P]


@pytest.mark.parametrize(
    "chunk", [1, 4, 22, V, V + 1, 2048], ids=lambda chunk: f"{V // chunk} and {V % chunk}"
)
def test_chunks_with_and_without_a_remainder(chunk):
    got = TOKEN_NLL(H_PD, MATRIX_VD, TARGET_P, chunk=chunk)
    np.testing.assert_allclose(got, whole_nll(H_PD, MATRIX_VD), rtol=1e-6, atol=1e-5)
    assert got.dtype == jnp.float32


def test_the_likeliest_token_costs_nothing_and_uniform_scores_cost_log_v():
    np.testing.assert_allclose(
        TOKEN_NLL(np.zeros((P, D), np.float32), MATRIX_VD, TARGET_P, chunk=4), np.log(V), rtol=1e-6
    )
    one_hot = 50 * np.eye(V, dtype=np.float32)
    got = TOKEN_NLL(one_hot[TARGET_P] / 50, one_hot, TARGET_P, chunk=4)
    np.testing.assert_allclose(got, 0.0, atol=1e-5)


@pytest.mark.parametrize("chunk", [4, 2048])
@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_scores_that_overflow_a_plain_exponential(chunk, shift):
    # One feature adds the same to every score, which the loss does not feel.
    h_PD = np.concatenate([QUARTERS_PD, np.ones((P, 1), np.float32)], axis=1)
    matrix_VD = np.concatenate([QUARTERS_VD, np.full((V, 1), shift, np.float32)], axis=1)
    plain_P = jnp.log(jnp.exp(h_PD @ matrix_VD.T).sum(axis=1))
    assert not jnp.isfinite(plain_P).any()
    got = TOKEN_NLL(h_PD, matrix_VD, TARGET_P, chunk=chunk)
    np.testing.assert_allclose(got, whole_nll(QUARTERS_PD, QUARTERS_VD), rtol=0, atol=1e-5)


def test_scores_far_apart():
    got = TOKEN_NLL(256 * QUARTERS_PD, QUARTERS_VD, TARGET_P, chunk=4)
    expected = whole_nll(256 * QUARTERS_PD, QUARTERS_VD)
    assert expected.max() > 500
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-5)


WEIGHT_P = np.arange(1.0, P + 1, dtype=np.float32)


def gradients(h_PD, matrix_VD, **kwargs):
    """Of a weighted loss, with respect to h and to the matrix."""

    def streamed(h_PD, matrix_VD):
        return WEIGHT_P @ model.token_nll(h_PD, matrix_VD, TARGET_P, **kwargs)

    return jax.jit(jax.grad(streamed, argnums=(0, 1)))(h_PD, matrix_VD)


@pytest.mark.parametrize("chunk", [1, 4, V, 2048])
@pytest.mark.parametrize("scale", [1, 256], ids=["near", "far apart"])
def test_gradient_is_that_of_log_softmax(chunk, scale):
    def whole(h_PD, matrix_VD):
        log_PV = jax.nn.log_softmax(h_PD @ matrix_VD.T)
        return -WEIGHT_P @ log_PV[jnp.arange(P), TARGET_P]

    h_PD = scale * QUARTERS_PD
    dh_PD, dmatrix_VD = gradients(h_PD, QUARTERS_VD, chunk=chunk)
    expected = jax.jit(jax.grad(whole, argnums=(0, 1)))(h_PD, QUARTERS_VD)
    np.testing.assert_allclose(dh_PD, expected[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(dmatrix_VD / scale, expected[1] / scale, rtol=0, atol=1e-5)


def test_gradient_in_bfloat16_is_that_of_one_pass_and_replicas_have_their_own():
    arguments = {"dtype": jnp.bfloat16, "chunk": 4}
    dh_PD, dmatrix_VD = gradients(H_PD, MATRIX_VD, **arguments)
    assert (dh_PD.dtype, dmatrix_VD.dtype) == (jnp.float32, jnp.float32)
    _, one_pass_PD = model.token_nll_and_gradient(H_PD, MATRIX_VD, TARGET_P, **arguments)
    np.testing.assert_allclose(dh_PD, WEIGHT_P[:, None] * one_pass_PD, rtol=0, atol=1e-5)
    exact = gradients(H_PD, MATRIX_VD, chunk=4)
    assert 1e-4 < np.abs(dmatrix_VD - exact[1]).max() < 0.2
    two = jax.vmap(functools.partial(gradients, chunk=4))
    pairs = two(np.stack([H_PD, -H_PD]), np.stack([MATRIX_VD, 2 * MATRIX_VD]))
    for one, other in zip(pairs, gradients(-H_PD, 2 * MATRIX_VD, chunk=4), strict=True):
        np.testing.assert_allclose(one[1], other, rtol=0, atol=1e-5)


def test_bfloat16_rounds_the_operands_and_sums_in_float32():
    got = TOKEN_NLL(H_PD, MATRIX_VD, TARGET_P, dtype=jnp.bfloat16, chunk=4)
    rounded = [np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32) for x in (H_PD, MATRIX_VD)]
    np.testing.assert_allclose(got, whole_nll(*rounded), rtol=0, atol=1e-5)
    assert np.abs(got - whole_nll(H_PD, MATRIX_VD)).max() > 1e-3
    assert got.dtype == jnp.float32


@pytest.mark.parametrize("chunk", [1, 4, V, 2048])
def test_several_temperatures_are_log_softmaxes_of_scaled_scores(chunk):
    got = TOKEN_NLL_AT(H_PD, MATRIX_VD, TARGET_P, INVERSE_TEMPERATURE_Q, chunk=chunk)
    assert (got.shape, got.dtype) == ((4, P), jnp.float32)
    for nll_P, inverse in zip(got, INVERSE_TEMPERATURE_Q, strict=True):
        log_PV = jax.nn.log_softmax((H_PD @ MATRIX_VD.T) * inverse)
        np.testing.assert_allclose(nll_P, -log_PV[np.arange(P), TARGET_P], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        got[2], TOKEN_NLL(H_PD, MATRIX_VD, TARGET_P, chunk=chunk), rtol=0, atol=1e-6
    )


def test_several_temperatures_of_scores_far_apart():
    got = TOKEN_NLL_AT(256 * QUARTERS_PD, QUARTERS_VD, TARGET_P, INVERSE_TEMPERATURE_Q, chunk=4)
    for nll_P, inverse in zip(got, INVERSE_TEMPERATURE_Q.astype(np.float64), strict=True):
        expected = whole_nll(256 * inverse * QUARTERS_PD, QUARTERS_VD)
        np.testing.assert_allclose(nll_P, expected, rtol=1e-6, atol=1e-5)


def test_several_temperatures_in_bfloat16():
    arguments = (H_PD, MATRIX_VD, TARGET_P)
    got = TOKEN_NLL_AT(*arguments, INVERSE_TEMPERATURE_Q, dtype=jnp.bfloat16, chunk=4)
    expected = TOKEN_NLL(*arguments, dtype=jnp.bfloat16, chunk=4)
    np.testing.assert_allclose(got[2], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, V, 2048])
@pytest.mark.parametrize("scale", [1, 256], ids=["near", "far apart"])
def test_loss_and_gradient_of_one_pass_are_those_of_log_softmax(chunk, scale):
    def whole(h_PD):
        log_PV = jax.nn.log_softmax(h_PD @ QUARTERS_VD.T)
        return -log_PV[jnp.arange(P), TARGET_P].sum()

    h_PD = scale * QUARTERS_PD
    one_pass = jax.jit(model.token_nll_and_gradient, static_argnames=("dtype", "chunk"))
    nll_P, gradient_PD = one_pass(h_PD, QUARTERS_VD, TARGET_P, chunk=chunk)
    np.testing.assert_array_equal(nll_P, TOKEN_NLL(h_PD, QUARTERS_VD, TARGET_P, chunk=chunk))
    np.testing.assert_allclose(gradient_PD, jax.grad(whole)(h_PD), rtol=0, atol=1e-5)
    assert gradient_PD.dtype == jnp.float32


def test_loss_and_gradient_in_bfloat16_round_the_operands():
    one_pass = jax.jit(model.token_nll_and_gradient, static_argnames=("dtype", "chunk"))
    nll_P, gradient_PD = one_pass(H_PD, MATRIX_VD, TARGET_P, dtype=jnp.bfloat16, chunk=4)
    np.testing.assert_array_equal(
        nll_P, TOKEN_NLL(H_PD, MATRIX_VD, TARGET_P, dtype=jnp.bfloat16, chunk=4)
    )
    _, exact_PD = one_pass(H_PD, MATRIX_VD, TARGET_P, chunk=4)
    difference = np.abs(gradient_PD - exact_PD).max()
    assert 1e-4 < difference < 5e-2
    assert gradient_PD.dtype == jnp.float32


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_products_with_the_heads_matrix_after_the_final_norm(tied):
    config = dataclasses.replace(CONFIG, tie_embeddings=tied)
    params = random_params(config)
    x_BTD = RNG.standard_normal((2, 3, config.hidden_size)).astype(np.float32)
    matrix_VD = params["embed" if tied else "unembed"]["embedding"]
    normed = x_BTD / np.sqrt((x_BTD**2).mean(-1, keepdims=True) + config.norm_epsilon)
    expected = (normed * params["final_norm"]["scale"]) @ matrix_VD.T
    got = jax.jit(functools.partial(model.logits, config))(params, x_BTD)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert (tree.unembedding(params) is params["embed"]["embedding"]) is tied


def whole_kl(h_PD, clean_PD, matrix_VD):
    """KL(clean || other) from all logits, in float64, each term 0 or above."""
    other_PV, clean_PV = (
        np.asarray(h, np.float64) @ np.asarray(matrix_VD, np.float64).T for h in (h_PD, clean_PD)
    )
    log_q_PV, log_p_PV = (
        score - score.max(axis=1, keepdims=True) for score in (other_PV, clean_PV)
    )
    log_q_PV, log_p_PV = (
        each - np.log(np.exp(each).sum(axis=1, keepdims=True)) for each in (log_q_PV, log_p_PV)
    )
    ratio_PV = log_q_PV - log_p_PV
    return (np.exp(log_p_PV) * (np.expm1(ratio_PV) - ratio_PV)).sum(axis=1)


@functools.partial(jax.jit, static_argnames=("dtype", "chunk"))
def nll_and_kl(h_CPD, clean_PD, matrix_VD, target_P, **kwargs):
    clean = model.reference(clean_PD, matrix_VD, target_P, **kwargs)
    return model.token_nll_and_kl(h_CPD, clean, matrix_VD, target_P, **kwargs)


@pytest.mark.parametrize("chunk", [1, 4, 22, V, 2048])
def test_kl_is_that_of_whole_logits_and_the_loss_is_unchanged(chunk):
    streams = [H_PD, H_PD[::-1] + 0.3, 3 * H_PD, np.zeros_like(H_PD)]
    clean_PD = np.random.default_rng(1).standard_normal(H_PD.shape).astype(np.float32)
    nll_CP, kl_CP = nll_and_kl(np.stack(streams), clean_PD, MATRIX_VD, TARGET_P, chunk=chunk)
    for h_PD, nll_P, kl_P in zip(streams, nll_CP, kl_CP, strict=True):
        np.testing.assert_allclose(nll_P, whole_nll(h_PD, MATRIX_VD), rtol=1e-6, atol=1e-5)
        expected = whole_kl(h_PD, clean_PD, MATRIX_VD)
        assert expected.min() > 0.1
        np.testing.assert_allclose(kl_P, expected, rtol=1e-5)
    assert kl_CP.dtype == jnp.float32


def test_the_reference_is_the_loss_and_its_gradient():
    got = jax.jit(model.reference)(H_PD, MATRIX_VD, TARGET_P)
    nll_P, gradient_PD = jax.jit(model.token_nll_and_gradient)(H_PD, MATRIX_VD, TARGET_P)
    np.testing.assert_allclose(got.nll_P, nll_P, rtol=0, atol=1e-6)
    np.testing.assert_allclose(got.gradient_PD, gradient_PD, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def large():
    """A head of 5,000 tokens whose scores reach 10 nats, and 1,000 streams."""
    rng = np.random.default_rng(2)
    matrix_VD = (rng.standard_normal((5000, 64)) / 4).astype(np.float32)
    clean_PD, change_PD = rng.standard_normal((2, 1000, 64)).astype(np.float32)
    return matrix_VD, clean_PD, change_PD, rng.integers(0, 5000, 1000)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0])
def test_the_error_of_a_kl_is_the_rounding_of_scores(large, size, dtype):
    matrix_VD, clean_PD, change_PD, target_P = large
    h_PD = clean_PD + size * change_PD / 8
    _, kl_CP = nll_and_kl(h_PD[None], clean_PD, matrix_VD, target_P, dtype=dtype)
    # What is rounded to the operands' dtype is rounded in every term alike.
    rounded = [np.asarray(jnp.asarray(x, dtype), np.float32) for x in (h_PD, clean_PD, matrix_VD)]
    expected = whole_kl(*rounded)
    assert dtype == jnp.bfloat16 or 0.001 * size**2 < np.median(expected) < size**2
    np.testing.assert_allclose(kl_CP[0], expected, rtol=1e-5, atol=3e-6)
    # Sums over a document: rounding has no sign. Cut at 0, the mean would be off by its size.
    assert abs((np.asarray(kl_CP[0], np.float64) - expected).mean()) < 1e-7


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_a_shift_of_all_scores_has_no_kl(shift):
    one_P1, shift_V1 = np.ones((P, 1), np.float32), np.full((V, 1), shift, np.float32)
    matrix_VD = np.concatenate([QUARTERS_VD, shift_V1], axis=1)
    clean_PD = np.concatenate([QUARTERS_PD, 0 * one_P1], axis=1)
    shifted_PD = np.concatenate([QUARTERS_PD, one_P1], axis=1)
    _, kl_CP = nll_and_kl(shifted_PD[None], clean_PD, matrix_VD, TARGET_P, chunk=4)
    # The mean of the head's rows, 1000 in one place, is rounded at 6e-5.
    np.testing.assert_allclose(kl_CP[0], 0.0, atol=2e-4)


def test_scores_far_apart_have_a_kl_and_lost_ones_have_none():
    _, kl_CP = nll_and_kl(256 * QUARTERS_PD[None], QUARTERS_PD, QUARTERS_VD, TARGET_P)
    expected = whole_kl(256 * QUARTERS_PD, QUARTERS_PD, QUARTERS_VD)
    assert expected.max() > 300
    np.testing.assert_allclose(kl_CP[0], expected, rtol=1e-5)
    for lost in (np.nan, np.inf):
        _, kl_CP = nll_and_kl(np.full((1, P, D), lost, np.float32), H_PD, MATRIX_VD, TARGET_P)
        assert not np.isfinite(kl_CP).any()


@pytest.mark.parametrize("chunk", [1, 4, 22, V, V + 1])
def test_the_likeliest_token_beside_the_loss_whatever_the_chunks(chunk):
    matrix_VD = QUARTERS_VD.copy()
    matrix_VD[[3, 21]] = matrix_VD[9]  # equally likely: the first is taken
    h_PD = np.concatenate([QUARTERS_PD[:5], 100 * matrix_VD[[21]]])
    best_P = (h_PD @ matrix_VD.T).argmax(axis=1)
    assert best_P[5] == 3
    nll_P, found_P = model.token_nll_and_best(h_PD, matrix_VD, TARGET_P, chunk=chunk)
    np.testing.assert_array_equal(found_P, best_P)
    expected = model.token_nll(h_PD, matrix_VD, TARGET_P, chunk=chunk)
    np.testing.assert_array_equal(nll_P, expected)

"""Singular values and vectors, and what is remembered of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.forensics import spectra
from jaxanatomy.forensics.spectra import SvdCache, decompose, svd


def random_matrix(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 5), (5, 9), (9, 5), (1, 4)])
def test_the_parts_make_the_matrix_and_the_values_are_those_of_float64(shape):
    matrix = random_matrix(shape)
    U, S, Vt = svd(matrix)
    rank = min(shape)
    assert (U.shape, S.shape, Vt.shape) == ((shape[0], rank), (rank,), (rank, shape[1]))
    assert {part.dtype for part in (U, S, Vt)} == {np.dtype("float32")}
    np.testing.assert_allclose((U * S) @ Vt, matrix, rtol=0, atol=1e-5)
    np.testing.assert_allclose(U.T @ U, np.eye(rank), rtol=0, atol=1e-5)
    np.testing.assert_allclose(Vt @ Vt.T, np.eye(rank), rtol=0, atol=1e-5)
    wide = (matrix if shape[0] == rank else matrix.T).astype(float)
    expected = np.sqrt(np.linalg.eigvalsh(wide @ wide.T))[::-1]
    np.testing.assert_allclose(S, expected, rtol=1e-5, atol=1e-6)


def test_a_diagonal_matrix_by_hand():
    S = decompose(np.diag(np.array([2, -7, 0, 3], np.float32))).S
    np.testing.assert_allclose(S, [7, 3, 2, 0], rtol=0, atol=1e-6)


def test_equal_content_is_decomposed_once_whatever_array_holds_it(monkeypatch):
    calls = []
    monkeypatch.setattr(spectra, "decompose", lambda m: calls.append(m.shape) or decompose(m))
    cache, matrix = SvdCache(), random_matrix((4, 6))
    first = cache.svd(matrix)
    assert cache.svd(matrix.copy()) is first
    assert cache.svd(jnp.asarray(matrix)) is first
    assert cache.svd(np.asfortranarray(matrix)) is first
    # The same bytes in another shape are another matrix, and so is a changed one.
    assert cache.svd(matrix.reshape(6, 4)).U.shape == (6, 4)
    matrix[0, 0] += 1
    assert cache.svd(matrix) is not first
    assert calls == [(4, 6), (6, 4), (4, 6)]


def test_memory_is_bounded_and_the_oldest_use_goes_first():
    one = decompose(random_matrix((8, 8))).nbytes
    assert one == 4 * (64 + 8 + 64)
    cache = SvdCache(megabytes=2.5 * one / 2**20)
    a, b, c = (random_matrix((8, 8), seed) for seed in range(3))
    known_a, known_b = cache.svd(a), cache.svd(b)
    assert cache.svd(a) is known_a
    known_c = cache.svd(c)  # b was not used for longest
    assert (len(cache), cache.nbytes) == (2, 2 * one)
    assert cache.svd(a) is known_a
    assert cache.svd(c) is known_c
    assert cache.svd(b) is not known_b


def test_a_matrix_above_the_bound_is_decomposed_and_not_kept():
    cache = SvdCache(megabytes=1e-6)
    matrix = random_matrix((3, 3))
    U, S, Vt = cache.svd(matrix)
    np.testing.assert_allclose((U * S) @ Vt, matrix, rtol=0, atol=1e-5)
    assert (len(cache), cache.nbytes) == (0, 0)


def test_what_is_remembered_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        svd(random_matrix((3, 3))).S[0] = 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    matrix = random_matrix((3, 2))
    matrix[1, 1] = bad
    with pytest.raises(InputError, match=r"finite weights; a matrix \(3, 2\) holds NaN or Inf"):
        svd(matrix)

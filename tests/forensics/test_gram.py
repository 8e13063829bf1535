"""Moments against naive sums over flattened matrices, whatever their layout and dtype."""

import ml_dtypes
import numpy as np
import pytest

from jaxanatomy.forensics.gram import Moments, gram

SHAPE = (7, 5)


def layers(number=6, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [(0.3 * k + rng.normal(size=SHAPE) * (1 + k)).astype(dtype) for k in range(number)]


def flat(matrices):
    return np.stack([np.asarray(m, np.float64).reshape(-1) for m in matrices])


def assert_moments_of(moments, matrices):
    x_LN = flat(matrices)
    assert moments.count == x_LN.shape[1]
    np.testing.assert_allclose(moments.gram_LL, x_LN @ x_LN.T, rtol=1e-12)
    np.testing.assert_allclose(moments.sum_L, x_LN.sum(1), rtol=1e-12)


@pytest.mark.parametrize("chunk", [1, 5, 11, 15, 10_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_every_chunk_and_dtype_gives_the_naive_moments(chunk, dtype):
    matrices = layers(dtype=dtype)
    assert_moments_of(gram(matrices, chunk), matrices)


def mixed(matrices):
    return [np.asfortranarray(m) if k % 2 else m for k, m in enumerate(matrices)]


def sliced(matrices):
    return [np.repeat(np.repeat(m, 2, 0), 3, 1)[::2, ::3] for m in matrices]


@pytest.mark.parametrize(
    "arrange",
    [lambda ms: [np.asfortranarray(m) for m in ms], mixed, sliced],
    ids=["transposed", "mixed", "strided"],
)
def test_no_layout_changes_the_moments(arrange):
    matrices = layers()
    arranged = arrange(matrices)
    assert not all(m.flags.c_contiguous for m in arranged)
    for array in arranged:
        array.setflags(write=False)
    assert_moments_of(gram(arranged, chunk=10), matrices)


def test_transposed_arrays_are_read_along_their_memory():
    """The last axis of each chunk is contiguous, so no array is walked with a stride."""
    read = []

    class Spy(np.ndarray):
        def __getitem__(self, key):
            part = super().__getitem__(key)
            read.append(part.flags.c_contiguous)
            return part

    transposed = [np.asfortranarray(m) for m in layers()]
    np_asarray, np.asarray = np.asarray, lambda m: m.view(Spy)
    try:
        gram(transposed, chunk=14)
    finally:
        np.asarray = np_asarray
    assert read == [True] * len(read)
    assert len(read) > 6


def test_layers_of_several_shapes_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match=r"one shape; got .*\(5, 7\)"):
        gram([np.zeros(SHAPE), np.zeros(SHAPE[::-1])])


def test_mean_covariance_and_std_are_those_of_numpy():
    matrices = layers()
    moments, x_LN = gram(matrices), flat(matrices)
    np.testing.assert_allclose(moments.mean, x_LN.mean(1), rtol=1e-10)
    np.testing.assert_allclose(moments.covariance, np.cov(x_LN, bias=True), atol=1e-10)
    np.testing.assert_allclose(moments.std, x_LN.std(1), rtol=1e-10)


def test_permuting_is_reading_in_another_order():
    matrices, rng = layers(), np.random.default_rng(1)
    orders = np.stack([rng.permutation(6) for _ in range(3)])
    found = gram(matrices).permuted(orders)
    for gram_LL, sum_L, order in zip(found.gram_LL, found.sum_L, orders, strict=True):
        assert_moments_of(Moments(gram_LL, sum_L, found.count), [matrices[k] for k in order])


def test_standardising_is_reading_standardised_layers():
    matrices = layers()
    found = gram(matrices).standardised()
    x_LN = flat(matrices)
    z_LN = (x_LN - x_LN.mean(1, keepdims=True)) / x_LN.std(1, keepdims=True)
    np.testing.assert_allclose(found.gram_LL, z_LN @ z_LN.T, atol=1e-9)
    np.testing.assert_allclose(found.sum_L, np.zeros(6))


def test_independent_layers_keep_norms_and_means_only():
    matrices = layers()
    found = gram(matrices).independent()
    x_LN = flat(matrices)
    for k, row in enumerate(found.gram_LL):
        for j, value in enumerate(row):
            same = x_LN[k] @ x_LN[k]
            expected = same if k == j else x_LN[k].mean() * x_LN[j].mean() * x_LN.shape[1]
            assert value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 0.7, 123.4, 1e-3])
def test_a_constant_layer_has_no_spread_and_cannot_be_standardised(constant):
    matrices = layers(dtype=np.float64)
    matrices[2] = np.full(SHAPE, constant)
    moments = gram(matrices)
    assert moments.std[2] == 0
    standardised = moments.standardised()
    assert np.isnan(standardised.gram_LL[2]).all()
    assert np.isfinite(np.delete(np.delete(standardised.gram_LL, 2, 0), 2, 1)).all()

"""Checksums of arrays see every flipped bit, wherever the arrays lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy.weights.training_steps import array_checksums, require_checksums

DTYPES = ("float32", "bfloat16", "int32", "uint8", "bool")


def array_of(dtype, shape=(3, 5)):
    return jnp.arange(np.prod(shape)).reshape(shape).astype(dtype)


def naive(array):
    """Word by word, in Python's integers."""
    array = np.asarray(array)
    words = array.astype(np.uint8) if array.dtype == bool else array
    words = words.view({1: np.uint8, 2: np.uint16, 4: np.uint32}[words.dtype.itemsize])
    terms = (int(word) * (2 * at + 1) * 0x9E3779B1 for at, word in enumerate(words.reshape(-1)))
    return sum(terms) % 2**32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4)])
def test_the_sum_is_that_of_a_loop(dtype, shape):
    array = array_of(dtype, shape)
    assert array_checksums({"a": array}) == {"['a']": naive(array)}


def test_every_single_bit_counts_and_so_does_the_place():
    array = np.asarray(array_of("float32"))
    others = {naive(array[::-1])}
    for at in range(array.size):
        for bit in range(32):
            other = array.copy()
            other.view(np.uint32).reshape(-1)[at] ^= np.uint32(1 << bit)
            others.add(naive(other))
    assert naive(array) not in others


def test_it_does_not_depend_on_how_an_array_is_cut(run_python):
    code = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxanatomy.weights.training_steps import array_checksums
mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
array = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
for spec in (P(), P("a"), P("a", "b"), P(None, "b")):
    print(array_checksums([jax.device_put(array, NamedSharding(mesh, spec))]))
"""
    lines = run_python(code, devices=8).splitlines()
    array = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    assert lines == [str({"[0]": naive(array)})] * 4


def test_the_array_that_differs_is_named():
    saved = array_checksums({"a": jnp.zeros(3), "b": jnp.ones(3)})
    require_checksums(saved, saved)
    with pytest.raises(ValueError, match=r"the values of \['b'\] are not those"):
        require_checksums(array_checksums({"a": jnp.zeros(3), "b": jnp.zeros(3)}), saved)


def test_each_shape_is_compiled_once(count_traces):
    arrays = {"a": jnp.zeros((5, 3)), "b": jnp.ones((5, 3)), "c": jnp.ones((5, 3))}
    jax.clear_caches()
    with count_traces() as traces:
        array_checksums(arrays)
        array_checksums(arrays)
    assert traces["_checksum"] == 1

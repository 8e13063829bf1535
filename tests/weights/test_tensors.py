import ml_dtypes
import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.model import parameter_count
from jaxanatomy.weights import tensors
from jaxanatomy.weights.tensors import StoredTensor, leaf_shapes

FLOAT32 = np.dtype(np.float32)


@pytest.fixture
def uneven():
    layers = (LayerShape(2, 1, 12), LayerShape(4, 2, 20))
    return ModelConfig(vocab_size=40, hidden_size=24, head_dim=6, layers=layers)


def stored_arrays(config, seed=0):
    """Random tensors under the names of their leaves, as a file has them: (out, in)."""
    rng = np.random.default_rng(seed)
    return {
        leaf: rng.normal(size=shape[::-1]).astype(np.float32)
        for leaf, shape in ((leaf, shape) for leaf, shape in leaf_shapes(config).items())
        if tensors.is_kernel(leaf) or len(shape) == 1
    } | {"embed/embedding": rng.normal(size=(40, 24)).astype(np.float32)}


def read(arrays, config, dtype=FLOAT32, **kwargs):
    stored = {
        name: StoredTensor(array.shape, lambda start, stop, array=array: array[start:stop])
        for name, array in arrays.items()
    }
    names = {leaf: leaf for leaf in leaf_shapes(config)}
    return tensors.read_params(stored, names, config, dtype, where="the file", **kwargs)


def test_the_leaves_are_those_of_the_architecture(uneven):
    shapes = leaf_shapes(uneven)
    assert shapes["embed/embedding"] == (40, 24)
    assert shapes["layers/1/attention/q_proj/kernel"] == (24, 24)
    assert shapes["layers/0/mlp/down_proj/kernel"] == (12, 24)
    assert len(shapes) == 2 + 2 * 9
    assert sum(np.prod(shape) for shape in shapes.values()) == parameter_count(uneven)


def test_matrices_are_transposed_piece_by_piece_and_the_rest_is_not(uneven, monkeypatch):
    monkeypatch.setattr(tensors, "_PIECE", 16 * 20)  # several pieces with a remainder
    arrays = stored_arrays(uneven)
    params = read(arrays, uneven)
    np.testing.assert_array_equal(params["embed"]["embedding"], arrays["embed/embedding"])
    block = params["layers"][1]
    for sublayer, name in (("attention", "k_proj"), ("mlp", "down_proj"), ("mlp", "up_proj")):
        kernel = block[sublayer][name]["kernel"]
        np.testing.assert_array_equal(kernel, arrays[f"layers/1/{sublayer}/{name}/kernel"].T)
        assert kernel.flags.c_contiguous
        assert kernel.ctypes.data % 64 == 0
    np.testing.assert_array_equal(block["mlp_norm"]["scale"], arrays["layers/1/mlp_norm/scale"])


def test_rows_are_put_in_order(uneven, monkeypatch):
    monkeypatch.setattr(tensors, "_PIECE", 16 * 20)
    arrays = stored_arrays(uneven)
    order = np.random.default_rng(1).permutation(24)
    params = read(arrays, uneven, row_orders={"layers/1/attention/q_proj/kernel": order})
    expected = arrays["layers/1/attention/q_proj/kernel"][order].T
    np.testing.assert_array_equal(params["layers"][1]["attention"]["q_proj"]["kernel"], expected)


def test_leaves_of_a_tree_and_back(uneven):
    leaves = {leaf: object() for leaf in leaf_shapes(uneven)}
    assert tree.to_leaves(tree.from_leaves(leaves)) == leaves
    leaves["unembed/embedding"] = object()
    assert tree.to_leaves(tree.from_leaves(leaves)) == leaves


def test_bfloat16_is_rounded_as_the_dtype_rounds(uneven):
    arrays = stored_arrays(uneven)
    params = read(arrays, uneven, tensors.parse_dtype("bfloat16"))
    expected = arrays["embed/embedding"].astype(ml_dtypes.bfloat16)
    assert params["embed"]["embedding"].dtype == expected.dtype
    np.testing.assert_array_equal(params["embed"]["embedding"], expected)


def test_missing_extra_and_misshapen_tensors_are_all_named(uneven):
    arrays = stored_arrays(uneven)
    del arrays["final_norm/scale"]
    arrays["bias"] = np.ones(3, np.float32)
    arrays["layers/0/attention/q_proj/kernel"] = np.ones((5, 24), np.float32)
    with pytest.raises(InputError) as caught:
        read(arrays, uneven)
    message = str(caught.value)
    assert "1 missing: final_norm/scale" in message
    assert "1 not known to this architecture: bias" in message
    assert (
        "1 of another shape: layers/0/attention/q_proj/kernel (5, 24) instead of (12, 24)"
        in message
    )


def test_a_long_list_of_names_is_shortened(uneven):
    with pytest.raises(
        InputError,
        match=r"20 missing: embed/embedding, layers/0/attention/q_proj/kernel, .* and 16 more;",
    ):
        read({}, uneven)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(uneven, value, monkeypatch):
    monkeypatch.setattr(tensors, "_PIECE", 16 * 20)
    arrays = stored_arrays(uneven)
    arrays["embed/embedding"][0, 23] = value  # in the first of several pieces
    arrays["layers/1/mlp_norm/scale"][0] = value
    with pytest.raises(
        InputError, match=r"NaN or Inf as float32 in embed/embedding, layers/1/mlp_norm/scale of"
    ):
        read(arrays, uneven)


def test_a_value_too_large_for_the_dtype_is_named(uneven):
    arrays = stored_arrays(uneven)
    arrays["layers/0/mlp/up_proj/kernel"][0, 0] = 1e5
    read(arrays, uneven)
    with pytest.raises(
        InputError, match=r"as float16 in layers/0/mlp/up_proj/kernel of .* dtype float32"
    ):
        read(arrays, uneven, tensors.parse_dtype("float16"))


def test_an_unknown_dtype_is_refused_with_the_closest_name():
    with pytest.raises(InputError, match="unknown dtype 'bfloat'; did you mean 'bfloat16'"):
        tensors.parse_dtype("bfloat")

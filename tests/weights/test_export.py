import dataclasses
import json
import stat

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxanatomy import tree, weights
from jaxanatomy.config import LayerShape
from jaxanatomy.errors import InputError
from jaxanatomy.weights.random_init import random_params
from jaxanatomy.weights.tensors import parse_dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_export_load_export_gives_the_same_bytes(dtype, checkpoint, tmp_path):
    params = random_params(checkpoint.config, parse_dtype(dtype))
    first = weights.export_hf(dataclasses.replace(checkpoint, params=params), tmp_path / "a")
    loaded = weights.load(f"file:{first}", dtype)
    second = weights.export_hf(loaded, tmp_path / "b")
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in first.iterdir()) == names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert stat.S_IMODE((first / name).stat().st_mode) & stat.S_IRUSR
    assert loaded.config == checkpoint.config
    for leaf, array in tree.to_leaves(params).items():
        np.testing.assert_array_equal(tree.to_leaves(loaded.params)[leaf], array)


def test_kernels_are_written_out_first(checkpoint, tmp_path):
    weights.export_hf(checkpoint, tmp_path / "a")
    arrays = safetensors.numpy.load_file(tmp_path / "a" / "model.safetensors")
    kernel = checkpoint.params["layers"][1]["mlp"]["down_proj"]["kernel"]
    written = arrays["model.layers.1.mlp.down_proj.weight"]
    assert written.shape == (64, 96)
    assert all(written[o, i] == kernel[i, o] for o in range(64) for i in range(96))


def gated(block, x_D):
    """The gated feed-forward layer of one token."""
    mlp = {name: matrix["kernel"] for name, matrix in block["mlp"].items()}
    gate = x_D @ mlp["gate_proj"]
    return (gate / (1 + np.exp(-gate)) * (x_D @ mlp["up_proj"])) @ mlp["down_proj"]


def test_narrow_layers_are_padded_with_zeros(checkpoint, tmp_path):
    config = checkpoint.config.with_layers([LayerShape(4, 2, 40), LayerShape(4, 2, 96)])
    params = random_params(config, np.dtype(np.float32))
    weights.export_hf(dataclasses.replace(checkpoint, config=config, params=params), tmp_path / "a")
    loaded = weights.load(f"file:{tmp_path / 'a'}")
    assert [shape.ffn_width for shape in loaded.config.layers] == [96, 96]
    narrow, padded = params["layers"][0], loaded.params["layers"][0]
    kernel = padded["mlp"]["gate_proj"]["kernel"]
    np.testing.assert_array_equal(kernel[:, :40], narrow["mlp"]["gate_proj"]["kernel"])
    assert not kernel[:, 40:].any()
    x_D = np.linspace(-1, 1, 64, dtype=np.float32)
    np.testing.assert_allclose(gated(padded, x_D), gated(narrow, x_D), rtol=1e-5, atol=1e-7)


def test_the_tokenizer_is_written_for_transformers(checkpoint, tmp_path):
    from transformers import AutoTokenizer

    weights.export_hf(checkpoint, tmp_path / "a")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    ids = tokenizer("hello world", add_special_tokens=False).input_ids
    assert ids == checkpoint.tokenizer.encode("hello world")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 0)
    fields = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (fields["bos_token_id"], fields["eos_token_id"]) == (1, 0)
    assert fields["dtype"] == "float32"


def test_a_model_without_a_tokenizer_is_written_without(checkpoint, tmp_path):
    weights.export_hf(dataclasses.replace(checkpoint, tokenizer=None), tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_an_occupied_folder_is_refused_and_untouched(checkpoint, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("x")
    with pytest.raises(InputError, match="must be new or an empty folder"):
        weights.export_hf(checkpoint, tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(checkpoint, tmp_path):
    heads = checkpoint.config.with_layers([LayerShape(2, 2, 96), LayerShape(4, 2, 96)])
    params = random_params(heads, np.dtype(np.float32))
    uneven = dataclasses.replace(checkpoint, config=heads, params=params)
    dropped = {**checkpoint.params, "layers": checkpoint.params["layers"][:1]}
    half = {"scale": np.ones(64, ml_dtypes.bfloat16)}
    for wrong, message in (
        (uneven, "one number of heads for all layers"),
        (
            dataclasses.replace(checkpoint, params=dropped),
            "9 missing: layers/1/attention/q_proj/kernel",
        ),
        (
            dataclasses.replace(checkpoint, params={**checkpoint.params, "final_norm": half}),
            "must have one dtype; got bfloat16, float32",
        ),
    ):
        with pytest.raises(InputError, match=message):
            weights.export_hf(wrong, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []

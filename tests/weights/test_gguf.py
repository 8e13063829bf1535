import json

import gguf
import numpy as np
import pytest

from jaxanatomy import tree, weights
from jaxanatomy.errors import InputError
from jaxanatomy.model import parameter_count
from jaxanatomy.weights.gguf import QUANTISATIONS, Reader, dequantize, metadata, open_gguf

QUANTIZABLE = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


def assert_same_leaves(params, expected):
    params, expected = tree.to_leaves(params), tree.to_leaves(expected)
    assert list(params) == list(expected)
    for leaf, array in params.items():
        np.testing.assert_array_equal(array, expected[leaf], err_msg=leaf)


def test_a_written_model_is_read_back(checkpoint, write_gguf):
    path = write_gguf(checkpoint)
    loaded = weights.load(f"file:{path}")
    assert loaded.config == checkpoint.config
    assert_same_leaves(loaded.params, checkpoint.params)
    assert loaded.tokenizer.encode("hello world") == checkpoint.tokenizer.encode("hello world")
    assert (loaded.tokenizer.bos_id, loaded.tokenizer.eos_id) == (1, 0)
    assert loaded.id == f"file:{path}"


@pytest.mark.parametrize("kind", QUANTIZABLE)
def test_quantised_tensors_are_what_the_library_gives(kind, checkpoint, write_gguf):
    params = weights.load(f"file:{write_gguf(checkpoint, kind)}").params
    quantisation = gguf.GGMLQuantizationType[kind]

    def through_the_library(rows):
        quantised = gguf.quants.quantize(np.ascontiguousarray(rows), quantisation)
        return gguf.quants.dequantize(quantised, quantisation)

    for name, sublayer in (("v_proj", "attention"), ("down_proj", "mlp"), ("up_proj", "mlp")):
        kernel = params["layers"][1][sublayer][name]["kernel"]
        original = checkpoint.params["layers"][1][sublayer][name]["kernel"]
        np.testing.assert_array_equal(kernel, through_the_library(original.T).T)
        assert kernel.flags.c_contiguous
    embedding = checkpoint.params["embed"]["embedding"]
    np.testing.assert_array_equal(params["embed"]["embedding"], through_the_library(embedding))


def test_query_rows_are_in_the_order_of_hugging_face(checkpoint, write_gguf):
    def number_rows(arrays, fields):
        for name in ("attn_q", "attn_k"):
            array = arrays[f"blk.0.{name}.weight"]
            array[:] = np.arange(len(array), dtype=np.float32)[:, None]

    params = weights.load(f"file:{write_gguf(checkpoint, change=number_rows)}").params
    head = [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]  # of width 16
    for name, heads in (("q_proj", 4), ("k_proj", 2)):
        kernel = params["layers"][0]["attention"][name]["kernel"]
        assert kernel[5].tolist() == [16 * h + row for h in range(heads) for row in head]


@pytest.mark.parametrize("kind", QUANTISATIONS)
def test_blocks_of_any_quantisation_are_what_the_library_gives(kind):
    quantisation = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[quantisation]
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 60, (37, 512 // block * size), np.uint8)  # scales stay finite
    if kind in ("F32", "F16"):
        rows = rng.normal(size=(37, 512)).astype({"F32": "f4", "F16": "f2"}[kind])
    expected = gguf.quants.dequantize(rows, quantisation)
    assert expected.shape == (37, 512)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(dequantize(rows, kind), expected)


def test_metadata_is_what_the_library_reads(checkpoint, write_gguf):
    path = write_gguf(checkpoint)
    fields = metadata(Reader(path))
    slow = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
    assert fields == slow
    assert len(fields["tokenizer.ggml.merges"]) == 7


def test_a_truncated_file_is_refused_wherever_it_ends(checkpoint, write_gguf, tmp_path):
    content = write_gguf(checkpoint).read_bytes()
    path = tmp_path / "short.gguf"
    cuts = [0, 3, 7, 20, 100, 3000, 5000, 8000, len(content) // 2, len(content) - 70]
    for cut in cuts:
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match=r"short.gguf must be a complete GGUF file; .*; fetch"):
            open_gguf(path, "x")


@pytest.mark.parametrize("position", [0, 4, 8, 16, 24, 70])
def test_a_corrupt_header_is_refused(position, checkpoint, write_gguf):
    path = write_gguf(checkpoint)
    content = bytearray(path.read_bytes())
    content[position : position + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(InputError, match="must be a complete GGUF file"):
        open_gguf(path, "x")


def test_a_quantisation_that_is_not_understood_is_named(checkpoint, write_gguf, monkeypatch):
    path = write_gguf(checkpoint, "Q4_0")
    monkeypatch.setattr("jaxanatomy.weights.gguf.QUANTISATIONS", ("F32", "Q8_0"))
    with pytest.raises(InputError, match=r"stores token_embd.weight as Q4_0; understood are F32"):
        open_gguf(path, "x")
    assert "IQ4_XS" not in QUANTISATIONS


def test_tensors_that_do_not_fit_are_named(checkpoint, write_gguf):
    def change(arrays, fields):
        del arrays["blk.1.attn_k.weight"]
        arrays["blk.1.attn_q.bias"] = np.ones(64, np.float32)
        arrays["output_norm.weight"] = np.ones(32, np.float32)

    path = write_gguf(checkpoint, change=change)
    with pytest.raises(InputError) as caught:
        weights.load(f"file:{path}")
    for part in ("missing: blk.1.attn_k", "architecture: blk.1.attn_q.bias", "(32,) instead of"):
        assert part in str(caught.value)


def test_a_nan_is_named(checkpoint, write_gguf):
    def change(arrays, fields):
        arrays["blk.1.ffn_up.weight"][3, 4] = np.nan

    with pytest.raises(InputError, match=r"NaN or Inf as float32 in blk.1.ffn_up.weight"):
        weights.load(f"file:{write_gguf(checkpoint, change=change)}")


def test_tokens_without_rows_may_be_known(checkpoint, write_gguf):
    def change(arrays, fields):
        arrays["token_embd.weight"] = arrays["token_embd.weight"][:200]
        arrays["output.weight"] = arrays["output.weight"][:200]

    model = weights.load(f"file:{write_gguf(checkpoint, change=change)}")
    assert (model.tokenizer.vocab_size, model.config.vocab_size) == (265, 200)


@pytest.mark.real
def test_the_default_model():
    checkpoint = weights.load()
    config = checkpoint.config
    assert parameter_count(config) == 134_515_008
    assert (config.num_layers, config.rope_theta, config.norm_epsilon) == (30, 1e5, 1e-5)
    assert json.dumps(checkpoint.sha256) == f'"{weights_sha256()}"'
    text = "Water boils at one hundred degrees Celsius at sea level."
    ids = checkpoint.tokenizer.encode(text)
    assert checkpoint.tokenizer.decode(ids) == text
    assert checkpoint.tokenizer.encode("123") == [33, 34, 35]
    assert checkpoint.tokenizer.encode("<|im_end|>") == [2]


def weights_sha256():
    from jaxanatomy.weights.sources import KNOWN_SHA256

    return KNOWN_SHA256[weights.DEFAULT_MODEL]

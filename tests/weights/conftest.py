"""Tiny random models and the files that hold them."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import safetensors.numpy
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.weights import families, gguf_config, hf_config
from jaxanatomy.weights.checkpoint import Checkpoint
from jaxanatomy.weights.export import stored_arrays
from jaxanatomy.weights.random_init import random_params
from jaxanatomy.weights.tensors import is_kernel
from jaxanatomy.weights.tokenizer import Tokenizer

TOKENS = ["<|endoftext|>", "<|im_start|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
MERGES = ["h e", "l l", "he ll", "Ġ w", "1 2", "12 3", "hell o"]
TOKENS += [merge.replace(" ", "") for merge in MERGES]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch, request):
    """A cache of the test's own, except where the real model is used."""
    if request.node.get_closest_marker("real"):
        return None
    monkeypatch.setenv("JAXANATOMY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tokenizer():
    vocabulary = {token: index for index, token in enumerate(TOKENS)}
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(TOKENS[:2])
    return Tokenizer(backend, 1, 0)


@pytest.fixture
def config():
    sizes = {"vocab_size": 320, "hidden_size": 64, "head_dim": 16}
    return ModelConfig.uniform(2, 4, 2, 96, rope_theta=1e5, tie_embeddings=False, **sizes)


@pytest.fixture
def checkpoint(config, tokenizer):
    params = random_params(config, np.dtype(np.float32), seed=7)
    for block in params["layers"]:  # norms that differ, so that a mix-up is seen
        block["mlp_norm"]["scale"] += np.linspace(0, 1, 64, dtype=np.float32)
    return Checkpoint(config, params, tokenizer, "tiny", "0" * 64)


@pytest.fixture
def write_folder(tmp_path):
    """Writes a checkpoint as a Hugging Face folder; `change` edits the tensors first."""

    def write(checkpoint, change=lambda arrays: None, name="folder", **fields) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        arrays = stored_arrays(tree.to_leaves(checkpoint.params), checkpoint.config)
        change(arrays)
        safetensors.numpy.save_file(arrays, folder / "model.safetensors", {"format": "pt"})
        settings = {**hf_config.to_config(checkpoint.config), **fields}
        (folder / "config.json").write_text(json.dumps(settings))
        if checkpoint.tokenizer is not None:
            checkpoint.tokenizer.backend.save(str(folder / "tokenizer.json"))
        return folder

    return write


@pytest.fixture
def write_gguf(tmp_path):
    """Writes a checkpoint as a GGUF; `change` edits (arrays, fields) first."""

    def write(checkpoint, kind="F32", change=lambda arrays, fields: None) -> Path:
        path = tmp_path / f"tiny-{kind}.gguf"
        arrays, fields = gguf_arrays(checkpoint), gguf_fields(checkpoint.config)
        change(arrays, fields)
        _write_gguf(path, kind, arrays, fields, families.of(checkpoint.config).gguf)
        return path

    return write


@pytest.fixture
def write_gguf_parts(tmp_path):
    """Writes a checkpoint as `count` files as llama-gguf-split does: metadata in the first."""

    def write(checkpoint, count) -> list[Path]:
        arrays, fields = gguf_arrays(checkpoint), gguf_fields(checkpoint.config)
        paths, integer = [], gguf.GGUFValueType.UINT16
        for part in range(count):
            paths.append(tmp_path / f"m-{part + 1:05}-of-{count:05}.gguf")
            split = {"split.no": (part, integer), "split.count": (count, integer)}
            own = dict(list(arrays.items())[part::count])
            _write_gguf(paths[-1], "F32", own, split | (fields if part == 0 else {}))
        return paths

    return write


def _write_gguf(path, kind, arrays, fields, architecture="llama"):
    writer = gguf.GGUFWriter(path, architecture)
    for key, (value, value_type) in fields.items():
        writer.add_key_value(key, value, value_type, *_item_type(value))
    for name, array in arrays.items():
        quantisation = gguf.GGMLQuantizationType["F32" if array.ndim == 1 else kind]
        data = gguf.quants.quantize(array, quantisation)
        writer.add_tensor(name, data, raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_arrays(checkpoint) -> dict[str, np.ndarray]:
    """Arrays as llama.cpp stores them, its permutation written as its converter does it."""
    config, arrays = checkpoint.config, {}
    names = gguf_config.names(config)
    heads = {"q_proj": config.layers[0].num_heads, "k_proj": config.layers[0].num_kv_heads}
    for leaf, array in tree.to_leaves(checkpoint.params).items():
        array = np.ascontiguousarray(array.T) if is_kernel(leaf) else array
        matrix = leaf.split("/")[-2]
        if matrix in heads and families.of(config).gguf == "llama":
            halves = array.reshape(heads[matrix], 2, config.head_dim // 2, -1)
            array = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))
        arrays[names[leaf]] = array
    return arrays


def gguf_fields(config) -> dict[str, tuple]:
    """Metadata by key: value and type."""
    integer, floating = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32
    text, array = gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY
    prefix = families.of(config).gguf
    return {
        f"{prefix}.block_count": (config.num_layers, integer),
        f"{prefix}.context_length": (config.context_length, integer),
        f"{prefix}.embedding_length": (config.hidden_size, integer),
        f"{prefix}.feed_forward_length": (config.layers[0].ffn_width, integer),
        f"{prefix}.attention.head_count": (config.layers[0].num_heads, integer),
        f"{prefix}.attention.head_count_kv": (config.layers[0].num_kv_heads, integer),
        f"{prefix}.attention.layer_norm_rms_epsilon": (config.norm_epsilon, floating),
        f"{prefix}.rope.freq_base": (config.rope_theta, floating),
        f"{prefix}.attention.key_length": (config.head_dim, integer),
        "tokenizer.ggml.model": ("gpt2", text),
        "tokenizer.ggml.pre": ("smollm", text),
        "tokenizer.ggml.tokens": (TOKENS, array),
        "tokenizer.ggml.token_type": ([3, 3] + [1] * (len(TOKENS) - 2), array),
        "tokenizer.ggml.merges": (MERGES, array),
        "tokenizer.ggml.bos_token_id": (1, integer),
        "tokenizer.ggml.eos_token_id": (0, integer),
    }


def _item_type(value) -> tuple:
    if not isinstance(value, list):
        return ()
    string = isinstance(value[0], str)
    return (gguf.GGUFValueType.STRING if string else gguf.GGUFValueType.INT32,)

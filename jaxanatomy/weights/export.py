"""Writing a model as a Hugging Face folder that transformers, vLLM and others read."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache, companions, hf_config, tensors, tokenizer_files
from jaxanatomy.weights.checkpoint import Checkpoint
from jaxanatomy.weights.tokenizer import Tokenizer


def export_hf(checkpoint: Checkpoint, folder: Path) -> Path:
    """Writes config.json, model.safetensors, the tokenizer's files and the model's companions.

    Of a model that was loaded only what was changed is written otherwise: in config.json the
    fields of the architecture that differ and the dtype; every other field and file, such as
    chat template, generation settings and special tokens, is as it came
    (`jaxanatomy.weights.companions` says which files stay behind).

    Layers with a narrower feed-forward are padded with zeros to the widest, which
    changes nothing in what the model computes; nor does LN-scaling, which is folded into the
    norms. The folder appears whole or not at all.

    Args:
      checkpoint: The model; its arrays keep their dtype.
      folder: A new or empty folder.

    Returns:
      The folder.

    Raises:
      InputError: The folder is occupied or cannot be written; the parameters do not
        fit the architecture, or transformers cannot express it; settings of the model count
        layers, and it has another number of them now.
    """
    checkpoint.require_tokenizer()
    config, params = tree.fold_norms(checkpoint.config, checkpoint.params)
    leaves = tree.to_leaves(params)
    found = {leaf: array.shape for leaf, array in leaves.items()}
    tensors.check_names(found, tensors.leaf_shapes(config), "the model")
    dtypes = {str(np.dtype(array.dtype)) for array in leaves.values()}
    if len(dtypes) > 1:
        raise InputError(f"a model to export must have one dtype; got {', '.join(sorted(dtypes))}")
    fields = _config_fields(checkpoint, config, dtypes.pop())
    with cache.new_folder(folder) as part:
        companions.write_files(checkpoint.companions, part)
        if checkpoint.companions.config.get("num_hidden_layers") not in (None, config.num_layers):
            companions.require_same_depth(part)
        if checkpoint.tokenizer is not None:
            _write_tokenizer(checkpoint.tokenizer, part, config)
        (part / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        arrays = stored_arrays(leaves, config)
        safetensors.numpy.save_file(arrays, part / "model.safetensors", {"format": "pt"})
        shutil.copymode(part / "config.json", part / "model.safetensors")  # else the owner's only
    return Path(folder)


def _config_fields(checkpoint: Checkpoint, config: ModelConfig, dtype: str) -> dict[str, Any]:
    """What config.json is to hold."""
    given, tokenizer = checkpoint.companions.config, checkpoint.tokenizer
    fields = hf_config.updated_config(given, config)
    for name in [name for name in ("torch_dtype", "dtype") if name in given] or ["dtype"]:
        fields[name] = dtype
    if not given and tokenizer is not None:
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        fields |= {name: value for name, value in ids.items() if value is not None}
    return fields


def as_dtype(checkpoint: Checkpoint, dtype: np.dtype) -> Checkpoint:
    """A model with its arrays in a dtype.

    Raises:
      InputError: Numbers that the dtype cannot hold, or that were not finite before.
    """
    with np.errstate(over="ignore"):  # what overflows is refused below
        leaves = {
            leaf: np.asarray(array).astype(dtype, copy=False)
            for leaf, array in tree.to_leaves(checkpoint.params).items()
        }
    params = tree.from_leaves(leaves)
    broken = tree.not_finite(params)
    if broken:
        raise InputError(
            f"the changed weights must be finite as {dtype}; NaN or Inf in "
            f"{', '.join(broken[:4])}; take dtype float32 or another change"
        )
    return dataclasses.replace(checkpoint, params=params)


def stored_arrays(leaves: dict[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """Arrays under Hugging Face's names: (out, in), FFN padded to the widest layer."""
    width = max(shape.ffn_width for shape in config.layers)
    wide = [dataclasses.replace(shape, ffn_width=width) for shape in config.layers]
    shapes, arrays = tensors.leaf_shapes(config.with_layers(wide)), {}
    for leaf, name in hf_config.names(config).items():
        array = np.asarray(leaves[leaf])
        missing = [(0, to - size) for to, size in zip(shapes[leaf], array.shape, strict=True)]
        if any(map(any, missing)):
            array = np.pad(array, missing)
        # safetensors writes the wrong values of an array that is not contiguous.
        arrays[name] = np.ascontiguousarray(array.T if tensors.is_kernel(leaf) else array)
    return arrays


def _write_tokenizer(tokenizer: Tokenizer, folder: Path, config: ModelConfig) -> None:
    for name, content in tokenizer_files.to_write(tokenizer, config.context_length).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

"""Writing a model as a Hugging Face folder that transformers, vLLM and others read."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache, tensors
from jaxanatomy.weights.checkpoint import Checkpoint
from jaxanatomy.weights.families import llama
from jaxanatomy.weights.tokenizer import Tokenizer


def export_hf(checkpoint: Checkpoint, folder: Path) -> Path:
    """Writes config.json, model.safetensors and the tokenizer's files.

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
        fit the architecture, or transformers cannot express it.
    """
    import safetensors.numpy

    config, params = tree.fold_norms(checkpoint.config, checkpoint.params)
    tokenizer = checkpoint.tokenizer
    fields = llama.to_config(config)
    leaves = tensors.to_leaves(params)
    found = {leaf: array.shape for leaf, array in leaves.items()}
    tensors.check_names(found, tensors.leaf_shapes(config), "the model")
    dtypes = {str(np.dtype(array.dtype)) for array in leaves.values()}
    if len(dtypes) > 1:
        raise InputError(f"a model to export must have one dtype; got {', '.join(sorted(dtypes))}")
    fields["dtype"] = dtypes.pop()
    if tokenizer is not None:
        fields |= {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    with cache.new_folder(folder) as part:
        _write_json(part / "config.json", fields)
        arrays = stored_arrays(leaves, config)
        safetensors.numpy.save_file(arrays, part / "model.safetensors", {"format": "pt"})
        shutil.copymode(part / "config.json", part / "model.safetensors")  # else the owner's only
        if tokenizer is not None:
            _write_tokenizer(tokenizer, part, config)
    return Path(folder)


def as_dtype(checkpoint: Checkpoint, dtype: np.dtype) -> Checkpoint:
    """A model with its arrays in a dtype.

    Raises:
      InputError: Numbers that the dtype cannot hold, or that were not finite before.
    """
    with np.errstate(over="ignore"):  # what overflows is refused below
        leaves = {
            leaf: np.asarray(array).astype(dtype, copy=False)
            for leaf, array in tensors.to_leaves(checkpoint.params).items()
        }
    broken = [leaf for leaf, array in leaves.items() if not np.isfinite(array).all()]
    if broken:
        raise InputError(
            f"the changed weights must be finite as {dtype}; NaN or Inf in "
            f"{', '.join(broken[:4])}; take dtype float32 or another change"
        )
    return dataclasses.replace(checkpoint, params=tensors.from_leaves(leaves))


def stored_arrays(leaves: dict[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """Arrays under Hugging Face's names: (out, in), FFN padded to the widest layer."""
    width = max(shape.ffn_width for shape in config.layers)
    arrays = {}
    for leaf, name in llama.names(config).items():
        array = np.asarray(leaves[leaf])
        if tensors.is_kernel(leaf):
            axis = {"gate_proj": 1, "up_proj": 1, "down_proj": 0}.get(leaf.rsplit("/", 1)[-1])
            array = (array if axis is None else _pad(array, axis, width)).T
        # safetensors writes the wrong values of an array that is not contiguous.
        arrays[name] = np.ascontiguousarray(array)
    return arrays


def _pad(array: np.ndarray, axis: int, width: int) -> np.ndarray:
    missing = [(0, 0), (0, 0)]
    missing[axis] = (0, width - array.shape[axis])
    return np.pad(array, missing)


def _write_tokenizer(tokenizer: Tokenizer, folder: Path, config: ModelConfig) -> None:
    (folder / "tokenizer.json").write_text(tokenizer.to_dict()["json"], encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.token(tokenizer.bos_id),
        "eos_token": tokenizer.token(tokenizer.eos_id),
        "model_max_length": config.context_length,
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / "tokenizer_config.json", settings)


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    text = json.dumps(
        {name: value for name, value in fields.items() if value is not None}, indent=2
    )
    path.write_text(text + "\n", encoding="utf-8")

"""Hugging Face folders: config.json, safetensors in one or several files, tokenizer."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from jaxanatomy.errors import InputError
from jaxanatomy.storage import read_json_object
from jaxanatomy.weights import cache, companions, folder_tokenizer, hf_config, tensors
from jaxanatomy.weights.checkpoint import Source
from jaxanatomy.weights.tokenizer_files import is_local_name

INDEX = "model.safetensors.index.json"
_DTYPES = ("F64", "F32", "F16", "BF16")
_ADAPTER = "adapter_config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def open_folder(folder: Path, model_id: str) -> Source:
    """A Hugging Face folder as a source.

    Args:
      folder: The folder.
      model_id: What the user asked for, for messages.

    Raises:
      InputError: A file is missing or damaged, the weights are pickled, or the
        configuration is not understood.
    """
    _require_model(folder)
    fields = read_json_object(
        folder / "config.json", f"{model_id} must be a Hugging Face folder; fetch it again"
    )
    config = hf_config.from_config(fields)
    paths = weight_files(folder)
    stored = hf_config.drop_redundant(_stored_tensors(paths), config)
    known = stored, hf_config.names(config), config
    return Source(
        id=model_id,
        config=config,
        read_tokenizer=functools.partial(folder_tokenizer.from_folder, folder),
        read_params=functools.partial(tensors.read_params, *known, where=str(folder)),
        read_blocks=functools.partial(tensors.read_blocks, *known, where=str(folder)),
        read_sha256=functools.partial(cache.files_sha256, paths),
        companions=companions.of_folder(folder, fields),
    )


def _require_model(folder: Path) -> None:
    """Names the remedy where a folder holds something else, or more, than one model."""
    if (folder / _ADAPTER).exists():
        raise InputError(
            f"{folder} has an adapter ({_ADAPTER}), which changes what the weights compute; merge "
            "it, for example with peft's merge_and_unload, or remove that file"
        )
    found = sorted(folder.glob("*.gguf"))
    if found and not (folder / "config.json").exists():
        raise InputError(
            f"{folder} has no config.json, but {found[0].name}; give that file: file:{found[0]}"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by its index where it has one.

    Raises:
      InputError: There are none, only pickles, or one that the index names is missing.
    """
    single = folder / "model.safetensors"
    if single.exists():
        return [single]
    if (folder / INDEX).exists():
        return _indexed_files(folder / INDEX)
    pickles = [path.name for pattern in PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise InputError(
            f"{folder} has its weights only as a pickle ({pickles[0]}), which can run code when "
            "it is read and is refused; convert it to safetensors where you trust it, for "
            "example with transformers' save_pretrained"
        )
    raise InputError(
        f"expected model.safetensors in {folder}; found none; fetch the model again, or ask its "
        "authors for safetensors if it has only pickles"
    )


def _indexed_files(index: Path) -> list[Path]:
    """The files that an index names; they lie in its folder and nowhere else."""
    folder = index.parent
    weight_map = read_json_object(index, "fetch it again").get("weight_map")
    if not (isinstance(weight_map, dict) and weight_map):
        raise InputError(f"{index} must have a weight_map; got none; fetch it again")
    names = list(dict.fromkeys(map(str, weight_map.values())))
    outside = [
        name for name in names if not is_local_name(name) or not name.endswith(".safetensors")
    ]
    if outside:
        raise InputError(
            f"{index} must name .safetensors files in its own folder; got {outside[0]!r:.100}; "
            "fetch it again, from where you trust it"
        )
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise InputError(
            f"{folder} must hold the files that its index names; missing: "
            f"{tensors.shorten(missing)}; fetch it again"
        )
    return sorted(folder / name for name in names)


def _stored_tensors(paths: list[Path]) -> dict[str, tensors.StoredTensor]:
    """All tensors of all files."""
    stored = {}
    for path in paths:
        for name, tensor in _open_safetensors(path).items():
            if name in stored:
                raise InputError(
                    f"{tensors.shorten([name])} is in two files, one of them {path}; remove one"
                )
            stored[name] = tensor
    return stored


def _open_safetensors(path: Path) -> dict[str, tensors.StoredTensor]:
    try:
        file = safetensors.safe_open(path, "numpy")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # the library's own, the system's, and those of its Rust
        raise InputError(
            f"{path} must be a complete safetensors file; {str(error).splitlines()[0]:.200}; "
            "fetch it again"
        ) from error
    for name, rows in slices.items():
        if rows.get_dtype() not in _DTYPES:
            raise InputError(
                f"{path} stores {tensors.shorten([name])} as {rows.get_dtype()}; understood are "
                f"{', '.join(_DTYPES)}; integers and 8-bit floats need the scales of a "
                "quantisation: use the checkpoint in floating point"
            )
    return {
        name: tensors.StoredTensor(tuple(rows.get_shape()), _row_reader(rows))
        for name, rows in slices.items()
    }


def _row_reader(rows: Any) -> Callable[[int, int], np.ndarray]:
    return lambda start, stop: rows[start:stop]

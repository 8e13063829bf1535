"""Hugging Face folders: config.json, safetensors in one or several files, tokenizer."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache, companions, families, folder_tokenizer, tensors
from jaxanatomy.weights.checkpoint import Source

_DTYPES = ("F32", "F16", "BF16")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def open_folder(folder: Path, model_id: str) -> Source:
    """A Hugging Face folder as a source.

    Args:
      folder: The folder.
      model_id: What the user asked for, for messages.

    Raises:
      InputError: A file is missing or damaged, the weights are pickled, or the
        configuration is not understood.
    """
    fields = read_json(folder / "config.json", f"the folder of {model_id}")
    family = families.for_config(fields)
    config = family.from_config(fields)
    paths = weight_files(folder)
    stored = family.drop_redundant(_stored_tensors(paths), config)
    return Source(
        id=model_id,
        config=config,
        read_tokenizer=functools.partial(folder_tokenizer.from_folder, folder),
        read_params=functools.partial(_read_params, family, stored, config, folder),
        read_sha256=functools.partial(cache.files_sha256, paths),
        companions=companions.of_folder(folder, fields),
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by its index where it has one.

    Raises:
      InputError: There are none, only pickles, or one that the index names is missing.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.exists():
        return [single]
    if index.exists():
        weight_map = read_json(index, "the index of the weights").get("weight_map")
        if not (isinstance(weight_map, dict) and weight_map):
            raise InputError(f"{index} must have a weight_map; got none; fetch it again")
        paths = sorted({folder / name for name in weight_map.values()})
        missing = [path.name for path in paths if not path.exists()]
        if missing:
            raise InputError(
                f"{folder} must hold the files that its index names; missing: "
                f"{', '.join(missing[:4])}; fetch it again"
            )
        return paths
    pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
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


def read_json(path: Path, owner: str) -> dict[str, Any]:
    """A JSON object from a file; InputError when it is missing or damaged."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{owner} must have {path.name}; none at {path}; check the path"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} must be JSON; {error}; fetch it again") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path} must hold a JSON object; got {type(fields).__name__}")
    return fields


def _read_params(
    family: Any,
    stored: Mapping[str, tensors.StoredTensor],
    config: ModelConfig,
    folder: Path,
    dtype: np.dtype,
) -> tensors.Params:
    names = family.names(config)
    return tensors.read_params(stored, names, config, dtype, where=str(folder))


def _stored_tensors(paths: list[Path]) -> dict[str, tensors.StoredTensor]:
    """All tensors of all files."""
    stored = {}
    for path in paths:
        for name, tensor in _open_safetensors(path).items():
            if name in stored:
                raise InputError(f"{name} is in two files, one of them {path}; remove one")
            stored[name] = tensor
    return stored


def _open_safetensors(path: Path) -> dict[str, tensors.StoredTensor]:
    import safetensors

    try:
        file = safetensors.safe_open(path, "numpy")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(
            f"{path} must be a complete safetensors file; {error}; fetch it again"
        ) from error
    for name, rows in slices.items():
        if rows.get_dtype() not in _DTYPES:
            raise InputError(
                f"{path} stores {name} as {rows.get_dtype()}; understood are "
                f"{', '.join(_DTYPES)}; use a checkpoint that is not quantised"
            )
    return {
        name: tensors.StoredTensor(tuple(rows.get_shape()), _row_reader(rows))
        for name, rows in slices.items()
    }


def _row_reader(rows: Any) -> Callable[[int, int], np.ndarray]:
    return lambda start, stop: rows[start:stop]

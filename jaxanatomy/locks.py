"""The lock of a run's folder: one process at a time for each of its files."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from jaxanatomy.errors import InputError
from jaxanatomy.storage import write_here


@contextlib.contextmanager
def exclusive(folder: Path, process_index: int) -> Iterator[None]:
    """Holds the lock of one process of a run, or refuses; a kill releases it."""
    _refuse_links(folder)
    suffix = f".{process_index}" if process_index else ""
    lock = filelock.FileLock(folder / f".lock{suffix}", timeout=0)
    holder = folder / f".holder{suffix}"
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InputError(
            f"expected a workdir that is not in use; {folder} is being written by "
            f"{_read_holder(holder)}; wait for it or choose another workdir"
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        write_here(holder, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _read_holder(holder: Path) -> str:
    try:
        return holder.read_text() or "another process"
    except OSError:
        return "another process"


def unwritable(folder: Path, error: OSError) -> InputError:
    """The refusal of a folder that cannot be written."""
    return InputError(
        f"expected a workdir that can be written; {folder}: {error.strerror or error}; "
        "choose another workdir"
    )


def _refuse_links(folder: Path) -> None:
    """Refuses links in the place of files that are written in place: they may lead anywhere."""
    for pattern in (".lock*", ".holder*", "rows*.jsonl"):
        for path in folder.glob(pattern):
            if path.is_symlink():
                raise InputError(
                    f"expected files of the run itself in {folder}; {path.name} is a link; put the "
                    "file in its place, or choose another workdir"
                )

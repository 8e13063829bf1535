"""Files that are either whole or absent, and what they are read back as."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxanatomy.checksums import unseal
from jaxanatomy.errors import InputError
from jaxanatomy.plain_json import parse_json

TEMPORARY_PREFIX = ".writing-"


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path beside `path` that replaces it when the block ends well.

    A reader sees the old file or the new one, never a part; when the block raises, the
    old file stays. The temporary name keeps the suffix, since savers look at it.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    temporary.unlink(missing_ok=True)  # of a killed process of this number, or a link
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json_object(
    path: str | os.PathLike, remedy: str = "mend the file or fetch it anew"
) -> dict[str, Any]:
    """A file that holds one JSON object.

    Args:
      path: The file.
      remedy: What the user can do where it cannot be read.

    Raises:
      InputError: It is absent, no file, unreadable, or holds anything else.
    """
    try:
        value = parse_json(read_file(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"expected a JSON object in {path}; cannot read it: {reason}; {remedy}"
        ) from error
    if not isinstance(value, dict):
        kind = "null" if value is None else f"a {type(value).__name__}"
        raise InputError(f"expected a JSON object in {path}; it holds {kind}; {remedy}")
    return value


def read_file(path: str | os.PathLike) -> bytes:
    """The content of a file.

    Raises:
      OSError: It cannot be read, or is a pipe or a device, which might never end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
    return Path(path).read_bytes()


def read_sealed(path: str | os.PathLike, remedy: str) -> dict[str, Any]:
    """A file that holds one JSON object with its checksum; without the checksum.

    Args:
      path: The file.
      remedy: What the user can do where it is damaged.

    Raises:
      InputError: It cannot be read, or its checksum is not that of what it says.
    """
    fields = read_json_object(path, remedy)
    try:
        return unseal(fields)
    except ValueError as error:
        raise InputError(
            f"expected {path} as it was written; it is damaged: {error}; {remedy}"
        ) from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, without their checksums; none if the file is absent.

    A last line without its newline was torn by a kill and is left out.

    Raises:
      InputError: The file cannot be read, or other lines are not rows as they were written;
        the message has their numbers.
    """
    try:
        whole, newline, _ = read_file(path).rpartition(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"expected the rows of a run in {path}; cannot read it: {error.strerror}; make it "
            "readable or choose another workdir"
        ) from error
    rows, damage = [], {}
    for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
        try:
            rows.append(_row(line))
        except ValueError as error:
            damage[number] = str(error)
    if damage:
        raise _damaged_lines(path, damage)
    return rows


def drop_torn_line(path: Path) -> None:
    """Cuts off what stands after the last newline, in one system call."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def write_here(path: Path, text: str) -> None:
    """Writes a text in the place of a file; never through a link, which may lead anywhere."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o666), "w", encoding="utf-8") as file:
        file.write(text)


def append_bytes(path: Path, content: bytes) -> None:
    """Appends and syncs; a write that fails halfway (a full disk) leaves the file as it was."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, content)
            while written < len(content):  # the system may take less than it was given
                written += os.write(descriptor, content[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _row(line: bytes) -> dict[str, Any]:
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    row = unseal(row)
    if not isinstance(row.get("hash"), str):
        raise ValueError("it has no 'hash'")
    return row


def _damaged_lines(path: Path, damage: dict[int, str]) -> InputError:
    """The refusal of a file, with the numbers of its damaged lines and what is wrong first."""
    numbers = [str(number) for number in damage]
    first = f"line {numbers[0]} of {path} is damaged: {next(iter(damage.values()))}"
    if len(numbers) == 1:
        return InputError(
            f"{first}; delete the line and start the run again: what it said is measured anew"
        )
    others = ", ".join(numbers[1:11]) + (", ..." if len(numbers) > 11 else "")
    return InputError(
        f"{first}; so are {len(numbers) - 1} more ({others}); delete these lines and start the "
        "run again: what they said is measured anew"
    )

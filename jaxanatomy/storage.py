"""Files that are either whole or absent, and JSON that is plain and finite."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxanatomy.errors import InputError

TEMPORARY_PREFIX = ".writing-"


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path beside `path` that replaces it when the block ends well.

    A reader sees the old file or the new one, never a part; when the block raises, the
    old file stays. The temporary name keeps the suffix, since savers look at it.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def to_json(value: Any, **options: Any) -> str:
    """JSON text of plain values, NumPy and JAX arrays and paths.

    Raises:
      ValueError: A float is not finite; its place in `value` is named. Such values are
        written as null with a field "reason".
      TypeError: A type that has no JSON.
    """
    try:
        return json.dumps(value, default=_plain, allow_nan=False, **options)
    except ValueError as error:
        place = _non_finite_place(value)
        if place is None:
            raise
        raise ValueError(
            f"expected finite numbers; {place} is not; write null and a field 'reason'"
        ) from error


def read_json_object(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object.

    Raises:
      InputError: The file cannot be read or holds anything else.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"expected a JSON object in {path}; cannot read it: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object in {path}; it holds a {type(value).__name__}")
    return value


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file; none if the file is absent.

    A last line without its newline was torn by a kill and is left out.

    Raises:
      InputError: Another line is not a JSON object with a `hash`; the message has its number.
    """
    try:
        whole, _, _ = path.read_bytes().rpartition(b"\n")
    except FileNotFoundError:
        return []
    lines = whole.split(b"\n") if whole else []
    return [_row(line, path, number) for number, line in enumerate(lines, start=1)]


def drop_torn_line(path: Path) -> None:
    """Cuts off what stands after the last newline, in one system call."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def append_bytes(path: Path, content: bytes) -> None:
    """Appends and syncs; a write that fails halfway (a full disk) leaves the file as it was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
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


def _row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("hash"), str):
        raise InputError(
            f"expected a JSON object with a 'hash' in line {number} of {path}; "
            f"got {line[:40].decode(errors='replace')!r}; delete the line or choose another workdir"
        )
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy and JAX, scalars and arrays
        return value.tolist()
    raise TypeError(f"no JSON for a {type(value).__name__}: {value!r}")


def _non_finite_place(value: Any, place: str = "") -> str | None:
    """Where the first infinite or undefined number stands, such as "ci95[0] = nan"."""
    if isinstance(value, dict):
        parts = ((f"{place}.{key}" if place else str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        parts = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    elif hasattr(value, "tolist") and not isinstance(value, float):
        plain = value.tolist()
        return None if plain is value else _non_finite_place(plain, place)
    else:
        is_bad = isinstance(value, float) and not math.isfinite(value)
        return f"{place or 'the value'} = {value}" if is_bad else None
    return next(filter(None, (_non_finite_place(item, where) for where, item in parts)), None)

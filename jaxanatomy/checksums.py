"""Objects and arrays that carry a checksum of what they say, so that damage is never believed."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxanatomy.plain_json import parse_json, to_json

CHECKSUM = "checksum"


def seal(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as a reader will see them, for instance with lists for tuples, and a checksum.

    Raises:
      ValueError: A number is not finite, or a text is not UTF-8.
      TypeError: A type that has no JSON.
    """
    plain = parse_json(to_json(dict(fields)))
    return {**plain, CHECKSUM: _checksum(plain)}


def unseal(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What was sealed, without the checksum.

    Raises:
      ValueError: There is no checksum, or it is that of other fields.
    """
    plain = {name: value for name, value in fields.items() if name != CHECKSUM}
    if CHECKSUM not in fields:
        raise ValueError("it has no checksum")
    if fields[CHECKSUM] != _checksum(plain):
        raise ValueError("its checksum is not that of what it says")
    return plain


def sealed_line(row: Mapping[str, Any]) -> str:
    """A row as a line of a JSON Lines file."""
    return to_json(seal(row)) + "\n"


def arrays_checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """CRC-32 of the names, types, shapes and values of arrays, 8 hexadecimal digits."""
    value = 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        value = zlib.crc32(f"{name} {array.dtype.str} {array.shape}\n".encode(), value)
        value = zlib.crc32(array.tobytes(), value)
    return f"{value:08x}"


def _checksum(plain: Mapping[str, Any]) -> str:
    """CRC-32 of the canonical JSON, 8 hexadecimal digits: it sees every flip of up to 3 bits."""
    text = to_json(plain, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"

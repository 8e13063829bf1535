"""GGUF files: metadata and tokenizer in a tenth of a second, tensors piece by piece."""

import functools
import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache, companions, gguf_config, gguf_tokenizer, tensors
from jaxanatomy.weights.checkpoint import Source

# The quantisations whose values are compared with the library's own in tests.
QUANTISATIONS = (
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
)  # fmt: skip

_ARRAY, _STRING = gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING
_UNKNOWN_KIND = re.compile(r"(\d+)\)? is not a valid GGMLQuantizationType")
_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf")


class Reader(gguf.GGUFReader):
    """The library's reader, except that an array of metadata is read as one piece.

    The library makes three NumPy views for each of the 98,000 strings of a vocabulary
    and its merges, which takes two seconds. An array that ends after the file is found
    by what is read next: the descriptions of the tensors.
    """

    def _get_field_parts(self, orig_offs, raw_type):
        if raw_type != _ARRAY or self.byte_order != "I":
            return super()._get_field_parts(orig_offs, raw_type)
        item = gguf.GGUFValueType(int(self._get(orig_offs, np.uint32)[0]))
        count = int(self._get(orig_offs + 4, np.uint64)[0])
        offset = orig_offs + 12
        if item == _STRING:
            values, end = _strings(memoryview(self.data), offset, count)
        elif item in self.gguf_scalar_to_np:
            array = self._get(offset, self.gguf_scalar_to_np[item], count)
            values, end = array.tolist(), offset + array.nbytes
        else:
            return super()._get_field_parts(orig_offs, raw_type)
        return end - orig_offs, [values], [0], [_ARRAY, item]


def metadata(reader: gguf.GGUFReader) -> dict[str, Any]:
    """All fields of a file as plain Python values."""
    return {
        name: field.parts[-1] if isinstance(field.parts[-1], list) else field.contents()
        for name, field in reader.fields.items()
    }


def open_gguf(path: Path, model_id: str, pin: str | None = None) -> Source:
    """A GGUF file as a source; of a split one all parts, which lie beside each other.

    Args:
      path: The file, or a part of it.
      model_id: What the user asked for, for messages.
      pin: The SHA-256 that the bytes must have, or None.

    Raises:
      InputError: It is missing, truncated, damaged or big-endian, lacks parts, or is of an
        architecture, configuration or quantisation that is not understood.
    """
    reader, fields = _read(path)
    paths = _parts(path, fields)
    if len(paths) > 1:
        parts = [_read(part) for part in paths]
        readers, fields = [part for part, _ in parts], parts[0][1]
    else:
        readers = [reader]
    config, stored = gguf_config.from_metadata(fields, _stored_tensors(readers, paths))
    read_sha256 = functools.partial(cache.files_sha256, paths)
    if pin is not None:
        read_sha256 = functools.partial(_pinned_sha256, reader.data, path, pin, model_id)
    known = stored, gguf_config.names(config), config
    how = {"where": str(path), "row_orders": gguf_config.row_orders(config)}
    return Source(
        id=model_id,
        config=config,
        read_tokenizer=functools.partial(gguf_tokenizer.from_gguf, fields),
        read_params=functools.partial(tensors.read_params, *known, **how),
        read_blocks=functools.partial(tensors.read_blocks, *known, **how),
        read_sha256=read_sha256,
        companions=companions.of_gguf(fields),
    )


def _read(path: Path) -> tuple[Reader, dict[str, Any]]:
    """A file and its metadata."""
    _require_little_endian(path)
    try:
        reader = Reader(path)
        return reader, metadata(reader)
    except Exception as error:  # a damaged file fails anywhere in the library, in any way
        if kind := _UNKNOWN_KIND.search(str(error)):
            raise InputError(
                f"{path} stores a tensor in quantisation {kind[1]}, of which this version of the "
                f"gguf package knows nothing; understood are {', '.join(QUANTISATIONS)}; take a "
                "file with one of these"
            ) from error
        raise InputError(
            f"{path} must be a complete GGUF file; its {path.stat().st_size:,} bytes are cut off "
            f"or damaged ({str(error)[:100]!r}); fetch it again"
        ) from error


def _require_little_endian(path: Path) -> None:
    """The version, a small number after the magic, shows the byte order."""
    with open(path, "rb") as file:
        head = file.read(8)
    if head[:4] in (b"GGUF", b"FUGG") and head[4:6] == b"\0\0" and head[6:8] != b"\0\0":
        raise InputError(
            f"{path} is big-endian, made for machines such as s390x; expected little-endian; "
            "convert it with the gguf package: gguf-convert-endian FILE little"
        )


def _parts(path: Path, fields: Mapping[str, Any]) -> list[Path]:
    """All files of a model, first to last, from the metadata of any of them."""
    count = fields.get("split.count", 0)
    if count in (0, 1):
        return [path]
    join = f"join its parts into one file: llama-gguf-split --merge {path.name} whole.gguf"
    name = _PART.fullmatch(path.name)
    if name is None or int(name["count"]) != count:
        raise InputError(
            f"{path} is one of {count!r:.20} parts of a split GGUF, which are named "
            f"NAME-00001-of-0000N.gguf; got another name; give it its name back, or {join}"
        )
    paths = [
        path.with_name(f"{name['stem']}-{part:05}-of-{count:05}.gguf")
        for part in range(1, count + 1)
    ]
    if missing := [part.name for part in paths if not part.is_file()]:
        raise InputError(
            f"{path} is one of {count} parts of a split GGUF; missing beside it: "
            f"{tensors.shorten(missing)}; fetch them, or {join}"
        )
    return paths


def _stored_tensors(
    readers: Sequence[Reader], paths: Sequence[Path]
) -> dict[str, tensors.StoredTensor]:
    stored = {}
    for reader, path in zip(readers, paths, strict=True):
        for tensor in reader.tensors:
            if tensor.name in stored:
                raise InputError(
                    f"{tensors.shorten([tensor.name])} is in two parts of the GGUF, one of them "
                    f"{path}; fetch them again"
                )
            stored[tensor.name] = _stored(tensor, path)
    return stored


def _pinned_sha256(data: np.ndarray, path: Path, pin: str, model_id: str) -> str:
    """The hash of the bytes that are in use, which must be the pinned one."""
    found = hashlib.sha256(data).hexdigest()
    cache.check_sha256(found, pin, model_id, f"delete {path.parent} and run again")
    return found


def _stored(tensor: gguf.ReaderTensor, path: Path) -> tensors.StoredTensor:
    """A tensor that is dequantised when its rows are read."""
    kind = tensor.tensor_type.name
    if kind not in QUANTISATIONS:
        raise InputError(
            f"{path} stores {tensors.shorten([tensor.name])} as {kind}; understood are "
            f"{', '.join(QUANTISATIONS)}; use a file with one of these"
        )
    data, shape = np.asarray(tensor.data), tuple(int(size) for size in tensor.shape[::-1])
    return tensors.StoredTensor(shape, lambda start, stop: dequantize(data[start:stop], kind))


def dequantize(rows: np.ndarray, kind: str) -> np.ndarray:
    """Rows of a stored tensor as numbers.

    Args:
      rows: Values for F32 and F16, else the bytes of whole blocks.
      kind: One of `QUANTISATIONS`.

    Returns:
      float16 for F16, else float32; whole rows.
    """
    if kind in ("F32", "F16"):
        return rows
    # All blocks in one call: `gguf.quants.dequantize` goes by 16 rows, where Python's
    # share of the time keeps a second thread from helping.
    quantisation = getattr(gguf.quants, kind)
    blocks = quantisation.dequantize_blocks(rows.reshape(-1, quantisation.type_size))
    width = rows.shape[-1] // quantisation.type_size * quantisation.block_size
    return blocks.reshape(*rows.shape[:-1], width)


def _strings(data: memoryview, offset: int, count: int) -> tuple[list[str], int]:
    """`count` strings, each after its length in eight bytes, and where they end."""
    values = []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, offset)
        start, offset = offset + 8, offset + 8 + length
        values.append(str(data[start:offset], "utf-8"))
    return values, offset

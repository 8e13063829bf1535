"""GGUF files: metadata and tokenizer in a tenth of a second, tensors piece by piece."""

import functools
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache, companions, families, gguf_tokenizer, tensors
from jaxanatomy.weights.checkpoint import Source

# The quantisations whose values are compared with the library's own in tests.
QUANTISATIONS = (
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
)  # fmt: skip

_ARRAY, _STRING = gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING
_BROKEN = (ValueError, IndexError, KeyError, OverflowError, struct.error, MemoryError)


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


def open_gguf(path: Path, model_id: str) -> Source:
    """A GGUF file as a source.

    Args:
      path: The file.
      model_id: What the user asked for, for messages.

    Raises:
      InputError: It is missing, truncated or damaged, or of an architecture,
        configuration or quantisation that is not understood.
    """
    try:
        reader = Reader(path)
        fields = metadata(reader)
    except _BROKEN as error:
        raise InputError(
            f"{path} must be a complete GGUF file; its {path.stat().st_size:,} bytes are cut off "
            f"or damaged ({str(error)[:100]}); fetch it again"
        ) from error
    family = families.for_gguf(fields.get("general.architecture"))
    stored = {tensor.name: _stored(tensor, path) for tensor in reader.tensors}
    config, stored = family.from_metadata(fields, stored)
    return Source(
        id=model_id,
        config=config,
        read_tokenizer=functools.partial(gguf_tokenizer.from_gguf, fields),
        read_params=functools.partial(_read_params, family, stored, config, path),
        read_sha256=functools.partial(cache.file_sha256, path),
        companions=companions.of_gguf(fields),
    )


def _read_params(
    family: Any,
    stored: Mapping[str, tensors.StoredTensor],
    config: ModelConfig,
    path: Path,
    dtype: np.dtype,
) -> tensors.Params:
    return tensors.read_params(
        stored,
        family.names(config),
        config,
        dtype,
        where=str(path),
        row_orders=family.row_orders(config),
    )


def _stored(tensor: gguf.ReaderTensor, path: Path) -> tensors.StoredTensor:
    """A tensor that is dequantised when its rows are read."""
    kind = tensor.tensor_type.name
    if kind not in QUANTISATIONS:
        raise InputError(
            f"{path} stores {tensor.name} as {kind}; understood are {', '.join(QUANTISATIONS)}; "
            "use a file with one of these"
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

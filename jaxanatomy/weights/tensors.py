"""From named tensors on disk to the parameter tree, with a two-sided check of names.

Every leaf of the tree is named by its path (`tree.to_leaves`), such as
"layers/3/attention/q_proj/kernel". A model family says under which name a file stores each.
Files hold matrices as (out, in), the tree as (in, out), so matrices are transposed
on the way, in pieces that fit the processor's cache.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose

DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
_PIECE = 2**17  # elements read at once: half a megabyte of float32 stays in the cache
_ALIGNMENT = 64  # bytes
_NAMES_SHOWN, _NAME_SHOWN = 4, 100


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor on disk.

    Attributes:
      shape: As PyTorch has it: (out, in) for a matrix.
      read: `read(start, stop)` gives those rows as floating-point numbers.
    """

    shape: tuple[int, ...]
    read: Callable[[int, int], np.ndarray]


def parse_dtype(name: str) -> np.dtype:
    """The NumPy dtype of one of the names in `DTYPES`; InputError for others."""
    return DTYPES[choose("dtype", name, DTYPES)]


def leaf_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf of the tree, in the order of the forward pass."""
    return {
        leaf: array.shape for leaf, array in tree.to_leaves(model.abstract_params(config)).items()
    }


def is_kernel(leaf: str) -> bool:
    """Whether files store this leaf transposed."""
    return leaf.endswith("/kernel")


def check_names(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Raises InputError that lists every missing, extra and misshapen tensor.

    Args:
      found: Shapes by name, as they came.
      expected: Shapes by name, as the architecture asks for them.
      where: What holds the tensors, for the message.
    """
    misshapen = [
        f"{name} {tuple(found[name])} instead of {tuple(expected[name])}"
        for name in expected
        if name in found and tuple(found[name]) != tuple(expected[name])
    ]
    parts = {
        "missing": [name for name in expected if name not in found],
        "not known to this architecture": [name for name in found if name not in expected],
        "of another shape": misshapen,
    }
    report = [f"{len(names)} {what}: {shorten(names)}" for what, names in parts.items() if names]
    if report:
        raise InputError(
            f"tensors of {where} do not fit its configuration: {'; '.join(report)}; "
            "use a complete checkpoint of this architecture"
        )


def read_params(
    stored: Mapping[str, StoredTensor],
    names: Mapping[str, str],
    config: ModelConfig,
    dtype: np.dtype,
    *,
    where: str,
    row_orders: Mapping[str, np.ndarray] | None = None,
) -> tree.Params:
    """Reads, checks and transposes all tensors, in threads.

    Args:
      stored: Tensors by the names of the file.
      names: The file's name for each leaf.
      config: The architecture, which fixes leaves and shapes.
      dtype: Of the arrays that are made.
      where: What holds the tensors, for messages.
      row_orders: For leaves whose rows are stored in another order: row r of the
        tensor is row `row_orders[leaf][r]` of the file.

    Raises:
      InputError: Names or shapes do not fit, or a value is NaN or infinite.
    """
    shapes = _checked_shapes(stored, names, config, where)
    return _read_leaves(stored, names, shapes, dtype, where, row_orders or {})


def read_blocks(
    stored: Mapping[str, StoredTensor],
    names: Mapping[str, str],
    config: ModelConfig,
    dtype: np.dtype,
    *,
    where: str,
    row_orders: Mapping[str, np.ndarray] | None = None,
) -> Iterator[tree.BlockParams]:
    """The layers one after the other, each read when it is asked for; arguments as `read_params`.

    Raises:
      InputError: As `read_params`; of a broken value when its layer is read.
    """
    shapes = _checked_shapes(stored, names, config, where)
    for layer in range(config.num_layers):
        own = {leaf: shapes[leaf] for leaf in shapes if leaf.startswith(f"layers/{layer}/")}
        (block,) = _read_leaves(stored, names, own, dtype, where, row_orders or {})["layers"]
        yield block


def _checked_shapes(
    stored: Mapping[str, StoredTensor], names: Mapping[str, str], config: ModelConfig, where: str
) -> dict[str, tuple[int, ...]]:
    """The shapes of all leaves, with which the stored tensors agree."""
    shapes = leaf_shapes(config)
    expected = {
        names[leaf]: shape[::-1] if is_kernel(leaf) else shape for leaf, shape in shapes.items()
    }
    check_names({name: tensor.shape for name, tensor in stored.items()}, expected, where)
    return shapes


def _read_leaves(
    stored: Mapping[str, StoredTensor],
    names: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype,
    where: str,
    row_orders: Mapping[str, np.ndarray],
) -> tree.Params:
    arrays = _allocate(shapes, dtype)

    def read(leaf: str) -> bool:
        tensor, order = stored[names[leaf]], row_orders.get(leaf)
        return _read_leaf(tensor, arrays[leaf], is_kernel(leaf), order)

    # Largest first, so that no thread is left with the embedding at the end.
    order = sorted(shapes, key=lambda leaf: -arrays[leaf].size)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        finite = dict(zip(order, pool.map(read, order), strict=True))
    require_finite([names[leaf] for leaf in order if not finite[leaf]], where, dtype)
    return tree.from_leaves(arrays)


def require_finite(broken: list[str], where: str, dtype: np.dtype) -> None:
    """Raises InputError when the list of tensors with NaN or infinite values has any."""
    if broken:
        remedy = "fetch the checkpoint again"
        raise InputError(
            f"weights must be finite; NaN or Inf as {dtype} in {shorten(sorted(broken))} of "
            f"{where}; {remedy if dtype == np.float32 else f'try dtype float32, or {remedy}'}"
        )


def _allocate(shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype) -> dict[str, np.ndarray]:
    """Empty arrays that lie one after another in one allocation.

    One large allocation gets huge pages, which take a quarter of the time of faulting in
    small ones; 64-byte alignment lets JAX use the arrays on a CPU without a copy.
    """
    sizes = {leaf: int(np.prod(shape)) * dtype.itemsize for leaf, shape in shapes.items()}
    starts = dict(zip(sizes, np.cumsum([0, *map(_aligned, sizes.values())]), strict=False))
    buffer = np.empty(sum(map(_aligned, sizes.values())) + _ALIGNMENT, np.uint8)
    buffer = buffer[-buffer.ctypes.data % _ALIGNMENT :]
    return {
        leaf: buffer[starts[leaf] : starts[leaf] + size].view(dtype).reshape(shapes[leaf])
        for leaf, size in sizes.items()
    }


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _read_leaf(
    tensor: StoredTensor, array: np.ndarray, transposed: bool, row_order: np.ndarray | None
) -> bool:
    """Fills one leaf; returns whether all its values are finite."""
    rows, width = tensor.shape[0], int(np.prod(tensor.shape[1:]))
    targets = None if row_order is None else np.argsort(row_order)
    step, finite = max(16, _PIECE // width // 16 * 16), True
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            piece = tensor.read(start, stop).astype(array.dtype, copy=False)
            finite &= bool(np.isfinite(piece).all())
            where = slice(start, stop) if targets is None else targets[start:stop]
            if transposed:
                array[:, where] = piece.T
            else:
                array[where] = piece
    return finite


def shorten(names: Sequence[str]) -> str:
    """The first of some names that a file gives, for a message of one line."""
    first = [name if name.isprintable() else repr(name) for name in names[:_NAMES_SHOWN]]
    shown = ", ".join(f"{name[:_NAME_SHOWN]}..." if name[_NAME_SHOWN:] else name for name in first)
    rest = len(names) - _NAMES_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown

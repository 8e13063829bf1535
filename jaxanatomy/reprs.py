"""A `repr` in one line for what holds arrays: their shapes, not their values."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any


def describe_arrays(tree: Any) -> str:
    """A tree of arrays in a few words: "float32[8, 256]", or "11 arrays of 134,515,008 values"."""
    leaves = list(_leaves(tree))
    if leaves and leaves[0] is tree:
        return f"{tree.dtype}{list(tree.shape)}"
    values = sum(math.prod(leaf.shape) for leaf in leaves)
    return f"{len(leaves)} arrays of {values:,} values"


def repr_in_one_line(owner: Any) -> str:
    """A `__repr__` for dataclasses and named tuples of arrays: their shapes, not their values."""
    names = getattr(owner, "_fields", None) or [each.name for each in dataclasses.fields(owner)]
    fields = []
    for name in names:
        value = getattr(owner, name)
        has_arrays = any(True for _ in _leaves(value))
        fields.append(f"{name}={describe_arrays(value) if has_arrays else repr(value)}")
    return f"{type(owner).__name__}({', '.join(fields)})"


def _leaves(tree: Any) -> Iterator[Any]:
    """The arrays of a tree of containers; nothing that is no array."""
    if hasattr(tree, "shape") and hasattr(tree, "dtype"):
        yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for child in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _leaves(child)

"""Whether a checkpoint is read as it was written: checksums of its arrays."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def array_checksums(tree: Any) -> dict[str, int]:
    """A checksum of each array, by its path; the same on however many devices it lies.

    Computed where the arrays are, in one pass over them.
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    sums = jax.device_get([_checksum(leaf) for _, leaf in paths])
    return {
        jax.tree_util.keystr(path): int(each) for (path, _), each in zip(paths, sums, strict=True)
    }


def require_checksums(found: Mapping[str, int], saved: Mapping[str, int]) -> None:
    """Raises ValueError where checksums differ, with the path of the first array."""
    for path in found:
        if found[path] != saved.get(path):
            raise ValueError(f"the values of {path} are not those that were saved")


@jax.jit
def _checksum(leaf: jax.Array) -> jax.Array:
    """The sum of the array's words modulo 2^32, each times an odd number that its place decides.

    Every flipped bit changes it, and so does an exchange of two values. Integer sums are exact
    in any order, so that it does not depend on how the array is cut.
    """
    words = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
    words = jax.lax.bitcast_convert_type(words, _WORDS[words.dtype.itemsize]).astype(jnp.uint32)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        stride = int(np.prod(words.shape[axis + 1 :], dtype=np.int64)) % 2**32
        place += jnp.uint32(stride) * jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    return jnp.sum(words * (2 * place + 1) * jnp.uint32(0x9E3779B1), dtype=jnp.uint32)

"""Singular values and vectors of weight matrices."""

import collections
import hashlib
import threading
from typing import NamedTuple

import numpy as np
import threadpoolctl

from jaxanatomy import tree
from jaxanatomy.errors import InputError


class Svd(NamedTuple):
    """W = U diag(S) Vt with orthonormal columns of U and rows of Vt, float32.

    Attributes:
      U: [rows, R], R being the shorter side of W.
      S: Singular values [R], largest first.
      Vt: [R, columns].
    """

    U: np.ndarray
    S: np.ndarray
    Vt: np.ndarray

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self)


class SvdCache:
    """Remembers decompositions by the content of the matrix, so no call changes another.

    Variants of one layer that differ in rank, or in the set that the layer stands in, need
    the same ones; hashing a matrix costs a small part of its decomposition. What was not
    used for longest goes when the bytes are too many.
    """

    def __init__(self, megabytes: float = 1024):
        self._limit = megabytes * 2**20
        self._known: collections.OrderedDict[tuple, Svd] = collections.OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def svd(self, matrix: tree.Array) -> Svd:
        """The same as `decompose`."""
        matrix = np.ascontiguousarray(matrix, np.float32)
        key = matrix.shape, hashlib.sha256(matrix.view(np.uint8)).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        result = decompose(matrix)
        with self._lock:
            if key not in self._known:
                self._known[key] = result
                self.nbytes += result.nbytes
            while self.nbytes > self._limit:
                _, oldest = self._known.popitem(last=False)
                self.nbytes -= oldest.nbytes
        return result


_CACHE = SvdCache()


def svd(matrix: tree.Array) -> Svd:
    """The singular value decomposition of a matrix, remembered by its content.

    Args:
      matrix: [rows, columns], NumPy or JAX; taken as float32.

    Returns:
      The decomposition; its arrays are shared and read-only.

    Raises:
      InputError: The matrix holds NaN or Inf.
    """
    return _CACHE.svd(matrix)


def decompose(matrix: np.ndarray) -> Svd:
    """The economy decomposition by LAPACK's divide and conquer, in float32.

    Signs, and rotations among equal singular values, are arbitrary; U diag(f(S)) Vt does
    not depend on the signs.

    Raises:
      InputError: The matrix holds NaN or Inf.
    """
    from scipy import linalg

    if not np.isfinite(matrix).all():
        raise InputError(
            f"singular values need finite weights; a matrix {matrix.shape} holds NaN or Inf; "
            "check the checkpoint"
        )
    # BLAS threads wait for each other while the sweep uses the processors: a second
    # thread was seen to cost ten times what one takes.
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        result = Svd(*linalg.svd(matrix, full_matrices=False, check_finite=False))
    for array in result:
        array.flags.writeable = False
    return result

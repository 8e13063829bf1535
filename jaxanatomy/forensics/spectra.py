"""Singular values and vectors of weight matrices, and how heavy the tail of the values is."""

import collections
import hashlib
import math
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


def singular_values(matrix: tree.Array) -> np.ndarray:
    """All singular values in float64 [R], largest first: roots of the Gram matrix's eigenvalues.

    A quarter of the time of a decomposition without vectors. Their error is the largest one's times
    1e-8, so that those below that share of it are 0 to rounding.

    Args:
      matrix: [rows, columns], finite; R is the shorter side.
    """
    x = np.asarray(matrix, np.float64)
    gram_RR = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    return np.sqrt(np.clip(np.linalg.eigvalsh(gram_RR)[::-1], 0.0, None))


class PowerLaw(NamedTuple):
    """A power law p(x) ~ x^-alpha of the values from `least` on.

    Attributes:
      alpha: Its exponent; NaN where fewer than three values are above 0.
      error: Standard error of the exponent, (alpha - 1) / sqrt(tail), of this cut.
      span: The largest less the least exponent of cuts that leave half to twice as many values.
      distance: Kolmogorov and Smirnov's, of the fit from the values.
      least: The smallest value that the law is about.
      tail: How many values that are.
    """

    alpha: float
    error: float
    span: float
    distance: float
    least: float
    tail: int


def power_law(values: np.ndarray) -> PowerLaw:
    """The heavy-tail exponent of a spectrum, as WeightWatcher has it (Martin et al. 2021).

    Clauset, Shalizi and Newman (2009, SIAM Review 51): the maximum-likelihood exponent of the
    values from each one on, of which the fit with the least distance counts. The error takes the
    cut as given, and that the tail is a power law at all: both make it too small. How far the
    exponent hangs on the cut is its span.

    Args:
      values: Eigenvalues of W^T W, in any order; those of 1e-12 of the largest, or less, are 0 to
        rounding and left out.
    """
    values = np.sort(np.asarray(values, np.float64))
    values = values[values > 1e-12 * values[-1]]
    count = len(values)
    if count < 3 or values[0] == values[-1]:
        return PowerLaw(*[float("nan")] * 5, tail=count)
    log_N = np.log(values)
    tail_N = count - np.arange(count - 1)
    above_N = np.cumsum(log_N[::-1])[::-1][:-1] - tail_N * log_N[:-1]
    shape_N = np.divide(tail_N, above_N, out=np.full(count - 1, np.inf), where=above_N > 0)
    distance_N = np.full(count - 1, np.inf)
    for start in np.flatnonzero(np.isfinite(shape_N)):
        law_N = 1 - np.exp(-shape_N[start] * (log_N[start:] - log_N[start]))
        distance_N[start] = np.abs(law_N - np.arange(tail_N[start]) / tail_N[start]).max()
    best = int(distance_N.argmin())
    shape, tail = float(shape_N[best]), int(tail_N[best])
    near_N = shape_N[np.isfinite(shape_N) & (2 * tail_N >= tail) & (tail_N <= 2 * tail)]
    return PowerLaw(
        alpha=1 + shape,
        error=shape / math.sqrt(tail),
        span=float(np.ptp(near_N)),
        distance=float(distance_N[best]),
        least=float(values[best]),
        tail=tail,
    )

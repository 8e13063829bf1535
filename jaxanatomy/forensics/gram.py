"""Moments of a component over layers: inner products, sums and a count, read in one stream.

Delta correlations, cosines and PCA over layers are formulas of the inner products of the
layers' flattened matrices, so no second copy of the weights is ever made, and another
order of the layers is another order of rows and columns.

Axes of this file and of `structure.py`: L layers, N parameters of a component, S draws.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxanatomy.reprs import repr_in_one_line

CHUNK = 65_536  # parameters of each layer that are in float64 at a time

# A variance below this share of what it is a difference of is rounding, so it is zero.
ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Moments:
    """What there is to know about L vectors of N parameters, up to rotation.

    Any number of axes may lead, one entry for each draw of a null; `count` is shared.

    Attributes:
      gram_LL: Inner products of the layers' parameters, not centred, float64 [..., L, L].
      sum_L: Sums over the parameters, float64 [..., L].
      count: N.
    """

    gram_LL: np.ndarray
    sum_L: np.ndarray
    count: int

    __repr__ = repr_in_one_line

    @property
    def num_layers(self) -> int:
        return self.sum_L.shape[-1]

    @property
    def mean(self) -> np.ndarray:
        """Mean over a layer's parameters [..., L]."""
        return self.sum_L / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Population covariances of the layers over their parameters [..., L, L]."""
        mean_L = self.mean
        return self.gram_LL / self.count - mean_L[..., :, None] * mean_L[..., None, :]

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation over a layer's parameters [..., L]; 0 if constant."""
        variance_L = _diagonal(self.covariance)
        square_L = _diagonal(self.gram_LL) / self.count
        return np.sqrt(np.where(variance_L > ROUNDING * square_L, variance_L, 0.0))

    def permuted(self, order_L: np.ndarray) -> "Moments":
        """The same layers in other orders.

        Args:
          order_L: int [..., L]; entry l is the layer that comes to place l.
        """
        gram_LL = self.gram_LL[order_L[..., :, None], order_L[..., None, :]]
        return Moments(gram_LL, self.sum_L[order_L], self.count)

    def end_to_end(self, other: "Moments") -> "Moments":
        """Layers with the parameters of another component laid behind their own."""
        return Moments(
            self.gram_LL + other.gram_LL, self.sum_L + other.sum_L, self.count + other.count
        )

    def in_blocks(self, size: int) -> "Moments":
        """Blocks of consecutive layers, each its layers laid end to end, by their first layer."""
        blocks = self.num_layers - size + 1
        at = [slice(first, first + blocks) for first in range(size)]
        gram_BB = sum(self.gram_LL[..., each, each] for each in at)
        return Moments(gram_BB, sum(self.sum_L[..., each] for each in at), size * self.count)

    def standardised(self) -> "Moments":
        """Every layer shifted and scaled to mean 0 and standard deviation 1.

        A layer without spread has undefined (NaN) entries.
        """
        std_L = self.std
        scale_LL = std_L[..., :, None] * std_L[..., None, :]
        correlation_LL = _quotient(self.covariance, scale_LL)
        return Moments(correlation_LL * self.count, np.zeros_like(self.sum_L), self.count)

    def independent(self) -> "Moments":
        """The expected moments if the layers were independent with these means and spreads.

        Norms stay; the inner product of two layers becomes N times the product of their means.
        """
        mean_L = self.mean
        product_LL = self.count * mean_L[..., :, None] * mean_L[..., None, :]
        same_LL = np.eye(self.num_layers, dtype=bool)
        return Moments(np.where(same_LL, self.gram_LL, product_LL), self.sum_L, self.count)


def gram(matrices: Sequence[Any], chunk: int = CHUNK) -> Moments:
    """Reads the moments of one component, one chunk of parameters at a time.

    The order of the parameters is that of the memory where all layers share one; it changes
    nothing, since it is the same for all layers.

    Args:
      matrices: The component of each layer, of one shape [in, out] and any float dtype;
        views and transposed arrays are read in place.
      chunk: How many parameters of a layer to hold in float64; more if a row is longer.

    Returns:
      Moments of the L layers.
    """
    arrays = [np.asarray(matrix) for matrix in matrices]
    if len({array.shape for array in arrays}) != 1:
        raise ValueError(f"expected one shape; got {[array.shape for array in arrays]}")
    if all(array.flags.f_contiguous for array in arrays):
        arrays = [array.T for array in arrays]
    num_rows, width = arrays[0].shape
    step = max(1, chunk // width)
    buffer = np.empty((len(arrays), min(step, num_rows), width))
    gram_LL = np.zeros((len(arrays), len(arrays)))
    sum_L = np.zeros(len(arrays))
    for start in range(0, num_rows, step):
        stop = min(start + step, num_rows)
        part = buffer[:, : stop - start]
        for index, array in enumerate(arrays):
            part[index] = array[start:stop]
        part_LN = part.reshape(len(arrays), -1)
        gram_LL += part_LN @ part_LN.T
        sum_L += part_LN.sum(1)
    return Moments(gram_LL, sum_L, num_rows * width)


def _diagonal(x_LL: np.ndarray) -> np.ndarray:
    return np.diagonal(x_LL, axis1=-2, axis2=-1)


def _quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0
    )

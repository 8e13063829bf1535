"""A layer made from singular values and vectors: its own, or its own and another's."""

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.spectra import svd
from jaxanatomy.model import block_shapes

Rank = int | str
RANKS = ("full", "half")


def low_rank(
    own: tree.BlockParams, source: tree.BlockParams, *, rank: Rank = "full"
) -> tree.BlockParams:
    """W_l <- U_n diag(S_l) V_n^T: directions of layer n, magnitudes of layer l.

    The "SVD hybrid with directions from neighbor, magnitudes from original" of AH section
    3.5, strategy 4. Singular values are matched by their order. Biases, which have none, stay.
    Works on NumPy arrays.

    Args:
      own: The layer's own block, of which the singular values are taken.
      source: The block of layer n, of which the vectors are taken.
      rank: How many of the largest singular values stay; see `kept`.
    """
    return _made_from(own, source, rank)


def own_svd(own: tree.BlockParams, *, rank: Rank = "half") -> tree.BlockParams:
    """W_l <- its best approximation of a rank, the rest of its singular values dropped.

    A control of `low_rank` (not in AH): what truncation costs with the right directions.
    Works on NumPy arrays.

    Args:
      own: The layer's own block.
      rank: How many of the largest singular values stay; see `kept`.
    """
    return _made_from(own, own, rank)


def kept(rank: Rank, shape: tuple[int, int]) -> int:
    """How many singular values of a matrix stay.

    Args:
      rank: "full": all, as many as the shorter side; "half": half the shorter side of each
        matrix, rounded down but at least one; or a number, the same for all matrices.
      shape: Of the matrix.
    """
    side = min(shape)
    if rank == "full":
        return side
    return max(side // 2, 1) if rank == "half" else int(rank)


def largest_rank(config: ModelConfig) -> int:
    """The largest rank that every matrix of a model has: their shortest side."""
    shapes = [block_shapes(config, layer) for layer in range(config.num_layers)]
    return min(min(shape[name]) for shape in shapes for name in tree.MATRICES)


def check_rank(config: ModelConfig, rank: Rank) -> Rank:
    """`rank` if the matrices of a model have it.

    Raises:
      InputError: It is neither "full" nor "half" nor a whole number from 1 to
        `largest_rank`.
    """
    largest = largest_rank(config)
    is_number = isinstance(rank, int) and not isinstance(rank, bool)
    if rank not in RANKS and not (is_number and 1 <= rank <= largest):
        raise InputError(
            f"rank must be 'full', 'half' or a whole number from 1 to {largest}, the shortest "
            f"side of this model's matrices; got {rank!r}; take another or leave it out"
        )
    return rank


def _made_from(own: tree.BlockParams, source: tree.BlockParams, rank: Rank) -> tree.BlockParams:
    matrices = {}
    for name in tree.MATRICES:
        values = svd(tree.get(own, name)).S
        U, _, Vt = svd(tree.get(source, name))
        r = kept(rank, (len(U), Vt.shape[1]))
        matrices[name] = np.asarray((U[:, :r] * values[:r]) @ Vt[:r], tree.get(own, name).dtype)
    return tree.replace(own, matrices)

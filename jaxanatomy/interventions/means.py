"""A layer replaced by the mean of its neighbours, as the paper does it and with controls.

The mean of two independent matrices has 0.71 of their norm, and it mixes neurons
that have nothing to do with each other. `rescaled_mean` takes the first of these
away, `aligned_mean` the second.
"""

import functools
import operator

import jax

from jaxanatomy import tree
from jaxanatomy.forensics.alignment import AlignmentCache, apply_alignment

# The alignment of layer l to l+1 is the inverse of that of l+1 to l, and two layers'
# means need it. The cache goes by the weights' content, so it never changes a result.
_ALIGNMENTS = AlignmentCache()


def neighbour_mean(own: tree.BlockParams, *neighbours: tree.BlockParams) -> tree.BlockParams:
    """W_l <- (W_{l-1} + W_{l+1}) / 2, for every component (AH section 3.2).

    Args:
      own: The layer's own block; unused.
      *neighbours: The blocks to average; at the ends of the model just one.
    """
    del own
    return jax.tree.map(
        lambda *leaves: functools.reduce(operator.add, leaves) / len(leaves), *neighbours
    )


def rescaled_mean(own: tree.BlockParams, *neighbours: tree.BlockParams) -> tree.BlockParams:
    """The neighbours' mean, each matrix and each bias scaled to the norm of the original.

    A control of the neighbour mean (not in AH): independent neighbours average to a
    smaller norm.
    """
    mean = neighbour_mean(own, *neighbours)
    return tree.replace(
        mean,
        {
            name: _with_norm_of(tree.get(own, name), matrix)
            for name, matrix in tree.components(mean, tree.MATRICES).items()
        },
    )


def aligned_mean(
    own: tree.BlockParams, *neighbours: tree.BlockParams, head_dim: int
) -> tree.BlockParams:
    """The neighbours' mean after their neurons and heads were matched with layer l's.

    A control of the neighbour mean (not in AH): the order of neurons and heads in a
    layer is arbitrary, so the plain mean adds up unrelated ones. Works on NumPy arrays.

    Args:
      own: The layer's own block, to which the neighbours are aligned.
      *neighbours: The blocks to average.
      head_dim: Width d of one head.
    """
    aligned = [
        apply_alignment(block, _ALIGNMENTS.align(block, own, head_dim), head_dim)
        for block in neighbours
    ]
    return neighbour_mean(own, *aligned)


def _with_norm_of(original: tree.Array, matrix: tree.Array) -> tree.Array:
    norm = _frobenius_norm(matrix)
    # A zero matrix stays zero instead of becoming 0/0.
    return matrix * (_frobenius_norm(original) / (norm + (norm == 0))).astype(matrix.dtype)


def _frobenius_norm(matrix: tree.Array) -> tree.Array:
    matrix = matrix.astype("float32")
    return (matrix * matrix).sum() ** 0.5

"""A layer whose matrices have their output rows in random order."""

import numpy as np

from jaxanatomy import tree


def permuted_rows(own: tree.BlockParams, *, seed: int | tuple[int, ...]) -> tree.BlockParams:
    """Each matrix's output rows, which are the columns of an (in, out) kernel, permuted.

    A control of the neighbour mean (not in AH): every value, norm and singular value of
    each matrix stays, and only what is wired to what goes. A bias goes with its row. Works
    on NumPy arrays. A permutation is drawn for each matrix, in the order of `tree.MATRICES`.

    Args:
      own: The layer's own block.
      seed: Seed of `numpy.random.default_rng`; the protocol takes (20000 + l, draw), which
        for draw 0 is the same as 20000 + l.
    """
    generator = np.random.default_rng(seed)
    arrays = {}
    for matrix in tree.MATRICES:
        order = generator.permutation(tree.get(own, matrix).shape[1])
        for name, array in tree.components(own, [matrix]).items():
            # take() writes the result contiguously; kernel[:, order] leaves a transposed copy.
            arrays[name] = np.take(array, order, axis=-1)
    return tree.replace(own, arrays)

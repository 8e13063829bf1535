"""A layer whose matrices have their output rows in random order."""

import numpy as np

from jaxanatomy import tree


def permuted_rows(own: tree.BlockParams, *, seed: int | tuple[int, ...]) -> tree.BlockParams:
    """Each matrix's output rows, which are the columns of an (in, out) kernel, permuted.

    A control of the neighbour mean (not in AH): every value, norm and singular value of
    each matrix stays, and only what is wired to what goes. Works on NumPy arrays. A
    permutation is drawn for each matrix, in the order of `tree.MATRICES`.

    Args:
      own: The layer's own block.
      seed: Seed of `numpy.random.default_rng`; the protocol takes (20000 + l, draw), which
        for draw 0 is the same as 20000 + l.
    """
    generator = np.random.default_rng(seed)
    return tree.replace(
        own, {name: _permuted(tree.get(own, name), generator) for name in tree.MATRICES}
    )


def _permuted(kernel: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    # take() writes the result contiguously; kernel[:, order] leaves a transposed copy.
    return np.take(kernel, generator.permutation(kernel.shape[1]), axis=1)

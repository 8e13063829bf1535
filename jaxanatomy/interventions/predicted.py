"""A layer replaced by the prediction from the layers before it."""

import numpy as np

from jaxanatomy import tree
from jaxanatomy.forensics.prediction import ridge_weights
from jaxanatomy.interventions.noise import add_noise_of_norm, generator_of


def predicted(
    own: tree.BlockParams, *earlier: tree.BlockParams, num_layers: int
) -> tree.BlockParams:
    """W_t <- sum_l a_l W_l over the layers l < t, for all seven matrices (AH section 4.2).

    Biases are predicted with their matrices.

    The weights a are those of the paper's ridge regression on the layer index, see
    `jaxanatomy.forensics.prediction.ridge_weights`. Works on NumPy arrays: every t has
    another number of sources, which would be a compilation each, and the sum is bound by
    memory anyway.

    Args:
      own: The layer's own block; its norms stay, its matrices are not read.
      *earlier: The blocks of layers 0 .. t-1, in order; their number is t.
      num_layers: N, layers of the model.
    """
    target = len(earlier)
    weights = ridge_weights(range(target), target, num_layers).astype(np.float32)
    return tree.replace(
        own,
        {
            name: _weighted_sum(weights, [tree.get(block, name) for block in earlier])
            for name in tree.components(own, tree.MATRICES)
        },
    )


def predicted_noise(
    own: tree.BlockParams, *earlier: tree.BlockParams, num_layers: int, seed: int = 0
) -> tree.BlockParams:
    """The control of `predicted`: W_t plus noise as large as the error of the prediction.

    For each of the seven matrices, and each bias, Gaussian noise with the norm of the
    difference between the predicted and the true one, so that what is left to tell the two
    apart is the error's direction. Drawn from `noise.generator_of`; NumPy arrays.

    Args:
      own: The layer's own block; its norms stay.
      *earlier: The blocks of layers 0 .. t-1, in order; their number is t.
      num_layers: N, layers of the model.
      seed: Which draw.
    """
    block = predicted(own, *earlier, num_layers=num_layers)

    def noised(name: str) -> np.ndarray:
        kernel = np.asarray(tree.get(own, name))
        error = np.asarray(tree.get(block, name), np.float64) - kernel.astype(np.float64)
        generator = generator_of(seed, len(earlier), name)
        return add_noise_of_norm(kernel, float(np.linalg.norm(error)), generator)

    return tree.replace(own, {name: noised(name) for name in tree.components(own, tree.MATRICES)})


def _weighted_sum(weights: np.ndarray, matrices: list[tree.Array]) -> np.ndarray:
    total = np.zeros(matrices[0].shape, np.float32)
    for weight, matrix in zip(weights, matrices, strict=True):
        total += weight * np.asarray(matrix, np.float32)
    return total

"""Gaussian noise in place of a layer's weights, or added to them."""

import numpy as np

from jaxanatomy import tree
from jaxanatomy.errors import InputError


def matched_noise(own: tree.BlockParams, *, seed: int | tuple[int, ...]) -> tree.BlockParams:
    """Each matrix drawn anew from a Gaussian with its own mean and population std.

    A control of the neighbour mean (not in AH): what a layer of the right scale does
    that holds nothing. Works on NumPy arrays. All seven matrices are always drawn, in
    the order of `tree.MATRICES` and in the (out, in) layout, so a matrix gets the same
    noise whatever else is replaced; after them the biases in the same way.

    Args:
      own: The layer's own block.
      seed: Seed of `numpy.random.default_rng`; the protocol takes (10000 + l, draw), which
        for draw 0 is the same as 10000 + l.
    """
    generator = np.random.default_rng(seed)
    arrays = tree.components(own, tree.MATRICES)
    order = sorted(arrays, key=lambda name: arrays[name].ndim, reverse=True)
    return tree.replace(own, {name: noise_like(arrays[name], generator) for name in order})


def perturb(own: tree.BlockParams, *, alpha: float, layer: int, seed: int) -> tree.BlockParams:
    """W + alpha std(W) Z for each of the seven matrices, Z standard normal.

    Puts to the test that "a prediction error of 0.01 per layer compounds" (AH section
    4.2): an error without structure, of a known size. Norms and biases stay. Works on NumPy
    arrays. The noise Z depends on seed, layer and matrix alone, so that alphas and sets of
    layers are nested.

    Args:
      own: The layer's own block.
      alpha: Size of the noise against the population std of each matrix.
      layer: Number of the layer.
      seed: With layer and matrix the seed of the noise; see `generator_of`.
    """
    return tree.replace(
        own,
        {
            name: add_noise(tree.get(own, name), alpha, generator_of(seed, layer, name))
            for name in tree.MATRICES
        },
    )


def recovery_noise(own: tree.BlockParams, *, sigma: float, seed: int) -> tree.BlockParams:
    """W + sigma std(W) Z for each of the seven matrices: the damage that recovery heals.

    AH section 3.6, with the draws of our protocol: one generator for the layer, which
    draws the matrices in the order of `tree.MATRICES`, each in the (out, in) layout, so
    that the noise is the same on every backend. Norms and biases stay. Works on NumPy arrays.

    Args:
      own: The layer's own block.
      sigma: Size of the noise against the population std of each matrix; AH has 0.5.
      seed: Seed of `numpy.random.default_rng`; by default the number of the layer.

    Raises:
      InputError: A sigma or a seed below 0, or a sigma that is not finite.
    """
    if not (0 <= sigma < np.inf and seed >= 0):
        raise InputError(
            f"noise needs a finite sigma and a seed of 0 or above; got sigma {sigma} and "
            f"seed {seed}; AH has sigma 0.5"
        )
    generator = np.random.default_rng(seed)
    return tree.replace(
        own, {name: add_noise(tree.get(own, name), sigma, generator) for name in tree.MATRICES}
    )


def generator_of(seed: int, layer: int, matrix: str) -> np.random.Generator:
    """`numpy.random.default_rng((seed, layer, i))`, i the matrix's place in `tree.MATRICES`.

    That of its bias ("q_proj.bias") is `default_rng((seed, layer, i, 1))`.
    """
    matrix, _, bias = matrix.partition(".")
    return np.random.default_rng((seed, layer, tree.MATRICES.index(matrix), *[1] * bool(bias)))


def noise_like(kernel: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Noise with the mean and the population std of a matrix, drawn in the (out, in) layout."""
    values = np.asarray(kernel, np.float32)
    noise = _scaled_noise(values, 1.0, generator)
    noise += np.float32(values.mean(dtype=np.float64))
    return np.ascontiguousarray(noise.T, dtype=kernel.dtype)


def add_noise(kernel: np.ndarray, alpha: float, generator: np.random.Generator) -> np.ndarray:
    """A matrix plus noise of alpha times its population std, drawn in the (out, in) layout."""
    values = np.asarray(kernel, np.float32)
    noise = _scaled_noise(values, alpha, generator)
    return np.ascontiguousarray(values + noise.T, dtype=kernel.dtype)


def add_noise_of_norm(
    kernel: np.ndarray, norm: float, generator: np.random.Generator
) -> np.ndarray:
    """A matrix plus Gaussian noise of a Frobenius norm, drawn in the (out, in) layout."""
    values = np.asarray(kernel, np.float32)
    noise = generator.standard_normal(values.shape[::-1], dtype=np.float32)
    noise *= np.float32(norm / np.linalg.norm(noise.astype(np.float64)))
    return np.ascontiguousarray(values + noise.T, dtype=kernel.dtype)


def _scaled_noise(values: np.ndarray, alpha: float, generator: np.random.Generator) -> np.ndarray:
    noise = generator.standard_normal(values.shape[::-1], dtype=np.float32)
    noise *= np.float32(alpha * values.std(dtype=np.float64))
    return noise

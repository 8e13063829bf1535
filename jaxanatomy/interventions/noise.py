"""A layer replaced by Gaussian noise of the same scale."""

import numpy as np

from jaxanatomy import tree


def matched_noise(own: tree.Block, *, seed: int) -> tree.Block:
    """Each matrix drawn anew from a Gaussian with its own mean and population std.

    A control of the neighbour mean (not in AH): what a layer of the right scale does
    that holds nothing. Works on NumPy arrays. All seven matrices are always drawn, in
    the order of `tree.MATRICES` and in the (out, in) layout, so a matrix gets the same
    noise whatever else is replaced.

    Args:
      own: The layer's own block.
      seed: Seed of `numpy.random.default_rng`; the protocol takes 10000 + l.
    """
    generator = np.random.default_rng(seed)
    return tree.replace(
        own, {name: _noise_like(tree.get(own, name), generator) for name in tree.MATRICES}
    )


def _noise_like(kernel: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    values = np.asarray(kernel, np.float32)
    mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    noise = generator.standard_normal(values.shape[::-1], dtype=np.float32)
    noise *= np.float32(std)
    noise += np.float32(mean)
    return np.ascontiguousarray(noise.T, dtype=kernel.dtype)

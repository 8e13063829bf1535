"""Rotary position embeddings, plain and with the frequency scaling of Llama 3."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy.config import Llama3RopeScaling, ModelConfig

Rope = tuple[jax.Array, jax.Array]


def frequencies(config: ModelConfig) -> np.ndarray:
    """Angular frequency of each pair of features, radians per token, float64 [d / 2]."""
    exponent = np.arange(0, config.head_dim, 2) / config.head_dim
    plain = config.rope_theta**-exponent
    if config.rope_scaling is None:
        return plain
    return _scale_llama3(plain, config.rope_scaling)


def tables(config: ModelConfig, position_BT: jax.Array) -> Rope:
    """Cosines and signed sines of the rotation at each position.

    Args:
      config: The architecture.
      position_BT: Position of each token in its document, integers.

    Returns:
      (cos_BTd, sin_BTd), float32. The sine of the first half of the features carries
      the minus sign of the rotation, so that `rotate` needs no negation.
    """
    angle_BTd = (
        position_BT[..., None].astype(jnp.float32)
        * jnp.asarray(frequencies(config), jnp.float32)[None, None]
    )
    cos_BTd, sin_BTd = jnp.cos(angle_BTd), jnp.sin(angle_BTd)
    return (
        jnp.concatenate([cos_BTd, cos_BTd], axis=-1),
        jnp.concatenate([-sin_BTd, sin_BTd], axis=-1),
    )


def rotate(x_BTHd: jax.Array, rope: Rope) -> jax.Array:
    """Rotates feature pairs (i, i + d/2) of each head by its token's angle."""
    cos_BT1d, sin_BT1d = rope[0][:, :, None], rope[1][:, :, None]
    first, second = jnp.split(x_BTHd, 2, axis=-1)
    swapped_BTHd = jnp.concatenate([second, first], axis=-1)
    return x_BTHd * cos_BT1d + swapped_BTHd * sin_BT1d


def _scale_llama3(plain: np.ndarray, scaling: Llama3RopeScaling) -> np.ndarray:
    """Slows low frequencies by `factor`, keeps high ones, interpolates between."""
    wavelength = 2 * math.pi / plain
    ratio = scaling.original_context_length / wavelength
    blend = (ratio - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = np.clip(blend, 0.0, 1.0)
    return (1 - blend) * plain / scaling.factor + blend * plain

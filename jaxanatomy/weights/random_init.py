"""The null model: an architecture with random weights."""

import functools
import hashlib
import json

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.weights import tensors
from jaxanatomy.weights.checkpoint import Source

INITIALIZER_RANGE = 0.02  # Hugging Face's default for Llama: std of every matrix


def random_params(config: ModelConfig, dtype: np.dtype, seed: int = 0) -> tree.Params:
    """Weights as Hugging Face initialises them: matrices normal, norms one, biases zero.

    Args:
      config: The architecture.
      dtype: Of the arrays; numbers are drawn in float32 whatever it is.
      seed: Of `numpy.random.default_rng`; leaves are drawn in the forward's order.
    """
    rng = np.random.default_rng(seed)

    def draw(leaf: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.full(shape, not leaf.endswith("/bias"), dtype)
        array = rng.standard_normal(shape, np.float32)
        array *= np.float32(INITIALIZER_RANGE)
        return array.astype(dtype, copy=False)

    shapes = tensors.leaf_shapes(config)
    return tree.from_leaves({leaf: draw(leaf, shape) for leaf, shape in shapes.items()})


def random_source(source: Source, model_id: str) -> Source:
    """The null model of another source: its architecture and tokenizer, random weights."""
    return Source(
        id=model_id,
        config=source.config,
        read_tokenizer=source.read_tokenizer,
        read_params=functools.partial(random_params, source.config),
        read_sha256=functools.partial(_sha256, source.config),
        companions=source.companions,
    )


def _sha256(config: ModelConfig) -> str:
    architecture = json.dumps(config.to_dict(), sort_keys=True)
    return hashlib.sha256(f"random {architecture}".encode()).hexdigest()

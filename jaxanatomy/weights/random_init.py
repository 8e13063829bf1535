"""The null model: an architecture with random weights."""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator

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
    return tree.from_leaves(dict(_drawn(config, dtype, seed)))


def random_blocks(
    config: ModelConfig, dtype: np.dtype, seed: int = 0
) -> Iterator[tree.BlockParams]:
    """The layers of `random_params`, each drawn when it is asked for."""

    def place(drawn: tuple[str, np.ndarray]) -> str:
        return "/".join(drawn[0].split("/")[:2])

    for name, leaves in itertools.groupby(_drawn(config, dtype, seed), key=place):
        if name.startswith("layers/"):
            (block,) = tree.from_leaves(dict(leaves))["layers"]
            yield block


def _drawn(config: ModelConfig, dtype: np.dtype, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each leaf with its values."""
    rng = np.random.default_rng(seed)
    for leaf, shape in tensors.leaf_shapes(config).items():
        if len(shape) == 1:
            yield leaf, np.full(shape, not leaf.endswith("/bias"), dtype)
            continue
        array = rng.standard_normal(shape, np.float32)
        array *= np.float32(INITIALIZER_RANGE)
        yield leaf, array.astype(dtype, copy=False)


def random_source(source: Source, model_id: str) -> Source:
    """The null model of another source: its architecture and tokenizer, random weights."""
    return Source(
        id=model_id,
        config=source.config,
        read_tokenizer=source.read_tokenizer,
        read_params=functools.partial(random_params, source.config),
        read_blocks=functools.partial(random_blocks, source.config),
        read_sha256=functools.partial(_sha256, source.config),
        companions=source.companions,
    )


def _sha256(config: ModelConfig) -> str:
    architecture = json.dumps(config.to_dict(), sort_keys=True)
    return hashlib.sha256(f"random {architecture}".encode()).hexdigest()

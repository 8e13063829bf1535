"""What a block holds, asked of the block itself: no other place lists its arrays."""

import functools
import math

import jax
import jax.numpy as jnp

from jaxanatomy import tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.model.modules import Block


def abstract_block(config: ModelConfig, layer: int) -> tree.BlockParams:
    """The parameters of a layer as `jax.ShapeDtypeStruct`s; nothing is computed."""
    shape = config.layers[layer].weight_shape
    return tree.from_leaves(_abstract_leaves(shape, config.head_dim, config.hidden_size))


def abstract_params(config: ModelConfig) -> tree.Params:
    """The parameters of a model as `jax.ShapeDtypeStruct`s."""
    D = config.hidden_size
    embedding = {"embedding": jax.ShapeDtypeStruct((config.vocab_size, D), jnp.float32)}
    params = {
        "embed": embedding,
        "layers": tuple(abstract_block(config, layer) for layer in range(config.num_layers)),
        "final_norm": {"scale": jax.ShapeDtypeStruct((D,), jnp.float32)},
    }
    return params if config.tie_embeddings else {**params, "unembed": embedding}


def block_shapes(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a layer, by the names of `tree.components`."""
    return {
        name: leaf.shape for name, leaf in tree.components(abstract_block(config, layer)).items()
    }


def layer_parameter_count(config: ModelConfig, layer: int) -> int:
    """Number of parameters of one layer."""
    return sum(map(math.prod, block_shapes(config, layer).values()))


def matrix_parameter_count(config: ModelConfig, layer: int) -> int:
    """Number of parameters of the matrices of one layer: what a token is multiplied with."""
    return sum(math.prod(shape) for shape in block_shapes(config, layer).values() if len(shape) > 1)


def parameter_count(config: ModelConfig) -> int:
    """Number of parameters of a model; tied embeddings count once."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))


@functools.lru_cache
def _abstract_leaves(
    shape: LayerShape, head_dim: int, hidden_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """The leaves of one layer; every caller makes a tree of its own from them."""
    array = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    key, rope = jax.eval_shape(jax.random.key, 0), (array((1, 1, head_dim)),) * 2
    block = Block(shape, head_dim, norm_epsilon=1.0)
    params = jax.eval_shape(block.init, key, array((1, 1, hidden_size)), rope, array((1, 1, 1)))
    return tree.to_leaves(params["params"])

"""The parameter tree of a model, and the few operations that everything uses.

Parameters are plain nested dicts of arrays. Kernels have Flax's layout,
(in, out), which is the transpose of a PyTorch `weight`:

    {"embed": {"embedding": (V, D)},
     "layers": (block, block, ...),
     "final_norm": {"scale": (D,)},
     "unembed": {"embedding": (V, D)}}              # only when untied

    block = {"attention_norm": {"scale": (D,)},
             "attention": {"q_proj": {"kernel": (D, H*d)},
                           "k_proj": {"kernel": (D, K*d)},
                           "v_proj": {"kernel": (D, K*d)},
                           "o_proj": {"kernel": (H*d, D)}},
             "mlp_norm": {"scale": (D,)},
             "mlp": {"gate_proj": {"kernel": (D, F)},
                     "up_proj": {"kernel": (D, F)},
                     "down_proj": {"kernel": (F, D)}}}

`params["layers"]` is a tuple with one block for each layer. `stack` turns such a
tuple into stacks, `[L, ...]` for each leaf, one for each run of consecutive
layers of the same shape, which `lax.scan` and `vmap` walk; `unstack` is its
exact inverse.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy.config import ModelConfig

Array = jax.Array | np.ndarray
BlockParams = dict[str, Any]
Params = dict[str, Any]
PyTree = Any  # any tree of arrays

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
MATRICES = ATTENTION + MLP
NORMS = ("attention_norm", "mlp_norm")
COMPONENTS = MATRICES + NORMS


def get(block: BlockParams, component: str) -> Array:
    """The array of one component: a kernel (in, out) or a norm's scale (D,)."""
    if component in NORMS:
        return block[component]["scale"]
    return block[_sublayer(component)][component]["kernel"]


def replace(block: BlockParams, arrays: Mapping[str, Array]) -> BlockParams:
    """A block with some components replaced; every other leaf is shared, not copied."""
    new = {key: dict(value) for key, value in block.items()}
    for component, array in arrays.items():
        if component in NORMS:
            new[component] = {"scale": array}
        else:
            new[_sublayer(component)][component] = {"kernel": array}
    return new


def components(block: BlockParams, names: Iterable[str] = COMPONENTS) -> dict[str, Array]:
    """The named components of a block as a flat dict."""
    return {name: get(block, name) for name in names}


def block_from(arrays: Mapping[str, Array]) -> BlockParams:
    """The inverse of `components`: a block from all nine components."""
    empty = {"attention_norm": {}, "attention": {}, "mlp_norm": {}, "mlp": {}}
    return replace(empty, {name: arrays[name] for name in COMPONENTS})


def block_shapes(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """The shape of each component of a layer."""
    D, d, shape = config.hidden_size, config.head_dim, config.layers[layer]
    q_width, kv_width, F = shape.num_heads * d, shape.num_kv_heads * d, shape.ffn_width
    return {
        "q_proj": (D, q_width),
        "k_proj": (D, kv_width),
        "v_proj": (D, kv_width),
        "o_proj": (q_width, D),
        "gate_proj": (D, F),
        "up_proj": (D, F),
        "down_proj": (F, D),
        "attention_norm": (D,),
        "mlp_norm": (D,),
    }


def unembedding(params: Params) -> Array:
    """The (V, D) matrix of the head: the embedding itself when they are tied."""
    return params.get("unembed", params["embed"])["embedding"]


def stack(blocks: Sequence[BlockParams], xp: Any = jnp) -> tuple[BlockParams, ...]:
    """Stacks consecutive layers of the same shape.

    Args:
      blocks: One block for each layer.
      xp: `jnp` or `numpy`, whichever is to do the stacking.

    Returns:
      One block for each run of layers of equal shapes, its leaves [L, ...].
    """
    runs = itertools.groupby(blocks, key=_signature)
    return tuple(jax.tree.map(lambda *leaves: xp.stack(leaves), *run) for _, run in runs)


def stack_each(blocks: Sequence[BlockParams], xp: Any = jnp) -> tuple[BlockParams, ...]:
    """Makes each layer a stack of its own, its leaves [1, ...]; arguments as `stack`."""
    return tuple(stacked for block in blocks for stacked in stack([block], xp))


def unstack(stacks: Sequence[BlockParams]) -> tuple[BlockParams, ...]:
    """The inverse of `stack`: one block for each layer."""
    return tuple(
        jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
        for stacked in stacks
        for index in range(jax.tree.leaves(stacked)[0].shape[0])
    )


def with_layers(params: Params, layers: Sequence[BlockParams]) -> Params:
    """The same model with other layers, stacked or not."""
    return {**params, "layers": tuple(layers)}


def scale_norms(config: ModelConfig, layers: Sequence[BlockParams]) -> tuple[BlockParams, ...]:
    """Layers as they act under LN-scaling: the norms of layer l, from 1, divided by sqrt(l).

    A norm's weight multiplies its output, so this is the same as scaling the output.

    Args:
      config: The architecture; without `ln_scaling` the layers come back as they are.
      layers: All layers, stacked or not.
    """
    if not config.ln_scaling:
        return tuple(layers)
    factor_L = (1 / np.sqrt(np.arange(1, config.num_layers + 1))).astype(np.float32)
    scaled, start = [], 0
    for block in layers:
        norms = components(block, NORMS)
        stacked = norms[NORMS[0]].ndim > 1
        end = start + (norms[NORMS[0]].shape[0] if stacked else 1)
        factor = factor_L[start:end, None] if stacked else factor_L[start]
        norms = {name: (norm * factor).astype(norm.dtype) for name, norm in norms.items()}
        scaled.append(replace(block, norms))
        start = end
    return tuple(scaled)


def fold_norms(config: ModelConfig, params: Params) -> tuple[ModelConfig, Params]:
    """The same function as a plain model: LN-scaling moved into the norms' weights.

    Analysis and export take plain models, in which a layer may change its place and keep
    its scale; training needs the scale apart, which follows a layer to its new place.
    """
    if not config.ln_scaling:
        return config, params
    plain = dataclasses.replace(config, ln_scaling=False)
    return plain, with_layers(params, scale_norms(config, params["layers"]))


def _sublayer(component: str) -> str:
    if component in ATTENTION:
        return "attention"
    if component in MLP:
        return "mlp"
    raise KeyError(f"no component {component!r}; components: {', '.join(COMPONENTS)}")


def _signature(block: BlockParams) -> tuple:
    leaves, treedef = jax.tree.flatten(block)
    return treedef, tuple((leaf.shape, jnp.dtype(leaf.dtype)) for leaf in leaves)

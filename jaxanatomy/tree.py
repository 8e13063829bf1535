"""The parameter tree of a model, and the few operations that everything uses.

Parameters are plain nested dicts of arrays, as Flax's modules make them. Kernels have Flax's
layout, (in, out), which is the transpose of a PyTorch `weight`:

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

What else a block has follows from its options (`LayerShape`), for example a `bias` beside a
kernel. The block's modules alone decide it; `jaxanatomy.model.abstract_block` asks them, and
nothing here lists it again.

A component is one module of a block: a matrix with its bias, or a norm. Its name is that of
its kernel or scale ("q_proj", "mlp_norm"); the bias is "q_proj.bias". `get` and `replace` take
one array by its name and leave its siblings; an edit of a component (`components`) has all of
its arrays.

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

from jaxanatomy.config import ATTENTION, MLP, ModelConfig

Array = jax.Array | np.ndarray
BlockParams = dict[str, Any]
Params = dict[str, Any]
PyTree = Any  # any tree of arrays

# The seven matrices, of which the papers' weight mathematics speaks.
MATRICES = ATTENTION + MLP
# Those that write to the residual stream.
WRITING = ("o_proj", "down_proj")
# The norms before the two sublayers, which LN-scaling scales.
NORMS = ("attention_norm", "mlp_norm")
# The order of the forward pass, by which leaves are listed, drawn and hashed; others come after.
_ORDER = ("embed", "layers", "final_norm", "unembed", "attention", "mlp", *MATRICES, "kernel")
_PLACE = {name: place for place, name in enumerate(_ORDER)}
_MAIN = ("kernel", "scale")


def to_leaves(node: PyTree) -> dict[str, Any]:
    """The arrays of parameters or of one block by their paths, in the order of the forward.

    `{"layers/3/attention/q_proj/kernel": array, ...}`; of a block "attention/q_proj/kernel".
    """
    if isinstance(node, Mapping):
        items = sorted(node.items(), key=lambda item: (_PLACE.get(item[0], len(_PLACE)), item[0]))
    elif isinstance(node, tuple | list):
        items = enumerate(node)
    else:
        return {"": node}
    return {
        f"{key}/{path}".rstrip("/"): leaf
        for key, child in items
        for path, leaf in to_leaves(child).items()
    }


def from_leaves(leaves: Mapping[str, Any]) -> Params:
    """The inverse of `to_leaves`."""
    root: Params = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = root
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    if "layers" in root:
        root["layers"] = tuple(root["layers"][key] for key in sorted(root["layers"], key=int))
    return root


def component_of(path: str) -> str:
    """The name of an array of a block: "q_proj" of "attention/q_proj/kernel", "q_proj.bias"."""
    *_, module, leaf = path.split("/")
    return module if leaf in _MAIN else f"{module}.{leaf}"


def get(block: BlockParams, name: str) -> Array:
    """The array of a name: a kernel (in, out), a norm's scale (D,), a bias (out,)."""
    arrays = components(block)
    _require_known(arrays, name)
    return arrays[name]


def replace(block: BlockParams, arrays: Mapping[str, Array]) -> BlockParams:
    """A block with some arrays replaced; every other leaf is shared, not copied."""
    leaves = to_leaves(block)
    paths = {component_of(path): path for path in leaves}
    for name in arrays:
        _require_known(paths, name)
    return from_leaves(leaves | {paths[name]: array for name, array in arrays.items()})


def components(block: BlockParams, names: Iterable[str] | None = None) -> dict[str, Array]:
    """The arrays of some components as a flat dict, biases beside their kernels.

    Args:
      block: A layer.
      names: Of components, or of single arrays; None: all.
    """
    arrays = {component_of(path): leaf for path, leaf in to_leaves(block).items()}
    if names is None:
        return arrays
    for name in (names := tuple(names)):
        _require_known(arrays, name)
    return {
        name: leaf
        for name, leaf in arrays.items()
        if name in names or name.partition(".")[0] in names
    }


def not_finite(node: PyTree) -> list[str]:
    """The paths of the leaves that hold NaN or Inf, in the order of `to_leaves`."""
    return [path for path, leaf in to_leaves(node).items() if not np.isfinite(leaf).all()]


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


def scale_norms(
    config: ModelConfig, layers: Sequence[BlockParams], first: int = 0
) -> tuple[BlockParams, ...]:
    """Layers as they act under LN-scaling: the norms of layer l, from 1, divided by sqrt(l).

    A norm's weight multiplies its output, so this is the same as scaling the output.

    Args:
      config: The architecture; without `ln_scaling` the layers come back as they are.
      layers: Layers that follow each other, stacked or not.
      first: The number of the first one.
    """
    if not config.ln_scaling:
        return tuple(layers)
    factor_L = (1 / np.sqrt(np.arange(1, config.num_layers + 1))).astype(np.float32)
    scaled, start = [], first
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


def _require_known(arrays: Mapping[str, Any], name: str) -> None:
    if name not in arrays:
        raise KeyError(f"no component {name!r}; components: {', '.join(arrays)}")


def _signature(block: BlockParams) -> tuple:
    leaves, treedef = jax.tree.flatten(block)
    return treedef, tuple((leaf.shape, jnp.dtype(leaf.dtype)) for leaf in leaves)

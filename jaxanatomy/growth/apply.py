"""A growth map applied to parameters and to the optimiser's state.

    growth = growth_map("lidas", 8, block=4)
    config, (params, state) = grown_config(config, growth), grow(growth, params, state)

It is one gather along the axis of layers, a pure function for `jax.jit` with the map static:
sharded arrays stay sharded along their other axes, and `jax.vmap` takes replicas. Embedding,
head and final norm stay as they are, and so do counts of steps: one schedule goes on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.growth.maps import GrowthMap

# What becomes of the optimiser's moments.
MOMENTS = {
    "copy": "each layer has those of its source (DG section 3.1)",
    "zero": "new layers start without, the others keep theirs; under the bias correction of an "
    "old count Adam's first steps are then long ones",
    "rescale": "each of k layers of one source has 1/k of its first moment and 1/k^2 of its "
    "second: Adam's next step is the same, but new gradients soon outweigh the old; a copy that "
    "writes nothing at first does not count",
}
_POWERS = {"mu": 1, "trace": 1, "nu": 2}  # optax's names of moments, and what they are of


def grown_config(config: ModelConfig, growth: GrowthMap) -> ModelConfig:
    """The architecture of the grown model.

    Raises:
      InputError: The map is for another depth.
    """
    _require_depth(config.num_layers, growth)
    return config.with_layers(config.layers[source] for source in growth.sources)


def grow(
    growth: GrowthMap,
    params: tree.Params,
    state: Any = None,
    moments: str = "copy",
    scan_layers: bool = True,
) -> tuple[tree.Params, Any]:
    """Parameters and optimiser state of the grown model.

    Args:
      growth: The map.
      params: Parameters; `layers` holds one block for each layer, or stacks of them.
      state: Any optax state. Every dict in it with the keys of the parameters is one of
        moments, parts of which may be masked; all else is left alone.
      moments: One of `MOMENTS`. A matrix that the map sets to zero has none in any case.
      scan_layers: Whether layers that came stacked stay one stack; else each is a stack of its own.

    Returns:
      (params, state), layers stacked or not as they came. Blocks that are not stacked share
      arrays with their source: copy them before they are donated.

    Raises:
      InputError: The map is for another depth; no such policy; the state holds a tree of
        other shapes than the parameters, or one that the policy does not know.
    """
    choose("policy for moments", moments, MOMENTS)
    layers = params["layers"]
    _require_depth(sum(_counts(layers)), growth)

    def is_moments(node: Any) -> bool:
        return isinstance(node, Mapping) and node.keys() == params.keys()

    def grow_node(path: tuple, node: Any) -> Any:
        if not is_moments(node):
            return node
        _require_same_shapes(params, node)
        if not jax.tree.leaves(node["layers"]):
            return node  # masked as a whole: moments of the ends alone
        factors_L = _moment_factors(growth, moments, path)
        grown = _grow_layers(growth, layers, node["layers"], factors_L, scan_layers)
        return tree.with_layers(node, grown)

    ones_L = np.ones(growth.num_layers)
    grown = tree.with_layers(params, _grow_layers(growth, layers, layers, ones_L, scan_layers))
    return grown, jax.tree_util.tree_map_with_path(grow_node, state, is_leaf=is_moments)


def _grow_layers(
    growth: GrowthMap,
    like: Sequence[tree.BlockParams],
    layers: Sequence[Any],
    factors_L: np.ndarray,
    scan_layers: bool,
) -> tuple[Any, ...]:
    """Gathers layers, and multiplies each by a number.

    Args:
      growth: The map.
      like: The parameters' own layers, which say how `layers` are stacked.
      layers: Parameters or moments; parts may be masked.
      factors_L: A number for each new layer; 0 sets to zero whatever was there.
      scan_layers: See `grow`.
    """
    written_L = np.where(np.isin(range(growth.num_layers), growth.zeroed), 0, factors_L)

    def factors(path: tuple) -> np.ndarray:
        writes = any(getattr(key, "key", None) in tree.WRITING for key in path)
        return written_L if writes else factors_L

    if _is_stacked(like) and len(like) == 1 and scan_layers:
        gather = lambda path, leaf: _scaled(leaf[np.array(growth.sources)], factors(path))  # noqa: E731
        return (jax.tree_util.tree_map_with_path(gather, layers[0]),)
    blocks = layers
    if _is_stacked(like):
        places = [(at, row) for at, count in enumerate(_counts(like)) for row in range(count)]
        blocks = [jax.tree.map(lambda leaf, row=row: leaf[row], layers[at]) for at, row in places]
    grown = [
        jax.tree_util.tree_map_with_path(
            lambda path, leaf, at=at: _scaled(leaf, factors(path)[at]), blocks[source]
        )
        for at, source in enumerate(growth.sources)
    ]
    if not _is_stacked(like):
        return tuple(grown)
    return tree.stack(grown) if scan_layers else tree.stack_each(grown)


def _scaled(leaf: tree.Array, factor: np.ndarray) -> tree.Array:
    """A leaf times one number, or its rows times one each; the leaf itself for ones."""
    if np.all(factor == 1):
        return leaf
    xp = np if isinstance(leaf, np.ndarray) else jnp
    factor = np.reshape(factor, np.shape(factor) + (1,) * (leaf.ndim - np.ndim(factor)))
    factor = np.broadcast_to(factor, (1,) * (leaf.ndim - factor.ndim) + factor.shape)
    return xp.where(factor == 0, xp.zeros((), leaf.dtype), leaf * factor.astype(leaf.dtype))


def _moment_factors(growth: GrowthMap, moments: str, path: tuple) -> np.ndarray:
    """What the moments of each new layer are multiplied by."""
    if moments == "zero":
        return np.where(np.isin(range(growth.num_layers), growth.inserted), 0.0, 1.0)
    if moments == "copy":
        return np.ones(growth.num_layers)
    names = [key.name for key in path if isinstance(key, jax.tree_util.GetAttrKey)]
    name = names[-1] if names else "a tree without a name"
    if name not in _POWERS:
        raise InputError(
            f"moments=rescale knows the moments {', '.join(_POWERS)} of optax; got {name!r}; take "
            "moments=copy"
        )
    speaking = [each for at, each in enumerate(growth.sources) if at not in growth.zeroed]
    copies = np.bincount(speaking, minlength=growth.num_sources)[list(growth.sources)]
    return 1.0 / np.maximum(copies, 1) ** _POWERS[name]


def _is_stacked(layers: Sequence[tree.BlockParams]) -> bool:
    return tree.get(layers[0], "attention_norm").ndim > 1


def _counts(layers: Sequence[tree.BlockParams]) -> list[int]:
    """Layers in each stack; 1 for each block that is not stacked."""
    stacked = _is_stacked(layers)
    return [tree.get(each, "attention_norm").shape[0] if stacked else 1 for each in layers]


def _require_depth(depth: int, growth: GrowthMap) -> None:
    if depth != growth.num_sources:
        raise InputError(
            f"this growth map takes a model of {growth.num_sources} layers to "
            f"{growth.num_layers}; got one of {depth}; make a map for that depth"
        )


def _require_same_shapes(params: tree.Params, node: Any) -> None:
    """Refuses what has the parameters' keys but is no moment of them."""
    shapes = {path: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(node):
        if leaf.shape != shapes.get(path):
            raise InputError(
                "an optimiser's moments must have the shapes of the parameters to grow with "
                f"them; got {leaf.shape} for {jax.tree_util.keystr(path)} of shape "
                f"{shapes.get(path)}; use an optimiser like AdamW"
            )

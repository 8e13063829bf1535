"""A variant's steps as parameters of an ordinary model, to be kept and run anywhere.

The sweep never builds these: it computes a variant's result from shared pieces. What is
built here gives the same result in a plain forward, in any program.
"""

import dataclasses

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.steps import edited_arrays, part_factors
from jaxanatomy.interventions.variants import ALL, Combination, Step, Steps


def materialise(
    config: ModelConfig, params: tree.Params, steps: Steps
) -> tuple[ModelConfig, tree.Params]:
    """The model that a variant's steps describe.

    One layer for each step: edits replace weights, as everywhere computed from unedited
    ones; factors of the MLP become those of down_proj, factors of a head those of its rows of
    o_proj, biases as the whole sublayer; a layer of which nothing is left is dropped.

    Args:
      config: The model.
      params: Its parameters, NumPy or JAX; they are not changed, and what no edit
        touches is shared with the result.
      steps: Of a `Variant`.

    Returns:
      The architecture and the parameters of the new model; edited arrays are NumPy's and
      keep their dtype. LN-scaling is folded into the norms.

    Raises:
      InputError: as `remaining_steps`; an edit that does not keep shapes.
    """
    steps = remaining_steps(config, steps)
    config, params = tree.fold_norms(config, params)
    blocks = [_block(config, params["layers"], step) for step in steps]
    return materialised_config(config, steps), tree.with_layers(params, blocks)


def materialised_config(config: ModelConfig, steps: Steps) -> ModelConfig:
    """The architecture of what `materialise` would give; no weights are needed.

    Raises:
      InputError: as `remaining_steps`.
    """
    layers = tuple(config.layers[step.layer] for step in remaining_steps(config, steps))
    return dataclasses.replace(config, layers=layers, ln_scaling=False)


def remaining_steps(config: ModelConfig, steps: Steps) -> Steps:
    """The steps that are a layer of the materialised model.

    Raises:
      InputError: A step acts at some positions only, or streams are added, which no weights
        express; a layer or head does not exist; no layer is left.
    """
    kept = []
    for step in steps:
        if isinstance(step, Combination):
            raise InputError(
                "weights express layers one after another; got a linear combination of streams, "
                "as a damped repeat is; leave it out"
            )
        if not 0 <= step.layer < config.num_layers:
            raise InputError(
                f"layers of this model are 0 to {config.num_layers - 1}; got {step.layer}"
            )
        if step.positions != ALL:
            raise InputError(
                "weights act at every token position alike; got a change of layer "
                f"{step.layer} at positions {step.positions.name!r} only; change it at all"
            )
        if any(part_factors(config, step)):
            kept.append(step)
    if not kept:
        raise InputError("a model must keep at least one layer; these changes leave none; keep one")
    return tuple(kept)


def _block(
    config: ModelConfig, layers: tuple[tree.BlockParams, ...], step: Step
) -> tree.BlockParams:
    """The weights of one layer of the new model."""
    block = own = layers[step.layer]
    if step.edit is not None:
        blocks = [own, *(layers[source] for source in step.edit.sources)]
        if step.edit.on_host:
            blocks = jax.tree.map(np.asarray, blocks)
        edit = step.edit
        new = edited_arrays(edit.function, edit.scope, edit.arguments, *blocks)
        block = tree.replace(own, {name: np.asarray(array) for name, array in new.items()})
    *heads, attention, mlp = part_factors(config, step)
    rows = np.repeat(heads, config.head_dim)[:, None]
    factors = {"o_proj": rows, "o_proj.bias": attention, "down_proj": mlp, "down_proj.bias": mlp}
    scaled = {
        name: _scaled(np.asarray(array), factors[name])
        for name, array in tree.components(block, tree.WRITING).items()
        if np.any(factors[name] != 1)
    }
    return tree.replace(block, scaled) if scaled else block


def _scaled(array: np.ndarray, factors: np.ndarray | float) -> np.ndarray:
    """Times factors, where 0 makes 0 of whatever stands there."""
    return np.where(factors == 0, 0, array * factors).astype(array.dtype)

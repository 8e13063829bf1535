"""A layer, a part of it, one matrix or one head with zero weights.

Zero weights add exactly nothing to the residual stream, so most of these need no
weights at all: the step is dropped, or a gate is closed. That is the same function
and costs the sweep less, because gated streams share calls with unedited ones.
"""

import jax
import jax.numpy as jnp

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.interventions.intervention import Changes, Setting
from jaxanatomy.interventions.scopes import head_index
from jaxanatomy.interventions.variants import ALL, Edit, Positions, Step, Steps, closed
from jaxanatomy.interventions.where import Where

# What is off when one matrix is zero, with its bias. Without values, or without the projection
# that writes them, attention adds W_o (sum of probabilities times 0) = 0. Without gate, up
# or down the MLP adds W_down (silu(gate) * up) = 0, for silu(0) = 0. (But a bias of W_o or
# W_down is left where another matrix is zero.)
_CLOSED = {
    "layer": ("attention", "mlp"),
    "attention": ("attention",),
    "mlp": ("mlp",),
    "v_proj": ("attention",),
    "o_proj": ("attention",),
    "gate_proj": ("mlp",),
    "up_proj": ("mlp",),
    "down_proj": ("mlp",),
}


def zeros(own: tree.BlockParams) -> tree.BlockParams:
    """A block of zeros."""
    return jax.tree.map(jnp.zeros_like, own)


def zero(config: ModelConfig, where: Where, setting: Setting = None) -> Changes:
    """The steps that stand for layers with zero weights in a scope (AH section 3.5).

    Returns:
      For each layer no step where the whole layer is zero at all positions, a gated step where
      the scope can only silence a part of the layer, and an edited one for queries or keys.
    """
    del setting
    scope, positions = where.scope, where.positions
    return {layer: _steps(config, layer, scope, positions) for layer in where.layers}


def _steps(config: ModelConfig, layer: int, scope: str, positions: Positions) -> Steps:
    if scope == "layer" and positions == ALL:
        return ()
    if scope in ("q_proj", "k_proj"):
        # Zero queries and zero keys both make every score 0 and attention uniform. One
        # edit stands for both, so the sweep computes it once.
        edit = Edit("zero", zeros, scope=("q_proj",))
        return (Step(layer, edit=edit, positions=positions),)
    writes = "o_proj" if scope == "v_proj" else "down_proj"
    if scope in ("v_proj", "gate_proj", "up_proj") and writes in config.layers[layer].biases:
        return (Step(layer, edit=Edit("zero", zeros, scope=(scope,)), positions=positions),)
    parts = (scope,) if head_index(scope) is not None else _CLOSED[scope]
    return (Step(layer, factors=closed(*parts), positions=positions),)

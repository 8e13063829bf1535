"""A decoder as Flax modules and pure functions: forward, loss, decoding."""

from jaxanatomy.model.decode import generate
from jaxanatomy.model.head import (
    final_norm,
    logits,
    token_nll,
    token_nll_and_best,
    token_nll_and_gradient,
    token_nll_at,
)
from jaxanatomy.model.kl import Reference, kl_to, reference, token_nll_and_kl
from jaxanatomy.model.modules import POINTS, Block, apply_with_points, block
from jaxanatomy.model.shapes import (
    abstract_block,
    abstract_params,
    block_shapes,
    layer_parameter_count,
    matrix_parameter_count,
    parameter_count,
)
from jaxanatomy.model.transformer import (
    INITS,
    REMAT,
    attention_bias,
    embed,
    forward,
    hidden,
    init,
    residual_streams,
    tree_bias,
)

__all__ = [
    "INITS",
    "POINTS",
    "REMAT",
    "Block",
    "Reference",
    "abstract_block",
    "abstract_params",
    "apply_with_points",
    "attention_bias",
    "block",
    "block_shapes",
    "embed",
    "final_norm",
    "forward",
    "generate",
    "hidden",
    "init",
    "kl_to",
    "layer_parameter_count",
    "logits",
    "matrix_parameter_count",
    "parameter_count",
    "reference",
    "residual_streams",
    "token_nll",
    "token_nll_and_best",
    "token_nll_and_gradient",
    "token_nll_and_kl",
    "token_nll_at",
    "tree_bias",
]

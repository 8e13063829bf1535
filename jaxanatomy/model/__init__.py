"""The Llama family as Flax modules and pure functions: forward, loss, decoding."""

from jaxanatomy.model.decode import generate
from jaxanatomy.model.head import (
    Reference,
    final_norm,
    logits,
    reference,
    token_nll,
    token_nll_and_gradient,
    token_nll_and_kl,
    token_nll_at,
)
from jaxanatomy.model.modules import Block, block
from jaxanatomy.model.transformer import REMAT, attention_bias, embed, forward, hidden, init

__all__ = [
    "REMAT",
    "Block",
    "Reference",
    "attention_bias",
    "block",
    "embed",
    "final_norm",
    "forward",
    "generate",
    "hidden",
    "init",
    "logits",
    "reference",
    "token_nll",
    "token_nll_and_gradient",
    "token_nll_and_kl",
    "token_nll_at",
]

"""The Llama family as Flax modules and pure functions: forward, loss, decoding."""

from jaxanatomy.model.decode import generate
from jaxanatomy.model.head import (
    final_norm,
    logits,
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
    "attention_bias",
    "block",
    "embed",
    "final_norm",
    "forward",
    "generate",
    "hidden",
    "init",
    "logits",
    "token_nll",
    "token_nll_and_gradient",
    "token_nll_and_kl",
    "token_nll_at",
]

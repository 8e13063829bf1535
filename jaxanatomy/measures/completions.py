"""Completions of prompts of different lengths."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.weights.tokenizer import Tokenizer

STEPS = 12  # tokens; longer than the longest of Table 9


def complete(
    config: ModelConfig,
    params: tree.Params,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    steps: int = STEPS,
    temperature: float = 0.0,
    key: jax.Array | None = None,
) -> list[str]:
    """What a model writes after each prompt, up to its end token.

    Args:
      config: The architecture.
      params: Parameters, layers stacked or not.
      tokenizer: Its `eos_id`, if it has one, ends a completion.
      prompts: Texts; those of equal length go through the model together.
      steps: Most tokens to write.
      temperature: 0 takes the likeliest token; otherwise one is drawn.
      key: For the draws.

    Returns:
      The completions without the prompts, in their order.
    """
    encoded = [tokenizer.encode(prompt) for prompt in prompts]
    texts = [""] * len(prompts)
    for length in sorted({len(ids) for ids in encoded}):
        chosen = [index for index, ids in enumerate(encoded) if len(ids) == length]
        prompt_BT = np.array([encoded[index] for index in chosen], np.int32)
        written_BN = np.asarray(model.generate(config, params, prompt_BT, steps, temperature, key))
        for index, ids in zip(chosen, written_BN.tolist(), strict=True):
            end = ids.index(tokenizer.eos_id) if tokenizer.eos_id in ids else steps
            texts[index] = tokenizer.decode(ids[:end])
    return texts

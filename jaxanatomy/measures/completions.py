"""Completions of prompts of different lengths."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.weights.tokenizer import Tokenizer

STEPS = 12  # tokens; longer than the longest of Table 9
BATCH = 16  # prompts that go through the model together


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
      prompts: Texts.
      steps: Most tokens to write.
      temperature: 0 takes the likeliest token; otherwise one is drawn.
      key: For the draws.

    Returns:
      The completions without the prompts, in their order.
    """
    encoded = [tokenizer.encode(prompt) for prompt in prompts]
    written = complete_tokens(config, params, encoded, steps, temperature, key)
    return [tokenizer.decode(_up_to(ids, tokenizer.eos_id)) for ids in written]


def complete_tokens(
    config: ModelConfig,
    params: tree.Params,
    prompts: Sequence[Sequence[int]],
    steps: int,
    temperature: float = 0.0,
    key: jax.Array | None = None,
) -> list[list[int]]:
    """`steps` tokens after each prompt; arguments as `complete`, prompts as token ids.

    Prompts of like lengths go through the model together, in batches of one size.
    """
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    size, found = min(BATCH, len(prompts)) or 1, [[]] * len(prompts)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        longest = len(prompts[chosen[-1]])
        prompt_BT = np.zeros((size, longest), np.int32)
        length_B = np.full(size, longest)
        for row, index in enumerate(chosen):
            length_B[row] = len(prompts[index])
            prompt_BT[row, longest - length_B[row] :] = prompts[index]
        draw = temperature, None if key is None else jax.random.fold_in(key, start)
        written_BN = model.generate(config, params, prompt_BT, steps, *draw, length_B=length_B)
        for index, ids in zip(chosen, np.asarray(written_BN).tolist(), strict=False):
            found[index] = ids
    return found


def _up_to(ids: list[int], end: int | None) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids

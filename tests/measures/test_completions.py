"""Greedy completions against whole forward passes."""

import jax
import jax.numpy as jnp

from jaxanatomy import model
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.facts import word_tokenizer
from jaxanatomy.measures.completions import complete

SENTENCES = ("a b c d", "e f g h i")
CONFIG = ModelConfig.uniform(2, 2, 2, 8, vocab_size=14, hidden_size=8, head_dim=4)


def literal(params, tokenizer, prompt, steps):
    ids = tokenizer.encode(prompt)
    written = []
    for _ in range(steps):
        logits_BTV = model.forward(CONFIG, params, jnp.array([ids + written]))
        token = int(logits_BTV[0, -1].argmax())
        if token == tokenizer.eos_id:
            break
        written.append(token)
    return tokenizer.decode(written)


def test_completions_are_those_of_whole_forward_passes_up_to_the_end_token():
    tokenizer = word_tokenizer(SENTENCES, 14)
    params = model.init(CONFIG, jax.random.key(2))
    params = jax.tree.map(lambda leaf: leaf if leaf.ndim == 1 else 30 * leaf, params)
    prompts = ["a b", "c", "e f", "g", "h", "i a"]
    found = complete(CONFIG, params, tokenizer, prompts, steps=4)
    assert found == [literal(params, tokenizer, prompt, 4) for prompt in prompts]
    assert len(set(found)) > 2
    assert any(len(text.split()) < 4 for text in found)  # the end token was written

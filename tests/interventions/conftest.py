"""A tiny model with random weights, and a forward of one block in plain loops."""

import types

import numpy as np
import pytest
from naive import block_of

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig

CONFIG = ModelConfig.uniform(
    num_layers=5, num_heads=4, num_kv_heads=2, ffn_width=6, vocab_size=11, hidden_size=8, head_dim=4
)


def random_block(seed, config=CONFIG, layer=0):
    generator = np.random.default_rng(seed)
    return block_of(config, layer, lambda shape: generator.normal(size=shape).astype(np.float32))


def with_zeros(block, names):
    """The block with really zeroed weights."""
    return tree.replace(block, {name: np.zeros_like(tree.get(block, name)) for name in names})


def normed(x_TD, scale_D):
    return x_TD / np.sqrt((x_TD**2).mean(1, keepdims=True) + 1e-5) * scale_D


def rotated(x_Td):
    """RoPE, halves convention, base 10,000."""
    half = x_Td.shape[1] // 2
    angle = np.arange(len(x_Td))[:, None] * 10_000.0 ** (-np.arange(half) / half)
    left, right = x_Td[:, :half], x_Td[:, half:]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=1)


def naive_block(block, x_TD, config=CONFIG, factors=()):
    """One block head by head in float64; `factors` multiply what parts write."""
    factors = dict(factors)
    w = {name: array.astype(np.float64) for name, array in tree.components(block).items()}
    d, shape = config.head_dim, config.layers[0]
    group = shape.num_heads // shape.num_kv_heads
    h = normed(x_TD, w["attention_norm"])
    heads = []
    for head in range(shape.num_heads):
        own, kv = slice(head * d, (head + 1) * d), slice(head // group * d, (head // group + 1) * d)
        q, k = rotated(h @ w["q_proj"][:, own]), rotated(h @ w["k_proj"][:, kv])
        scores = q @ k.T / np.sqrt(d)
        scores[np.triu_indices(len(scores), 1)] = -np.inf
        weights = np.exp(scores - scores.max(1, keepdims=True))
        out = weights / weights.sum(1, keepdims=True) @ (h @ w["v_proj"][:, kv])
        heads.append(out * factors.get(f"head_{head}", 1))
    x_TD = x_TD + factors.get("attention", 1) * np.concatenate(heads, axis=1) @ w["o_proj"]
    h = normed(x_TD, w["mlp_norm"])
    gate = h @ w["gate_proj"]
    mlp = (gate / (1 + np.exp(-gate)) * (h @ w["up_proj"])) @ w["down_proj"]
    return x_TD + factors.get("mlp", 1) * mlp


def run_steps(steps, blocks, x_TD):
    """Steps on a naive forward: edits, gates and positions as `variants.Step` defines them."""
    text = types.SimpleNamespace(position_RT=np.arange(len(x_TD)))  # of one row
    for step in steps:
        clean, block = blocks[step.layer], blocks[step.layer]
        if step.edit is not None:
            sources = [blocks[source] for source in step.edit.sources]
            edited = step.edit.function(block, *sources, **dict(step.edit.arguments))
            chosen = {name: np.asarray(tree.get(edited, name)) for name in step.edit.scope}
            block = tree.replace(block, chosen)
        here = step.positions.select(text)[:, None]
        x_TD = np.where(
            here, naive_block(block, x_TD, factors=step.factors), naive_block(clean, x_TD)
        )
    return x_TD


@pytest.fixture(scope="session")
def naive():
    """The helpers above, with five random blocks and a random stream of six tokens."""
    return types.SimpleNamespace(
        config=CONFIG,
        blocks=[random_block(seed) for seed in range(5)],
        x_TD=np.random.default_rng(99).normal(size=(6, 8)),
        random_block=random_block,
        with_zeros=with_zeros,
        block=naive_block,
        run=run_steps,
    )

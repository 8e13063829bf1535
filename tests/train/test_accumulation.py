"""Gradients in parts and layers that are computed twice: the same numbers as in one piece."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.train.loop import run_steps, start
from jaxanatomy.train.loss import LanguageModelLoss, batch_of
from jaxanatomy.train.optimiser import Optimiser, make

ADAMW = make(Optimiser(), {})

CONFIG = ModelConfig.uniform(
    3, 2, 1, 24, vocab_size=19, hidden_size=16, head_dim=8, context_length=8
)
PAD, STEPS, ROWS = 0, 3, 6


@pytest.fixture(scope="module")
def batches():
    """[E, B, T], rows of very different lengths, the last third without any prediction."""
    rng = np.random.default_rng(0)
    token = rng.integers(1, CONFIG.vocab_size, (STEPS, ROWS, 9))
    for row in range(ROWS):
        token[:, row, 2 + row :] = PAD
    token[:, 2::3] = PAD  # with three parts, all rows of the last one
    flat = batch_of(token.reshape(-1, 9), PAD)
    return jax.tree.map(lambda leaf: leaf.reshape(STEPS, ROWS, -1), flat)


def train(batches, grad_accum_steps=1, remat="none"):
    params = model.init(CONFIG, jax.random.key(1))
    params = tree.with_layers(params, tree.stack(params["layers"]))
    loss = LanguageModelLoss(CONFIG, remat=remat)
    frozen = {name: None for name in params} | {"layers": (None,)}
    rates = jnp.full(STEPS, 0.01)
    state = start(ADAMW, params)
    return run_steps(
        loss,
        ADAMW,
        state,
        frozen,
        batches,
        rates,
        STEPS,
        grad_accum_steps=grad_accum_steps,
    )


@pytest.mark.parametrize("grad_accum_steps", [2, 3, 6])
def test_parts_sum_to_the_whole(batches, grad_accum_steps):
    whole, seen = train(batches)
    parts, found = train(batches, grad_accum_steps)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, seen)
    # The first moment is linear in the gradient, unlike the step of Adam.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        parts.moments[1].mu,
        whole.moments[1].mu,
    )
    assert bool(parts.alive)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_what_is_computed_again_is_the_same(batches, remat):
    whole, seen = train(batches)
    again, found = train(batches, remat=remat)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), found, seen)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8),
        again.moments[1].mu,
        whole.moments[1].mu,
    )

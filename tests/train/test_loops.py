"""The middle block applied again at inference, against the gathered model and a plain loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import KHop
from jaxanatomy.growth.stages import Stage
from jaxanatomy.model import rope
from jaxanatomy.train.hops import HopLoss, HopScorer, batch_of_numbers
from jaxanatomy.train.loops import Loops, middle_block
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import Setup

TASK = KHop(alphabet=3, seq_len=10, hops=4)
SCORER = HopScorer(TASK, sequences=8, batch_size=4)
CONFIG = ModelConfig.uniform(
    4, 2, 2, 24, vocab_size=13, hidden_size=16, context_length=10, tie_embeddings=False
)
PARAMS = jax.tree.map(lambda leaf: np.asarray(5 * leaf), model.init(CONFIG, jax.random.key(3)))


def scores_of(sources):
    """Held-out loss and accuracy of the model of these layers, as the trainer evaluates it."""
    config = CONFIG.with_layers(CONFIG.layers[at] for at in sources)
    params = tree.with_layers(PARAMS, tree.stack([PARAMS["layers"][at] for at in sources]))
    make = functools.partial(batch_of_numbers, TASK)
    setup = Setup(
        (Stage(config, 1),),
        Optimiser(),
        WarmupStableDecay(0.1, 0.1, 0.1),
        objective=functools.partial(HopLoss, TASK),
        make_batch=make,
    )
    rows = SCORER(setup, setup.stages[0], params).values()
    return np.mean([row.mean()[0] for row in rows]), [sum(r.right[0]) / sum(r.tokens) for r in rows]


def test_repeats_are_those_of_a_model_with_the_layers_repeated():
    found = {row["name"]: row for row in Loops(2, SCORER).score(CONFIG, PARAMS)}
    assert [row["layers"] for row in found.values()] == [[1, 2]] * 3
    for name, sources in (("once", (0, 1, 2, 1, 2, 3)), ("twice", (0, 1, 2, 1, 2, 1, 2, 3))):
        nll, accuracy_K = scores_of(sources)
        assert found[name]["eval_nll"] == pytest.approx(nll, rel=1e-5)
        assert found[name]["accuracy_by_hop"] == pytest.approx(accuracy_K)
    assert len({row["eval_nll"] for row in found.values()}) == 3


def test_a_damped_repeat_adds_half_of_the_change():
    batches = [batch_of_numbers(TASK, numbers) for numbers in SCORER.numbers()]
    nll_K = answered_K = 0
    for token_BT, label_BTK in batches:
        position_BT = jnp.broadcast_to(jnp.arange(10), token_BT.shape)
        tables = rope.tables(CONFIG, position_BT)
        bias_BTS = model.attention_bias(jnp.ones_like(token_BT))

        def run(x_BTD, layer, tables=tables, bias_BTS=bias_BTS):
            params = {"params": PARAMS["layers"][layer]}
            return model.block(CONFIG, layer).apply(params, x_BTD, tables, bias_BTS)[0]

        x_BTD = run(run(run(model.embed(PARAMS, token_BT), 0), 1), 2)
        x_BTD = run(x_BTD + 0.5 * (run(run(x_BTD, 1), 2) - x_BTD), 3)
        logits_BTKQ = model.logits(CONFIG, PARAMS, x_BTD)[..., :12].reshape(*label_BTK.shape, 3)
        log_BTKQ = np.asarray(jax.nn.log_softmax(logits_BTKQ, -1), np.float64)
        there = label_BTK >= 0
        picked = np.take_along_axis(log_BTKQ, np.maximum(label_BTK, 0)[..., None], -1)[..., 0]
        nll_K = nll_K - (picked * there).sum((0, 1))
        answered_K = answered_K + np.asarray(there.sum((0, 1)))
    found = {row["name"]: row for row in Loops(2, SCORER).score(CONFIG, PARAMS)}
    assert found["damped"]["eval_nll"] == pytest.approx(
        float((nll_K / answered_K).mean()), rel=1e-5
    )
    assert (found["damped"]["passes"], found["damped"]["factor"]) == (1, 0.5)


def test_the_middle_block_is_what_lidas_would_copy():
    assert [middle_block(6, 2), middle_block(5, 2), middle_block(4, 1)] == [[2, 3], [2, 3], [2]]
    assert Loops(2, SCORER).score(CONFIG.with_layers(CONFIG.layers[:1]), PARAMS) == []

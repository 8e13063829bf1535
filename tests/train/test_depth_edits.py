"""Edits at inference, against the gathered model and a plain loop."""

import functools

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import KHop
from jaxanatomy.growth.depth_edits import REVERSE, edits, middle_block
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.depth_edits import Editor
from jaxanatomy.train.hop_answers import HopAnswers
from jaxanatomy.train.hops import HopLoss, HopScorer, Sequences, batch_of_numbers
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import Setup

TASK = KHop(alphabet=3, seq_len=10, hops=4)
SCORER = HopScorer(TASK, sequences=8, batch_size=4)
CONFIG = ModelConfig.uniform(
    4, 2, 2, 24, vocab_size=13, hidden_size=16, context_length=10, tie_embeddings=False
)
PARAMS = naive.random_params(CONFIG, seed=3)


def scores_of(sources):
    """Held-out loss and accuracy of the model of these layers, as the trainer evaluates it."""
    config = CONFIG.with_layers(CONFIG.layers[at] for at in sources)
    params = tree.with_layers(PARAMS, tree.stack([PARAMS["layers"][at] for at in sources]))
    make = Sequences(TASK)
    setup = Setup(
        (Stage(config, 1),),
        Optimiser(),
        WarmupStableDecay(0.1, 0.1, 0.1),
        objective=functools.partial(HopLoss, TASK),
        make_batch=make,
    )
    rows = SCORER(setup, setup.stages[0], params).values()
    return np.mean([row.mean()[0] for row in rows]), [sum(r.right[0]) / sum(r.tokens) for r in rows]


@pytest.fixture(scope="module")
def found():
    rows = Editor(2, HopAnswers(SCORER)).score(CONFIG, PARAMS)
    return {f"{row['kind']}/{row['name']}": row for row in rows}


ORDERS = {
    "loop/once": (0, 1, 2, 1, 2, 3),
    "loop/twice": (0, 1, 2, 1, 2, 1, 2, 3),
    "cut/layer/0": (1, 2, 3),
    "cut/layer/3": (0, 1, 2),
    "swap/span/1-2": (0, 2, 1, 3),
    "swap/span/0-3": (2, 3, 0, 1),
    "reverse/span/0-3": (3, 2, 1, 0),
    "exit/layer/1": (0, 1),
}


def test_an_edited_model_is_the_one_of_these_layers(found):
    for name, sources in ORDERS.items():
        nll, accuracy_K = scores_of(sources)
        assert found[name]["eval_nll"] == pytest.approx(nll, rel=1e-5), name
        assert found[name]["accuracy_by_hop"] == pytest.approx(accuracy_K), name
    assert len({found[name]["eval_nll"] for name in ORDERS}) == len(ORDERS)
    # The last layer left out, and the model left before it.
    assert found["exit/layer/2"]["eval_nll"] == pytest.approx(found["cut/layer/3"]["eval_nll"])


def after_layer(layer, x_BTD):
    position_BT = np.broadcast_to(np.arange(10), x_BTD.shape[:2])
    one_BT = np.ones_like(position_BT)
    return naive.after_layer(CONFIG, layer, PARAMS["layers"][layer], x_BTD, position_BT, one_BT)


def answers(sources):
    """The likeliest answers [B, T, K] of the model of these layers."""
    token_BT = jnp.asarray(SCORER.batch().token_BT)
    x_BTD = model.embed(PARAMS, token_BT)
    for layer in sources:
        x_BTD = after_layer(layer, x_BTD)
    logits_BTV = np.asarray(naive.logits(CONFIG, PARAMS, x_BTD))[..., :12]
    return logits_BTV.reshape(*token_BT.shape, 4, 3).argmax(-1)


def test_an_edit_agrees_with_the_whole_model_where_their_answers_are_the_same(found):
    asked = SCORER.batch().label_BTK >= 0
    whole = answers(range(4))
    for name in ("cut/layer/0", "exit/layer/1", "swap/span/1-2"):
        same_K = ((answers(ORDERS[name]) == whole) & asked).sum((0, 1)) / asked.sum((0, 1))
        assert found[name]["agreement"] == pytest.approx(same_K.mean()), name
    assert found["exit/layer/1"]["agreement"] < 1


def test_a_damped_repeat_adds_half_of_the_change(found):
    batches = [batch_of_numbers(TASK, numbers) for numbers in SCORER.numbers()]
    nll_K = answered_K = 0
    for token_BT, label_BTK in batches:
        x_BTD = model.embed(PARAMS, token_BT)
        for layer in (0, 1, 2):
            x_BTD = after_layer(layer, x_BTD)
        again_BTD = after_layer(2, after_layer(1, x_BTD))
        x_BTD = after_layer(3, x_BTD + 0.5 * (again_BTD - x_BTD))
        logits_BTV = naive.logits(CONFIG, PARAMS, x_BTD)[..., :12]
        logits_BTKQ = logits_BTV.reshape(*label_BTK.shape, 3)
        log_BTKQ = np.asarray(jax.nn.log_softmax(logits_BTKQ, -1), np.float64)
        there = label_BTK >= 0
        picked = np.take_along_axis(log_BTKQ, np.maximum(label_BTK, 0)[..., None], -1)[..., 0]
        nll_K = nll_K - (picked * there).sum((0, 1))
        answered_K = answered_K + np.asarray(there.sum((0, 1)))
    assert found["loop/damped"]["eval_nll"] == pytest.approx(
        float((nll_K / answered_K).mean()), rel=1e-5
    )


def test_a_shallow_model_has_the_edits_that_it_can_have():
    assert [middle_block(6, 2), middle_block(5, 2), middle_block(4, 1)] == [(2, 3), (2, 3), (2,)]
    six = CONFIG.with_layers((CONFIG.layers[0],) * 6)
    reversed_ = {
        block: [edit.layers for edit in edits(six, block) if edit.kind == REVERSE]
        for block in (1, 2, 3)
    }
    assert reversed_ == {
        1: [(first, first + 1) for first in range(5)],
        2: [(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)],
        3: [(0, 1, 2, 3, 4, 5)],
    }
    names = {
        layers: [f"{edit.kind}/{edit.name}" for edit in edits(config, block=2)]
        for layers in (1, 2)
        for config in [CONFIG.with_layers(CONFIG.layers[:layers])]
    }
    loops = ["loop/once", "loop/twice", "loop/damped"]
    cuts = ["cut/layer/0", "cut/layer/1", "swap/span/0-1", "exit/layer/0"]
    assert names == {1: [], 2: [*loops, *cuts]}
    assert Editor(2, HopAnswers(SCORER)).score(CONFIG.with_layers(CONFIG.layers[:1]), PARAMS) == []

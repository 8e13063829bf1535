"""Edits and depth of a text model, against plain loops over its layers and documents."""

import functools

import jax.numpy as jnp
import naive
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.sequences import TokenBatch, packed_row
from jaxanatomy.train.model_reader import ModelReader
from jaxanatomy.train.text_rows import TextRows

L, T, V = 4, 12, 29
WHOLE = tuple(range(L))
CONFIG = ModelConfig.uniform(
    L, 2, 2, 24, vocab_size=V, hidden_size=16, context_length=T, tie_embeddings=True
)
PARAMS = naive.random_params(CONFIG, seed=3)
# Where documents begin in each row of 12 tokens: one of 12, of 5 and 7, of 1 and 11, of 2, 2 and 8.
STARTS = ((0,), (0, 5), (0, 1), (0, 2, 4))


def row(number):
    tokens = np.random.default_rng(number).integers(0, V, T + 1)
    begins = np.isin(np.arange(T + 1), STARTS[number])
    return TokenBatch(**{name: each[None] for name, each in packed_row(tokens, begins).items()})


ROWS = TextRows([row(number) for number in range(len(STARTS))])


@pytest.fixture(scope="module")
def found():
    read = ModelReader.of(2, ROWS, ROWS, "float32").read(CONFIG, PARAMS)
    edited = {f"{each['kind']}/{each['name']}": each for each in read["edited"]}
    return {**read, "edited": edited}


def documents():
    """(row, tokens) of each document of two tokens or more, the model's whole input."""
    for number, each in enumerate(ROWS.rows):
        ends = (*STARTS[number][1:], T)
        for start, end in zip(STARTS[number], ends, strict=True):
            if end - start > 1:
                yield number, each.token_BT[0, start:end]


@functools.cache
def trace(token, sources, silent=None, up_to=None):
    """Streams and log probabilities [T, V] of one document after layers in some order.

    One of them may write nothing up to a position.
    """
    token_BT = jnp.asarray([token])
    position_BT = np.arange(token_BT.shape[1])[None]
    one_BT = np.ones_like(position_BT)
    x_BTD = model.embed(PARAMS, token_BT)
    streams = [x_BTD]
    for layer in sources:
        block = PARAMS["layers"][layer]
        after_BTD = naive.after_layer(CONFIG, layer, block, x_BTD, position_BT, one_BT)
        if layer == silent:
            after_BTD = jnp.where(position_BT[..., None] <= up_to, x_BTD, after_BTD)
        x_BTD = after_BTD
        streams.append(x_BTD)
    (logit_TV,) = np.asarray(naive.logits(CONFIG, PARAMS, x_BTD), np.float64)
    log_TV = logit_TV - np.log(np.exp(logit_TV).sum(-1, keepdims=True))
    return np.array(streams, np.float64)[:, 0], log_TV


def every_prediction(sources):
    """(log probabilities, target) of each predicted token of all rows."""
    for _, token in documents():
        _, log_TV = trace(tuple(token.tolist()), sources)
        yield from zip(log_TV[:-1], token[1:], strict=True)


ORDERS = {
    "loop/once": (0, 1, 2, 1, 2, 3),
    "loop/twice": (0, 1, 2, 1, 2, 1, 2, 3),
    "cut/layer/2": (0, 1, 3),
    "swap/span/0-3": (2, 3, 0, 1),
    "reverse/span/0-3": (3, 2, 1, 0),
    "exit/layer/1": (0, 1),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_edit_is_scored_on_every_next_token(found, name):
    whole = list(every_prediction(WHOLE))
    own = list(every_prediction(ORDERS[name]))
    assert (
        len(own) == sum(len(token) - 1 for _, token in documents()) == 11 + 4 + 6 + 10 + 1 + 1 + 7
    )
    top = [{*np.argsort(log_V)[-5:].tolist()} for log_V, _ in whole]
    expected = {
        "eval_nll": -np.mean([log_V[target] for log_V, target in own]),
        "whole_nll": -np.mean([log_V[target] for log_V, target in whole]),
        "accuracy": np.mean([log_V.argmax() == target for log_V, target in own]),
        "agreement": np.mean(
            [a.argmax() == b.argmax() for (a, _), (b, _) in zip(own, whole, strict=True)]
        ),
        "overlap": np.mean(
            [
                len(five & {*np.argsort(a)[-5:].tolist()}) / 5
                for (a, _), five in zip(own, top, strict=True)
            ]
        ),
    }
    each = found["edited"][name]
    assert {field: each[field] for field in expected} == pytest.approx(expected, rel=1e-5)
    assert each["eval_nll"] != pytest.approx(each["whole_nll"], rel=1e-4)


def test_all_edits_are_there(found):
    kinds = [each["kind"] for each in found["edited"].values()]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    assert counts == {"loop": 3, "cut": 4, "swap": 3 + 1, "reverse": 1, "exit": 3}
    assert found["edited"]["reverse/span/0-3"]["layers"] == [0, 1, 2, 3]


def test_the_depth_score_is_of_predicted_distributions_at_later_tokens(found):
    change_EL = np.zeros((len(STARTS), L))
    for number, token in documents():
        token = tuple(token.tolist())
        clean = np.exp(trace(token, WHOLE)[1])
        for layer in range(L):
            for part in (1, 2, 3):
                boundary = len(token) * part // 4
                other = np.exp(trace(token, WHOLE, layer, boundary)[1])
                moved = np.sqrt(((other - clean) ** 2).sum(-1))[boundary + 1 :]
                change_EL[number, layer] = max([change_EL[number, layer], *moved])
    m_L = change_EL.mean(axis=0)
    assert found["depth"]["influence"] == pytest.approx(m_L.tolist(), rel=1e-4, abs=1e-6)
    score = (np.arange(L) * m_L).sum() / m_L.sum()
    assert found["depth"]["depth_score"] == pytest.approx(score, rel=1e-5)


def test_a_row_whose_documents_are_of_one_token_counts_nowhere(found):
    blank = packed_row(np.arange(T + 1), np.ones(T + 1, bool))
    first = TokenBatch(**{name: each[None] for name, each in blank.items()})
    rows = TextRows([first, *ROWS.rows])
    read = ModelReader.of(2, rows, rows, "float32").read(CONFIG, PARAMS)["depth"]
    for name in ("influence", "depth_score", "attention_norm"):
        assert read[name] == pytest.approx(found["depth"][name], rel=1e-5, abs=1e-7), name


def test_effects_are_means_over_the_later_tokens_of_a_row(found):
    parts = []
    for part in (1, 2, 3):
        moved = [[] for _ in STARTS]
        for number, token in documents():
            token, boundary = tuple(token.tolist()), len(token) * part // 4
            clean, other = trace(token, WHOLE)[0], trace(token, WHOLE, 1, boundary)[0]
            own, its = (each[4] - each[3] for each in (clean, other))
            size_T = np.linalg.norm(own - its, axis=-1) / np.linalg.norm(own, axis=-1)
            moved[number] += size_T[boundary + 1 :].tolist()
        parts.append(np.mean([np.mean(each) for each in moved]))
    assert found["depth"]["effects"]["later"][1][3] == pytest.approx(np.mean(parts), rel=1e-4)


def test_rows_are_taken_of_each_source_and_spread():
    held_out = {"a": [row(0), row(1), row(2), row(3)], "b": [row(1)]}
    rows = TextRows.of(held_out, (2, 3)).rows
    assert [each.token_BT[0, 0] for each in rows] == [row(at).token_BT[0, 0] for at in (0, 2, 1)]


def test_a_shallow_text_model_has_what_it_can_have():
    config = CONFIG.with_layers(CONFIG.layers[:1])
    params = tree.with_layers(PARAMS, PARAMS["layers"][:1])
    read = ModelReader.of(2, ROWS, ROWS, "float32").read(config, params)
    assert read["edited"] == []
    assert len(read["depth"]["influence"]) == 1

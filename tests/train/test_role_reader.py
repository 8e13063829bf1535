"""What is read of trained models on held-out rows, against plain passes through their layers."""

import itertools

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.registers import Registers, prepend
from jaxanatomy.forensics.roles import ROLES, assign, role_scores
from jaxanatomy.measures import roles
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.role_documents import DocumentRows
from jaxanatomy.train.role_reader import RoleReader, document_text, row_text

T, L, WORDS = 9, 4, 13
CONFIG = ModelConfig.uniform(
    L, 2, 2, 24, vocab_size=WORDS + 4, hidden_size=16, context_length=16, tie_embeddings=False
)
PARAMS = naive.random_params(CONFIG, seed=3)
TOKENS = np.random.default_rng(0).integers(0, WORDS, (8, T + 1)).astype(np.int32)
ONES = np.ones((4, T), np.float32)
BATCHES = [Batch(rows[:, :-1], rows[:, 1:], ONES) for rows in (TOKENS[:4], TOKENS[4:])]
# One of three rows, one of half a row, two of which each is in two rows, two of a row each.
SIZES = (27, 5, 8, 14, 9, 9)
DOCUMENTS = np.repeat(np.arange(6), SIZES).reshape(8, T)
HALVES = ({0, 2}, {1, 3, 4, 5})
ROWS = DocumentRows.of(BATCHES, DOCUMENTS)


def streams(token_BT, layers=range(L)):
    """The stream before the first layer and after each, and attention weights [B, H, T, S]."""
    position_BT = np.broadcast_to(np.arange(token_BT.shape[1]), token_BT.shape)
    zero_BT = np.zeros_like(position_BT)
    found = [model.embed(PARAMS, jnp.asarray(token_BT))]
    for layer in layers:
        block = PARAMS["layers"][layer]
        found.append(naive.after_layer(CONFIG, layer, block, found[-1], position_BT, zero_BT))
    return found


def parts(half):
    """What each row has of each document of a half, with the token before."""
    for row, document_T in zip(TOKENS, DOCUMENTS, strict=True):
        for document in sorted(HALVES[half] & set(document_T.tolist())):
            (place,) = np.where(document_T == document)
            yield row[place[0] : place[-1] + 2]


def mean_loss(half, layers):
    found = []
    for row in parts(half):
        logits_TV = naive.logits(CONFIG, PARAMS, streams(row[None, :-1], layers)[-1])[0]
        log_TV = np.asarray(jax.nn.log_softmax(logits_TV), np.float64)
        found += (-log_TV[np.arange(len(row) - 1), row[1:]]).tolist()
    return np.mean(found)


def test_every_set_is_left_out_on_half_of_the_documents():
    found = RoleReader(CONFIG, ROWS, most=2).skips(PARAMS)
    assert found["skip_whole"] == pytest.approx(mean_loss(1, range(L)), rel=1e-5)
    assert found["skip_sets"][:5] == [[0], [1], [2], [3], [0, 1]]
    assert len(found["skip_sets"]) == len(found["skip_nll"]) == 4 + 6
    for out, nll in zip(found["skip_sets"], found["skip_nll"], strict=True):
        kept = [layer for layer in range(L) if layer not in out]
        assert nll == pytest.approx(mean_loss(1, kept), rel=1e-5), out


def test_roles_are_of_weights_and_of_what_the_other_documents_make_layers_do():
    found = RoleReader(CONFIG, ROWS).skips(PARAMS)
    of_parts = [streams(row[None]) for row in parts(0)]
    states = [
        np.concatenate([np.asarray(own[at], np.float64)[0, 1:] for own in of_parts])
        for at in range(L + 1)
    ]
    rows = [row for own, _ in roles.weight_rows(PARAMS["layers"], CONFIG.head_dim) for row in own]
    values = roles.features(rows, None)
    pairs = list(itertools.pairwise(states))
    values["write_total"] = np.array(
        [np.linalg.norm(after - before, axis=-1).mean() for before, after in pairs]
    )
    values["activation_alignment"] = np.array(
        [
            ((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).mean()
            for a, b in pairs
        ]
    )
    passthrough = {
        name: values[name]
        for name in ("co_magnitude_cv", "saturated_share", "write_total", "activation_alignment")
    }
    expected = role_scores(passthrough)[ROLES.index("passthrough")]
    np.testing.assert_allclose(found["skip_scores"], expected, rtol=1e-3)
    assert set(found["skip_roles"]) <= {*ROLES, "tie"}
    assert len(assign(np.zeros((4, L)))[0]) == len(found["skip_roles"])


def test_no_document_is_in_both_halves_and_all_are_in_one():
    """Documents of tokens of their own, so that each target says which it is of."""
    token_N = 10 * np.repeat(np.arange(6), SIZES) + 1
    row_NT = np.pad(token_N.reshape(8, T), ((0, 0), (1, 0))).astype(np.int32)
    batch = Batch(row_NT[:, :-1], row_NT[:, 1:], np.ones((8, T)))
    rows = DocumentRows.of([batch], DOCUMENTS)
    seen = []
    for half in (0, 1):
        targets = [
            batch.target_P[batch.document_P >= 0].tolist() for batch in document_text(rows, half)
        ]
        seen.append(sorted(itertools.chain.from_iterable(targets)))
    assert not set(seen[0]) & set(seen[1])
    assert sorted(seen[0] + seen[1]) == token_N.tolist()


def test_attention_goes_to_registers_and_to_the_first_token():
    own = Registers("registers_random", 3, WORDS, 4)
    batches = [prepend(batch, own.draw(4, 0, at)) for at, batch in enumerate(BATCHES)]
    found = RoleReader(CONFIG, DocumentRows.of(batches, DOCUMENTS), registers=3).attention(PARAMS)
    # A window has its last target as well.
    rows = [np.append(each.token_BT, each.target_BT[:, -1:], axis=1) for each in batches]
    token_BT = np.concatenate(rows)
    for layer, x_BTD in enumerate(streams(token_BT)[:-1]):
        weight_BTS = attention(PARAMS["layers"][layer], x_BTD).mean(axis=1)[:, 4:]
        for name, keys in (("on_registers", slice(0, 3)), ("on_first", slice(3, 4))):
            expected = weight_BTS[..., keys].sum(axis=-1).mean()
            assert found[f"attention_{name}"][layer] == pytest.approx(expected, rel=1e-4)
    plain = RoleReader(CONFIG, ROWS).attention(PARAMS)
    assert plain["attention_on_registers"] == [0.0] * L
    assert min(plain["attention_on_first"]) > 0


def attention(block, x_BTD):
    """Weights [B, H, T, S] by hand."""
    x = np.asarray(x_BTD, np.float64)
    size = np.sqrt((x**2).mean(-1, keepdims=True) + CONFIG.norm_epsilon)
    x = x / size * tree.get(block, "attention_norm")
    B, length, _ = x.shape
    half = CONFIG.head_dim // 2
    angle = np.arange(length)[:, None] / CONFIG.rope_theta ** (np.arange(half) / half)

    def turned(name):
        heads = (x @ tree.get(block, name)).reshape(B, length, 2, 2, half).transpose(0, 2, 1, 3, 4)
        a, b = heads[..., 0, :], heads[..., 1, :]
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    scores = turned("q_proj") @ turned("k_proj").swapaxes(-1, -2) / np.sqrt(CONFIG.head_dim)
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def test_rows_that_do_not_fit_are_refused():
    own, holed = BATCHES[0], ONES.copy()
    holed[0, 3] = 0
    for wrong, message in (
        (own._replace(weight_BT=holed), "registers must be predicted"),
        (own._replace(segment_BT=np.zeros((4, T), np.int32)), "one segment"),
    ):
        rows = DocumentRows.of([wrong], DOCUMENTS[:4])
        for read in (row_text, lambda rows: document_text(rows, 0)):
            with pytest.raises(ValueError, match=message):
                read(rows)

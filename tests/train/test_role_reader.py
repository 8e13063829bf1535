"""What is read of trained models on held-out rows, against plain passes through their layers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.registers import Registers, prepend
from jaxanatomy.forensics.roles import ROLES, assign, role_scores
from jaxanatomy.measures import roles
from jaxanatomy.model import rope
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.role_reader import RoleReader, as_text

T, L, WORDS = 9, 4, 13
CONFIG = ModelConfig.uniform(
    L, 2, 2, 24, vocab_size=WORDS + 4, hidden_size=16, context_length=16, tie_embeddings=False
)
PARAMS = jax.tree.map(lambda leaf: np.asarray(5 * leaf), model.init(CONFIG, jax.random.key(3)))
TOKENS = np.random.default_rng(0).integers(0, WORDS, (8, T + 1)).astype(np.int32)
ONES = np.ones((4, T), np.float32)
BATCHES = [Batch(rows[:, :-1], rows[:, 1:], ONES) for rows in (TOKENS[:4], TOKENS[4:])]


def streams(token_BT, layers=range(L)):
    """The stream before the first layer and after each, and attention weights [B, H, T, S]."""
    position_BT = jnp.broadcast_to(jnp.arange(token_BT.shape[1]), token_BT.shape)
    tables = rope.tables(CONFIG, position_BT)
    bias_BTS = model.attention_bias(jnp.zeros_like(token_BT))
    found = [model.embed(PARAMS, jnp.asarray(token_BT))]
    for layer in layers:
        params = {"params": PARAMS["layers"][layer]}
        found.append(model.block(CONFIG, layer).apply(params, found[-1], tables, bias_BTS)[0])
    return found


def mean_loss(rows, layers):
    logits_BTV = model.logits(CONFIG, PARAMS, streams(rows[:, :-1], layers)[-1])
    log_BTV = np.asarray(jax.nn.log_softmax(logits_BTV), np.float64)
    return -np.take_along_axis(log_BTV, rows[:, 1:, None], axis=-1).mean()


def test_every_set_is_left_out_on_every_other_row():
    found = RoleReader(CONFIG, BATCHES, most=2).skips(PARAMS)
    scored = TOKENS[1::2]
    assert found["skip_whole"] == pytest.approx(mean_loss(scored, range(L)), rel=1e-5)
    assert found["skip_sets"][:5] == [[0], [1], [2], [3], [0, 1]]
    assert len(found["skip_sets"]) == len(found["skip_nll"]) == 4 + 6
    for out, nll in zip(found["skip_sets"], found["skip_nll"], strict=True):
        kept = [layer for layer in range(L) if layer not in out]
        assert nll == pytest.approx(mean_loss(scored, kept), rel=1e-5), out


def test_roles_are_of_weights_and_of_what_the_other_rows_make_layers_do():
    found = RoleReader(CONFIG, BATCHES).skips(PARAMS)
    states = [np.asarray(x, np.float64)[:, 1:] for x in streams(TOKENS[::2])]
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


def test_attention_goes_to_registers_and_to_the_first_token():
    own = Registers("registers_random", 3, WORDS, 4)
    batches = [prepend(batch, own.draw(4, 0, at)) for at, batch in enumerate(BATCHES)]
    found = RoleReader(CONFIG, batches, registers=3).attention(PARAMS)
    # A window has its last target as well.
    rows = [np.append(each.token_BT, each.target_BT[:, -1:], axis=1) for each in batches]
    token_BT = np.concatenate(rows)
    for layer, x_BTD in enumerate(streams(token_BT)[:-1]):
        weight_BTS = attention(PARAMS["layers"][layer], x_BTD).mean(axis=1)[:, 4:]
        for name, keys in (("on_registers", slice(0, 3)), ("on_first", slice(3, 4))):
            expected = weight_BTS[..., keys].sum(axis=-1).mean()
            assert found[f"attention_{name}"][layer] == pytest.approx(expected, rel=1e-4)
    plain = RoleReader(CONFIG, BATCHES).attention(PARAMS)
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


def test_rows_of_padding_are_left_out_and_rows_that_do_not_fit_refused():
    padded = Batch(TOKENS[:4, :-1], TOKENS[:4, 1:], ONES * np.array([[1], [1], [0], [1]]))
    windows = sum(int((batch.document_P >= 0).sum()) for batch in as_text([padded]))
    assert windows == 3 * T
    holed = ONES.copy()
    holed[0, 3] = 0
    for wrong in (
        padded._replace(weight_BT=holed),
        padded._replace(segment_BT=np.zeros((4, T), np.int32)),
    ):
        with pytest.raises(ValueError, match=r"registers must be predicted|one segment"):
            as_text([wrong])

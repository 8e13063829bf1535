"""What is read of how deep a trained model computes, against plain loops over its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import KHop
from jaxanatomy.forensics import blocks
from jaxanatomy.model import rope
from jaxanatomy.train.depth_reader import DepthReader
from jaxanatomy.train.hops import HopScorer

TASK = KHop(alphabet=3, seq_len=12, hops=4)
SCORER = HopScorer(TASK, sequences=8, batch_size=4)
L = 4
CONFIG = ModelConfig.uniform(
    L, 2, 2, 24, vocab_size=13, hidden_size=16, context_length=12, tie_embeddings=False
)
PARAMS = jax.tree.map(lambda leaf: np.asarray(5 * leaf), model.init(CONFIG, jax.random.key(3)))


@pytest.fixture(scope="module")
def found():
    return DepthReader(2, SCORER).read(CONFIG, PARAMS)


def trace(silent=None, up_to=None):
    """Streams [L + 1] where a layer writes nothing at positions up to one, and the answers."""
    batch = SCORER.batch()
    token_BT = jnp.asarray(batch.token_BT)
    position_BT = jnp.broadcast_to(jnp.arange(12), token_BT.shape)
    tables = rope.tables(CONFIG, position_BT)
    bias_BTS = model.attention_bias(jnp.ones_like(token_BT))
    streams = [model.embed(PARAMS, token_BT)]
    for layer in range(L):
        params = {"params": PARAMS["layers"][layer]}
        x_BTD = streams[-1]
        after_BTD = model.block(CONFIG, layer).apply(params, x_BTD, tables, bias_BTS)[0]
        if layer == silent:
            after_BTD = jnp.where(position_BT[..., None] <= up_to, x_BTD, after_BTD)
        streams.append(after_BTD)
    logit_BTV = np.asarray(model.logits(CONFIG, PARAMS, streams[-1]), np.float64)
    answer = np.exp(logit_BTV[..., :12].reshape(*batch.label_BTK.shape, 3))
    answer /= answer.sum(-1, keepdims=True)
    return [np.asarray(each, np.float64) for each in streams], answer


BOUNDARIES = (3, 6, 9)  # a quarter, a half and three quarters of 12 tokens


def test_the_depth_score_is_of_answers_that_are_asked_for_at_later_tokens(found):
    _, clean = trace()
    asked = SCORER.batch().label_BTK >= 0
    change_EL = np.zeros((8, L))
    for layer in range(L):
        for boundary in BOUNDARIES:
            _, answer = trace(layer, boundary)
            moved = ((answer - clean) ** 2).sum(-1) * asked
            for sequence in range(8):
                for position in range(boundary + 1, 12):
                    size = np.sqrt(moved[sequence, position].sum())
                    change_EL[sequence, layer] = max(change_EL[sequence, layer], size)
    m_L = change_EL.mean(axis=0)
    assert found["influence"] == pytest.approx(m_L.tolist(), rel=1e-4, abs=1e-6)
    assert found["depth_score"] == pytest.approx((np.arange(L) * m_L).sum() / m_L.sum(), rel=1e-5)
    # The last tokens' deepest questions have answers, the first ones' do not.
    assert asked[:, -1].any()
    assert not asked.all()


def test_effects_are_means_over_sequences_positions_and_boundaries(found):
    clean, _ = trace()
    parts = []
    for boundary in BOUNDARIES:
        other, _ = trace(1, boundary)
        own, its = (each[3] - each[2] for each in (clean, other))
        change = np.linalg.norm(own - its, axis=-1) / np.linalg.norm(own, axis=-1)
        parts.append(change[:, boundary + 1 :].mean())
    assert found["effect"][1][2] == pytest.approx(np.mean(parts), rel=1e-4)
    known = [(a, b) for a in range(L) for b in range(L) if found["effect"][a][b] is not None]
    assert known == [(a, b) for a in range(L) for b in range(L) if a < b]


def test_contributions_are_means_over_all_tokens(found):
    streams, _ = trace()
    h, after = streams[2], streams[3]
    both = (after - h) / np.linalg.norm(h, axis=-1, keepdims=True)
    assert np.isfinite(both).all()
    assert set(found) >= set(blocks.SCORES)
    for name in ("attention_norm", "attention_cosine", "mlp_norm_after_attention"):
        assert len(found[name]) == L
        expected = blocks.periodicity(blocks.likeness(np.array(found[name])), 2)
        assert found[f"{name}_periodicity"] == pytest.approx(expected)


def test_blocks_are_compared_by_their_ffn_weights(found):
    ffn_LN = np.array(
        [
            np.concatenate([np.ravel(tree.get(own, name)) for name in blocks.FFN_PARTS])
            for own in PARAMS["layers"]
        ]
    )
    pair_BN = np.concatenate([ffn_LN[:-1], ffn_LN[1:]], axis=1).astype(np.float64)
    unit_BN = pair_BN / np.linalg.norm(pair_BN, axis=1, keepdims=True)
    np.testing.assert_allclose(found["similarity"], unit_BN @ unit_BN.T, atol=1e-9)
    assert found["block_similarity"] == pytest.approx(unit_BN[0] @ unit_BN[2])


@pytest.mark.parametrize("layers", [1, 2])
def test_a_shallow_model_has_what_it_can_have(layers):
    config = CONFIG.with_layers(CONFIG.layers[:layers])
    params = tree.with_layers(PARAMS, PARAMS["layers"][:layers])
    found = DepthReader(2, SCORER).read(config, params)
    assert len(found["influence"]) == layers
    assert found["depth_score"] is not None
    assert (found["effect"] is None) == (layers == 1)
    assert "similarity" not in found

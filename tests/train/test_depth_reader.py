"""What is read of how deep a trained model computes, against plain loops over its layers."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import KHop
from jaxanatomy.forensics import blocks
from jaxanatomy.train.depth_reader import EFFECTS, DepthReader
from jaxanatomy.train.hop_answers import HopAnswers
from jaxanatomy.train.hops import HopScorer

TASK = KHop(alphabet=3, seq_len=12, hops=4)
SCORER = HopScorer(TASK, sequences=8, batch_size=4)
L = 4
CONFIG = ModelConfig.uniform(
    L, 2, 2, 24, vocab_size=13, hidden_size=16, context_length=12, tie_embeddings=False
)
PARAMS = naive.random_params(CONFIG, seed=3)


@pytest.fixture(scope="module")
def found():
    return DepthReader(2, HopAnswers(SCORER)).read(CONFIG, PARAMS)


def apply(layer, x_BTD, gate=None):
    """The stream after a layer; `gate` opens its heads and, last, its MLP."""
    position_BT = np.broadcast_to(np.arange(12), x_BTD.shape[:2])
    one_BT, block = np.ones_like(position_BT), PARAMS["layers"][layer]
    return naive.after_layer(CONFIG, layer, block, x_BTD, position_BT, one_BT, gate)


def trace(silent=None, up_to=None):
    """Streams [L + 1] where a layer writes nothing at positions up to one, and the answers."""
    batch = SCORER.batch()
    token_BT = jnp.asarray(batch.token_BT)
    streams = [model.embed(PARAMS, token_BT)]
    for layer in range(L):
        x_BTD = streams[-1]
        after_BTD = apply(layer, x_BTD)
        if layer == silent:
            after_BTD = jnp.where(jnp.arange(12)[:, None] <= up_to, x_BTD, after_BTD)
        streams.append(after_BTD)
    logit_BTV = np.asarray(naive.logits(CONFIG, PARAMS, streams[-1]), np.float64)
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


def change(own, its):
    """How far a contribution moves, of its norm, at each token."""
    return np.linalg.norm(own - its, axis=-1) / np.linalg.norm(own, axis=-1)


def test_effects_are_means_over_sequences_positions_and_boundaries(found):
    clean, _ = trace()
    parts = []
    for boundary in BOUNDARIES:
        other, _ = trace(1, boundary)
        own, its = (each[3] - each[2] for each in (clean, other))
        parts.append(change(own, its)[:, boundary + 1 :].mean())
    effect_LL = found["effects"]["later"]
    assert effect_LL[1][2] == pytest.approx(np.mean(parts), rel=1e-4)
    known = [(a, b) for a in range(L) for b in range(L) if effect_LL[a][b] is not None]
    assert known == [(a, b) for a in range(L) for b in range(L) if a < b]


def test_a_local_effect_passes_through_no_layer_between(found):
    clean, _ = trace()
    parts = []
    for boundary in BOUNDARIES:
        silent_T1 = np.arange(12)[:, None] <= boundary
        x_BTD = clean[3] - (clean[2] - clean[1]) * silent_T1
        its = np.asarray(apply(3, jnp.float32(x_BTD)), np.float64) - x_BTD
        parts.append(change(clean[4] - clean[3], its)[:, boundary + 1 :].mean())
    assert found["effects"]["later_local"][1][3] == pytest.approx(np.mean(parts), rel=1e-4)


def test_current_effects_are_of_attention_that_is_silent_at_every_token(found):
    clean, _ = trace()
    only_mlp = np.zeros((*SCORER.batch().token_BT.shape, CONFIG.layers[1].num_heads + 2))
    only_mlp[..., -1] = 1
    x_BTD = apply(1, jnp.float32(clean[1]), jnp.float32(only_mlp))
    for layer in (2, 3):
        after_BTD = apply(layer, x_BTD)
        its = np.asarray(after_BTD - x_BTD, np.float64)
        expected = change(clean[layer + 1] - clean[layer], its).mean()
        assert found["effects"]["attention"][1][layer] == pytest.approx(expected, rel=1e-4)
        x_BTD = after_BTD


def test_the_first_attention_is_of_blocks_between_the_first_and_the_last(found):
    assert found["first_attention"] is None  # two blocks of two layers
    single = DepthReader(1, HopAnswers(SCORER)).read(CONFIG, PARAMS)
    effect_LL = single["effects"]["attention"]
    of_layer = np.mean(effect_LL[1][2:]), effect_LL[2][3]
    assert single["first_attention"] == pytest.approx(np.mean(of_layer))


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
    found = DepthReader(2, HopAnswers(SCORER)).read(config, params)
    assert len(found["influence"]) == layers
    # No token sees what the last layer writes at earlier ones.
    assert found["influence"][-1] == pytest.approx(0, abs=1e-6)
    assert layers == 1 or found["depth_score"] is not None
    assert set(found["effects"]) == (set(EFFECTS) if layers == 2 else set())
    assert "similarity" not in found


@pytest.mark.parametrize("scale", [1e19, 1e30])
def test_a_model_that_is_not_finite_has_no_depth(scale):
    """At 1e19 answers are NaN; at 1e30 norms make all of them alike, and cosines are NaN."""
    params = jax.tree.map(lambda leaf: np.float32(scale) * leaf, PARAMS)
    assert DepthReader(2, HopAnswers(SCORER)).read(CONFIG, params) is None

"""Roles against literal scores, and against layers in which they are planted."""

import numpy as np
import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.forensics import roles


def test_z_scores_by_hand_and_0_where_layers_are_equal():
    np.testing.assert_allclose(roles.z_scores([1.0, 2.0, 3.0]), [-np.sqrt(1.5), 0, np.sqrt(1.5)])
    np.testing.assert_array_equal(roles.z_scores([0.3, 0.3, 0.3]), [0, 0, 0])
    np.testing.assert_array_equal(roles.z_scores([0.0, 0.0]), [0, 0])
    np.testing.assert_array_equal(roles.z_scores([0.1 + 0.2, 0.3, 0.3]), [0, 0, 0])
    many = roles.z_scores([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    np.testing.assert_allclose(many[0], roles.z_scores([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(many[1], [0, 0, 0])


def test_a_score_is_the_sigmoid_of_the_mean_of_signed_z_scores():
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=6) for name in roles.ROUTED}
    score_RL = roles.role_scores(features)
    for role, routed in roles.ROUTING.items():
        mean_L = np.mean(
            [
                sign * (features[name] - features[name].mean()) / features[name].std()
                for name, sign in routed.items()
            ],
            axis=0,
        )
        np.testing.assert_allclose(score_RL[roles.ROLES.index(role)], 1 / (1 + np.exp(-mean_L)))
    some = {"co_magnitude_cv": features["co_magnitude_cv"], "head_spread": features["head_spread"]}
    hub, damper, passthrough, specialist = roles.role_scores(some)
    np.testing.assert_allclose(damper, 0.5)
    np.testing.assert_allclose(passthrough + specialist, 1.0)
    np.testing.assert_allclose(hub, 1 / (1 + np.exp(roles.z_scores(features["head_spread"]))))
    drawn = roles.role_scores({**some, "head_spread": np.stack([features["head_spread"]] * 3)})
    assert drawn.shape == (3, 4, 6)
    np.testing.assert_allclose(drawn[2], roles.role_scores(some))


@pytest.mark.parametrize("role", roles.ROLES)
def test_a_layer_with_all_the_evidence_for_a_role_has_it(role):
    features = {name: np.random.default_rng(1).normal(size=8) for name in roles.ROUTED}
    for name, sign in roles.ROUTING[role].items():
        features[name][5] = 40 * sign
    found_L, margin_L = roles.assign(roles.role_scores(features))
    assert roles.ROLES[found_L[5]] == role
    assert margin_L[5] > roles.MARGIN


def test_a_role_wins_by_more_than_the_margin_or_is_tied():
    score_RL = np.array([[0.60, 0.60, 0.1], [0.54, 0.56, 0.1], [0.2, 0.2, 0.1], [0.1, 0.1, 0.1]])
    found_L, margin_L = roles.assign(score_RL)
    assert found_L.tolist() == [0, -1, -1]
    np.testing.assert_allclose(margin_L, [0.06, 0.04, 0.0])


def test_peers_are_the_other_layers():
    np.testing.assert_allclose(
        roles.peer_ratio(np.array([1.0, 2.0, 3.0, 30.0])), [1 / 3, 2 / 3, 1.5, 15]
    )
    assert np.isnan(roles.peer_ratio(np.array([1.0, 0.0, 0.0, 0.0]))[0])


def test_coupling_is_the_best_match_of_each_head():
    one, two = np.eye(4)[:2], np.array([[1.0, 0, 0, 0], [0, 0.6, 0.8, 0]])
    found_LL = roles.coupling([one, two, np.eye(4)[3:]])
    np.testing.assert_allclose(found_LL[0, 1], (1 + 0.6) / 2)
    np.testing.assert_allclose(found_LL[1, 0], (1 + 0.6) / 2)
    np.testing.assert_allclose(found_LL[2, 0], 0)
    assert np.isnan(np.diag(found_LL)).all()


def test_what_a_layer_lacks_is_left_out_and_not_0():
    whole = {"head_spread": np.arange(4.0), "coupling": np.array([1.0, np.nan, 2.0, 3.0])}
    assert list(roles.defined({**whole, "unrouted": np.arange(4.0)})) == ["head_spread"]


def test_every_feature_is_evidence_for_or_against():
    assert set(roles.ROUTED) == {name for each in roles.ROUTING.values() for name in each}
    assert {sign for each in roles.ROUTING.values() for sign in each.values()} == {1, -1}


def test_three_layers_are_refused():
    config = ModelConfig.uniform(3, 4, 2, 8, vocab_size=8, hidden_size=16)
    with pytest.raises(
        InputError, match="roles need at least 4 layers to compare; this model has 3"
    ):
        roles.require_layers(config)

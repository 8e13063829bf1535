"""Ranks of tokens among predictions."""

import jax.numpy as jnp
import numpy as np

from jaxanatomy.measures.readings.lens import TOP, ranks


def test_ranks_are_places_in_a_stable_sort_and_nan_is_no_place():
    """Of a model that says nothing, all of whose logits are equal, one token is the likeliest."""
    rng = np.random.default_rng(0)
    scores_PV = np.concatenate([rng.integers(0, 4, (6, 9)), np.zeros((1, 9))]).astype(np.float32)
    token_PK = np.tile(np.arange(9), (7, 1))
    order_PV = np.argsort(-scores_PV, axis=1, kind="stable")
    expected_PV = np.argsort(order_PV, axis=1)
    np.testing.assert_array_equal(ranks(jnp.asarray(scores_PV), jnp.asarray(token_PK)), expected_PV)
    nothing = jnp.full((1, 9), jnp.nan)
    np.testing.assert_array_equal(ranks(nothing, jnp.asarray([[0, 3]])), [[TOP, TOP]])

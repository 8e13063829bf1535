"""Layers made of singular values and vectors, and weighted averages, on small blocks."""

import jax
import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.blends import blend, distance_weights
from jaxanatomy.interventions.low_rank import (
    check_rank,
    kept,
    largest_rank,
    low_rank,
    own_svd,
)


def filled(block, matrix):
    """The block with one matrix for all seven components, whatever they were."""
    return tree.replace(block, dict.fromkeys(tree.MATRICES, np.asarray(matrix, np.float32)))


def expected_matrices(own, source, rank_of):
    """U_n diag(S_l) V_n^T in float64, one singular triple at a time."""
    matrices = {}
    for name in tree.MATRICES:
        values = np.linalg.svd(tree.get(own, name).astype(float), compute_uv=False)
        U, _, Vt = np.linalg.svd(tree.get(source, name).astype(float), full_matrices=False)
        terms = [
            values[i] * np.outer(U[:, i], Vt[i])
            for i in range(rank_of(min(U.shape[0], Vt.shape[1])))
        ]
        matrices[name] = sum(terms)
    return matrices


def assert_matrices(block, expected, own, atol=1e-5):
    for name in tree.MATRICES:
        np.testing.assert_allclose(tree.get(block, name), expected[name], rtol=0, atol=atol)
        assert tree.get(block, name).dtype == np.float32
    for name in tree.NORMS:
        assert tree.get(block, name) is tree.get(own, name)


def test_low_rank_by_hand(naive):
    own = filled(naive.blocks[0], [[0, 5, 0], [3, 0, 0], [0, 0, 1]])
    source = filled(naive.blocks[1], np.diag([20, 10, 30]))
    # The largest value of the original goes to the largest direction of the source.
    for rank, diagonal in (
        ("full", [3, 1, 5]),
        (2, [3, 0, 5]),
        (1, [0, 0, 5]),
        ("half", [0, 0, 5]),
    ):
        made = tree.get(low_rank(own, source, rank=rank), "up_proj")
        np.testing.assert_allclose(made, np.diag(diagonal), rtol=0, atol=1e-5)


def test_own_svd_by_hand(naive):
    own = filled(naive.blocks[0], [[0, 5, 0], [3, 0, 0], [0, 0, 1]])
    for rank, expected in (
        ("full", [[0, 5, 0], [3, 0, 0], [0, 0, 1]]),
        (2, [[0, 5, 0], [3, 0, 0], [0, 0, 0]]),
        ("half", [[0, 5, 0], [0, 0, 0], [0, 0, 0]]),
    ):
        made = tree.get(own_svd(own, rank=rank), "down_proj")
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("rank", "rank_of"),
    [("full", lambda side: side), ("half", lambda side: side // 2), (3, lambda side: 3)],
)
def test_low_rank_is_the_sum_of_the_largest_triples(naive, rank, rank_of):
    own, source = naive.blocks[:2]
    made = low_rank(own, source, rank=rank)
    assert_matrices(made, expected_matrices(own, source, rank_of), own)
    made = own_svd(own, rank=rank)
    assert_matrices(made, expected_matrices(own, own, rank_of), own)


def test_neutral_settings_give_the_original(naive):
    own = naive.blocks[2]
    for made in (own_svd(own, rank="full"), low_rank(own, own, rank="full")):
        for name in tree.MATRICES:
            error = np.abs(tree.get(made, name) - tree.get(own, name)).max()
            assert error <= 1e-5 * np.abs(tree.get(own, name)).max()


def test_the_singular_values_stay_those_of_the_original(naive):
    own, source = naive.blocks[:2]
    made = low_rank(own, source)
    for name in tree.MATRICES:
        values = [np.linalg.svd(tree.get(b, name), compute_uv=False) for b in (made, own)]
        np.testing.assert_allclose(*values, rtol=1e-5)


def test_half_is_half_the_shorter_side_of_each_matrix():
    assert [kept("half", shape) for shape in ((6, 8), (8, 5), (1, 4))] == [3, 2, 1]
    assert [kept("full", shape) for shape in ((6, 8), (8, 5))] == [6, 5]
    assert kept(4, (6, 8)) == 4


def test_the_largest_rank_is_the_shortest_side_of_all_matrices(naive):
    assert largest_rank(naive.config) == 6  # FFN width 6; D is 8, so are the KV heads
    assert check_rank(naive.config, 6) == 6


@pytest.mark.parametrize("rank", [7, 0, -1, 2.0, True, None, "third", "16"])
def test_other_ranks_are_refused(naive, rank):
    message = f"'full', 'half' or a whole number from 1 to 6, .* got {rank!r}"
    with pytest.raises(InputError, match=message):
        check_rank(naive.config, rank)


def test_blend_is_the_weighted_sum(naive):
    own, *others = naive.blocks[:4]
    weights = (0.5, 0.3, 0.2)
    for made in (
        blend(own, *others, weights=weights),
        jax.jit(blend, static_argnames="weights")(own, *others, weights=weights),
    ):
        for name in tree.MATRICES + tree.NORMS:
            expected = sum(
                weight * tree.get(other, name).astype(float)
                for weight, other in zip(weights, others, strict=True)
            )
            np.testing.assert_allclose(tree.get(made, name), expected, rtol=1e-5, atol=1e-6)


def test_distance_weights_by_hand():
    assert distance_weights([1]) == (1.0,)
    assert distance_weights([1, 1]) == (0.5, 0.5)
    np.testing.assert_allclose(distance_weights([1, 2, 2, 3]), [6 / 14, 3 / 14, 3 / 14, 2 / 14])


def test_blocks_that_come_in_are_left_alone(naive):
    own, source = naive.blocks[:2]
    before = jax.tree.map(np.copy, (own, source))
    low_rank(own, source, rank=2), own_svd(own, rank=2), blend(own, source, weights=(1.0,))
    jax.tree.map(np.testing.assert_array_equal, (own, source), before)

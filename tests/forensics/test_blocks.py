"""Blocks of layers against literal concatenation; what repeats is found, what drifts is not."""

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.forensics import blocks
from jaxanatomy.forensics.gram import gram
from jaxanatomy.growth.maps import lidas, midas

SAMPLES = 300


def moments_of(x_LN):
    return gram([row.reshape(10, -1) for row in x_LN])


def noise(layers, seed, count=400):
    return np.random.default_rng(seed).normal(size=(layers, count))


def drifting(layers, seed):
    """Each layer is like the one before it, so that likeness falls with distance."""
    return noise(layers, seed).cumsum(0)


def grown(operator, block, layers, seed, apart=0.7):
    """A stack that was grown block by block, layers moving apart between growth steps."""
    x_LN = noise(block, 100 * seed)
    while len(x_LN) < layers:
        x_LN = x_LN[list(operator(len(x_LN), block))]
        x_LN = x_LN + apart * noise(len(x_LN), 100 * seed + len(x_LN))
    return x_LN


def found(x_LN, sizes=(2, 4), seed=0):
    scores, similarity = blocks.analyse_blocks(moments_of(x_LN), None, sizes, SAMPLES, seed)
    return {(each.metric, each.block, each.null): each for each in scores}, similarity


def repeating(x_LN):
    scores, _ = found(x_LN)
    wanted = [
        {"block": each.block, "p": each.p}
        for (metric, _, null), each in scores.items()
        if (metric, null) == (blocks.PERIODICITY, "shuffled_layers")
    ]
    return [row["block"] for row in blocks.repeats(wanted)]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_block_is_its_layers_end_to_end(size):
    x_LN, y_LN = noise(7, 0) + 0.3, noise(7, 1, 200)
    whole = moments_of(x_LN).end_to_end(moments_of(y_LN))
    joined_LN = np.concatenate([x_LN, y_LN], axis=1)
    block_BN = np.stack([joined_LN[at : at + size].ravel() for at in range(7 - size + 1)])
    own = whole.in_blocks(size)
    np.testing.assert_allclose(own.gram_LL, block_BN @ block_BN.T)
    np.testing.assert_allclose(own.sum_L, block_BN.sum(axis=1))
    assert own.count == block_BN.shape[1]
    unit_BN = block_BN / np.linalg.norm(block_BN, axis=1, keepdims=True)
    similarity_BB = blocks.block_similarity(whole, size)
    np.testing.assert_allclose(similarity_BB, unit_BN @ unit_BN.T)
    pairs = [
        similarity_BB[a, b] for a in range(len(own.sum_L)) for b in range(a + size, len(own.sum_L))
    ]
    assert blocks.mean_similarity(similarity_BB, size) == pytest.approx(np.mean(pairs))


def test_periodicity_is_a_peak_over_distances():
    alike_LL = blocks.cosine(moments_of(noise(9, 2)))

    def at(distance):
        return np.mean([alike_LL[layer, layer + distance] for layer in range(9 - distance)])

    expected = at(3) - (at(2) + at(4)) / 2
    assert blocks.periodicity(alike_LL, 3) == pytest.approx(expected)


def test_symmetry_is_one_for_mirror_images_and_below_zero_where_likeness_leans():
    rng = np.random.default_rng(3)
    x_BB = rng.normal(size=(9, 9))
    x_BB = x_BB + x_BB.T
    assert blocks.symmetry(x_BB + x_BB[::-1, ::-1].T) == pytest.approx(1)
    first_BB = np.add.outer(np.arange(9.0), np.arange(9.0))
    assert blocks.symmetry(first_BB) < -0.5
    # Of no pair more than of any other at its distance: 0 on average, whatever the distance does.
    falls_BB = -np.abs(np.subtract.outer(np.arange(9), np.arange(9)))
    drawn_SBB = rng.normal(size=(4000, 9, 9))
    assert abs(blocks.symmetry(falls_BB + drawn_SBB + drawn_SBB.swapaxes(1, 2)).mean()) < 0.03
    assert np.isnan(blocks.symmetry(np.ones((9, 9))))
    assert np.isnan(blocks.symmetry(x_BB[:3, :3]))


@pytest.mark.parametrize(("operator", "block"), [(midas, 4), (lidas, 4), (midas, 2), (lidas, 2)])
def test_a_stack_that_was_grown_repeats_itself_at_its_block(operator, block):
    assert block in repeating(grown(operator, block, 24, 10))


def test_what_is_independent_or_drifts_does_not():
    called = [len(repeating(make(12, seed))) for make in (noise, drifting) for seed in range(40)]
    assert sum(called[:40]) <= 5
    assert sum(called[40:]) == 0


def test_lidas_is_more_symmetric_than_midas():
    own = {
        operator: [
            float(
                blocks.symmetry(
                    blocks.block_similarity(moments_of(grown(operator, 4, 24, seed)), 4)
                )
            )
            for seed in range(5)
        ]
        for operator in (midas, lidas)
    }
    assert min(own[lidas]) > max(own[midas])


WORLDS = {
    "independent": lambda L, rng: rng.normal(size=L),
    "line": lambda L, rng: rng.normal() * np.arange(L),
    "line and noise": lambda L, rng: 4 * np.linspace(0, 1, L) + 0.3 * rng.normal(size=L),
    "decay": lambda L, rng: np.exp(-np.arange(L) / (L * rng.uniform(0.1, 0.6))),
    "bump": lambda L, rng: np.exp(-(((np.linspace(0, 1, L) - rng.uniform()) / 0.2) ** 2)),
    "random walk": lambda L, rng: rng.normal(size=L).cumsum(),
}


@pytest.mark.parametrize("world", WORLDS)
def test_a_value_without_a_period_is_called_periodic_in_one_of_twenty(world):
    rng = np.random.default_rng(5)
    made = [WORLDS[world](14, rng) for _ in range(100)]
    p = [blocks.periodicity_of(value_L, 4, 99, seed)["p"] for seed, value_L in enumerate(made)]
    assert sum(each is not None and each <= 0.05 for each in p) <= 11


def test_a_value_with_a_period_is_found_on_a_trend_and_beside_a_layer_far_off():
    rng = np.random.default_rng(6)
    value_L = np.tile([0.0, 1.0, 2.5, 4.0], 6) + 0.3 * rng.normal(size=24) + 0.2 * np.arange(24)
    value_L[0] = 50
    found = {size: blocks.periodicity_of(value_L, size, SAMPLES, 0) for size in (3, 4, 5)}
    assert found[4]["p"] == pytest.approx(1 / (SAMPLES + 1))
    assert found[4]["null_low"] < found[4]["null_value"] < found[4]["null_high"] < found[4]["value"]
    assert min(found[3]["p"], found[5]["p"]) > 0.5


def test_a_value_that_is_not_finite_or_a_line_has_no_period():
    for value_L in ([1.0, np.nan, 3.0, 2.0, 5.0], np.arange(8.0), np.ones(8)):
        found = blocks.periodicity_of(value_L, 2, 20, 0)
        assert (found["value"], found["p"]) == (None, None)


def test_scores_come_in_the_order_of_their_keys_beside_their_nulls():
    x_LN = grown(lidas, 2, 8, 4)
    moments, initial = moments_of(x_LN), moments_of(noise(8, 9))
    scores, similarity = blocks.analyse_blocks(moments, initial, (1, 2, 4), SAMPLES, 1)
    keys = [(each.metric, each.block, each.null) for each in scores]
    assert keys == blocks.block_keys((1, 2, 4), has_initial=True)
    assert {size: len(each) for size, each in similarity.items()} == {1: 8, 2: 7, 4: 5}
    by_key = dict(zip(keys, scores, strict=True))
    for (metric, size, null), each in by_key.items():
        assert each.value == by_key[metric, size, "random_init"].value
        assert (each.p is None) == (null == "random_init" or each.value is None)
    literal = blocks.periodicity(blocks.cosine(initial), 2)
    assert by_key[blocks.PERIODICITY, 2, "random_init"].null_value == pytest.approx(literal)
    orders = [np.random.default_rng(seed).permutation(8) for seed in range(SAMPLES)]
    mean = np.mean(
        [blocks.periodicity(blocks.cosine(moments_of(x_LN[each])), 2) for each in orders]
    )
    shuffled = by_key[blocks.PERIODICITY, 2, "shuffled_layers"]
    assert shuffled.null_value == pytest.approx(mean, abs=0.02)
    assert shuffled.value == pytest.approx(blocks.periodicity(blocks.cosine(moments), 2))


def test_so_many_looks_need_so_many_draws():
    blocks.require_enough_draws(1119, 56)
    blocks.require_enough_draws(2, 0)
    with pytest.raises(
        InputError, match=r"null_draws must be 1119 or more for 56 looks .* got 1118"
    ):
        blocks.require_enough_draws(1118, 56)
    # The smallest p that there is then suffices, and one draw fewer would not.
    found = [{"p": 1 / 1120}, *[{"p": 1.0}] * 55]
    assert blocks.repeats(found) == found[:1]
    assert blocks.repeats([{"p": 1 / 1119}, *found[1:]]) == []


def test_sizes_are_those_that_fit():
    assert [blocks.sizes_of((), layers) for layers in (1, 2, 4, 30)] == [
        (),
        (1,),
        (1, 2),
        (1, 2, 4),
    ]
    assert blocks.sizes_of((3, 5), 10) == (3, 5)
    for given, message in (
        ((6,), "two blocks must fit into the 10 layers; got blocks of 6; take 5 or fewer"),
        ((2, 2), "blocks must name at least one, each once"),
        ((0,), "a size in blocks must be a whole number, 1 or above; got 0"),
    ):
        with pytest.raises(InputError, match=message):
            blocks.sizes_of(given, 10)

"""Alignment against brute force over all permutations, and the function it must keep."""

import itertools

import numpy as np
import pytest
from naive import block_of

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.alignment import (
    AlignmentCache,
    align,
    align_ffn,
    align_heads,
    apply_alignment,
)

HEAD_DIM = 2
CONFIG = ModelConfig.uniform(1, 6, 3, 5, vocab_size=7, hidden_size=4, head_dim=HEAD_DIM)


def random_block(seed):
    generator = np.random.default_rng(seed)
    return block_of(CONFIG, 0, lambda shape: generator.normal(size=shape).astype(np.float32))


def cosine(a, b):
    a, b = a.ravel().astype(float), b.ravel().astype(float)
    return a @ b / np.sqrt((a @ a) * (b @ b))


def head_slice(block, name, head):
    features = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
    kernel = tree.get(block, name)
    return kernel[features] if name == "o_proj" else kernel[:, features]


def ffn_score(block, reference, permutation):
    return sum(
        cosine(tree.get(block, "gate_proj")[:, g], tree.get(reference, "gate_proj")[:, f])
        + cosine(tree.get(block, "up_proj")[:, g], tree.get(reference, "up_proj")[:, f])
        + cosine(tree.get(block, "down_proj")[g], tree.get(reference, "down_proj")[f])
        for f, g in enumerate(permutation)
    )


def head_score(block, reference, groups, heads):
    score = sum(
        cosine(head_slice(block, name, g), head_slice(reference, name, f))
        for name in ("k_proj", "v_proj")
        for f, g in enumerate(groups)
    )
    return score + sum(
        cosine(head_slice(block, name, g), head_slice(reference, name, f))
        for name in ("q_proj", "o_proj")
        for f, g in enumerate(heads)
    )


def all_head_orders():
    """Every order of groups, and of the two heads inside each."""
    for groups in itertools.permutations(range(3)):
        for flips in itertools.product(((0, 1), (1, 0)), repeat=3):
            yield groups, [2 * g + i for g, flip in zip(groups, flips, strict=True) for i in flip]


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_ffn_alignment_is_the_best_permutation(seed):
    block, reference = random_block(seed), random_block(seed + 1)
    found = align_ffn(block, reference)
    best = max(
        itertools.permutations(range(5)), key=lambda order: ffn_score(block, reference, order)
    )
    assert found.tolist() == list(best)


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_head_alignment_is_the_best_order_of_groups_and_heads(seed):
    block, reference = random_block(seed), random_block(seed + 1)
    groups, heads = align_heads(block, reference, HEAD_DIM)
    best = max(all_head_orders(), key=lambda order: head_score(block, reference, *order))
    assert (tuple(groups), list(heads)) == best


def test_a_shuffled_block_is_put_back_in_order():
    reference = random_block(3)
    generator = np.random.default_rng(4)
    shuffled = apply_alignment(reference, align(random_block(5), random_block(6), HEAD_DIM), 2)
    neurons = generator.permutation(5)
    shuffled = tree.replace(
        shuffled,
        {
            "gate_proj": tree.get(shuffled, "gate_proj")[:, neurons],
            "up_proj": tree.get(shuffled, "up_proj")[:, neurons],
            "down_proj": tree.get(shuffled, "down_proj")[neurons],
        },
    )
    restored = apply_alignment(shuffled, align(shuffled, reference, HEAD_DIM), HEAD_DIM)
    for name in tree.MATRICES + tree.NORMS:
        np.testing.assert_array_equal(tree.get(restored, name), tree.get(reference, name))


def naive_forward(block, x_TD):
    """Both sublayers head by head, without norms and positions, in float64."""
    w = {name: array.astype(float) for name, array in tree.components(block).items()}
    out_TD = np.zeros_like(x_TD)
    for head in range(6):
        q = x_TD @ head_slice(block, "q_proj", head).astype(float)
        k = x_TD @ head_slice(block, "k_proj", head // 2).astype(float)
        v = x_TD @ head_slice(block, "v_proj", head // 2).astype(float)
        weights = np.exp(q @ k.T) * np.tri(len(x_TD))
        out_TD += weights / weights.sum(1, keepdims=True) @ v @ head_slice(block, "o_proj", head)
    gate = out_TD @ w["gate_proj"]
    return out_TD + (gate / (1 + np.exp(-gate)) * (out_TD @ w["up_proj"])) @ w["down_proj"]


def test_an_aligned_block_computes_the_same_function():
    block, x_TD = random_block(7), 0.5 * np.random.default_rng(8).normal(size=(5, 4))
    aligned = apply_alignment(block, align(block, random_block(9), HEAD_DIM), HEAD_DIM)
    for name in tree.MATRICES:
        assert (tree.get(aligned, name) != tree.get(block, name)).any(), name
    np.testing.assert_allclose(
        naive_forward(aligned, x_TD), naive_forward(block, x_TD), rtol=0, atol=1e-12
    )


def test_inverse_is_the_alignment_the_other_way():
    block, reference = random_block(11), random_block(12)
    forth = align(block, reference, HEAD_DIM).inverse()
    back = align(reference, block, HEAD_DIM)
    for name in ("neuron_F", "group_K", "head_H"):
        np.testing.assert_array_equal(getattr(forth, name), getattr(back, name))


def test_cache_gives_what_align_gives_and_works_out_a_pair_once(monkeypatch):
    from jaxanatomy.forensics import alignment as module

    calls = []
    monkeypatch.setattr(module, "align", lambda *blocks: calls.append(1) or align(*blocks))
    cache = AlignmentCache()
    blocks = [random_block(seed) for seed in (1, 2)]
    for a, b in [(0, 1), (1, 0), (0, 1), (0, 0)]:
        copies = [tree.replace(blocks[index], {}) for index in (a, b)]
        found, expected = cache.align(*copies, HEAD_DIM), align(*copies, HEAD_DIM)
        for name in ("neuron_F", "group_K", "head_H"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert len(calls) == 2  # the pair, and the block with itself
    up_proj = tree.get(blocks[0], "up_proj").copy()
    up_proj[-1, -1] += 1
    cache.align(tree.replace(blocks[0], {"up_proj": up_proj}), blocks[1], HEAD_DIM)
    assert len(calls) == 3


def test_cache_stays_small():
    cache = AlignmentCache(size=2)
    blocks = [random_block(seed) for seed in range(4)]
    for block in blocks[1:]:
        cache.align(blocks[0], block, HEAD_DIM)
    assert len(cache) == 1


def test_a_dead_neuron_is_matched_last_without_warnings():
    block, reference = random_block(1), random_block(2)
    dead = {name: tree.get(block, name).copy() for name in tree.MLP}
    dead["gate_proj"][:, 2] = dead["up_proj"][:, 2] = 0
    dead["down_proj"][2] = 0
    assert sorted(align_ffn(tree.replace(block, dead), reference)) == list(range(5))


def test_layers_of_different_shapes_are_refused():
    block = random_block(1)
    narrow = tree.replace(block, {"up_proj": tree.get(block, "up_proj")[:, :4]})
    with pytest.raises(InputError, match=r"up_proj is \(4, 5\) in the one and \(4, 4\)"):
        align_ffn(block, narrow)

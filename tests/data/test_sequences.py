import grain
import numpy as np
import pytest

from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.data.questions import document
from jaxanatomy.data.sequences import GeneratedRows, StreamRows, packed_row
from jaxanatomy.errors import InputError

LENGTHS = (5, 1, 9, 4, 4, 13, 2, 1, 1, 7)


class ArrayStream:
    name = "source 'numbers'"

    def __init__(self, lengths):
        # Token ids say where they stand: 100 * (document + 1) + position.
        self.documents = [
            100 * (index + 1) + np.arange(length) for index, length in enumerate(lengths)
        ]
        self.num_tokens, self.num_documents = sum(lengths), len(lengths)

    def span(self, start, stop):
        tokens = np.concatenate(self.documents).astype(np.int32)
        return tokens[start:stop], tokens[start:stop] % 100 == 0


class Characters:
    eos_id = 1

    def encode(self, text):
        return [ord(character) for character in text]


def naive_rows(documents, length):
    """Token by token: what is read, what is predicted, from which context."""
    stream = [(index, token) for index, document in enumerate(documents) for token in document]
    rows = []
    for start in range(0, len(stream) - length, length):
        row = {"token": [], "target": [], "weight": [], "position": [], "segment": []}
        segment, position = -1, 0
        for place in range(start, start + length):
            owner, token = stream[place]
            if place == start or stream[place - 1][0] != owner:
                segment, position = segment + 1, 0
            next_owner, target = stream[place + 1]
            for name, value in {
                "token": token,
                "target": target,
                "weight": float(next_owner == owner),
                "position": position,
                "segment": segment,
            }.items():
                row[name].append(value)
            position += 1
        rows.append(row)
    return rows


@pytest.mark.parametrize("length", [1, 2, 5, 8, 46])
def test_rows_are_those_of_a_naive_loop(length):
    stream = ArrayStream(LENGTHS)
    rows = StreamRows(stream, length)
    expected = naive_rows(stream.documents, length)
    assert len(rows) == len(expected) == (sum(LENGTHS) - 1) // length
    for index, row in enumerate(expected):
        found = rows[index]
        assert {name: leaf.tolist() for name, leaf in found.items()} == {
            f"{name}_BT": values for name, values in row.items()
        }
        assert {name: leaf.dtype for name, leaf in found.items()} == {
            f"{name}_BT": np.float32 if name == "weight" else np.int32 for name in row
        }


@pytest.mark.parametrize("length", [2, 5, 8])
def test_rows_are_those_of_grains_concat_then_split(length):
    stream = ArrayStream(LENGTHS)
    documents = grain.MapDataset.source([{"token": one} for one in stream.documents])
    packed = grain.experimental.ConcatThenSplitIterDataset(
        documents.to_iter_dataset(), length_struct={"token": length}
    )
    rows = StreamRows(stream, length)
    for index, expected in zip(range(len(rows)), packed, strict=False):
        found = rows[index]
        np.testing.assert_array_equal(found["token_BT"], expected["token"])
        np.testing.assert_array_equal(found["position_BT"], expected["token_positions"])
        np.testing.assert_array_equal(found["segment_BT"] + 1, expected["token_segment_ids"])


def test_every_token_that_begins_no_document_is_predicted_once():
    rows = StreamRows(ArrayStream(LENGTHS), 6)  # 47 tokens: the last 4 fill no row
    predicted = [
        token
        for index in range(len(rows))
        for token, weight in zip(rows[index]["target_BT"], rows[index]["weight_BT"], strict=True)
        if weight
    ]
    stream = np.concatenate(ArrayStream(LENGTHS).documents)[: 6 * len(rows) + 1]
    assert predicted == [token for token in stream if token % 100]


def test_a_stream_that_fills_no_row_is_refused():
    with pytest.raises(InputError) as error:
        StreamRows(ArrayStream((5, 3)), 8)
    assert str(error.value) == (
        "source 'numbers' must have more than 8 tokens, the length of a row; it has 8 in 2 "
        "documents; give more text, in more documents, or lower the sequence length"
    )
    assert len(StreamRows(ArrayStream((5, 3)), 7)) == 1


@pytest.mark.parametrize("split", ["train", "validation"])
def test_generated_rows_hold_whole_documents_from_their_beginning(split):
    rows = GeneratedRows(PRIMITIVES, Characters(), 700, seed=3, split=split)
    for index in (0, 1, 10**6):
        row = rows[index]
        tokens = [*row["token_BT"], row["target_BT"][-1]]
        text = "".join(map(chr, tokens))
        documents = [document(PRIMITIVES, 3, index * 701 + n, split) for n in range(30)]
        assert "\x01".join(documents).startswith(text)
        ends = [place for place, token in enumerate(tokens[:-1]) if token == Characters.eos_id]
        assert np.flatnonzero(np.diff(row["segment_BT"])).tolist() == [p for p in ends if p < 699]
        assert np.flatnonzero(row["weight_BT"] == 0).tolist() == ends


def test_generated_rows_share_no_document():
    rows = GeneratedRows(PRIMITIVES, Characters(), 400, seed=0)
    firsts = ["".join(map(chr, rows[index]["token_BT"][:200])) for index in range(100)]
    assert len(set(firsts)) == 100


def test_generated_rows_need_an_end_token():
    tokenizer = Characters()
    tokenizer.eos_id = None
    with pytest.raises(InputError, match="must have a token that ends a document"):
        GeneratedRows(PRIMITIVES, tokenizer, 400, seed=0)[0]


def test_a_row_that_begins_inside_a_document_begins_a_segment():
    row = packed_row(np.arange(5), np.array([False, False, True, False, True]))
    assert row["segment_BT"].tolist() == [0, 0, 1, 1]
    assert row["position_BT"].tolist() == [0, 1, 0, 1]
    assert row["weight_BT"].tolist() == [1, 0, 1, 0]

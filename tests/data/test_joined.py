"""A text as rows of one length, against the tokens of its documents one after another."""

import numpy as np
import pytest

from jaxanatomy.data import bpe
from jaxanatomy.data.corpora import open_corpus
from jaxanatomy.data.joined import joined_rows
from jaxanatomy.errors import InputError

LINES = [f"{word} number {at} of many" for at in range(400) for word in ("line", "row")]


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(LINES, 300)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES))
    return f"{path}#lines"


def test_rows_hold_the_documents_of_their_split_end_to_end(source, tokenizer):
    found = joined_rows(source, tokenizer, 7)
    expected, number_of = {"train": [], "validation": []}, []
    for number, (text, split) in enumerate(open_corpus(source).documents()):
        if text:
            own = [*tokenizer.encode(text), tokenizer.eos_id]
            expected[split] += own
            number_of += [number for _ in own if split == "validation"]
    for rows, split in ((found.train_NT, "train"), (found.held_out_NT, "validation")):
        assert rows.shape[1] == 8
        assert rows.dtype == np.int32
        own = expected[split]
        assert rows.reshape(-1).tolist() == own[: rows.size]
        assert len(own) - rows.size < 8
    assert found.document_NT.reshape(-1).tolist() == number_of[: found.held_out_NT.size]
    assert len(set(number_of)) > 3


def test_other_text_and_other_lengths_are_told_apart(source, tokenizer, tmp_path):
    first = joined_rows(source, tokenizer, 7).identity
    assert joined_rows(source, tokenizer, 7).identity == first
    assert joined_rows(source, tokenizer, 8).identity != first
    other = tmp_path / "other.txt"
    other.write_text("\n".join(LINES[1:]))
    assert joined_rows(f"{other}#lines", tokenizer, 7).identity != first


def test_a_text_that_fills_no_row_is_refused(source, tokenizer):
    with pytest.raises(
        InputError, match=r"the validation part of .* must fill a row of 5001 token"
    ):
        joined_rows(source, tokenizer, 5000)

import numpy as np
import pytest

from jaxanatomy.data.text import Text
from jaxanatomy.data.windows import cut_text
from jaxanatomy.errors import InputError


def cut(documents, tokenizer, **kwargs):
    kwargs = {"context_length": 8, "vocab_size": 100, **kwargs}
    return cut_text(Text("mine", tuple(documents)), tokenizer, **kwargs)


def described(windows):
    return [
        (piece.document, piece.token.tolist(), piece.first_target, piece.is_first)
        for piece in windows
    ]


def test_short_documents_are_one_window_each(number_tokenizer):
    assert described(cut(["5 6 7", "8 9"], number_tokenizer)) == [
        (0, [5, 6, 7], 1, True),
        (1, [8, 9], 1, True),
    ]


def test_the_last_window_is_the_first_that_reaches_the_end(number_tokenizer):
    windows = cut(["1 2 3 4 5 6"], number_tokenizer, window=4, stride=2)
    assert described(windows) == [(0, [1, 2, 3, 4], 1, True), (0, [3, 4, 5, 6], 2, False)]


def test_bos_stands_before_each_document_and_is_never_predicted(number_tokenizer_with_bos):
    windows = cut(["5", "6 7"], number_tokenizer_with_bos, add_bos=True)
    assert described(windows) == [(0, [1, 5], 1, True), (1, [1, 6, 7], 1, True)]


def test_bos_opens_only_the_first_window_of_a_long_document(number_tokenizer_with_bos):
    windows = cut(["5 6 7 8"], number_tokenizer_with_bos, add_bos=True, window=4, stride=2)
    assert described(windows) == [(0, [1, 5, 6, 7], 1, True), (0, [6, 7, 8], 2, False)]


def test_without_add_bos_the_tokenizer_adds_none(number_tokenizer_with_bos):
    assert described(cut(["5 6"], number_tokenizer_with_bos)) == [(0, [5, 6], 1, True)]


@pytest.mark.parametrize(
    ("budget", "documents"), [(3, [0]), (5, [0]), (6, [0, 1]), (7, [0, 1]), (99, [0, 1, 2])]
)
def test_the_budget_ends_the_text_before_a_window(budget, documents, number_tokenizer):
    # Of 5 tokens the third document would not fit into 7, although a later one might.
    windows = cut(["1 2 3", "4 5 6", "1 2 3 4 5"], number_tokenizer, token_budget=budget)
    assert [piece.document for piece in windows] == documents


def test_the_budget_counts_tokens_that_two_windows_share(number_tokenizer):
    document = ["1 2 3 4 5 6"]
    assert len(cut(document, number_tokenizer, window=4, stride=2, token_budget=7)) == 1
    assert len(cut(document, number_tokenizer, window=4, stride=2, token_budget=8)) == 2


def test_documents_beyond_the_budget_are_not_tokenised(number_tokenizer):
    cut(["1 2 3", "4 5 6", "7 8 9", "1 1 1"], number_tokenizer, token_budget=4)
    assert number_tokenizer.encoded == ["1 2 3", "4 5 6"]


def test_a_window_above_the_context_is_fine_while_documents_fit(number_tokenizer):
    document = " ".join(["1"] * 8)
    assert len(cut([document], number_tokenizer, window=100)) == 1


@pytest.mark.parametrize(
    ("documents", "kwargs", "message"),
    [
        (["1 2", "3"], {}, r"documents\[1\] of 'mine' must have at least 2 tokens.* it has 1; "),
        (["1 2", "3 100"], {}, r"token 100 in documents\[1\] of 'mine' .* 0 \.\. 99; use the tok"),
        (["1 -2"], {}, r"token -2 in documents\[0\] of 'mine'"),
        (
            ["1 2", "1 " * 9],
            {"window": 9},
            r"documents\[1\] of 'mine' has 9 tokens and the context is 8; lower window \(now 9\)",
        ),
        (["1 2"], {"window": 1}, "window must be at least 2 tokens.*got 1"),
        (["1 2"], {"context_length": 1}, "window must be at least 2 tokens.*got 1"),
        (["1 2"], {"window": 4, "stride": 4}, "stride must be below the window of 4 .*got 4"),
        (["1 2"], {"window": 10, "stride": 8}, "stride must be below the window of 8 .*got 8"),
        (["1 2"], {"stride": 0}, "stride must be a whole number above 0; got 0"),
        (["1 2"], {"window": True}, "window must be a whole number above 0; got True"),
        (["1 2"], {"token_budget": 0}, "token_budget must be a whole number above 0; got 0"),
        (["1 2 3"], {"token_budget": 2}, "room for the first window of 3 tokens; got 2; raise"),
        (["1 2"], {"add_bos": True}, "add_bos needs a tokenizer with a BOS token"),
    ],
)
def test_bad_input_is_one_line_that_names_it(documents, kwargs, message, number_tokenizer):
    with pytest.raises(InputError, match=message) as raised:
        cut(documents, number_tokenizer, **kwargs)
    assert "\n" not in str(raised.value)


def test_a_bos_outside_the_vocabulary_is_refused(number_tokenizer_with_bos):
    with pytest.raises(InputError, match="token 1 in"):
        cut(["0 0"], number_tokenizer_with_bos, add_bos=True, vocab_size=1)


def test_an_empty_encoding_is_refused():
    class Silent:
        bos_id = None

        def encode(self, text):
            return np.zeros(0, np.int64)

    with pytest.raises(InputError, match="it has 0; remove"):
        cut(["words"], Silent())

import pytest

from jaxanatomy.data.text import LeftOut, Text
from jaxanatomy.data.windows import ADD_BOS, cut_text
from jaxanatomy.errors import InputError


def cut(documents, tokenizer, **kwargs):
    kwargs = {"context_length": 8, "vocab_size": 100, **kwargs}
    return cut_text(Text("mine", tuple(documents)), tokenizer, **kwargs).windows


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
    windows = cut(["5", "6 7"], number_tokenizer_with_bos, add_bos="document")
    assert described(windows) == [(0, [1, 5], 1, True), (1, [1, 6, 7], 1, True)]


def test_bos_of_documents_opens_only_the_first_window_of_a_long_one(number_tokenizer_with_bos):
    windows = cut(["5 6 7 8"], number_tokenizer_with_bos, add_bos="document", window=4, stride=2)
    assert described(windows) == [(0, [1, 5, 6, 7], 1, True), (0, [6, 7, 8], 2, False)]


def test_bos_of_windows_opens_each(number_tokenizer_with_bos):
    windows = cut(["5 6 7 8 9"], number_tokenizer_with_bos, add_bos="window", window=4, stride=2)
    assert described(windows) == [
        (0, [1, 5, 6, 7], 1, True),
        (0, [1, 7, 8, 9], 2, False),
    ]
    # Windows side by side: the token after BOS is predicted, as nothing else predicts it.
    windows = cut(["5 6 7 8"], number_tokenizer_with_bos, add_bos="window", window=3, stride=2)
    assert described(windows) == [(0, [1, 5, 6], 1, True), (0, [1, 7, 8], 1, False)]


@pytest.mark.parametrize("add_bos", ADD_BOS)
@pytest.mark.parametrize("begins", ["", "1 "])
@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.parametrize(("window", "stride"), [(2, 1), (3, 1), (3, 2), (5, 2), (5, 4), (8, None)])
def test_each_token_is_predicted_once_with_the_longest_context(
    window, stride, length, begins, add_bos, number_tokenizer_with_bos
):
    words = [str(10 + place) for place in range(length)]
    document = begins + " ".join(words)
    if add_bos == "none" and len(document.split()) < 2:
        return
    windows = cut(
        [document], number_tokenizer_with_bos, add_bos=add_bos, window=window, stride=stride
    )
    has_bos = add_bos != "none" or begins
    targets = [int(target) for piece in windows for target in piece.token[piece.first_target :]]
    assert targets == [10 + place for place in range(0 if has_bos else 1, length)]
    for index, piece in enumerate(windows):
        tokens = piece.token.tolist()
        assert len(tokens) <= window
        opens = add_bos == "window" or (index == 0 and has_bos)
        assert tokens.count(1) == (1 if opens else 0)
        assert (tokens[0] == 1) is bool(opens)
        assert piece.is_first is (index == 0)
    # What a window predicts, an earlier one did not reach.
    reached = [max(piece.token) for piece in windows]
    assert reached == sorted(set(reached))


@pytest.mark.parametrize(("given", "meant"), [(True, "window"), (False, "none")])
def test_bos_may_be_a_flag(given, meant, number_tokenizer_with_bos):
    flagged, named = (
        cut(["5 6 7 8"], number_tokenizer_with_bos, add_bos=value, window=3)
        for value in (given, meant)
    )
    assert described(flagged) == described(named)


def test_by_default_no_bos_is_added(number_tokenizer_with_bos):
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
        (
            ["3"],
            {},
            "'mine' must have a document of at least 2 tokens.* 1 of 1 .* 1 of one token; ",
        ),
        (
            ["1 2", "3 100"],
            {},
            r"^the tokens of 'mine' .* 0 \.\. 99; got token 100 \('<100>'\) in documents\[1\] \('3",
        ),
        (["1 -2"], {}, r"got token -2 \('<-2>'\) in documents\[0\] \('1 -2'\); take them out"),
        (
            ["1 100", "1 2", "3 101"],
            {},
            r"got token 100 .* in documents\[0\] .*, token 101 .* in documents\[2\] .*; take",
        ),
        (
            ["100"] * 9,
            {},
            r"in documents\[3\] \('100'\), and 5 more like these; take them out",
        ),
        (
            ["1 2", "1 " * 9],
            {"window": 9},
            r"the context is 8, and of 'mine' documents\[1\] \('1 1.*\) has 9 tokens; lower window",
        ),
        (["1 2"], {"window": 1}, "window must be at least 2 tokens.*got 1"),
        (["1 2"], {"context_length": 1}, "window must be at least 2 tokens.*got 1"),
        (["1 2"], {"window": 4, "stride": 4}, "stride must be below the window of 4 .*got 4"),
        (["1 2"], {"window": 10, "stride": 8}, "stride must be below the window of 8 .*got 8"),
        (["1 2"], {"stride": 0}, "stride must be a whole number, 1 or above; got 0"),
        (["1 2"], {"window": True}, "window must be a whole number, 1 or above; got True"),
        (["1 2"], {"token_budget": 0}, "token_budget must be a whole number, 1 or above; got 0"),
        (["1 2 3"], {"token_budget": 2}, "room for the first window of 3 tokens; got 2; raise"),
        (["1 2"], {"add_bos": "document"}, "add_bos=document needs a tokenizer with a BOS token"),
        (["1 2"], {"add_bos": 1}, "unknown add_bos 1; known: none, document, window"),
        (["1 2"], {"add_bos": "windows"}, "unknown add_bos 'windows'; did you mean 'window'"),
    ],
)
def test_bad_input_is_one_line_that_names_it(documents, kwargs, message, number_tokenizer):
    with pytest.raises(InputError, match=message) as raised:
        cut(documents, number_tokenizer, **kwargs)
    assert "\n" not in str(raised.value)


def test_a_bos_outside_the_vocabulary_is_refused(number_tokenizer_with_bos):
    with pytest.raises(InputError, match="got token 1 "):
        cut(["0 0"], number_tokenizer_with_bos, add_bos="document", vocab_size=1)


def test_documents_of_one_token_are_left_out_and_counted(
    number_tokenizer, number_tokenizer_with_bos
):
    text = Text("mine", ("1", "2 3", " ", "4", None, "5 6"))
    made = cut_text(text, number_tokenizer, context_length=8, vocab_size=100)
    assert described(made.windows) == [(0, [2, 3], 1, True), (1, [5, 6], 1, True)]
    assert made.left_out == LeftOut(6, blank=1, null=1, one_token=2)
    assert str(made.left_out) == ("4 of 6 documents left out: 1 blank, 1 null, 2 of one token")
    # After BOS one token can be predicted; of the document that is BOS alone, nothing can.
    options = {"context_length": 8, "vocab_size": 100, "add_bos": "document"}
    made = cut_text(text, number_tokenizer_with_bos, **options)
    assert [piece.token.tolist() for piece in made.windows] == [[1, 2, 3], [1, 4], [1, 5, 6]]
    assert made.left_out == LeftOut(6, blank=1, null=1, one_token=1)


def test_a_document_that_is_encoded_as_nothing_is_left_out():
    class Silent:
        bos_id = None

        def encode(self, text):
            return [7] * len(text) if text == "four" else []

    assert described(cut(["words", "four"], Silent())) == [(0, [7, 7, 7, 7], 1, True)]
    with pytest.raises(InputError, match="1 of 1 documents left out: 1 of one token; lengthen"):
        cut(["words"], Silent())

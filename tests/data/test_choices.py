import numpy as np
import pytest

from jaxanatomy.data.choices import NO_CHOICE, pack_choices
from jaxanatomy.data.questions import Question
from jaxanatomy.errors import InputError


class Letters:
    """One token for each character."""

    bos_id = eos_id = None

    def encode(self, text):
        return [ord(character) for character in text]


class Greedy(Letters):
    """Joins an 'a' and the space after it."""

    def encode(self, text):
        return [ord(character) for character in text.replace("a ", "A")]


ASKED = (
    Question("long", "abc abc ab", (" c", " bb", " a"), 0),
    Question("short", "x", (" y", " z"), 1),
    Question("middle", "one two", (" three", " 3"), 1),
)


def naive_sums(token_loss):
    """The loss of each choice of each question, character by character."""
    return [
        [
            sum(
                token_loss(question.prompt + choice, place)
                for place in range(len(question.prompt), len(question.prompt + choice))
            )
            for choice in question.choices
        ]
        for question in ASKED
    ]


def loss_of(text, place):
    """Depends on all that stands before."""
    return sum(ord(c) * (i + 1) for i, c in enumerate(text[: place + 1])) % 97 / 10


def losses(scoring):
    """What a model would give, from each row's tokens, segments and positions alone."""
    for batch in scoring.batches:
        nll_BT = np.full(batch.token_BT.shape, 1e6)  # must not be counted
        for b, t in np.argwhere(batch.weight_BT > 0):
            own = batch.segment_BT[b] == batch.segment_BT[b, t]
            own &= np.arange(own.size) <= t
            text = "".join(map(chr, batch.token_BT[b][own])) + chr(batch.target_BT[b, t])
            assert batch.position_BT[b, t] == len(text) - 2
            nll_BT[b, t] = loss_of(text, len(text) - 1)
        yield nll_BT


@pytest.mark.parametrize(("rows", "length"), [(1, 12), (2, 13), (3, 40), (8, 100)])
def test_the_choice_with_the_lowest_summed_loss_is_taken(rows, length):
    scoring = pack_choices(ASKED, Letters(), rows, length)
    sums = naive_sums(loss_of)
    expected = [int(np.argmin(one)) for one in sums]
    assert len(set(expected)) > 1
    nll_NBT = list(losses(scoring))
    assert scoring.chosen(nll_NBT).tolist() == expected
    answers = [question.answer for question in ASKED]
    assert scoring.right(nll_NBT).tolist() == [
        a == b for a, b in zip(expected, answers, strict=True)
    ]
    assert {batch.token_BT.shape for batch in scoring.batches} == {(rows, length)}
    assert {batch.token_BT.dtype for batch in scoring.batches} == {np.dtype(np.int32)}


def test_a_choice_that_is_no_number_is_never_taken():
    scoring = pack_choices(ASKED, Letters(), 2, 20)
    nothing = [np.full(batch.token_BT.shape, np.nan) for batch in scoring.batches]
    assert set(scoring.chosen(nothing)) == {NO_CHOICE}
    assert not scoring.right(nothing).any()
    first = np.stack([batch.weight_BT for batch in scoring.batches]) > 0
    first &= np.isin(scoring.item_NBT, np.cumsum([0, *(len(q.choices) for q in ASKED[:-1])]))
    some = [np.where(own, np.nan, 1.0) for own in first]
    assert (scoring.chosen(some) > 0).all()


def test_every_token_of_a_choice_is_scored_and_none_of_a_prompt():
    scoring = pack_choices(ASKED, Letters(), 2, 20)
    scored = np.stack([batch.weight_BT for batch in scoring.batches]) > 0
    counts = np.bincount(scoring.item_NBT[scored])
    assert counts.tolist() == [len(choice) for one in ASKED for choice in one.choices]
    targets = np.stack([batch.target_BT for batch in scoring.batches])[scored]
    assert set(map(chr, targets)) == set(" cbayzthre3")


def test_chance_is_the_mean_over_questions():
    scoring = pack_choices(ASKED, Letters(), 1, 20)
    assert scoring.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)


def test_rows_that_are_too_short_are_refused():
    with pytest.raises(InputError, match=r"a long question needs rows of 12 tokens; got 11; "):
        pack_choices(ASKED, Letters(), 1, 11)


def test_a_tokenizer_that_joins_prompt_and_choice_is_refused():
    joined = (Question("joined", "a", (" b",), 0),)
    with pytest.raises(InputError, match=r"joins the prompt and the choice ' b' of a joined"):
        pack_choices(joined, Greedy(), 1, 10)

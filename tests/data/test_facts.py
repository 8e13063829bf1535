"""The corpus of facts: its split, its words, its rows and their order."""

import collections
import json

import numpy as np
import pytest

from jaxanatomy.data import facts
from jaxanatomy.errors import InputError
from jaxanatomy.papers import paper_table
from jaxanatomy.weights.tokenizer import Tokenizer

CORPUS = facts.facts()


def words(sentences):
    return {word for line in sentences for word in line.split()}


def test_480_sentences_train_and_a_paraphrase_of_each_of_120_facts_is_held_out():
    assert (len(CORPUS.train), len(CORPUS.validation)) == (480, 120)
    sentences = CORPUS.train + CORPUS.validation
    assert len(set(sentences)) == 600
    groups = facts._paraphrases(facts._source())
    assert [len(group) for group in groups] == [5] * 120
    held = set(CORPUS.validation)
    assert all(len(held & set(group)) == 1 for group in groups)
    assert all(line == " ".join(line.lower().split()) for line in sentences)


def test_the_prompts_are_table_9_and_train():
    assert len(CORPUS.prompts) == 12
    assert all(f"{start} {rest}" in CORPUS.train for start, rest in CORPUS.prompts)
    assert CORPUS.prompts[0] == ("the capital of france is", "paris")
    assert CORPUS.prompts[-1] == ("hello how are", "you today")


@pytest.mark.parametrize("seed", range(5))
def test_every_split_has_no_unknown_word_and_holds_out_one_of_each_fact(seed):
    corpus = facts.facts(seed)
    assert words(corpus.validation) <= words(corpus.train)
    assert (len(corpus.train), len(corpus.validation)) == (480, 120)
    assert all(f"{start} {rest}" in corpus.train for start, rest in corpus.prompts)


def test_the_split_follows_from_the_seed():
    assert facts.facts(0) == CORPUS
    assert facts.facts(0).sha256 == CORPUS.sha256
    assert facts.facts(1).validation != CORPUS.validation
    assert facts.facts(1).sha256 != CORPUS.sha256


def test_the_tokenizer_has_494_entries_and_returns_the_words():
    tokenizer = facts.word_tokenizer(CORPUS.train, 494)
    assert tokenizer.vocab_size == 494
    assert [tokenizer.token(index) for index in range(4)] == ["<pad>", "<unk>", "<eos>", "a"]
    assert tokenizer.eos_id == 2
    for line in CORPUS.train + CORPUS.validation:
        ids = tokenizer.encode(line)
        assert 1 not in ids
        assert tokenizer.decode(ids) == line
    assert tokenizer.encode("the zebra")[1] == 1
    again = Tokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert again.encode(CORPUS.train[0]) == tokenizer.encode(CORPUS.train[0])


def test_rows_are_sentences_with_their_end_and_padding():
    tokenizer = facts.word_tokenizer(("b a", "c"), 9)
    found = facts.rows(("b a", "c"), tokenizer, 4)
    np.testing.assert_array_equal(found, [[4, 3, 2, 0], [5, 2, 0, 0]])
    assert facts.longest_row(("b a", "c")) == 3
    assert facts.longest_row(CORPUS.train + CORPUS.validation) == 13


def test_epochs_have_every_sentence_once_and_more_steps_change_nothing():
    order = facts.batch_order(480, 8, 150, seed=3)
    assert order.shape == (150, 8)
    for epoch in (order[:60], order[60:120]):
        assert sorted(epoch.ravel()) == list(range(480))
    assert not np.array_equal(order[:60], order[60:120])
    np.testing.assert_array_equal(order[:100], facts.batch_order(480, 8, 100, seed=3))
    across = facts.batch_order(5, 2, 5, seed=0).ravel()
    assert collections.Counter(across) == dict.fromkeys(range(5), 2)


def test_bad_sizes_are_refused():
    with pytest.raises(InputError, match="vocab_size must hold 3 words and 3 special"):
        facts.word_tokenizer(("b a", "c"), 5)
    tokenizer = facts.word_tokenizer(("b a",), 9)
    with pytest.raises(InputError, match="too short for a sentence of 3"):
        facts.rows(("b a",), tokenizer, 2)


def test_the_paper_s_steps_are_its_epochs():
    steps = paper_table("table8")["uniform_100"]["steps"]
    epochs = paper_table("table8_claims")["uniform_epochs"]
    assert round(steps * 8 / len(CORPUS.train)) == epochs

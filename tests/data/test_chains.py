"""k-hop induction and chained assignment as questions in words, against naive walks."""

import collections
import itertools
import random

import numpy as np
import pytest

from jaxanatomy.data.chains import CHAINS, DEPTHS, DISTRACTORS, HOPS, LENGTH, SYMBOLS, hop_of
from jaxanatomy.data.questions import Question, document, questions

TASKS = {**HOPS, **CHAINS}


def parts(question):
    """The lines of a question, and its last line without the arrow."""
    *lines, last = question.prompt.splitlines()
    return lines, last.removesuffix(" ->")


def walk(words, hops):
    """Hop by hop through a string, by hand."""
    place = len(words) - 1
    for _ in range(hops):
        before = place - 1
        while words[before] != words[place]:
            before -= 1
            assert before >= 0
        place = before + 1
    return words[place]


@pytest.mark.parametrize("hops", DEPTHS)
def test_hops_lead_to_the_answer(hops):
    for question in questions({"x": HOPS[f"hop_{hops}"]}, 100):
        (line,), shown = parts(question)
        words = shown.split()
        assert line == ("1 hop:" if hops == 1 else f"{hops} hops:")
        assert (len(words), len({*words})) == (LENGTH, SYMBOLS)
        assert all(one != other for one, other in itertools.pairwise(words))
        assert question.choices[question.answer] == f" {walk(words, hops)}"
        assert sorted(question.choices) == sorted({f" {word}" for word in words})
        assert (question.task, question.chance) == (f"hop_{hops}", 1 / SYMBOLS)


@pytest.mark.parametrize("depth", DEPTHS)
def test_chains_lead_to_the_answer_over_as_many_variables(depth):
    for question in questions({"x": CHAINS[f"chain_{depth}"]}, 50):
        lines, asked = parts(question)
        source_of = {}
        for line in lines:
            name, source = line.split(" = ")
            assert source in source_of or source.isdigit()  # set before it is referred to
            assert name not in source_of
            source_of[name] = source
        assert len(lines) == (DISTRACTORS + 1) * (depth + 1)
        steps, name = 0, asked
        while not (name := source_of[name]).isdigit():
            steps += 1
        assert steps == depth
        assert question.choices[question.answer] == f" {name}"
        values = {source for source in source_of.values() if source.isdigit()}
        assert sorted(question.choices) == sorted(f" {value}" for value in values)
        assert (question.task, question.chance) == (f"chain_{depth}", 1 / (DISTRACTORS + 1))


def test_hops_over_words_by_hand():
    words = ["a", "b", "c", "a", "d", "b"]
    # From b (5) back to b (1), then c (2); c came nowhere before.
    assert hop_of(words, 1) == "c"
    assert hop_of(words, 2) is None
    assert hop_of(["a", "b", "a", "c", "b", "a", "c", "b"], 2) == "c"


@pytest.mark.parametrize("name", TASKS)
def test_no_choice_and_no_chain_is_right_more_often(name):
    rng = random.Random(1)
    made = [TASKS[name](rng) for _ in range(400)]
    counts = [collections.Counter(question.answer for question in made)]
    if name.startswith("chain"):  # the order in which values come
        orders = [
            [line[-2:] for line in parts(question)[0] if line[-1].isdigit()].index(
                question.choices[question.answer].strip()
            )
            for question in made
        ]
        counts.append(collections.Counter(orders))
    for found in counts:
        share = np.array([found[at] for at in range(4)])
        assert ((share - 100) ** 2 / 100).sum() < 16.3  # 99.9 % of chi-square, 3 degrees


def test_what_is_trained_on_lies_on_one_side_and_what_is_asked_on_the_other():
    asked = {question.text for question in questions(TASKS, 10)}
    told = {text for index in range(60) for text in document(TASKS, 0, index).split("\n\n")}
    assert min(len(asked), len(told)) > 100
    for texts, split in ((asked, "validation"), (told, "train")):
        assert {Question("", text[0], (text[1:],), 0).split for text in texts} == {split}


def test_shots_are_training_questions_of_the_same_task():
    for name, task in TASKS.items():
        (question,) = questions({name: task}, 1, num_fewshot=2)
        (bare,) = questions({name: task}, 1)
        *shots, last = question.prompt.split("\n\n")
        assert last == bare.prompt
        assert [shot.count(" -> ") for shot in shots] == [1, 1]
        assert question.choices == bare.choices

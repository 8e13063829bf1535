"""Levels of guessing: measured, against closed forms and guessers written by hand."""

import random

import numpy as np
import pytest

from jaxanatomy.data.corpora import TASKS
from jaxanatomy.data.questions import Question
from jaxanatomy.measures.guessing import answered, guessing

MADE = 3000
ERROR = 0.03  # of a share of so many questions and of those of the measure, three times over


def share(task, guess):
    """How often a guess, a function of a prompt and its choices, is right."""
    rng = random.Random(5)
    made = [TASKS[task](rng) for _ in range(MADE)]
    return np.mean([guess(each.prompt, each.choices) == each.choices[each.answer] for each in made])


@pytest.mark.parametrize("task", ["copying_random", "copying_real"])
def test_copying_is_guessed_among_the_words_that_are_left(task):
    assert guessing(task, 0.1) == pytest.approx((1 / 5 + 1 / 4 + 1 / 3 + 1 / 2 + 1) / 5, abs=ERROR)


@pytest.mark.parametrize("task", ["assignment_basic_0", "assignment_code_2", "another", "hop_7"])
def test_without_a_clue_there_is_chance(task):
    assert guessing(task, 0.2) == 0.2


def test_one_hop_is_guessed_by_the_words_before_the_last():
    """The word two places back, or one where that is the word that is asked from."""

    def before(prompt, choices):
        two, one, last = prompt.split()[-4:-1]
        return f" {one if two == last else two}"

    by_hand = share("hop_1", before)
    assert by_hand > 0.6  # where chance is 0.25, and 1/3 knows that no word follows itself
    assert guessing("hop_1", 0.25) == pytest.approx(by_hand, abs=ERROR)


def test_two_hops_are_guessed_by_the_last_word():
    by_hand = share("hop_2", lambda prompt, choices: f" {prompt.split()[-2]}")
    assert guessing("hop_2", 0.25) == pytest.approx(by_hand, abs=ERROR)
    assert by_hand > 0.45


def test_many_hops_are_guessed_by_the_word_that_comes_most():
    def most(prompt, choices):
        return max(choices, key=lambda choice: prompt.split().count(choice.strip()))

    assert guessing("hop_8", 0.25) > share("hop_8", most) - ERROR > 0.25


@pytest.mark.parametrize("task", ["add", "multiply_add", "subtract"])
def test_arithmetic_is_guessed_by_the_middle_of_the_choices(task):
    middle = share(task, lambda prompt, choices: sorted(choices, key=int)[2])
    assert guessing(task, 0.2) > middle - ERROR > 0.25


def test_a_chain_is_guessed_by_the_order_in_which_chains_begin_and_end():
    def order(prompt, choices):
        *lines, asked = prompt.removesuffix(" ->").splitlines()
        names = [line.split(" = ")[0] for line in lines]
        ends = [name for name in names if prompt.count(f" {name}\n") == 0 or name == asked]
        return sorted(choices, key=prompt.index)[ends.index(asked)]

    found = {depth: guessing(f"chain_{depth}", 0.25) for depth in (1, 2, 8)}
    assert found[1] > share("chain_1", order) - ERROR > 0.4
    assert 0.25 + ERROR < found[8] < found[2] < found[1] < 0.6


def test_no_clue_is_below_chance():
    assert all(guessing(name, 0.99) == 0.99 for name in ("hop_8", "chain_8"))


def world(clue_is_right, count, seed):
    """Questions whose choices A to D have a number each; 0 to the right one in a share of them."""
    rng = random.Random(seed)
    for at in range(count):
        answer, numbers = rng.randrange(4), rng.sample(range(4), 4)
        if rng.random() < clue_is_right:
            other = numbers.index(0)
            numbers[answer], numbers[other] = numbers[other], numbers[answer]
        yield Question("x", f"{at} {seed}:{numbers}", ("A", "B", "C", "D"), answer)


def number(question):
    return eval(question.prompt.partition(":")[2])


@pytest.mark.parametrize("clue_is_right", [0.0, 0.5, 1.0])
def test_a_clue_is_worth_how_often_it_is_right(clue_is_right):
    learnt, tried = (list(world(clue_is_right, 4000, seed)) for seed in (0, 1))
    expected = clue_is_right + (1 - clue_is_right) / 4
    assert answered(number, learnt, tried) == pytest.approx(expected, abs=ERROR)


def test_a_clue_counts_by_what_stands_beside_it():
    """A is right more often than B, seven times in ten to six; but where both stand, B is."""

    def made(count, seed):
        rng = random.Random(seed)
        for at in range(count):
            clues, answer = (["C", "A"], 1) if at % 2 else (["B", "A"], int(rng.random() > 0.6))
            yield Question("x", f":{clues}", ("one", "two"), answer)

    learnt, tried = (list(made(4000, seed)) for seed in (0, 1))
    assert answered(number, learnt, tried) == pytest.approx(0.5 + 0.5 * 0.6, abs=ERROR)


def test_what_tells_questions_apart_says_nothing_of_others():
    learnt, tried = (list(world(1.0, 203, seed)) for seed in (0, 1))

    def by_heart(question):
        return [(question.prompt, choice) for choice in question.choices]

    assert answered(by_heart, learnt, learnt) == 1.0
    assert answered(by_heart, learnt, tried) == 0.25

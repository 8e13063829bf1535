import collections
import operator
import random
import re

import numpy as np
import pytest

from jaxanatomy.data.arithmetic import ARITHMETIC
from jaxanatomy.data.primitives import PAPER_PRIMITIVES, PRIMITIVES, WORDS
from jaxanatomy.data.questions import (
    HELD_OUT,
    MAX_EXAMPLES,
    Question,
    document,
    draw,
    questions,
    shuffled,
)
from jaxanatomy.errors import InputError

TASKS = {**PRIMITIVES, **ARITHMETIC}
FORMULAS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "add_subtract": lambda a, b, c: a + b - c,
    "multiply_add": lambda a, b, c: a * b + c,
}


def answers(prompt):
    """What a reader who knows the rules answers."""
    if "____" in prompt and "=" not in prompt:
        words = prompt.removeprefix("Fill in the blank:\n").removesuffix(" ____ . ->").split()
        return words[words.index(words[-1]) + 1]
    lines = [line for line in prompt.splitlines() if re.fullmatch(r"[a-z] ?= ?[a-z0-9]+", line)]
    values = {}
    exec("\n".join(lines), {}, values)
    asked = re.search(r"([a-z])=____|number ([a-z])\?|print\(([a-z])\)", prompt)
    return str(values[next(filter(None, asked.groups()))])


@pytest.mark.parametrize("name", TASKS)
def test_every_answer_is_right_and_every_other_choice_is_wrong(name):
    for question in questions({name: TASKS[name]}, 50):
        if name in FORMULAS:
            given = map(int, re.findall(r"\d+", question.prompt))
            expected = str(int(FORMULAS[name](*given)))
        else:
            expected = answers(question.prompt)
        assert question.choices[question.answer] == f" {expected}"
        assert len(set(question.choices)) == len(question.choices)
        assert question.task == name


@pytest.mark.parametrize("name", TASKS)
def test_chance_is_what_the_paper_says_and_choices_are_equally_long(name):
    for question in questions({name: TASKS[name]}, 20):
        assert question.chance == (0.1 if name.startswith("copying") else 0.2)
        if name != "copying_real":
            assert len({len(choice) for choice in question.choices}) == 1


@pytest.mark.parametrize("name", ["copying_random", "assignment_code_1", "divide"])
def test_the_right_choice_stands_anywhere(name):
    asked = questions({name: TASKS[name]}, 400)
    places = len(asked[0].choices)
    counts = np.bincount([question.answer for question in asked], minlength=places)
    share = 400 / places
    assert ((counts - share) ** 2 / share).sum() < 30  # 99.9 % of chi-square, 9 degrees: 27.9


def test_the_printed_prompts_of_the_paper_have_this_form():
    copying = draw(PRIMITIVES["copying_random"], random.Random(0), "train")
    assert re.fullmatch(r"Fill in the blank:\n([a-z]{3} ){15}____ \. -> [a-z]{3}", copying.text)
    basic = draw(PRIMITIVES["assignment_basic_0"], random.Random(0), "train")
    assert re.fullmatch(r"Fill in blank:\n\n([a-z]=\d\d\n){5}[a-z]=____ \. -> \d\d", basic.text)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_an_assignment_of_depth_n_needs_n_steps_in_between(depth):
    for question in questions({"x": PRIMITIVES[f"assignment_code_{depth}"]}, 20):
        sources = dict(re.findall(r"^([a-z]) = (\w+)$", question.prompt, re.MULTILINE))
        assert len(sources) == 5 * (depth + 1)
        name, steps = re.search(r"print\((\w)\)", question.prompt)[1], 0
        while sources[name] in sources:
            name, steps = sources[name], steps + 1
        assert steps == depth


def test_training_and_held_out_questions_never_meet():
    small = {"divide": ARITHMETIC["divide"]}  # few enough to be made twice
    asked = {question.text for question in questions(small, 300)}
    told = {
        text
        for seed in range(2)
        for index in range(2000)
        for text in document(small, seed, index).split("\n\n")
    }
    assert len(told) > 2000
    assert not asked & told


def test_one_question_in_ten_is_held_out():
    rng = random.Random(0)
    made = [PRIMITIVES["copying_random"](rng) for _ in range(4000)]
    held_out = np.mean([question.split == "validation" for question in made])
    assert abs(held_out - 1 / HELD_OUT) < 0.02  # four standard errors


def test_documents_are_pure_functions_of_seed_and_index():
    one = [document(PRIMITIVES, 0, index) for index in range(30)]
    assert one == [document(PRIMITIVES, 0, index) for index in range(30)]
    assert len(set(one)) == 30
    assert one != [document(PRIMITIVES, 1, index) for index in range(30)]
    assert one != [document(PRIMITIVES, 0, index, "validation") for index in range(30)]


def test_a_document_holds_one_to_six_questions_of_one_task():
    counts = collections.Counter(
        document({"add": ARITHMETIC["add"]}, 0, index).count("Question:") for index in range(300)
    )
    assert set(counts) == set(range(1, MAX_EXAMPLES + 1))


def test_shots_are_training_questions_of_the_same_task():
    (question,) = questions({"add": ARITHMETIC["add"]}, 1, num_fewshot=5)
    (bare,) = questions({"add": ARITHMETIC["add"]}, 1)
    assert question.prompt.endswith("\n\n" + bare.prompt)
    assert question.prompt.count("Answer: ") == 5
    assert question.choices == bare.choices


def test_held_out_questions_differ_and_follow_the_seed():
    found = questions(PRIMITIVES, 5)
    assert len({question.text for question in found}) == 5 * len(PRIMITIVES)
    assert found == questions(PRIMITIVES, 5)
    assert found != questions(PRIMITIVES, 5, seed=1)


def few(number):
    """A task that has only so many questions."""
    return lambda rng: shuffled("few", f"{rng.randrange(number)} is", " a", [" b"], rng)


def test_a_task_gives_all_it_has_and_refuses_more():
    held_out = sum(Question("few", f"{n} is", (" a",), 0).split == "validation" for n in range(99))
    assert len(questions({"few": few(99)}, held_out)) == held_out
    with pytest.raises(InputError, match=rf"'few' must have 50 .* none beyond {held_out}; ask"):
        questions({"few": few(99)}, 50)
    with pytest.raises(InputError, match=r"'few' made 500 questions, none of the validation"):
        questions({"few": few(1)}, 1)


@pytest.mark.parametrize(
    ("prompt", "choices", "answer", "message"),
    [
        ("a", (" b", " c"), 2, r"index of a choice, 0 \.\. 1; got 2"),
        ("a", (" b", " c"), -1, r"got -1"),
        ("a", (" b", " c"), True, r"got True"),
        ("a", (" b", " c"), 0.0, r"got 0\.0"),
        ("a", (), 0, r"choices .* got \(\)"),
        ("a", (" b", " b"), 0, r"choices .* different"),
        ("a", (" b", ""), 0, r"none blank"),
        ("a", (" b", " \t"), 0, r"none blank; got \(' b', ' \\t'\); mend them"),
        ("a", (" b", 3), 0, r"choices"),
        ("a", " b", 0, r"must be a tuple"),
        ("", (" b",), 0, r"prompt must be text"),
        (" \n", (" b",), 0, r"prompt must be text"),
        ("a ", (" b",), 0, r"not end with white space; got 'a '"),
    ],
)
def test_a_malformed_question_is_refused(prompt, choices, answer, message):
    with pytest.raises(InputError, match=message):
        Question("x", prompt, choices, answer)


def test_names():
    assert set(PAPER_PRIMITIVES) < set(PRIMITIVES)
    assert len(set(WORDS)) == len(WORDS) > 100

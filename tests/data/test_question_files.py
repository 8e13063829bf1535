"""Questions from files: each format, and what is wrong with a line by its number."""

import json

import pytest

from jaxanatomy.data.question_files import load_questions
from jaxanatomy.data.questions import Question, Questions
from jaxanatomy.errors import InputError


@pytest.fixture
def written(tmp_path):
    def written(*records, name="asked.jsonl"):
        path = tmp_path / name
        lines = (each if isinstance(each, str) else json.dumps(each) for each in records)
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return written


OWN = (
    {"prompt": "Two and two make ", "choices": ["five", "four"], "answer": 1},
    {"prompt": "The sea is", "answer": " salt"},
)
GSM8K = [
    {
        "question": f"How much is {n} and 1?",
        "answer": f"{n}+1=<<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1}",
    }
    for n in range(8)
]
SVAMP = [
    {"Body": "He has 3 pens", "Question": "How many?", "Answer": 3.0, "ID": "x", "Type": "y"},
    {"Body": "She ate half.", "Question": "How much?", "Answer": 0.5},
]


def test_questions_of_ones_own(written):
    found = load_questions(written(*OWN))
    # White space at the end of a prompt goes to what follows.
    assert found.items == (
        Question("asked", "Two and two make", (" five", " four"), 1),
        Question("asked", "The sea is", (" salt",), 0),
    )
    assert [each.chance for each in found.items] == [0.5, 0.0]
    assert found.tasks == {"asked": [0, 1]}


def test_lambada_asks_for_the_last_word(written):
    source = written({"text": "He said no\n\nand left town"}, name="lambada.jsonl")
    assert load_questions(source).items == (
        Question("lambada", "He said no\n\nand left", (" town",), 0),
    )


@pytest.mark.parametrize(
    ("text", "prompt", "choice"),
    [
        ("he left town \n", "he left", " town"),
        ("\n he left town  ", "he left", " town"),
        ("said again\nJohn", "said again", "\nJohn"),
        ("town by town", "town by", " town"),
    ],
)
def test_lambada_splits_at_the_last_white_space_in_the_text(written, text, prompt, choice):
    (found,) = load_questions(written({"text": text})).items
    assert (found.prompt, found.choices) == (prompt, (choice,))


def test_word_problems_come_after_five_others_with_their_answers(written):
    found = load_questions(written(*GSM8K, name="gsm8k.jsonl"))
    assert len(found.items) == 3
    shown = [f"Question: How much is {n} and 1?\nAnswer: {n + 1}\n\n" for n in range(5)]
    prompt = "".join(shown) + "Question: How much is 5 and 1?\nAnswer:"
    assert found.items[0] == Question("gsm8k", prompt, (" 6\n\n",), 0)
    assert [each.choices for each in found.items] == [(" 6\n\n",), (" 7\n\n",), (" 8\n\n",)]


def test_svamp_is_a_list_of_objects(written):
    found = load_questions(written(json.dumps(SVAMP), name="svamp.json") + "#0")
    assert [(each.prompt, each.choices) for each in found.items] == [
        ("Question: He has 3 pens. How many?\nAnswer:", (" 3\n\n",)),
        ("Question: She ate half. How much?\nAnswer:", (" 0.5\n\n",)),
    ]


def test_examples_and_counts(written):
    source = written(*OWN, *GSM8K[:2], name="mixed.jsonl")
    found = load_questions(f"{source}#1", count=2)
    assert [each.prompt for each in found.items] == [
        "Two and two make four\n\nThe sea is",
        "Two and two make four\n\nQuestion: How much is 0 and 1?\nAnswer:",
    ]


def test_questions_made_by_rule_come_after_five_examples_unless_told():
    found = load_questions("copying_real", 3)
    assert {each.prompt.count("____") for each in found.items} == {6}
    assert [each.prompt.count("____") for each in load_questions("copying_real#0", 3).items] == [
        1,
        1,
        1,
    ]
    assert list(load_questions("paper_primitives", 1).tasks) == [
        "copying_random",
        "copying_real",
        "assignment_basic_0",
        "assignment_code_0",
        "assignment_math_0",
    ]
    assert len(load_questions("arithmetic", 2).items) == 12
    assert load_questions("chains", 2, seed=1).sha256 != load_questions("chains", 2).sha256


GOOD = {"prompt": "a", "choices": [" b", " c"], "answer": 0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a", ', r"line 2 of .*asked\.jsonl' is not JSON"),
        ('["a"]', r"line 2 of .* must be an object; got list"),
        ("{}", r"line 2 of .* must have the fields of one of .* it has none"),
        ({"prompt": "a"}, r"line 2 of .* it has 'prompt'"),
        (
            {**GOOD, "choices": []},
            r"choices of line 2 of .* at least two different texts; got \[\]",
        ),
        ({**GOOD, "choices": [" b"]}, r"choices of line 2"),
        ({**GOOD, "choices": [" b", " b"]}, r"choices of line 2"),
        ({**GOOD, "choices": [" b", ""]}, r"choices of line 2"),
        ({**GOOD, "choices": [" b", 3]}, r"choices of line 2"),
        ({**GOOD, "choices": " b"}, r"choices of line 2"),
        ({**GOOD, "answer": 2}, r"answer of line 2 of .* 0 \.\. 1; got 2"),
        ({**GOOD, "answer": -1}, r"answer of line 2"),
        ({**GOOD, "answer": " b"}, r"answer of line 2"),
        ({**GOOD, "answer": True}, r"answer of line 2"),
        ({**GOOD, "prompt": " "}, r"field 'prompt' of line 2 .* must not be blank"),
        ({**GOOD, "prompt": 3}, r"field 'prompt' of line 2 .* must be text"),
        ({"prompt": "a", "answer": ""}, r"field 'answer' of line 2"),
        ({"prompt": "a", "answer": 3}, r"field 'answer' of line 2"),
        ({**GOOD, "prompt": "a\ud800"}, r"line 2 .* lone surrogate"),
        ({"question": "a", "answer": "3 ####"}, r"line 2 .* answer after ####"),
        ({"question": "a", "answer": "so it is 3"}, r"line 2 .* answer after ####"),
        *(
            ({"Body": "a", "Question": "b?", "Answer": answer}, r"the Answer of line 2 .* finite")
            for answer in (None, "", " ", [1, 2], {}, True, False)
        ),
        *(
            (f'{{"Body": "a", "Question": "b?", "Answer": {answer}}}', r"line 2 ")
            for answer in ("NaN", "Infinity", "1e999")
        ),
        ({"text": "word "}, r"prompt of line 2 .* must not be blank"),
        ({"text": "word"}, r"prompt of line 2 .* must not be blank"),
    ],
)
def test_a_bad_line_is_named(written, line, message):
    with pytest.raises(InputError, match=message) as error:
        load_questions(written(GOOD, line, GOOD))
    assert "\n" not in str(error.value)


def test_all_bad_lines_are_named_at_once(written):
    with pytest.raises(InputError, match=r"line 1 .*; .*line 3 "):
        load_questions(written("{", GOOD, "[]"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("copying_reel", r"copying_real"),
        ("copying_real#many", r"number of examples; got 'copying_real#many'"),
        ("copying_real#²", r"number of examples; got 'copying_real#²'"),
        ("nowhere/asked.jsonl", r"there is none 'nowhere/asked\.jsonl'"),
    ],
)
def test_sources_that_are_not_there(source, message):
    with pytest.raises(InputError, match=message):
        load_questions(source)


def test_files_that_hold_too_few(written):
    with pytest.raises(
        InputError, match=r"more questions than the 5 that are examples; it holds 3"
    ):
        load_questions(written(*GSM8K[:3]))
    with pytest.raises(InputError, match=r"holds no question; add some, or check the path"):
        load_questions(written(""))
    with pytest.raises(InputError, match=r"'lambda'.*; a file of questions ends in \.jsonl or"):
        load_questions("lambda")
    with pytest.raises(InputError, match=r"must be a list of objects; got dict"):
        load_questions(written("{}", name="a.json"))
    with pytest.raises(InputError, match=r"at least one question"):
        Questions("none", ())

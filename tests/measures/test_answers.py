"""Answers to questions against whole forward passes, one for each choice."""

import numpy as np
import pytest
from naive import CONFIG, random_params

from jaxanatomy import model
from jaxanatomy.data.choices import pack_questions
from jaxanatomy.data.questions import Question, Questions
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.interventions.materialise import materialise
from jaxanatomy.interventions.variants import baseline
from jaxanatomy.measures.answers import READINGS, answer_rows, answered, of_sequences
from jaxanatomy.sweep import Sweep


class Letters:
    """One token for each character."""

    bos_id, eos_id, adds_bos = None, None, False

    def encode(self, text):
        return [ord(character) % 101 for character in text]


class WithBos(Letters):
    bos_id, adds_bos = 5, True


SHOWN = "a is 1, b is 2, "
ASKED = Questions(
    "asked",
    (
        Question("letters", f"{SHOWN}c is", (" 3", " 4", " 31"), 2),
        Question("letters", f"{SHOWN}d is", (" 4", " 3"), 0),
        Question("words", "the sea", (" is salt",), 0),
        Question("letters", "e", (" 5", " 6", " 7", " 8"), 1),
    ),
)
PARAMS = random_params(CONFIG)
NAMES = ("cut/span/1-2", "repeat/span/2-3", "zero/mlp/3", "scale_0.5/layer/0")


def limits():
    return {"context_length": CONFIG.context_length, "vocab_size": CONFIG.vocab_size}


def measured(tokenizer, variants, questions=ASKED, share=True):
    batches = pack_questions(questions, tokenizer, **limits(), share=share).batches
    sweep = Sweep(CONFIG, variants, batches, READINGS, anchor=baseline(CONFIG.num_layers))
    sweep.place(PARAMS)
    return sweep.run(0)


def naive(tokenizer, question, choice, steps):
    """The loss of a choice in float64, and whether greedy decoding writes it."""
    config, params = materialise(CONFIG, PARAMS, steps)
    before = [tokenizer.bos_id] if tokenizer.adds_bos else []
    prompt = before + tokenizer.encode(question.prompt)
    token = prompt + tokenizer.encode(choice)
    padded_1T = np.zeros((1, CONFIG.context_length), np.int32)  # one program for all lengths
    padded_1T[0, : len(token)] = token
    logits_TV = np.asarray(model.forward(config, params, padded_1T)[0], np.float64)
    log_p_TV = logits_TV - np.log(np.exp(logits_TV).sum(axis=-1, keepdims=True))
    places = range(len(prompt), len(token))
    nll = -sum(log_p_TV[place - 1, token[place]] for place in places)
    return nll, all(log_p_TV[place - 1].argmax() == token[place] for place in places)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("tokenizer", [Letters(), WithBos()], ids=["plain", "bos"])
def test_every_choice_under_every_variant_is_that_of_a_whole_pass(tokenizer, share):
    variants = parse_variants(CONFIG, NAMES)
    found = measured(tokenizer, variants, share=share)
    nll_VI, greedy_VI = of_sequences(found)
    assert found["nll"].variants == ("baseline", *(each.name for each in variants))
    for row, variant in enumerate([baseline(CONFIG.num_layers), *variants]):
        expected = [
            naive(tokenizer, question, choice, variant.steps)
            for question in ASKED.items
            for choice in question.choices
        ]
        np.testing.assert_allclose(nll_VI[row], [nll for nll, _ in expected], rtol=1e-5)
        assert greedy_VI[row].tolist() == [greedy for _, greedy in expected]


def test_what_the_model_writes_is_greedy():
    written = model.generate(CONFIG, PARAMS, np.array([Letters().encode("the sea")]), 3)[0]
    text = "".join(map(chr, written.tolist()))
    asked = Questions(
        "greedy", tuple(Question("own", "the sea", (answer,), 0) for answer in (text, text + "?"))
    )
    _, greedy_VI = of_sequences(measured(Letters(), [], asked))
    follows = int(model.generate(CONFIG, PARAMS, np.array([Letters().encode("the sea")]), 4)[0, 3])
    assert greedy_VI[0].tolist() == [True, follows == ord("?") % 101]
    assert follows != ord("?") % 101


def test_answered_by_the_likeliest_choice_or_by_all_tokens():
    nll_I = np.array([3.0, 2.0, 1.0, 5.0, 5.0, 0.1, 1.0, 0.5, 2.0, 0.5])
    greedy_I = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0], bool)
    found = answered(ASKED, nll_I, greedy_I)
    assert found["right"].tolist() == [1, 1, 0, 1]  # of equal ones the first
    assert found["nll"].tolist() == [1.0, 5.0, 0.1, 0.5]
    greedy_I[5] = True
    assert answered(ASKED, nll_I, greedy_I)["right"].tolist() == [1, 1, 1, 1]


def test_what_is_no_number_is_no_answer():
    nan = np.nan
    nll_I = np.array([3.0, 2.0, nan, nan, nan, nan, nan, 0.5, 2.0, nan])
    found = answered(ASKED, nll_I, np.ones(10, bool))
    assert found["right"].tolist() == [0, 0, 0, 1]


def test_rows_by_task_and_variant():
    variants = parse_variants(CONFIG, NAMES)
    found = measured(Letters(), variants)
    reported = [baseline(CONFIG.num_layers), *variants]
    rows = answer_rows(found, reported, text="asked", questions=ASKED)
    assert [(row["variant"], row["task"]) for row in rows] == [
        (variant.name, task) for variant in reported for task in ("letters", "words")
    ]
    nll_VI, greedy_VI = of_sequences(found)
    by_name = dict(zip(found["nll"].variants, zip(nll_VI, greedy_VI, strict=True), strict=True))
    base = answered(ASKED, *by_name["baseline"])
    for row in rows:
        members = ASKED.tasks[row["task"]]
        own = answered(ASKED, *by_name[row["variant"]])
        assert row["right"] == own["right"][members].tolist()
        assert row["accuracy"] == np.mean(row["right"])
        assert row["accuracy_ci95"][0] <= row["accuracy"] <= row["accuracy_ci95"][1]
        assert row["chance"] == pytest.approx(
            {"letters": (1 / 3 + 1 / 2 + 1 / 4) / 3, "words": 0}[row["task"]]
        )
        if row["variant"] == "baseline":
            assert row["change"] is row["nll_change"] is row["ci95"] is None
        else:
            assert row["change"] == np.mean(own["right"][members] - base["right"][members])
            rise = np.mean(own["nll"][members] - base["nll"][members])
            assert row["nll_change"] == pytest.approx(rise)
    assert any(row["change"] for row in rows)

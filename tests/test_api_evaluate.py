"""From Python: which questions a model and its variants answer."""

import numpy as np
import pytest
from test_api import MODEL, OPTIONS

import jaxanatomy as ja
from jaxanatomy import model as llama

ASKED = ja.Questions(
    "asked",
    (
        ja.Question("colours", "salt is", (" white", " loud", " red"), 0),
        ja.Question("words", "the sea is", (" salt",), 0),
        ja.Question("colours", "rain is", (" dry", " wet"), 1),
    ),
)


def loss(model, prompt, choice):
    """Of the letters of a choice after a prompt."""
    token = model.tokenizer.encode(prompt + choice)
    logits_TV = np.asarray(llama.forward(model.config, model.params, np.array([token]))[0], float)
    log_p_TV = logits_TV - np.log(np.exp(logits_TV).sum(axis=-1, keepdims=True))
    return -sum(log_p_TV[place - 1, token[place]] for place in range(len(prompt), len(token)))


def test_answers_of_a_model_and_of_a_changed_one():
    rows = ja.evaluate(MODEL, ja.variants(MODEL, "cut/span/1-2")[1:], ASKED, OPTIONS)
    assert [(row["variant"], row["task"]) for row in rows] == [
        (name, task) for name in ("baseline", "cut/span/1-2") for task in ("colours", "words")
    ]
    for row in rows:
        model = MODEL if row["variant"] == "baseline" else ja.apply(MODEL, row["variant"])
        own = [each for each in ASKED.items if each.task == row["task"]]
        losses = [[loss(model, each.prompt, choice) for choice in each.choices] for each in own]
        right = [each[one.answer] for each, one in zip(losses, own, strict=True)]
        assert row["nll"] == pytest.approx(right, rel=1e-5)
        if row["task"] == "colours":
            chosen = [int(np.argmin(each)) for each in losses]
            assert row["right"] == [
                int(a == one.answer) for a, one in zip(chosen, own, strict=True)
            ]


def test_questions_of_a_source():
    assert len(ja.questions("copying_real#0", 4).items) == 4

"""Log-likelihoods of answers against a plain loop over live transformers; the real model.

Needs the `[parity]` extra (torch). Every choice goes through torch by itself, after its prompt.
"""

import numpy as np
import pytest
from parity_marks import PARITY

from jaxanatomy import weights
from jaxanatomy.data.question_files import load_questions
from jaxanatomy.data.questions import Question, Questions
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.interventions.variants import baseline
from jaxanatomy.measures.answers import READINGS, of_sequences
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep

torch = pytest.importorskip("torch", reason="needs the [parity] extra")
pytestmark = [*PARITY, pytest.mark.real]

ABSOLUTE = 1e-3  # nats of a whole answer
CUT = (12, 13, 14)
# Some that the model writes, some that it does not.
OPEN = (
    ("The capital of France is", " Paris"),
    ("One, two, three, four, five,", " six, seven, eight"),
    ("One, two, three, four, five,", " eleven"),
    ("Question: How much is 2 and 3?\nAnswer:", " 5\n\n"),
)


@pytest.fixture(scope="module")
def checkpoint():
    return weights.load(weights.DEFAULT_MODEL)


@pytest.fixture(scope="module")
def llama(checkpoint, tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("smollm2") / "model"
    weights.export_hf(checkpoint, folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def naive(llama, checkpoint, question, choice):
    """The loss of a choice, and whether each of its tokens is the likeliest."""
    prompt = checkpoint.tokenizer.encode(question.prompt)
    token = checkpoint.tokenizer.encode(question.prompt + choice)
    with torch.no_grad():
        log_p_TV = llama(torch.tensor([token]), use_cache=False).logits[0].double().log_softmax(-1)
    places = range(len(prompt), len(token))
    nll = -sum(float(log_p_TV[place - 1, token[place]]) for place in places)
    return nll, all(int(log_p_TV[place - 1].argmax()) == token[place] for place in places)


def test_answers_are_those_of_a_plain_loop(checkpoint, llama):
    made = [load_questions(f"{name}#2", 1) for name in ("copying_real", "assignment_math_0")]
    asked = [question for each in made for question in each.items]
    asked += [Question("open", prompt, (answer,), 0) for prompt, answer in OPEN]
    questions, layers = Questions("asked", tuple(asked)), checkpoint.config.num_layers
    variants = parse_variants(checkpoint.config, ["cut/span/12-14"])
    batches = tokenise(checkpoint, questions)
    sweep = Sweep(checkpoint.config, variants, batches, READINGS, anchor=baseline(layers))
    sweep.place(checkpoint.params)
    nll_VI, greedy_VI = of_sequences(sweep.run(0))
    whole = llama.model.layers
    for row, left_out in enumerate(((), CUT)):
        kept = [layer for number, layer in enumerate(whole) if number not in left_out]
        llama.model.layers = torch.nn.ModuleList(kept)
        pairs = [(each, choice) for each in questions.items for choice in each.choices]
        expected = [naive(llama, checkpoint, *pair) for pair in pairs]
        llama.model.layers = whole
        np.testing.assert_allclose(nll_VI[row], [nll for nll, _ in expected], rtol=0, atol=ABSOLUTE)
        assert greedy_VI[row].tolist() == [greedy for _, greedy in expected]
    assert set(greedy_VI[0, -len(OPEN) :].tolist()) == {True, False}

"""lm-evaluation-harness on a tiny model, against whole forward passes."""

import dataclasses
import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from naive import CONFIG
from test_api import MODEL as WITHOUT_END
from test_api import Letters

import jaxanatomy as ja
from experiments import evaluate
from jaxanatomy import model as llama
from jaxanatomy.errors import InputError

lm_eval = pytest.importorskip("lm_eval", reason="needs the [eval] extra")
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

from lm_eval.api.instance import Instance  # noqa: E402

from jaxanatomy.harness import Harness, Scorer  # noqa: E402
from jaxanatomy.harness_tasks import _rows, harness_rows, hashes, load_tasks  # noqa: E402


class Ending(Letters):
    """With a token that ends a text."""

    eos_id = 7


MODEL = dataclasses.replace(WITHOUT_END, tokenizer=Ending())
NAMES = ("baseline", "cut/span/1-2", "repeat_damped_0.5/span/2-3")
CHANGED = "cut/span/1-2"
PAIRS = (
    ("the sea", " is salt"),
    ("the sea", " is"),
    ("the sea ", "is dry"),
    ("", "salt"),
    ("a" * 80, " long"),  # longer than the context: its beginning is left out
)


@pytest.fixture(scope="module")
def scorer():
    return Scorer(MODEL, ja.variants(MODEL, *NAMES[1:]))


def requests(kind, arguments):
    return [Instance(kind, {}, tuple(each), index) for index, each in enumerate(arguments)]


def log_probabilities(token, variant):
    """[T, V] in float64, from one whole forward pass of the changed model."""
    changed = MODEL if variant == "baseline" else ja.apply(MODEL, variant)
    padded_1T = np.zeros((1, CONFIG.context_length), np.int32)  # one program for all lengths
    padded_1T[0, : len(token)] = token
    logits_TV = llama.forward(changed.config, changed.params, padded_1T)[0, : len(token)]
    logits_TV = np.asarray(logits_TV, np.float64)
    return logits_TV - np.log(np.exp(logits_TV).sum(axis=-1, keepdims=True))


def answer(context, continuation, variant):
    """The log-likelihood of token ids after others, and whether each is the likeliest."""
    token = [*context, *continuation][-(CONFIG.context_length + 1) :]
    log_p_TV = log_probabilities(token[:-1], variant)
    places = range(len(token) - len(continuation), len(token))
    likelihood = sum(log_p_TV[place - 1, token[place]] for place in places)
    return likelihood, all(log_p_TV[place - 1].argmax() == token[place] for place in places)


@pytest.mark.parametrize("variant", NAMES[:2])
def test_log_likelihoods(scorer, variant):
    encode, end = MODEL.tokenizer.encode, MODEL.tokenizer.eos_id
    found = Harness(scorer, variant).loglikelihood(requests("loglikelihood", PAIRS), True)
    for (context, continuation), got in zip(PAIRS, found, strict=True):
        spaces = context[len(context.rstrip()) :]  # belong to what follows
        ids = encode(context.rstrip()) if context else [end]
        likelihood, greedy = answer(ids, encode(spaces + continuation), variant)
        assert got[0] == pytest.approx(likelihood, rel=1e-5)
        assert got[1] == greedy


def test_one_sweep_serves_all_variants(scorer, monkeypatch):
    asked = requests("loglikelihood", [("one", " two"), ("one", " three")])
    found = {name: Harness(scorer, name).loglikelihood(asked, True) for name in NAMES}
    monkeypatch.setattr(scorer, "_sweep", lambda pairs: pytest.fail("swept again"))
    again = {name: Harness(scorer, name).loglikelihood(asked, True) for name in NAMES}
    assert found == again
    assert len({tuple(each) for each in found.values()}) == len(NAMES)


@pytest.mark.parametrize("variant", NAMES[:2])
def test_rolling_predicts_every_token_once(scorer, variant):
    texts = ("salt", "the sea is salt and the rain is wet " * 4)
    found = Harness(scorer, variant).loglikelihood_rolling(
        requests("loglikelihood_rolling", [(text,) for text in texts])
    )
    for text, got in zip(texts, found, strict=True):
        token, size = MODEL.tokenizer.encode(text), CONFIG.context_length
        expected = answer([MODEL.tokenizer.eos_id], token[:size], variant)[0]
        for start in range(size, len(token), size):
            own = token[start : start + size]
            before = token[: start + len(own)][-(size + 1) : -len(own)]
            expected += answer(before, own, variant)[0]
        assert got == pytest.approx(expected, rel=1e-5)


def test_generation_stops_where_it_is_told(scorer):
    prompts = ("the sea", "a", "rain is wet")
    for variant in NAMES[:2]:
        changed = MODEL if variant == "baseline" else ja.apply(MODEL, variant)
        whole = [ja.generate(changed, prompt, 12) for prompt in prompts]
        stop = whole[0][3]
        settings = {"until": [stop], "max_gen_toks": 12}
        found = Harness(scorer, variant).generate_until(
            requests("generate_until", [(prompt, settings) for prompt in prompts])
        )
        assert found == [text.split(stop)[0] for text in whole]


def test_what_has_stopped_is_not_written_on(scorer, monkeypatch):
    """The stop stands across two pieces; a prompt that met it is not asked again."""
    prompts = ("the sea", "a", "rain is wet")
    whole = [ja.generate(MODEL, prompt, 12) for prompt in prompts]
    tokens = [text.split() for text in whole]
    stop = " ".join(tokens[0][1:3])  # begins in the first piece and ends in the second
    asked = []

    def write(prompts, steps, variant):
        asked.append(len(prompts))
        return own(prompts, steps, variant)

    own = scorer.write
    monkeypatch.setattr(scorer, "write", write)
    monkeypatch.setattr("jaxanatomy.harness.PIECE", 2)
    settings = {"until": [stop], "max_gen_toks": 12}
    found = Harness(scorer).generate_until(
        requests("generate_until", [(prompt, settings) for prompt in prompts])
    )
    assert found == [text.split(stop)[0] for text in whole]
    # A text that the end token ended has fewer tokens than were written by then.
    going = [
        sum(len(own) >= done and stop not in " ".join(own[:done]) for own in tokens)
        for done in range(0, 12, 2)
    ]
    assert len(set(going)) == 3
    assert asked == going


def test_what_the_model_is_not_asked_for_is_refused(scorer):
    harness = Harness(scorer)
    for settings, message in (
        ({"do_sample": True, "temperature": 0.7}, "draws them"),
        ({"max_gen_toks": 64}, "asks for 64 tokens, and the context is 64"),
    ):
        with pytest.raises(InputError, match=message):
            harness.generate_until(requests("generate_until", [("a", settings)]))
    with pytest.raises(InputError, match=r"continuation of 70 tokens is longer"):
        harness.loglikelihood(requests("loglikelihood", [("a", "b" * 70)]), True)
    with pytest.raises(InputError, match=r"linear combination of streams"):
        Harness(scorer, NAMES[2]).generate_until(
            requests("generate_until", [("a", {"max_gen_toks": 4})])
        )


ASKED = [
    {"prompt": "Salt is", "choices": [" white", " loud"], "answer": 0},
    {"prompt": "Rain is", "choices": [" dry", " wet", " a"], "answer": 1},
    {"prompt": "The sea is", "choices": [" sour", " salt"], "answer": 1},
]


@pytest.fixture
def local(tmp_path, monkeypatch):
    """A task of multiple choice over a local file."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    data = tmp_path / "asked.jsonl"
    data.write_text("".join(f"{json.dumps(each)}\n" for each in ASKED))

    def local(files, file="task.yaml", metrics=("acc", "acc_norm")):
        task = {
            "task": "asked_locally",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(files)}, "cache_dir": str(tmp_path)},
            "output_type": "multiple_choice",
            "test_split": "test",
            "doc_to_text": "{{prompt}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "target_delimiter": "",
            "metric_list": [{"metric": metric} for metric in metrics],
        }
        (tmp_path / file).write_text(json.dumps(task))
        return str(tmp_path / file)

    return local, data


class Source:
    """A model as experiments open it."""

    id, config = MODEL.id, MODEL.config

    def load(self):
        return MODEL


def test_rows_of_a_task_are_those_of_its_questions(local):
    make, data = local
    tasks = load_tasks(make(data))
    variants = ja.variants(MODEL, *NAMES[1:])[1:]
    settings = {"limit": None, "options": ja.SweepOptions()}
    chunks = [*harness_rows(tasks, Source(), variants, done=lambda mark: False, **settings)]
    assert [len(rows) for rows in chunks] == [2, 2, 2]
    encode = MODEL.tokenizer.encode
    for rows, variant in zip(chunks[:2], NAMES, strict=False):
        (row,) = [row for row in rows if row["metric"] == "acc"]
        likelihoods = [
            [
                answer(encode(each["prompt"]), encode(choice), variant)[0]
                for choice in each["choices"]
            ]
            for each in ASKED
        ]
        right = [
            int(np.argmax(own) == each["answer"])
            for own, each in zip(likelihoods, ASKED, strict=True)
        ]
        assert row["right"] == right
        assert row["value"] == row["accuracy"] == pytest.approx(np.mean(right))
        assert row["chance"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
        assert row["variant"] == variant
    base, changed = ({row["metric"]: row for row in rows} for rows in chunks[:2])
    assert changed["acc"]["change"] == changed["acc"]["accuracy"] - base["acc"]["accuracy"]
    # What is there is not measured again.
    known = {row["hash"] for rows in chunks for row in rows}
    assert len(known) == 6
    assert [*harness_rows(tasks, Source(), variants, done=known.__contains__, **settings)] == []
    first, second = (row["hash"] for row in chunks[1])
    for lost in ({first, second}, {first}, {second}):
        some = known - lost
        again = [*harness_rows(tasks, Source(), variants, done=some.__contains__, **settings)]
        assert again == chunks[:2]


def test_whether_a_metric_is_yes_or_no_is_a_matter_of_the_unchanged_model():
    """A broken model has an F1 of 0 everywhere, and a small task may be all 0 or 1 by chance."""
    _, variant = ja.variants(MODEL, CHANGED)
    some, none = (0.4, None, None), (0.0, np.zeros(3, int), None)
    for base, changed in ((some, none), (none, some)):
        (row,) = _rows({("t", "f1"): changed}, {("t", "f1"): base}, variant)
        assert row["value"] == changed[0]
        assert row["change"] == changed[0] - base[0]
        assert "items" not in row
    (row,) = _rows({("t", "acc"): none}, {("t", "acc"): none}, variant)
    assert row["items"] == 3


def test_two_files_with_a_task_of_one_name_are_refused(local):
    make, data = local
    config = ConfigDict({"tasks": tuple(f"lm_eval:{make(data, f'{n}.yaml')}" for n in "ab")})
    with pytest.raises(InputError, match=r"tasks of lm-eval .* repeated: asked_locally"):
        evaluate._harness(config)


def test_the_hash_of_a_task_is_that_of_what_it_asks_and_how_it_scores(local):
    make, data = local

    def found(limit=None, **how):
        return hashes(load_tasks(make(data, **how)), limit)["asked_locally"]

    first = found()
    assert found(file="other.yaml") == first
    assert len({first, found(limit=2), found(metrics=("acc",))}) == 3
    config = ConfigDict({"tasks": (f"lm_eval:{make(data)}",), "questions": None})
    assert evaluate._harness_provenance(config, evaluate._harness(config)) == {
        "lm_eval_version": lm_eval.__version__,
        "lm_eval_sha256": {"asked_locally": first},
    }
    asked = [each | {"answer": 0} for each in ASKED]
    data.write_text("".join(f"{json.dumps(each)}\n" for each in asked))
    assert found() != first


def test_tasks_that_are_not_there_or_need_what_is_not_are_one_line(local, tmp_path):
    make, _ = local
    for name in ("no_such_task_at_all", make(tmp_path / "nowhere.jsonl")):
        with pytest.raises(InputError, match=r"of lm-eval cannot be loaded: ") as error:
            load_tasks(name)
        assert "\n" not in str(error.value)

"""Questions from files and from rules: what `tasks=...` of a config may name.

A file is a .jsonl of objects, or a .json of a list of them; each object says by its fields what it
is (`FORMATS`). A user's own questions:

    {"prompt": "The opposite of hot is", "choices": [" cold", " warm", " wet"], "answer": 0}
    {"prompt": "The capital of France is", "answer": " Paris"}

With choices, the answer is the index of the right one, and the likeliest is taken; without, it is
what the model must write. White space at the end of a prompt goes to what follows it.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxanatomy.data import files
from jaxanatomy.data.corpora import GENERATED, TASKS
from jaxanatomy.data.primitives import PAPER_PRIMITIVES
from jaxanatomy.data.questions import Question, Questions, questions
from jaxanatomy.errors import InputError, choose

FEWSHOT = 5  # examples before each question (DG section 3.2)
BETWEEN = "\n\n"  # stands between examples, and ends what is written

# The forms of a source of questions, for help and lists.
SOURCES: dict[str, str] = {
    "paper_primitives": "the five reasoning primitives of DG Table 6",
    **{name: f"all tasks of {name}, generated: {', '.join(GENERATED[name])}" for name in GENERATED},
    "NAME": "one of those tasks",
    "PATH.jsonl, PATH.json": "your own questions (prompt, choices, answer), LAMBADA (text), "
    "GSM8K (question, answer), SVAMP (Body, Question, Answer)",
    "SOURCE#K": f"with K examples before each question; by default {FEWSHOT} for mathematics and "
    "generated tasks, else none",
}


def load_questions(source: str, count: int | None = None, seed: int = 0) -> Questions:
    """Loads the questions of a source.

    Args:
      source: One of the forms in `SOURCES`.
      count: Questions of each task; None: all of a file, 100 of each task made by rule.
      seed: Of the draw of those that are made by rule.

    Raises:
      InputError: The source is unknown, missing, empty or malformed (all lines that are, by
        number), or holds too few for its examples.
    """
    name, shots = _shots(source)
    tasks = GENERATED.get(name) or ({name: TASKS[name]} if name in TASKS else {})
    if name == "paper_primitives":
        tasks = {each: TASKS[each] for each in PAPER_PRIMITIVES}
    if tasks:
        fewshot = FEWSHOT if shots is None else shots
        return Questions(source, questions(tasks, count or 100, seed, fewshot))
    path = Path(name)
    if not path.suffix and len(path.parts) == 1 and not path.exists():
        known = ["paper_primitives", *GENERATED, *TASKS]
        try:
            choose("task", name, known)
        except InputError as error:
            raise InputError(f"{error}; a file of questions ends in .jsonl or .json") from error
    if not path.is_file() or path.suffix not in (".jsonl", ".json"):
        raise InputError(
            f"questions are a .jsonl or .json file; there is none {name!r}; check the path"
        )
    found = files.read_each(_question, _records(path))
    fewshot = shots if shots is not None else FEWSHOT if found and found[0][1] else 0
    asked = [question for question, _ in found]
    if not asked:
        raise InputError(f"{name!r} holds no question; add some, or check the path")
    if len(asked) <= fewshot:
        raise InputError(
            f"{name!r} must hold more questions than the {fewshot} that are examples; it holds "
            f"{len(asked)}; lower #K"
        )
    before = "".join(question.text.removesuffix(BETWEEN) + BETWEEN for question in asked[:fewshot])
    end = None if count is None else fewshot + count
    return Questions(
        source,
        tuple(
            Question(path.stem, before + each.prompt, each.choices, each.answer)
            for each in asked[fewshot:end]
        ),
    )


def _shots(source: str) -> tuple[str, int | None]:
    """A source without its #K, and K."""
    name, part = files.path_and_part(str(source))
    if not part:
        return name, None
    if not part.isdecimal():
        raise InputError(f"what follows # is the number of examples; got {source!r}")
    return name, int(part)


def _records(path: Path) -> list[tuple[Any, str]]:
    """The objects of a file, each with its place; text that is no JSON yet."""
    if path.suffix == ".jsonl":
        return list(files.json_lines(path))
    values = files.json_value(files.decoded(path), repr(str(path)))
    if not isinstance(values, list):
        raise InputError(f"{str(path)!r} must be a list of objects; got {type(values).__name__}")
    return [(value, f"entry {index} of {str(path)!r}") for index, value in enumerate(values)]


def _question(record: Any, place: str) -> tuple[Question, bool]:
    """A question, and whether it is asked after examples by default."""
    if isinstance(record, str):
        record = files.json_value(record, place)
    if not isinstance(record, dict):
        raise InputError(
            f"{place} must be an object; got {type(record).__name__}; mend or remove it"
        )
    for fields, make in FORMATS.items():
        if set(fields) <= set(record):
            prompt, choices, answer = make(record, place)
            break
    else:
        raise InputError(
            f"{place} must have the fields of one of {[', '.join(each) for each in FORMATS]}; it "
            f"has {', '.join(map(repr, record)) or 'none'}; mend or remove it"
        )
    trimmed = prompt.rstrip()
    if not trimmed:
        raise InputError(f"the prompt of {place} must not be blank; mend or remove it")
    for text in (prompt, *choices):
        if problem := files.lone_surrogate(text, place):
            raise problem
    choices = tuple(prompt[len(trimmed) :] + choice for choice in choices)
    return Question("", trimmed, choices, answer), make in (_gsm8k, _svamp)


def _own(record: Mapping[str, Any], place: str) -> tuple[str, tuple[str, ...], int]:
    prompt, answer = _text(record, "prompt", place), record["answer"]
    if "choices" not in record:
        return prompt, (_text(record, "answer", place),), 0
    choices = record["choices"]
    good = isinstance(choices, list) and all(isinstance(each, str) and each for each in choices)
    if not good or len(choices) < 2 or len({*choices}) < len(choices):
        raise InputError(
            f"the choices of {place} must be at least two different texts; got {choices!r}; mend "
            "them, or leave them out if the model is to write the answer"
        )
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise InputError(
            f"the answer of {place} must be the index of a choice, 0 .. {len(choices) - 1}; got "
            f"{answer!r}; mend it"
        )
    return prompt, tuple(choices), answer


def _last_word(record: Mapping[str, Any], place: str) -> tuple[str, tuple[str, ...], int]:
    """LAMBADA: the last word of a passage (Paperno et al. 2016)."""
    passage = _text(record, "text", place).strip()
    word = passage.split()[-1]
    return passage.removesuffix(word), (word,), 0


def _gsm8k(record: Mapping[str, Any], place: str) -> tuple[str, tuple[str, ...], int]:
    """A word problem with its answer after ####; the working is left out."""
    _, mark, answer = _text(record, "answer", place).rpartition("####")
    answer = answer.strip()
    if not mark or not answer:
        raise InputError(f"{place} must have its answer after ####; it has none; mend or remove it")
    return _problem(_text(record, "question", place), answer)


def _svamp(record: Mapping[str, Any], place: str) -> tuple[str, tuple[str, ...], int]:
    body, asked = (_text(record, field, place).strip() for field in ("Body", "Question"))
    answer = record["Answer"]
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    finite = type(answer) is int or (isinstance(answer, float) and math.isfinite(answer))
    if not finite and not (isinstance(answer, str) and answer.strip()):
        raise InputError(
            f"the Answer of {place} must be a finite number or text that is not blank; got "
            f"{answer!r}; mend or remove it"
        )
    mark = "" if body.endswith((".", "?", "!", ",")) else "."
    return _problem(f"{body}{mark} {asked}", str(answer).strip())


def _problem(asked: str, answer: str) -> tuple[str, tuple[str, ...], int]:
    """The answer alone, as ASDiv of lm-evaluation-harness has it, and the blank line after it.

    Without that line 5 would be the answer of a model that writes 51.
    """
    return f"Question: {asked}\nAnswer:", (f" {answer}{BETWEEN}",), 0


def _text(record: Mapping[str, Any], field: str, place: str) -> str:
    """A field that holds text, and is not blank."""
    text = files.text_field(dict(record), field, place)
    if not text or text.isspace():
        raise InputError(f"field {field!r} of {place} must not be blank; mend or remove it")
    return text


FORMATS: dict[tuple[str, ...], Callable] = {
    ("prompt", "answer"): _own,
    ("Body", "Question", "Answer"): _svamp,
    ("question", "answer"): _gsm8k,
    ("text",): _last_word,
}

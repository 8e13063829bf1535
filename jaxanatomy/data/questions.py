"""Questions made by rule: what a small model can learn to answer, and be asked.

A task is a function of a random generator that returns a `Question`. What a model learns
from and what it is asked later never meet: the hash of a question with its answer decides
on which side it lies, whatever the seed.
"""

import dataclasses
import functools
import hashlib
import json
import random
from collections.abc import Callable, Mapping
from typing import Literal

from jaxanatomy.errors import InputError

Split = Literal["train", "validation"]

# One question in so many is held out.
HELD_OUT = 10
MAX_EXAMPLES = 6  # of one document
MOST_DRAWS = 500  # without a new question, before a task counts as exhausted


@dataclasses.dataclass(frozen=True)
class Question:
    """A prompt with one right continuation among several.

    Attributes:
      task: The name of its task.
      prompt: Ends without white space.
      choices: Continuations, each with the space that it begins with; all different, none of
        white space alone. One alone is right if it is what the model writes: if every token of
        it is the likeliest.
      answer: Index of the right one.

    Raises:
      InputError: One of these is otherwise.
    """

    task: str
    prompt: str
    choices: tuple[str, ...]
    answer: int

    def __post_init__(self):
        if not self.prompt or self.prompt != self.prompt.rstrip():
            raise InputError(
                "a prompt must be text that does not end with white space; got "
                f"{self.prompt[-40:]!r}; begin the choices with the white space"
            )
        choices = self.choices
        good = isinstance(choices, tuple) and all(isinstance(e, str) and e.strip() for e in choices)
        if not good or not choices or len({*choices}) < len(choices):
            raise InputError(
                "the choices of a question must be a tuple of one text or several different ones, "
                f"none blank; got {choices!r}; mend them"
            )
        if type(self.answer) is not int or not 0 <= self.answer < len(choices):
            raise InputError(
                f"the answer of a question must be the index of a choice, 0 .. {len(choices) - 1}; "
                f"got {self.answer!r}; mend it"
            )

    @property
    def text(self) -> str:
        """The prompt with the right continuation."""
        return self.prompt + self.choices[self.answer]

    @property
    def chance(self) -> float:
        """The accuracy of guessing, 0 to 1; 0 where the model has to write the answer."""
        return 1 / len(self.choices) if len(self.choices) > 1 else 0.0

    @property
    def split(self) -> Split:
        """On which side it lies: a matter of its text alone."""
        digest = hashlib.blake2b(self.text.encode(), digest_size=8).digest()
        return "train" if int.from_bytes(digest) % HELD_OUT else "validation"


@dataclasses.dataclass(frozen=True)
class Questions:
    """A named list of questions, of one task or several, which are scored as a text is.

    Attributes:
      name: Where they came from, as given.
      items: The questions.

    Raises:
      InputError: There is none.
    """

    name: str
    items: tuple[Question, ...]

    def __post_init__(self):
        if not self.items:
            raise InputError(f"{self.name!r} must hold at least one question; it holds none")

    def __repr__(self) -> str:
        return f"Questions({self.name!r}, {len(self.items):,} of {', '.join(self.tasks)})"

    @functools.cached_property
    def sha256(self) -> str:
        """A hash of the questions; the name is not part of it."""
        return hashlib.sha256(
            json.dumps([*map(dataclasses.astuple, self.items)]).encode()
        ).hexdigest()

    @functools.cached_property
    def tasks(self) -> dict[str, list[int]]:
        """By task, in the order of its first question, the indices of its questions."""
        found: dict[str, list[int]] = {}
        for index, question in enumerate(self.items):
            found.setdefault(question.task, []).append(index)
        return found


Task = Callable[[random.Random], Question]


def draw(task: Task, rng: random.Random, split: Split) -> Question:
    """The first question of a split that a task makes.

    Raises:
      InputError: It makes none.
    """
    for _ in range(MOST_DRAWS):
        question = task(rng)
        if question.split == split:
            return question
    raise InputError(
        f"task {question.task!r} made {MOST_DRAWS:,} questions, none of the {split} split; let it "
        "make more different ones"
    )


def document(tasks: Mapping[str, Task], seed: int, index: int, split: Split = "train") -> str:
    """A text to learn from: one to `MAX_EXAMPLES` questions of one task with their answers.

    A pure function of its arguments: any document can be made at any time.

    Args:
      tasks: By name; each is as likely.
      seed: Of all documents.
      index: Which document.
      split: Of its questions.
    """
    rng = random.Random(f"{seed}/{index}/{split}")
    task = tasks[rng.choice(list(tasks))]
    count = rng.randint(1, MAX_EXAMPLES)
    return "\n\n".join(draw(task, rng, split).text for _ in range(count))


def questions(
    tasks: Mapping[str, Task], count: int, seed: int = 0, num_fewshot: int = 0
) -> tuple[Question, ...]:
    """Held-out questions, to measure accuracy with; none was ever in a training document.

    Args:
      tasks: By name.
      count: Questions of each task, all different.
      seed: Of the draw.
      num_fewshot: Training questions with their answers that stand before each (the paper has
        five, DG Appendix C).

    Returns:
      `count` questions for each task, in the order of `tasks`.

    Raises:
      InputError: A task has fewer.
    """
    found = []
    for name, task in tasks.items():
        rng = random.Random(f"{seed}/{name}/questions")
        asked, vain = {}, 0
        while len(asked) < count:
            question = draw(task, rng, "validation")
            vain = vain + 1 if question.text in asked else 0
            if vain == MOST_DRAWS:
                raise InputError(
                    f"task {name!r} must have {count:,} different held-out questions; "
                    f"{MOST_DRAWS} draws in a row found none beyond {len(asked):,}; ask fewer"
                )
            asked.setdefault(question.text, question)
        for question in asked.values():
            examples = [draw(task, rng, "train").text for _ in range(num_fewshot)]
            prompt = "\n\n".join([*examples, question.prompt])
            found.append(dataclasses.replace(question, prompt=prompt))
    return tuple(found)


def shuffled(task: str, prompt: str, right: str, wrong: list[str], rng: random.Random) -> Question:
    """A question whose right choice stands at a random place."""
    choices = [right, *wrong]
    rng.shuffle(choices)
    return Question(task, prompt, tuple(choices), choices.index(right))

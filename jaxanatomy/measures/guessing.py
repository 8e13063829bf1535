"""What guessing reaches: the share of questions that are answered without solving them.

A guesser sees a clue of each choice and nothing else. On some questions it learns a weight for
each clue, on others it takes the choice of the largest weight, one of them at random where several
have the same. Clues are what a shallow model may go by: where a word stands, how often it comes,
how large a number is.
"""

import functools
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from jaxanatomy.data.arithmetic import ARITHMETIC
from jaxanatomy.data.corpora import TASKS
from jaxanatomy.data.primitives import REPEATED, SEQUENCE
from jaxanatomy.data.questions import Question

# A clue of each choice of a question.
Clue = Callable[[Question], Sequence[Hashable]]

QUESTIONS = 3000  # to learn from, and to be tried on
ROUNDS = 50  # in which weights are fitted


@functools.cache
def guessing(task: str, chance: float) -> float:
    """The share of a task's questions that guessing answers at best.

    Measured on questions of a fixed seed, to a percentage point or so; never below chance.

    Args:
      task: Its name; of one that is not known, and of assignments, whose values stand in an order
        of their own, chance is all there is.
      chance: Of guessing among all choices.
    """
    clue = next((CLUES[kind] for kind in CLUES if task in TASKS and task.startswith(kind)), None)
    if clue is None:
        return chance
    rng = random.Random(f"guessing/{task}")
    learnt, tried = ([TASKS[task](rng) for _ in range(QUESTIONS)] for _ in range(2))
    return max(chance, answered(clue, learnt, tried))


def answered(clue: Clue, learnt: Sequence[Question], tried: Sequence[Question]) -> float:
    """The share of some questions that a guesser by one clue answers, having learnt from others.

    The likelihood of each choice is in proportion to its clue's weight, which is fitted by
    iterative scaling (Darroch and Ratcliff 1972): so it counts, too, what stands beside a choice.
    Letters: S clues, Q questions, C choices of each.
    """
    number: dict[Hashable, int] = {}
    clue_QC = np.array(
        [[number.setdefault(each, len(number)) for each in clue(question)] for question in learnt]
    )
    answer_Q = np.array([question.answer for question in learnt])
    right_S = np.bincount(clue_QC[np.arange(len(clue_QC)), answer_Q], minlength=len(number))
    weight_S = np.ones(len(number))
    for _ in range(ROUNDS):
        likelihood_QC = weight_S[clue_QC]
        likelihood_QC /= likelihood_QC.sum(axis=1, keepdims=True)
        expected_S = np.bincount(clue_QC.ravel(), likelihood_QC.ravel())
        weight_S *= (right_S + 0.5) / (expected_S + 0.5)
    found = []
    for question in tried:
        weights = [weight_S[number[each]] if each in number else 1.0 for each in clue(question)]
        taken = [at for at, weight in enumerate(weights) if weight == max(weights)]
        found.append((question.answer in taken) / len(taken))
    return float(np.mean(found))


def _copying(question: Question) -> list[Hashable]:
    """Whether a word stands in the second half of the ten, and whether it is repeated.

    That leaves one to five words: right in (1/5 + 1/4 + 1/3 + 1/2 + 1) / 5 = 45.7 %, copying none.
    """
    words = question.prompt.split("\n")[-1].split(" ____")[0].split()
    second, repeated = words[REPEATED:SEQUENCE], words[SEQUENCE:]
    return [(word in second, word in repeated) for word in _words(question)]


def _places(question: Question) -> list[Hashable]:
    """How far from the end a word last stands, 0 where hops begin, and how often it comes."""
    shown = question.prompt.splitlines()[-1].removesuffix(" ->").split()[::-1]
    return [
        (shown.index(word) if word in shown else None, shown.count(word))
        for word in _words(question)
    ]


def _orders(question: Question) -> list[Hashable]:
    """In what order the chain that is asked ends, and in what order a value's begins.

    And how many values stand above the name that is asked: chains that begin early end early.
    """
    *lines, last = question.prompt.splitlines()
    names, sources = zip(*(line.split(" = ") for line in lines), strict=True)
    ends = [name for name in names if name not in sources]
    values = [source for source in sources if source.isdigit()]
    asked = last.removesuffix(" ->")
    above = sum(source.isdigit() for source in sources[: names.index(asked)])
    return [(ends.index(asked), above, values.index(value)) for value in _words(question)]


def _size(question: Question) -> list[Hashable]:
    """How many choices are smaller: the wrong ones lie on both sides of the right one."""
    numbers = sorted(map(int, _words(question)))
    return [numbers.index(int(number)) for number in _words(question)]


def _words(question: Question) -> list[str]:
    return [choice.strip() for choice in question.choices]


# The clue of a task, by how its name begins.
CLUES: Mapping[str, Clue] = MappingProxyType(
    {
        "copying": _copying,
        "hop": _places,
        "chain": _orders,
        **dict.fromkeys(ARITHMETIC, _size),
    }
)

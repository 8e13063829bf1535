"""What guessing reaches: the share of questions that are answered without solving them.

A guesser sees a clue of each choice and nothing else. On some questions it learns how often a
choice with each clue is right; on others it takes the choice whose clue is right most often, one
of them at random where several are. Clues are what a shallow model may go by: where a word
stands, how often it comes, how large a number is.
"""

import functools
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from jaxanatomy.data.arithmetic import ARITHMETIC
from jaxanatomy.data.chains import LENGTH
from jaxanatomy.data.corpora import TASKS
from jaxanatomy.data.primitives import REPEATED, SEQUENCE
from jaxanatomy.data.questions import Question

# A clue of each choice of a question.
Clue = Callable[[Question], Sequence[Hashable]]

QUESTIONS = 2000  # to learn from, and to be tried on


@functools.cache
def guessing(task: str, chance: float) -> float:
    """The share of a task's questions that guessing answers at best.

    Measured on questions of a fixed seed, for the best of the task's clues, to a percentage point
    or so; never below chance.

    Args:
      task: Its name; of one that is not known, and of assignments, whose values stand in an order
        of their own, chance is all there is.
      chance: Of guessing among all choices.
    """
    clues = next((CLUES[kind] for kind in CLUES if task in TASKS and task.startswith(kind)), ())
    if not clues:
        return chance
    rng = random.Random(f"guessing/{task}")
    learnt, tried = ([TASKS[task](rng) for _ in range(QUESTIONS)] for _ in range(2))
    best = max(clues, key=lambda clue: answered(clue, learnt, learnt))
    return max(chance, answered(best, learnt, tried))


def answered(clue: Clue, learnt: Iterable[Question], tried: Sequence[Question]) -> float:
    """The share of some questions that a guesser by one clue answers, having learnt from others."""
    seen: Counter[Hashable] = Counter()
    right: Counter[Hashable] = Counter()
    for question in learnt:
        clues = clue(question)
        seen.update(clues)
        right[clues[question.answer]] += 1
    found = []
    for question in tried:
        rates = [right[each] / max(seen[each], 1) for each in clue(question)]
        taken = [at for at, rate in enumerate(rates) if rate == max(rates)]
        found.append((question.answer in taken) / len(taken))
    return float(np.mean(found))


def _copying(question: Question) -> list[Hashable]:
    """Whether a word stands in the second half of the ten, and whether it is repeated.

    That leaves one to five words: right in (1/5 + 1/4 + 1/3 + 1/2 + 1) / 5 = 45.7 %, copying none.
    """
    words = question.prompt.split("\n")[-1].split(" ____")[0].split()
    second, repeated = words[REPEATED:SEQUENCE], words[SEQUENCE:]
    return [(word in second, word in repeated) for word in _words(question)]


def _last_place(question: Question) -> list[Hashable]:
    """How far from the end a word last stands, and how often it comes."""
    shown = _shown(question)[::-1]
    return [(shown.index(word), shown.count(word)) for word in _words(question)]


def _stands_at(place: int, question: Question) -> list[Hashable]:
    """Whether a word stands so far from the end."""
    return [word == _shown(question)[-1 - place] for word in _words(question)]


def _orders(question: Question) -> list[Hashable]:
    """Which of the chains ends in the name that is asked, by order, and which begins in a value."""
    *lines, asked = question.prompt.splitlines()
    targets, sources = zip(*(line.split(" = ") for line in lines), strict=True)
    ends = [target for target in targets if target not in sources]
    values = [source for source in sources if source.isdigit()]
    end = ends.index(asked.removesuffix(" ->"))
    return [(end, values.index(value)) for value in _words(question)]


def _size(question: Question) -> list[Hashable]:
    """How many choices are smaller: the wrong ones lie on both sides of the right one."""
    numbers = sorted(map(int, _words(question)))
    return [numbers.index(int(number)) for number in _words(question)]


def _words(question: Question) -> list[str]:
    return [choice.strip() for choice in question.choices]


def _shown(question: Question) -> list[str]:
    """The words of a string of hops."""
    return question.prompt.splitlines()[-1].removesuffix(" ->").split()


# The clues of a task, by how its name begins.
CLUES: Mapping[str, tuple[Clue, ...]] = MappingProxyType(
    {
        "copying": (_copying,),
        "hop": (_last_place, *(functools.partial(_stands_at, place) for place in range(LENGTH))),
        "chain": (_orders,),
        **dict.fromkeys(ARITHMETIC, (_size,)),
    }
)

"""The tasks of `depth_tasks` as text: a question in words, its answer a word among several.

hop_3        the word that 3 hops of induction lead to, from the last word on
chain_3      the number of a variable, over 3 variables in between, among other chains
"""

import random
import string
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from jaxanatomy.data.primitives import WORDS
from jaxanatomy.data.questions import Question, Task, shuffled

DEPTHS = (1, 2, 3, 4, 6, 8)
SYMBOLS = 4
LENGTH = 32  # words of a string
DISTRACTORS = 3  # chains beside the one that is asked


def hop(hops: int, rng: random.Random) -> Question:
    """k-hop induction over words; no word comes twice in a row.

    No word follows itself and hops lead back by a few places each, so that guessing is right more
    often than one in `SYMBOLS`: `measures.guessing` measures it.
    """
    words = rng.sample(WORDS, SYMBOLS)
    while True:
        shown = [rng.choice(words)]
        while len(shown) < LENGTH:
            shown.append(rng.choice([word for word in words if word != shown[-1]]))
        right = hop_of(shown, hops)
        if right is not None:
            break
    wrong = [f" {word}" for word in words if word != right]
    prompt = f"{hops} {'hop' if hops == 1 else 'hops'}:\n{' '.join(shown)} ->"
    return shuffled(f"hop_{hops}", prompt, f" {right}", wrong, rng)


def hop_of(shown: list[str], hops: int) -> str | None:
    """Where k hops from the last of some words lead; None where one has no previous occurrence."""
    place = len(shown) - 1
    for _ in range(hops):
        previous = [i for i in range(place) if shown[i] == shown[place]]
        if not previous:
            return None
        place = previous[-1] + 1
    return shown[place]


def chain(depth: int, rng: random.Random) -> Question:
    """Chained assignment: lines of several chains, mixed, each after the one it refers to."""
    chains = 1 + DISTRACTORS
    names = rng.sample([a + b for a in string.ascii_lowercase for b in "xyz"], chains * (depth + 1))
    values = [str(value) for value in rng.sample(range(10, 100), chains)]
    lines_left = []
    for index, value in enumerate(values):
        own = names[index * (depth + 1) : (index + 1) * (depth + 1)]
        lines_left.append([f"{a} = {b}" for a, b in zip(own, [value, *own[:-1]], strict=True)])
    lines = []
    while any(lines_left):
        lines.append(rng.choice([each for each in lines_left if each]).pop(0))
    asked = rng.randrange(chains)
    last = names[(asked + 1) * (depth + 1) - 1]
    wrong = [f" {value}" for value in values if value != values[asked]]
    prompt = "\n".join([*lines, f"{last} ->"])
    return shuffled(f"chain_{depth}", prompt, f" {values[asked]}", wrong, rng)


HOPS: Mapping[str, Task] = MappingProxyType({f"hop_{hops}": partial(hop, hops) for hops in DEPTHS})
CHAINS: Mapping[str, Task] = MappingProxyType(
    {f"chain_{depth}": partial(chain, depth) for depth in DEPTHS}
)

"""Arithmetic word problems of one or two steps, made by rule.

They stand in, at the scale of small models, for the problems that DG calls MathWorld
(SVAMP, ASDiv, MAWPS), and as mathematics for a cooldown.
"""

import random
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from jaxanatomy.data.questions import Question, Task, shuffled

NUM_CHOICES = 5

_PEOPLE = """
    Ada Ali Ana Ben Bo Carla Chen Dan Dina Elif Emma Eva Farid Finn Grace Hana Hugo Ida Ivan
    Jack Jana Juan Kai Lena Leo Lin Lucy Maja Mark Mia Mona Nina Noah Olga Omar Paul Petra
    Raj Rosa Sam Sara Tom Uma Vera Will Yara Yusuf Zoe
"""
_THINGS = """
    apples balls bananas beads biscuits books bottles boxes buttons cakes candles cards coins
    cups eggs flowers keys lemons marbles nuts oranges pears pencils plates shells spoons
    stamps stickers stones tickets toys
"""
PEOPLE, THINGS = tuple(_PEOPLE.split()), tuple(_THINGS.split())

# Of each task: the ways to say it, its numbers from a generator, and the answer to them.
_TASKS = {
    "add": (
        (
            "{who} has {a} {things} and buys {b} more. How many {things} does {who} have now?",
            "There are {a} {things} in a box and {b} on the table. How many {things} are there?",
            "{who} found {a} {things}, and {other} found {b}. How many did they find together?",
        ),
        lambda rng: {"a": rng.randint(2, 60), "b": rng.randint(2, 39)},
        lambda a, b: a + b,
    ),
    "subtract": (
        (
            "{who} had {a} {things} and gave {b} of them to {other}. How many are left?",
            "There were {a} {things} in a shop. {who} bought {b}. How many remain?",
            "{who} has {a} {things}, {other} has {b}. How many more {things} does {who} have?",
        ),
        lambda rng: _larger_first(rng, 2, 99),
        lambda a, b: a - b,
    ),
    "multiply": (
        (
            "{who} has {a} bags with {b} {things} each. How many {things} are that?",
            "Each of {a} children brings {b} {things}. How many {things} do they bring?",
        ),
        lambda rng: {"a": rng.randint(2, 12), "b": rng.randint(2, 12)},
        lambda a, b: a * b,
    ),
    "divide": (
        (
            "{who} shares {a} {things} equally among {b} friends. How many does each get?",
            "{who} packs {a} {things} into {b} equal boxes. How many {things} are in a box?",
        ),
        lambda rng: _multiple_first(rng, 12),
        lambda a, b: a // b,
    ),
    "add_subtract": (
        (
            "{who} had {a} {things}, bought {b} more and gave {c} to {other}. How many are left?",
            "{who} picked {a} {things} and {other} picked {b}. They lost {c}. How many are left?",
        ),
        lambda rng: {"a": rng.randint(5, 50), "b": rng.randint(5, 49), "c": rng.randint(2, 9)},
        lambda a, b, c: a + b - c,
    ),
    "multiply_add": (
        (
            "{who} has {a} boxes of {b} {things} and {c} loose {things}. How many {things} in all?",
            "{a} children bring {b} {things} each, and {who} brings {c}. How many do they bring?",
        ),
        lambda rng: {"a": rng.randint(2, 9), "b": rng.randint(2, 9), "c": rng.randint(2, 18)},
        lambda a, b, c: a * b + c,
    ),
}


def problem(name: str, rng: random.Random) -> Question:
    """A word problem; chance is one in five.

    The wrong choices are numbers near the answer, on both sides, with as many digits, so
    that no choice is shorter than another.

    Args:
      name: A key of `ARITHMETIC`.
      rng: Draws wording, people, things and numbers.
    """
    templates, numbers, solve = _TASKS[name]
    given = numbers(rng)
    who, other = rng.sample(PEOPLE, 2)
    asked = rng.choice(templates).format(who=who, other=other, things=rng.choice(THINGS), **given)
    right = solve(**given)
    near = [
        number
        for number in range(max(0, right - 9), right + 10)
        if number != right and len(str(number)) == len(str(right))
    ]
    wrong = [f" {number}" for number in rng.sample(near, NUM_CHOICES - 1)]
    return shuffled(name, f"Question: {asked}\nAnswer:", f" {right}", wrong, rng)


def _larger_first(rng: random.Random, low: int, high: int) -> dict[str, int]:
    b, a = sorted(rng.sample(range(low, high + 1), 2))
    return {"a": a, "b": b}


def _multiple_first(rng: random.Random, high: int) -> dict[str, int]:
    b, each = rng.randint(2, high), rng.randint(2, high)
    return {"a": b * each, "b": b}


ARITHMETIC: Mapping[str, Task] = MappingProxyType({name: partial(problem, name) for name in _TASKS})

"""Reasoning primitives: copying, and assigning variables (DG section 3.2 and Appendix C).

The tasks are of Saunshi et al. (2024). DG prints one prompt of copying and one of basic
assignment, which are followed to the letter; the words around the math and code forms are
this project's.

    copying_random        the word that follows five words of a sequence of ten, repeated
    assignment_basic_1    the value of a variable, over one variable in between

An assignment of depth 0 gives five variables their values. Each depth more adds five
variables, each of which is set to another of the depth before; one of the deepest is asked.
"""

import random
import string
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from jaxanatomy.data.questions import Question, Task, shuffled

SEQUENCE, REPEATED = 10, 5  # words of a sequence, and how many of them are repeated
VALUES = 5
DEPTHS = (0, 1, 2)

_WORDS = """
    apple arm army baby back ball bank bear bell bird boat body book box boy bread bridge
    brother camp car cat chair child city clock cloud coat coffee cold corn cow cup day deer
    desk dog door dream dress duck ear earth egg eye face farm field fire fish floor flower
    food foot forest fox friend fruit game garden gate girl glass goat gold grass green hall
    hand hat head heart hill home horse house ice island king kitchen knife lake lamp leaf
    letter light lion map market milk money moon mother mountain mouse mouth music name
    night nose ocean oil paper park pen picture plant plate queen rain ring river road rock
    roof room root rope rose salt sand school sea seed ship shirt shoe silver sister sky
    snow song star stone storm street sugar summer sun table tail tea tiger tooth town tree
    uncle village wall watch water wheel wind window winter wolf wood wool word yard year
"""
WORDS = tuple(_WORDS.split())


def copying_random(rng: random.Random) -> Question:
    """Copies words of three random letters; chance is one in ten."""
    words = set()
    while len(words) < SEQUENCE:
        words.add("".join(rng.choices(string.ascii_lowercase, k=3)))
    sequence = sorted(words)
    rng.shuffle(sequence)
    return _copying("copying_random", sequence, rng)


def copying_real(rng: random.Random) -> Question:
    """Copies English words; chance is one in ten."""
    return _copying("copying_real", rng.sample(WORDS, SEQUENCE), rng)


def _copying(task: str, sequence: list[str], rng: random.Random) -> Question:
    start = rng.randrange(SEQUENCE - REPEATED)
    shown = [*sequence, *sequence[start : start + REPEATED]]
    right = sequence[start + REPEATED]
    wrong = [f" {word}" for word in sequence if word != right]
    prompt = f"Fill in the blank:\n{' '.join(shown)} ____ . ->"
    return shuffled(task, prompt, f" {right}", wrong, rng)


def assignment(form: str, depth: int, rng: random.Random) -> Question:
    """The value of a variable; chance is one in five.

    All values have two digits, so that no choice is shorter than another.

    Args:
      form: A key of `FORMS`.
      depth: Variables between the asked one and its value.
      rng: Draws names, values, order and question.
    """
    line, prompt = FORMS[form]
    names = rng.sample(string.ascii_lowercase, VALUES * (depth + 1))
    values = [str(value) for value in rng.sample(range(10, 100), VALUES)]
    value_of = {}
    lines = []
    sources = values
    for level in range(depth + 1):
        level_names = names[level * VALUES : (level + 1) * VALUES]
        for name, source in zip(level_names, rng.sample(sources, VALUES), strict=True):
            value_of[name] = value_of.get(source, source)
            lines.append(line.format(name=name, source=source))
        sources = level_names
    asked = rng.choice(sources)
    right = value_of[asked]
    wrong = [f" {value}" for value in values if value != right]
    filled = prompt.format(lines="\n".join(lines), name=asked)
    return shuffled(f"assignment_{form}_{depth}", filled, f" {right}", wrong, rng)


# How a line is written, and what stands around the lines.
FORMS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "basic": ("{name}={source}", "Fill in blank:\n\n{lines}\n{name}=____ . ->"),
        "math": (
            "{name} = {source}",
            "Here are some equations.\n\n{lines}\n\nWhat is the number {name}?\nAnswer:",
        ),
        "code": (
            "{name} = {source}",
            "Here is a short program in Python.\n\n{lines}\nprint({name})\n\nIt prints:",
        ),
    }
)

PRIMITIVES: Mapping[str, Task] = MappingProxyType(
    {"copying_random": copying_random, "copying_real": copying_real}
    | {
        f"assignment_{form}_{depth}": partial(assignment, form, depth)
        for form in FORMS
        for depth in DEPTHS
    }
)

# The five columns of DG Table 6; their mean is its "primitives accuracy".
PAPER_PRIMITIVES = (
    "copying_random",
    "copying_real",
    "assignment_basic_0",
    "assignment_code_0",
    "assignment_math_0",
)

"""Damaged and hostile input for property tests: any of it is read, or refused in one line."""

import gc
import json
import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from jaxanatomy.errors import InputError

# Text that JSON readers stumble over, each where a value may stand.
HOSTILE = (
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "9" * 400,
    "9" * 5000,
    "1.5e-400",
    '"\\ud800"',
    '"\\u0000"',
    '"\\n"',
    '"$x$"',
    '""',
    '{"a": 1, "a": 2}',
    "[" * 5000,
    "[" * 200 + "]" * 200,
    '{"a":' * 200 + "1" + "}" * 200,
    "null",
    "true",
    "[]",
    "{}",
    "[[]]",
    "-1",
    "0",
    "1e308",
    "2.5",
)


def bounded(examples=300):
    """Settings of a property test: a fixed number of examples, the same in every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def reads_or_refuses(read, *arguments, **options):
    """What `read` gives, or None where it refuses its input in one line.

    Raises whatever else `read` raises: that is the fault which a property test looks for.
    """
    try:
        return read(*arguments, **options)
    except InputError as error:
        message = str(error)
        assert message, "a refusal without a word"
        assert "\n" not in message, message
        assert len(message) < 2000, message
        return None


def flipped_bits(folder, count, seed=0):
    """Puts one bit of one file the other way round, `count` times, each time mended again."""
    rng = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = [path.stat().st_size for path in files]
    for _ in range(count):
        (path,) = rng.choices(files, sizes)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        yield path
        path.write_bytes(whole)
    gc.collect()  # what failed readers left behind complains here, not in another test


def json_values():
    """Plain values of any type and shape."""
    leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    leaves |= st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    )


@st.composite
def damaged_bytes(draw, content):
    """A file after an accident: bits flipped, cut short, bytes put in, or another file's bytes."""
    kind = draw(st.sampled_from(("flip", "cut", "insert", "repeat", "other")))
    if kind == "other" or not content:
        return draw(st.binary(max_size=64))
    place = draw(st.integers(0, len(content) - 1))
    if kind == "flip":
        damaged = bytearray(content)
        for at in [place, *draw(st.lists(st.integers(0, len(content) - 1), max_size=3))]:
            damaged[at] ^= 1 << draw(st.integers(0, 7))
        return bytes(damaged)
    if kind == "cut":
        return content[:place]
    if kind == "insert":
        return content[:place] + draw(st.binary(min_size=1, max_size=16)) + content[place:]
    end = draw(st.integers(place, min(len(content), place + 64)))
    return content[:end] + content[place:]


@st.composite
def damaged_json(draw, value):
    """The text of a JSON value after an accident: a part of another type, absent, or hostile."""
    if draw(st.booleans()):
        return draw(damaged_bytes(json.dumps(value).encode()))
    mark = "\x00mark\x00"
    text = json.dumps(draw(_marked(value, mark)))
    other = st.sampled_from(HOSTILE) | json_values().map(json.dumps)
    return text.replace(json.dumps(mark), draw(other)).encode()


@st.composite
def _marked(draw, value, mark):
    """The value with a mark in the place of one of its parts, or with a part left out."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        rest = {key: item for key, item in value.items() if key != name}
        if not draw(st.integers(0, 5)):
            return rest
        return rest | {name: draw(_marked(value[name], mark))}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(_marked(value[at], mark)), *value[at + 1 :]]
    return mark

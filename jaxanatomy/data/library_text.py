"""English and code from the running Python's own standard library: text without a download.

Two kinds of documents, which share no line: `library_english` has the docstrings of a
module, or a topic of Python's reference manual, and `library_code` the module without
its docstrings. They differ between versions of Python, so a run records their hash.
Nothing of them is kept in this repository.
"""

import ast
import contextlib
import functools
import hashlib
import importlib
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from jaxanatomy.errors import InputError

LibraryKind = Literal["library_english", "library_code"]
KINDS: tuple[LibraryKind, ...] = ("library_english", "library_code")

# One file in so many is held out: by its name, so the same files in every version.
HELD_OUT = 20
MIN_CHARACTERS = 200  # of a document
RECIPE = "1"  # to be raised when the same files make other documents
# Not text: tests, other people's packages, and tables that only a machine reads.
_SKIPPED = {
    "__pycache__",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "encodings",
    "pydoc_data",
    "_bootsubprocess.py",
    "_sysconfigdata",
}
_TOPICS = "pydoc_data.topics"


def documents(kind: LibraryKind) -> Iterator[tuple[str, str]]:
    """The documents of the running Python in a fixed order.

    Args:
      kind: One of `KINDS`.

    Yields:
      (name, text): the name is a path in the library, which decides the split.

    Raises:
      InputError: This Python has no library files (it may be packed in an archive).
    """
    for name, english, code in _split_files():
        text = english if kind == "library_english" else code
        if len(text) >= MIN_CHARACTERS:
            yield name, text
    if kind == "library_english":
        for topic, text in _topics().items():
            if len(text) >= MIN_CHARACTERS:
                yield f"{_TOPICS}#{topic}", text.strip()


def held_out(name: str) -> bool:
    """Whether a document of the library is in the validation split."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % HELD_OUT == 0


@functools.cache
def sha256() -> str:
    """A hash of all that the documents are made from, and of the way they are made."""
    digest = hashlib.sha256(f"{RECIPE} {HELD_OUT} {MIN_CHARACTERS}".encode())
    for name, text in (*library_files(), *_topics().items()):
        digest.update(f"{name}\0{len(text)}\0{text}\0".encode())
    return digest.hexdigest()


def english_and_code(source: str) -> tuple[str, str]:
    """Splits a module into its docstrings and the rest.

    Args:
      source: A Python file that parses.

    Returns:
      (english, code): the docstrings, a blank line between them; the source without them.
    """
    lines = source.split("\n")
    english, cut = [], set()
    with warnings.catch_warnings(action="ignore"):  # of escapes that are out of use
        parsed = ast.parse(source)
    for node in ast.walk(parsed):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                statement = node.body[0]
                english.append(inspect.cleandoc(text))
                cut.update(range(statement.lineno - 1, statement.end_lineno))
    code = "\n".join(line for number, line in enumerate(lines) if number not in cut)
    return "\n\n".join(english).strip(), code.strip()


@functools.cache
def library_files() -> tuple[tuple[str, str], ...]:
    """The name and the text of each file that counts, sorted by name."""
    folder = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        if any(
            part in _SKIPPED or part.startswith(("_sysconfigdata", "config-")) for part in parts
        ):
            continue
        try:
            found.append(("/".join(parts), path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError):
            continue
    if not found:
        raise InputError(
            f"library text needs the files of Python's library; {folder} has none; use a Python "
            f"{sys.version_info.major}.{sys.version_info.minor} that is not packed in an archive"
        )
    return tuple(found)


@functools.cache
def _split_files() -> tuple[tuple[str, str, str], ...]:
    """Name, docstrings and the rest of each file that is Python (a template is not)."""
    found = []
    for name, source in library_files():
        with contextlib.suppress(SyntaxError):
            found.append((name, *english_and_code(source)))
    return tuple(found)


def _topics() -> dict[str, str]:
    """Topics of the reference manual, as `help()` shows them."""
    topics = importlib.import_module(_TOPICS).topics
    return {name: topics[name] for name in sorted(topics)}

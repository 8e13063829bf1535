"""Corpora to train on: the documents behind a source, in a fixed order, in two splits."""

import dataclasses
import fnmatch
import glob
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from jaxanatomy.data import files, library_text, sources
from jaxanatomy.data.arithmetic import ARITHMETIC
from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.data.questions import Split, Task
from jaxanatomy.errors import InputError, choose
from jaxanatomy.weights import cache

# One document in so many is held out, by the hash of its text.
HELD_OUT = 100

# Questions by rule, without end: `GENERATED[source]` are the tasks of a source.
GENERATED: dict[str, dict[str, Task]] = {
    "primitives": dict(PRIMITIVES),
    "arithmetic": dict(ARITHMETIC),
}

# The forms of a source of training text, for help and lists.
SOURCES: dict[str, str] = {
    "primitives": "copying and variable assignment, made by rule, without end",
    "arithmetic": "arithmetic word problems, made by rule, without end",
    "library_english": "docstrings and manual of the running Python, about 2 MB",
    "library_code": "source of the running Python's library, about 7 MB",
    "PATH.txt|.jsonl|.parquet[#FIELD]": "files (PATH may hold *); a .txt: #lines, #blank_lines",
    sources.TFDS_FORM: "TensorFlow Datasets: field 'text' unless named",
    sources.HF_FORM: "data sets of the Hugging Face hub; FILE may hold *",
}


# Reads some of the documents of a source.
Part = Callable[[], tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents to train on.

    Attributes:
      source: As given.
      identity: Changes when the documents may have changed.
      read: Gives (text, whether it is held out) for each document, from the first.
    """

    source: str
    identity: str
    read: Callable[[], Iterator[tuple[str, bool]]]

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of a split that are not blank, in their order."""
        for text, held_out in self.read():
            if held_out == (split == "validation") and text.strip():
                if any("\ud800" <= character <= "\udfff" for character in text):
                    raise InputError(
                        f"a document of {self.source!r} holds a lone surrogate, which is no "
                        f"character: {text[:40]!a}; mend its \\u escapes"
                    )
                yield text


def open_corpus(source: str) -> Corpus:
    """The documents behind a source; `hf:` and `tfds:` are fetched when they are read.

    Args:
      source: One of the forms in `SOURCES` that is a text, not made by rule.

    Raises:
      InputError: The source is unknown (the message has the closest name) or missing.
    """
    if source in library_text.KINDS:
        identity = f"{source} {library_text.sha256()}"
        return Corpus(source, identity, partial(_read_library, source))
    if source.startswith("tfds:"):
        return Corpus(source, source, partial(_read_parts, _tfds_parts(source)))
    if source.startswith("hf:"):
        return Corpus(source, source, lambda: _read_parts(hf_parts(source)))
    path, part = source, ""
    if "#" in source and not os.path.exists(source):
        path, _, part = source.rpartition("#")
    if not os.path.splitext(path)[1] and os.sep not in path:
        choose("source", source, [*GENERATED, *library_text.KINDS, *SOURCES])
    found = sorted(glob.glob(path)) if glob.has_magic(path) else [path]
    if not found or not all(map(os.path.isfile, found)):
        raise InputError(f"there is no text file {path!r}; check the path")
    hashes = " ".join(cache.file_sha256(Path(name)) for name in found)
    parts = [partial(files.read_documents, name, part) for name in found]
    return Corpus(source, f"{hashes} {part}", partial(_read_parts, parts))


def is_held_out(text: str) -> bool:
    """Whether a document is in the validation split: equal documents are in the same."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % HELD_OUT == 0


def _read_library(kind: library_text.Kind) -> Iterator[tuple[str, bool]]:
    for name, text in library_text.documents(kind):
        yield text, library_text.held_out(name)


def _read_parts(parts: list[Part]) -> Iterator[tuple[str, bool]]:
    for text in itertools.chain.from_iterable(part() for part in parts):
        yield text, is_held_out(text)


def _tfds_parts(source: str) -> list[Part]:
    if source.partition("#")[0].count(":") < 2:
        raise InputError(
            f"{source!r} must name the split to train on, as in tfds:NAME:train; add it"
        )
    return [partial(sources.load_tfds, source)]


def hf_parts(source: str, list_files: Callable[..., list[str]] | None = None) -> list[Part]:
    """What reads each file of a hub source, whose FILE may be a pattern.

    Args:
      source: `sources.HF_FORM`.
      list_files: By default `huggingface_hub.list_repo_files`.

    Raises:
      InputError: The files cannot be listed, or none matches.
    """
    where, mark, field = source.partition("#")
    repository, _, file = where.removeprefix("hf:").partition(":")
    if not glob.has_magic(file):
        return [partial(sources.load_hf, source)]
    name, _, revision = repository.partition("@")
    if list_files is None:
        import huggingface_hub

        list_files = huggingface_hub.list_repo_files
    try:
        names = list_files(name, repo_type="dataset", revision=revision or None)
    except Exception as error:  # whatever the library or the network throws is for the user
        raise InputError(
            f"cannot list the files of {source!r}: {files.first_line(error)}; check the name, "
            "the revision and the connection"
        ) from None
    found = sorted(fnmatch.filter(names, file))
    if not found:
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError(f"no file of {source!r} matches; there are {shown}; mend the pattern")
    return [partial(sources.load_hf, f"hf:{repository}:{one}{mark}{field}") for one in found]

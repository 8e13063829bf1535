"""Corpora to train on: the documents behind a source, in a fixed order, in two splits."""

import dataclasses
import fnmatch
import glob
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from jaxanatomy.data import files, library_text, sources
from jaxanatomy.data.arithmetic import ARITHMETIC
from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.data.questions import Split, Task
from jaxanatomy.errors import InputError, choose
from jaxanatomy.weights import cache

# One document in so many is held out, by the hash of its text.
HELD_OUT = 100
RECIPE = "2"  # to be raised when the same sources give other documents, or another split

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
    "PATH.txt|.jsonl|.parquet[#FIELD]": "files (PATH may hold *); a .txt is cut into pieces, "
    "or by #lines, #blank_lines",
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
      read: Gives (text, whether it is held out) for each document that is not blank.
    """

    source: str
    identity: str
    read: Callable[[], Iterator[tuple[str, bool]]]

    def documents(self) -> Iterator[tuple[str, Split]]:
        """Each document with its split, in their order.

        Raises:
          InputError: They cannot be read, or one is no text.
        """
        for text, held_out in self.read():
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise InputError(
                    f"a document of {self.source!r} holds a lone surrogate, which is no "
                    f"character: {text[:40]!a}; mend its \\u escapes"
                )
            yield text, "validation" if held_out else "train"


def open_corpus(source: str) -> Corpus:
    """The documents behind a source; `hf:` and `tfds:` are fetched when they are read.

    What they are is settled now: the commit of `hf:`, for which the hub is asked unless
    the source names it, and the version of `tfds:`.

    Args:
      source: One of the forms in `SOURCES` that is a text, not made by rule.

    Raises:
      InputError: The source is unknown (the message has the closest name) or missing.
    """
    if source in library_text.KINDS:
        identity = f"{source} {library_text.sha256()}"
        return Corpus(source, identity, partial(_read_library, source))
    read_as = f"{RECIPE} {HELD_OUT}"
    if source.startswith("tfds:"):
        builder = _tfds_builder(source)
        parts = [partial(sources.load_tfds, source, lambda name: builder)]
        identity = f"{source} {builder.info.full_name} {read_as}"
        return Corpus(source, identity, partial(_read_parts, parts))
    if source.startswith("hf:"):
        pinned = with_commit(source)
        return Corpus(source, f"{pinned} {read_as}", lambda: _read_parts(hf_parts(pinned)))
    path, part = source, ""
    if "#" in source and not os.path.exists(source):
        path, _, part = source.rpartition("#")
    if not os.path.splitext(path)[1] and os.sep not in path:
        choose("source", source, [*GENERATED, *library_text.KINDS, *SOURCES])
    found = sorted(glob.glob(path)) if glob.has_magic(path) else [path]
    if not found or not all(map(os.path.isfile, found)):
        raise InputError(f"there is no text file {path!r}; check the path")
    # The same bytes are other documents in a file of another kind.
    hashes = " ".join(f"{Path(name).suffix} {cache.file_sha256(Path(name))}" for name in found)
    parts = [partial(files.read_documents, name, _part_of(name, part)) for name in found]
    return Corpus(source, f"{hashes} {part} {read_as}", partial(_read_parts, parts))


def is_held_out(text: str) -> bool:
    """Whether a document is in the validation split: equal documents are in the same."""
    return _hash(text) % HELD_OUT == 0


def split_by_hash(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Tells of each document whether it is held out.

    `is_held_out` decides. Where it holds out none, as of a few dozen documents, the one
    with the smallest hash is held out, unless all documents are equal.

    Args:
      texts: Those up to the first that is held out are kept in memory, about `HELD_OUT`.

    Yields:
      (text, whether it is held out), in the same order.
    """
    texts, begun = iter(texts), []
    for text in texts:
        begun.append(text)
        if is_held_out(text):
            break
    chosen = min(begun, key=lambda text: (not is_held_out(text), _hash(text)), default=None)
    if len(set(begun)) == 1 and not is_held_out(chosen):
        chosen = None
    yield from ((text, text == chosen) for text in begun)
    yield from ((text, is_held_out(text)) for text in texts)


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest)


def _read_library(kind: library_text.Kind) -> Iterator[tuple[str, bool]]:
    for name, text in library_text.documents(kind):
        yield text, library_text.held_out(name)


def _read_parts(parts: list[Part]) -> Iterator[tuple[str, bool]]:
    texts = itertools.chain.from_iterable(part() for part in parts)
    return split_by_hash(text for text in texts if text.strip())


def _part_of(name: str, part: str) -> str:
    """What a document of a file is; of one long text nothing could be held out."""
    return part or ("pieces" if name.endswith(".txt") else "")


def _tfds_builder(source: str) -> Any:
    """The builder of a TensorFlow data set, whose version is that of the installed code."""
    name, *split = source.removeprefix("tfds:").partition("#")[0].split(":", 1)
    if not split:
        raise InputError(
            f"{source!r} must name the split to train on, as in tfds:NAME:train; add it"
        )
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, file_format="array_record")
    except Exception as error:  # whatever the library or the network throws is for the user
        raise InputError(
            f"cannot open {source!r}: {files.first_line(error)}; check the name"
        ) from None


def with_commit(source: str, find_commit: Callable[[str, str | None], str] | None = None) -> str:
    """A hub source whose revision is a commit, so that it is the same text for ever.

    Args:
      source: `sources.HF_FORM`.
      find_commit: From a data set and a revision or None; by default the hub is asked.

    Raises:
      InputError: The source is malformed, or its commit cannot be found.
    """
    where, mark, field = source.partition("#")
    repository, colon, file = where.removeprefix("hf:").partition(":")
    name, _, revision = repository.partition("@")
    if name.count("/") != 1:
        raise InputError(f"a source of this kind is written {sources.HF_FORM}; got {source!r}")
    if not re.fullmatch("[0-9a-f]{40}", revision):
        try:
            revision = (find_commit or _commit_on_hub)(name, revision or None)
        except Exception as error:  # as above
            raise InputError(
                f"cannot find the commit of {source!r}: {files.first_line(error)}; check the name, "
                f"the revision and the connection, or name the commit: hf:{name}@COMMIT"
            ) from None
    return f"hf:{name}@{revision}{colon}{file}{mark}{field}"


def _commit_on_hub(name: str, revision: str | None) -> str:
    import huggingface_hub

    return huggingface_hub.HfApi().dataset_info(name, revision=revision).sha


def hf_parts(source: str, list_files: Callable[..., list[str]] | None = None) -> list[Part]:
    """What reads each file of a hub source, whose FILE may be a pattern.

    Args:
      source: `sources.HF_FORM`.
      list_files: By default `huggingface_hub.list_repo_files`.

    Raises:
      InputError: The files cannot be listed, or none matches.
    """
    where, _, field = source.partition("#")
    repository, _, file = where.removeprefix("hf:").partition(":")
    if not glob.has_magic(file):
        return [_hf_part(where, file, field)]
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
    return [_hf_part(f"hf:{repository}:{one}", one, field) for one in found]


def _hf_part(where: str, file: str, field: str) -> Part:
    part = _part_of(file, field)
    return partial(sources.load_hf, f"{where}#{part}" if part else where)

"""Corpora to train on: the documents behind a source, in a fixed order, in two splits."""

import dataclasses
import fnmatch
import functools
import glob
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub

from jaxanatomy.data import files, library_text, sources
from jaxanatomy.data.arithmetic import ARITHMETIC
from jaxanatomy.data.chains import CHAINS, HOPS
from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.data.questions import Split, Task
from jaxanatomy.errors import InputError, choose, require_each_once
from jaxanatomy.weights import cache

# One document in so many is held out, by the hash of its text.
HELD_OUT = 100
RECIPE = "3"  # to be raised when the same sources give other documents, or another split

# Questions by rule, without end: `GENERATED[source]` are the tasks of a source.
GENERATED: dict[str, dict[str, Task]] = {
    "primitives": dict(PRIMITIVES),
    "arithmetic": dict(ARITHMETIC),
    "hops": dict(HOPS),
    "chains": dict(CHAINS),
}
TASKS = {name: task for tasks in GENERATED.values() for name, task in tasks.items()}

# The forms of a source of training text, for help and lists.
SOURCES: dict[str, str] = {
    "primitives": "copying and variable assignment, generated without end",
    "arithmetic": "arithmetic word problems, generated without end",
    "hops": "k-hop induction over words, which needs depth, generated without end",
    "chains": "chains of variables set to each other, which need depth, generated without end",
    "library_english": "docstrings and manual of the running Python, about 2 MB",
    "library_code": "source of the running Python's library, about 7 MB",
    "PATH.txt|.jsonl|.parquet[#FIELD]": "files (PATH may hold *); a .txt is cut into pieces, "
    "or by #lines, #blank_lines, #articles",
    sources.TFDS_FORM: "TensorFlow Datasets: field 'text' unless named",
    sources.HF_FORM: "data sets of the Hugging Face hub; FILE may hold *; a commit as REVISION "
    "makes it the same text for ever",
}


def tasks_of(sources: Collection[str], field: str = "sources") -> dict[str, Task]:
    """The tasks of sources made by rule, by name, in their order.

    Args:
      sources: Keys of `GENERATED`.
      field: What names them, for the message.

    Raises:
      InputError: None is named, one twice, or one that is not made by rule.
    """
    require_each_once(field, sources)
    for source in sources:
        choose(f"source of questions in {field}", source, GENERATED)
    return {name: task for source in sources for name, task in GENERATED[source].items()}


# Reads some of the documents of a source.
ReadPart = Callable[[], tuple[str | None, ...]]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents to train on.

    Attributes:
      source: As given.
      identity: Changes when the documents may have changed.
      read: Gives (text, whether it is held out) for each document that is not blank; at the
        end (None, False) for each that is blank or null.
    """

    source: str
    identity: str
    read: Callable[[], Iterator[tuple[str | None, bool]]]

    def documents(self) -> Iterator[tuple[str | None, Split]]:
        """Each document with its split, in their order; as `read` for those that are blank.

        Raises:
          InputError: They cannot be read, or one is no text.
        """
        for text, held_out in self.read():
            if text and (problem := files.lone_surrogate(text, f"a document of {self.source!r}")):
                raise problem
            yield text, "validation" if held_out else "train"


def open_corpus(source: str) -> Corpus:
    """The documents behind a source; `hf:` and `tfds:` are fetched when they are read.

    What they are is settled now: the commit of `hf:`, for which the hub is asked once in a
    process unless the source names it, and the version of `tfds:`.

    Parts of the same file named as two sources, as `a.txt#lines` and `a.txt#blank_lines`, are
    not kept apart: what is held out of one may be trained on in the other.

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
    path, part = files.path_and_part(source)
    if not os.path.splitext(path)[1] and os.sep not in path:
        choose("source", source, [*GENERATED, *library_text.KINDS, *SOURCES])
    found = [path] if os.path.exists(path) else sorted(glob.glob(path))
    if not found or not all(map(os.path.isfile, found)):
        raise InputError(f"there is no text file {path!r}; check the path")
    hashes = " ".join(map(_file_identity, found))
    parts = [partial(files.read_documents, name, _part_of(name, part)) for name in found]
    return Corpus(source, f"{hashes} {part} {read_as}", partial(_read_parts, parts))


def is_held_out(text: str) -> bool:
    """Whether a document is in the validation split.

    Documents that are equal but for white space are in the same.
    """
    return _hash(text) % HELD_OUT == 0


def split_by_hash(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Marks each document as held out or not.

    `is_held_out` decides. Where it holds out none, as of a few dozen documents, the one
    with the smallest hash is held out, unless all have the same: white space does not count.

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
    hashes = [_hash(text) for text in begun]
    chosen = min(hashes, key=lambda each: (each % HELD_OUT != 0, each), default=None)
    if len(set(hashes)) == 1 and chosen % HELD_OUT:
        chosen = None
    yield from ((text, each == chosen) for text, each in zip(begun, hashes, strict=True))
    yield from ((text, is_held_out(text)) for text in texts)


def _hash(text: str) -> int:
    words = " ".join(text.split()).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(words, digest_size=8).digest()
    return int.from_bytes(digest)


def _read_library(kind: library_text.LibraryKind) -> Iterator[tuple[str, bool]]:
    for name, text in library_text.documents(kind):
        yield text, library_text.held_out(name)


def _read_parts(parts: list[ReadPart]) -> Iterator[tuple[str | None, bool]]:
    blank = []

    def usable() -> Iterator[str]:
        for text in itertools.chain.from_iterable(part() for part in parts):
            if text and not text.isspace():
                yield text
            else:
                blank.append((None, False))

    yield from split_by_hash(usable())
    yield from blank


def _file_identity(name: str) -> str:
    # The same bytes are other documents in a file of another kind.
    with files.readable(name):
        return f"{Path(name).suffix} {cache.file_sha256(Path(name))}"


def _part_of(name: str, part: str) -> str:
    """What a document of a file is; of one long text nothing could be held out."""
    return part or ("pieces" if name.endswith(".txt") else "")


def _tfds_builder(source: str) -> Any:
    """The builder of a TensorFlow data set, whose version is that of the installed code."""
    name, split, _ = sources.parse_tfds(source)
    if split is None:
        raise InputError(
            f"{source!r} must name the split to train on, as in tfds:NAME:train; add it"
        )
    try:
        return sources.array_record_builder(name)
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
    hub = sources.HubSource.parse(source)
    if re.fullmatch("[0-9a-f]{40}", hub.revision or ""):
        return source
    try:
        commit = (find_commit or _commit_on_hub)(hub.repo, hub.revision)
    except Exception as error:  # as above
        raise InputError(
            f"cannot find the commit of {source!r}: {files.first_line(error)}; check the name, "
            f"the revision and the connection, or name the commit: hf:{hub.repo}@COMMIT"
        ) from None
    return str(dataclasses.replace(hub, revision=commit))


@functools.cache
def _commit_on_hub(name: str, revision: str | None) -> str:
    """Asked once in a process: all seeds and arms of a run read the same text."""
    return huggingface_hub.HfApi().dataset_info(name, revision=revision).sha


def hf_parts(source: str, list_files: Callable[..., list[str]] | None = None) -> list[ReadPart]:
    """What reads each file of a hub source, whose FILE may be a pattern, or the only one.

    Args:
      source: `sources.HF_FORM`.
      list_files: By default `huggingface_hub.list_repo_files`.

    Raises:
      InputError: The files cannot be listed, none matches, or none is named of several.
    """
    hub = sources.HubSource.parse(source)
    if hub.file and not glob.has_magic(hub.file):
        return [_hf_part(hub, hub.file)]
    list_files = list_files or huggingface_hub.list_repo_files
    try:
        names = list_files(hub.repo, repo_type="dataset", revision=hub.revision)
    except Exception as error:  # whatever the library or the network throws is for the user
        raise InputError(
            f"cannot list the files of {source!r}: {files.first_line(error)}; check the name, "
            "the revision and the connection"
        ) from None
    if not hub.file:
        return [_hf_part(hub, sources.only_file(source, names))]
    found = [hub.file] if hub.file in names else sorted(fnmatch.filter(names, hub.file))
    if not found:
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError(f"no file of {source!r} matches; there are {shown}; mend the pattern")
    return [_hf_part(hub, one) for one in found]


def _hf_part(hub: sources.HubSource, file: str) -> ReadPart:
    part = _part_of(file, hub.field or "")
    return partial(sources.load_hf, str(dataclasses.replace(hub, file=file, field=part)))

"""Evaluation and training texts: what `text=...` of a config may name."""

import dataclasses
import functools
import hashlib
import importlib.resources
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxanatomy.data import files, sources
from jaxanatomy.errors import InputError, choose, require_unique, require_whole
from jaxanatomy.ranges import parse_ranges

# Name and a line of help; every name is a text that ships with the package.
TEXTS: dict[str, str] = {
    "sentences": "the ten evaluation sentences, each a document (111 tokens of SmolLM2)",
    "recovery_training": "ten other sentences of the same kind, to heal damaged layers on",
    "depth_prompts": "eight short prompts, to see what layers do to later tokens",
    "paragraphs": "forty short documents on varied subjects (about 4,000 tokens of SmolLM2)",
}

# The other forms of a source, for help and lists.
SOURCES: dict[str, str] = {
    "NAME#0-15": "some documents of a text that ships with the package, counted from 0",
    "PATH.txt[#blank_lines|#lines|#articles]": "a UTF-8 file: one document, or several, split at "
    "what follows # (an article: = TITLE =)",
    "PATH.jsonl[#FIELD]": "on each line a JSON object with that field, by default 'text', or a "
    "string",
    "PATH.parquet[#FIELD]": "the same from the rows of a table (needs pyarrow)",
    sources.TFDS_FORM: "TensorFlow Datasets: split 'test' and field 'text' unless named",
    sources.HF_FORM: "a file of a data set on the Hugging Face hub; FILE if it has several",
}


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Documents of a text that are passed over because nothing can be predicted in them.

    Attributes:
      documents: All documents that came, those that are left out among them.
      blank: Those without a character that is no white space.
      null: Those that a source has as null, or as None.
      one_token: Those of one token, which has none before it; known once a text is tokenised.
    """

    documents: int
    blank: int = 0
    null: int = 0
    one_token: int = 0

    @property
    def total(self) -> int:
        """How many are left out."""
        return self.blank + self.null + self.one_token

    def __str__(self) -> str:
        kinds = {"blank": self.blank, "null": self.null, "of one token": self.one_token}
        found = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
        return f"{self.total:,} of {self.documents:,} documents left out: {found or 'none'}"


@dataclasses.dataclass(frozen=True)
class Text:
    """A named list of documents, which are scored independently of each other.

    Attributes:
      name: The source that it came from, as given.
      documents: Strings or None; what is blank or None is left out, and counted.
      left_out: How many were left out.

    Raises:
      InputError: There is no document with text, or one is not encodable.
    """

    name: str
    documents: tuple[str, ...]
    left_out: LeftOut = dataclasses.field(init=False)

    def __post_init__(self):
        documents, left_out = _usable(self.name, self.documents)
        object.__setattr__(self, "documents", documents)
        object.__setattr__(self, "left_out", left_out)

    def __repr__(self) -> str:
        return f"Text({self.name!r}, {len(self.documents):,} documents)"

    @functools.cached_property
    def sha256(self) -> str:
        """A hash of the documents and where each ends; the name is not part of it."""
        return hashlib.sha256(json.dumps(self.documents).encode()).hexdigest()


def beginnings(text: Text, characters: int) -> Text:
    """The beginning of each document: the words within so many characters of it.

    Raises:
      InputError: No whole number of characters, 1 or above.
    """
    require_whole("the characters of a document", characters)

    def beginning(document: str) -> str:
        if len(document) <= characters:
            return document
        words = re.match(rf"(?s).{{1,{int(characters)}}}(?=\s)", document)
        return words[0].rstrip() if words else document[: int(characters)]

    return Text(text.name, tuple(map(beginning, text.documents)))


def hold_out(text: Text, share: float, purpose: str = "held out") -> tuple[Text, Text]:
    """Splits a text by document: the last ones are held out, so that neighbours stay together.

    Args:
      text: What is split.
      share: Of the documents that are held out; at least one is, and one is not.
      purpose: What for, in the name of those.

    Returns:
      (the others, those held out); what is word for word in both is left out of the first.

    Raises:
      InputError: A share that is not between 0 and 1; fewer than two different documents.
    """
    if not 0 < share < 1:
        raise InputError(f"the share held out must be between 0 and 1; got {share}; 0.2 is usual")
    count = len(text.documents)
    first = max(0, count - max(1, min(round(count * share), count - 1)))
    held_out = text.documents[first:]
    others = tuple(each for each in text.documents[:first] if each not in set(held_out))
    if not others:
        raise InputError(
            f"text {text.name!r} must hold at least two different documents to hold some out; got "
            f"{count}; name a longer one, or split a file: PATH.txt#blank_lines, #articles"
        )
    return Text(text.name, others), Text(f"{text.name} ({purpose})", held_out)


def load_texts(names: Sequence[str]) -> tuple[Text, ...]:
    """`load_text` of each.

    Raises:
      InputError: As `load_text`; or there is none, or one is named twice.
    """
    require_texts(names)
    return tuple(load_text(name) for name in names)


def require_texts(names: Sequence[str]) -> None:
    """Refuses a list without a text, or with one twice."""
    if not names:
        raise InputError("texts must name at least one text; got none; 'sentences' is one")
    require_unique("texts", names)


def load_text(source: str | os.PathLike) -> Text:
    """Loads a text.

    Args:
      source: A name in `TEXTS`, or one of the forms in `SOURCES`.

    Returns:
      The text, named after `source`.

    Raises:
      InputError: The source is unknown (the message has the closest name), missing,
        empty or malformed; all that is wrong with it is said at once.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"a text is named by a string; got {type(source).__name__}; strings of your own are "
            "Text(NAME, STRINGS)"
        )
    source = os.fspath(source)
    name, part = files.path_and_part(source)
    if name in TEXTS:
        return Text(source, _numbered(source, _built_in(name), part))
    for prefix, load in (("tfds:", sources.load_tfds), ("hf:", sources.load_hf)):
        if source.startswith(prefix):
            return Text(source, load(source))
    path = Path(name)
    if path.suffix or os.path.exists(path) or len(path.parts) > 1:
        return Text(source, files.read_documents(path, part))
    raise _unknown(source)


def _unknown(source: str) -> InputError:
    try:
        choose("text", source, TEXTS)
    except InputError as error:
        return InputError(f"{error} (the name of a file must end in {', '.join(files.READERS)})")
    raise AssertionError(f"{source!r} is known")


def _built_in(name: str) -> tuple[str, ...]:
    folder = importlib.resources.files("jaxanatomy.data")
    if name == "paragraphs":
        return files.split_blank_lines(folder.joinpath("paragraphs.txt").read_text("utf-8"))
    return tuple(json.loads(folder.joinpath("sentences.json").read_text("utf-8"))[name])


def _numbered(source: str, documents: tuple[str, ...], part: str) -> tuple[str, ...]:
    """The documents that `part` lists by number; all if it is empty."""
    if not part:
        return documents
    numbers = parse_ranges(part, f"documents of {source!r}")
    require_unique(f"documents of {source!r}", numbers)
    if max(numbers) >= len(documents):
        raise InputError(
            f"documents of {source!r} are 0 to {len(documents) - 1}; got {max(numbers)}; name "
            "others"
        )
    return tuple(documents[number] for number in numbers)


def _usable(name: str, documents: Sequence[str | None]) -> tuple[tuple[str, ...], LeftOut]:
    """The documents that have text, and how many have none."""
    if isinstance(documents, str):
        raise InputError(f"the documents of {name!r} must be a tuple of strings; got one string")
    documents = tuple(documents)
    files.refuse_all(_problems(name, documents))
    null = sum(document is None for document in documents)
    usable = tuple(document for document in documents if document and not document.isspace())
    left_out = LeftOut(len(documents), len(documents) - null - len(usable), null)
    if not usable:
        raise InputError(
            f"text {name!r} must hold at least one document with text; it is empty"
            + (f" ({left_out})" if documents else "")
        )
    return usable, left_out


def _problems(name: str, documents: Sequence[str | None]) -> Iterator[InputError]:
    for index, document in enumerate(documents):
        place = f"documents[{index}] of {name!r}"
        if not isinstance(document, str | None):
            yield InputError(f"{place} must be a string; got {type(document).__name__}")
        elif document is not None and (problem := files.lone_surrogate(document, place)):
            yield problem

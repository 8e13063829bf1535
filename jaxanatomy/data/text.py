"""Evaluation and training texts: what `text=...` of a config may name."""

import dataclasses
import functools
import hashlib
import importlib.resources
import json
import os
from pathlib import Path

from jaxanatomy.data import files, sources
from jaxanatomy.errors import InputError, choose

# Name and a line of help; every name is a text that ships with the package.
TEXTS: dict[str, str] = {
    "sentences": "the ten evaluation sentences, each a document (111 tokens of SmolLM2)",
    "recovery_training": "ten other sentences of the same kind, to heal damaged layers on",
    "paragraphs": "forty short documents on varied subjects (about 4,000 tokens of SmolLM2)",
}

# The other forms of a source, for help and lists.
SOURCES: dict[str, str] = {
    "PATH.txt[#blank_lines|#lines]": "a UTF-8 file: one document, or split where it says",
    "PATH.jsonl[#FIELD]": "a JSON object a line with a field, by default 'text', or a string",
    "PATH.parquet[#FIELD]": "the same from the rows of a table (needs pyarrow)",
    sources.TFDS_FORM: "TensorFlow Datasets: split 'test' and field 'text' unless named",
    sources.HF_FORM: "a file of a data set on the Hugging Face hub; FILE if it has several",
}


@dataclasses.dataclass(frozen=True)
class Text:
    """A named list of documents, which are scored independently of each other.

    Attributes:
      name: The source that it came from, as given.
      documents: At least one; none is blank.

    Raises:
      InputError: There is no document, or one is blank or not encodable.
    """

    name: str
    documents: tuple[str, ...]

    def __post_init__(self):
        object.__setattr__(self, "documents", _checked(self.name, self.documents))

    @functools.cached_property
    def sha256(self) -> str:
        """A hash of the documents and where each ends; the name is not part of it."""
        return hashlib.sha256(json.dumps(self.documents).encode()).hexdigest()


def load_text(source: str) -> Text:
    """Loads a text.

    Args:
      source: A name in `TEXTS`, or one of the forms in `SOURCES`.

    Returns:
      The text, named after `source`.

    Raises:
      InputError: The source is unknown (the message has the closest name), missing,
        empty or malformed.
    """
    if source in TEXTS:
        return Text(source, _built_in(source))
    for prefix, load in (("tfds:", sources.load_tfds), ("hf:", sources.load_hf)):
        if source.startswith(prefix):
            return Text(source, load(source))
    name, part = files.path_and_part(source)
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


def _checked(name: str, documents: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(documents, str):
        raise InputError(f"the documents of {name!r} must be a tuple of strings; got one string")
    documents = tuple(documents)
    if not documents:
        raise InputError(f"text {name!r} is empty; it must hold at least one document")
    for index, document in enumerate(documents):
        if not document.strip():
            raise InputError(
                f"documents[{index}] of {name!r} is empty; remove it (documents count from 0)"
            )
        files.refuse_surrogates(document, f"documents[{index}] of {name!r}")
    return documents

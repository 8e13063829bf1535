"""Documents from a file: .txt, .jsonl or .parquet."""

import contextlib
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxanatomy.errors import InputError, choose

DEFAULT_FIELD = "text"
PIECE = 4096  # characters of a piece of a .txt, at most
MOST_NAMED = 4  # lines, rows or documents that one message describes
_SPACES = re.compile(r"[^\S\n]*")  # inside a line
_TITLE = re.compile(r"= (?!= ).*\S(?<! =) =")  # of an article; a section's is = = TITLE = =


def path_and_part(source: str) -> tuple[str, str]:
    """Splits PATH#PART; a '#' in the name of a file that exists belongs to the name."""
    if "#" not in source or os.path.exists(source):
        return source, ""
    path, _, part = source.rpartition("#")
    return path, part


def read_documents(path: str | Path, part: str = "") -> tuple[str | None, ...]:
    """Reads the documents of one file.

    Args:
      path: A file whose name ends in one of `READERS`.
      part: What a document is, as it stands after `#` in a source. For .txt: "" for
        the whole file, because a text is usually one piece and is predicted best
        with all its context, or a name in `SPLITS`. For .jsonl and .parquet: the
        field that holds the text, "" for `DEFAULT_FIELD`.

    Returns:
      The documents in the order of the file. Those of a .txt are without blank lines at
      both ends and white space at their end (the newline at the end of a file is not part
      of its text), and begin with the indentation of their first line, but for single
      lines; those of a .jsonl or .parquet are kept to the letter, None where there is null.

    Raises:
      InputError: The file is missing, unreadable, of another kind, or malformed;
        the message names the lines or rows, the first `MOST_NAMED` of them.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise InputError(f"a text must be a file; {str(path)!r} is a folder; name a file in it")
    if not os.path.isfile(path):
        raise InputError(f"there is no text file {str(path)!r}; check the path")
    if path.suffix not in READERS:
        raise InputError(
            f"a text file must end in {', '.join(READERS)}; got {str(path)!r}; convert it to one "
            "of them"
        )
    return READERS[path.suffix](path, part)


def _read_txt(path: Path, part: str) -> tuple[str, ...]:
    text = decoded(path).replace("\r\n", "\n").replace("\r", "\n")
    if not part:
        return _not_blank([text])
    return SPLITS[choose("way to split a .txt", part, SPLITS)](text)


def split_blank_lines(text: str) -> tuple[str, ...]:
    """The blocks of lines between blank lines; line breaks inside a block are kept."""
    blocks = [[]]
    for line in text.split("\n"):
        if line.strip():
            blocks[-1].append(line)
        else:
            blocks.append([])
    return _not_blank("\n".join(block) for block in blocks)


def split_pieces(text: str) -> tuple[str, ...]:
    """Pieces of up to `PIECE` characters, none of them blank.

    A piece ends at the last blank line in its second half, else at the last line break
    there, else at the last space; where there is none, in the middle of a word. One that
    begins with a line has its indentation.
    """
    pieces, start = [], 0
    while len(text) - start > PIECE:
        window = (start + PIECE // 2, start + PIECE)
        end = next((at for mark in ("\n\n", "\n", " ") if (at := text.rfind(mark, *window)) > 0), 0)
        end = end or start + PIECE
        pieces.append(text[start:end])
        start = _SPACES.match(text, end).end()
    return _not_blank([*pieces, text[start:]])


def split_articles(text: str) -> tuple[str, ...]:
    """Articles as WikiText has them: each begins with its title, = TITLE = between blank lines.

    What stands before the first title is a document of its own.

    Raises:
      InputError: There is no title.
    """
    lines = ["", *text.split("\n"), ""]
    titles = [
        at
        for at in range(1, len(lines) - 1)
        if _TITLE.fullmatch(lines[at].strip())
        and not lines[at - 1].strip()
        and not lines[at + 1].strip()
    ]
    if not titles:
        raise InputError(
            "a .txt of #articles must have titles, each a line '= TITLE =' between blank lines; it "
            "has none; write them, or make a .jsonl with an article a line"
        )
    edges = itertools.pairwise((0, *titles, len(lines)))
    return _not_blank("\n".join(lines[start:end]) for start, end in edges)


def split_lines(text: str) -> tuple[str, ...]:
    """The lines that are not blank, without white space around them."""
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def _not_blank(parts: Iterable[str]) -> tuple[str, ...]:
    """The parts of a .txt that have text, as `_trimmed` leaves them."""
    return tuple(_trimmed(part) for part in parts if part.strip())


def _trimmed(text: str) -> str:
    """A text without blank lines at both ends and white space at its end.

    The indentation of its first line stays: without it, code is other code.
    """
    blank = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, blank) + 1 :].rstrip()


def _read_jsonl(path: Path, part: str) -> tuple[str | None, ...]:
    field = part or DEFAULT_FIELD
    return read_each(lambda line, place: _document_of(line, field, place), json_lines(path))


def json_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a .jsonl that are not blank, each with its place for messages."""
    # Not str.splitlines(): U+2028 and its like may stand unescaped in a JSON string.
    for number, line in enumerate(decoded(path).split("\n"), start=1):
        if line.strip():
            yield line, f"line {number} of {str(path)!r}"


def json_value(text: str, place: str) -> Any:
    """What a text says as JSON.

    Raises:
      InputError: It is none; the message names the place.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{place} is not JSON ({error.msg}); mend or remove it") from None
    except RecursionError:
        raise InputError(f"{place} is nested too deeply to be read; mend or remove it") from None
    except ValueError:
        digits = sys.get_int_max_str_digits()
        raise InputError(
            f"a whole number in {place} must have at most {digits} digits; it has more; mend or "
            "remove it"
        ) from None


def _document_of(line: str, field: str, place: str) -> str | None:
    """The text of one line of a .jsonl: a JSON string, or an object's field."""
    value = json_value(line, place)
    if isinstance(value, dict):
        return text_field(value, field, place)
    if value is None or isinstance(value, str):
        return value
    raise InputError(
        f"{place} must be a JSON object with a field {field!r} or a JSON string; "
        f"got {type(value).__name__}; mend or remove it"
    )


def read_each(read: Callable[..., Any], places: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """What `read` gives for each place.

    Raises:
      InputError: It refuses some of them; all that it says, as far as it can be read.
    """
    documents, problems = [], []
    for place in places:
        try:
            documents.append(read(*place))
        except InputError as error:
            problems.append(error)
    refuse_all(problems)
    return tuple(documents)


def refuse_all(problems: Iterable[InputError]) -> None:
    """Raises one error that says what several say; none where there are none."""
    if said := [str(problem) for problem in problems]:
        raise InputError(first_of(said, "; "))


def first_of(items: Sequence[str], mark: str = ", ") -> str:
    """The first `MOST_NAMED` items, and how many there are more."""
    more = len(items) - MOST_NAMED
    return mark.join(items[:MOST_NAMED]) + (f"{mark}and {more:,} more like these" * (more > 0))


def text_field(record: dict, field: str, place: str) -> str | None:
    """The text in one field of a record, decoded if it comes as bytes; None if it is null."""
    if field not in record:
        raise InputError(
            f"{place} has no field {field!r}; it has {', '.join(map(repr, record)) or 'none'}; "
            "name the field that holds the text after '#'"
        )
    value = record[field]
    if isinstance(value, bytes):
        return decode(value, f"field {field!r} of {place}")
    if value is not None and not isinstance(value, str):
        raise InputError(
            f"field {field!r} of {place} must be text; got {type(value).__name__}; "
            "name another field after '#'"
        )
    return value


def _read_parquet(path: Path, part: str) -> tuple[str | None, ...]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"{str(path)!r} needs pyarrow, which is not installed; pip install pyarrow, or "
            "convert the file to .jsonl"
        ) from None
    field = part or DEFAULT_FIELD
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if field not in names:
                text_field(dict.fromkeys(names), field, repr(str(path)))
            column = file.read(columns=[field]).column(0).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # as damage comes
        raise InputError(f"{str(path)!r} is not a readable .parquet: {first_line(error)}") from None
    return read_each(
        lambda number, value: text_field({field: value}, field, f"row {number} of {str(path)!r}"),
        enumerate(column, start=1),
    )


def decoded(path: Path) -> str:
    """A file as UTF-8 text."""
    with readable(path):
        data = path.read_bytes()
    return decode(data, repr(str(path)))


@contextlib.contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Raises InputError where the system does not let a file be read within the block."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"a text file must be readable; {str(path)!r} is not ({error.strerror or error}); "
            "check its permissions, or give a copy"
        ) from None


def decode(data: bytes, place: str) -> str:
    """Bytes as UTF-8, without a byte order mark."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} must be UTF-8; byte {error.start} (0x{data[error.start]:02x}) is not; "
            "convert it to UTF-8"
        ) from None


def lone_surrogate(text: str, place: str) -> InputError | None:
    """What is wrong with a text that holds half a character, as JSON can write it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        around = text[max(error.start - 20, 0) : error.start + 20]
        return InputError(
            f"{place} holds a lone surrogate, which is no character: {around!a}; mend its "
            "\\u escapes"
        )
    return None


def first_line(error: Exception) -> str:
    """What an error of another library says, cut to one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


SPLITS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "blank_lines": split_blank_lines,
    "lines": split_lines,
    "pieces": split_pieces,
    "articles": split_articles,
}
READERS: dict[str, Callable[[Path, str], tuple[str | None, ...]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}

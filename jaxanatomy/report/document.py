"""What a report consists of, before it becomes HTML: sections of text, pictures, tables.

An experiment's report is a function from a run's record to a `Report`; see
`importance/report.py`, and `page.REPORTS`, where such functions are entered.
"""

import dataclasses
import hashlib
import re

from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Chip:
    """A layer number on a coloured ground.

    Attributes:
      text: What stands on it.
      kind: Its colour: a category, or "better".
      certain: Filled; otherwise only outlined.
      hint: Shown on hovering.
    """

    text: str
    kind: str
    certain: bool = True
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes:
      text: Its text.
      value: What sorting goes by, if not the text.
      chips: Stand before the text.
    """

    text: str = ""
    value: float | None = None
    chips: tuple[Chip, ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its heading.

    Attributes:
      caption: Says what it holds, units included.
      header: Names of the columns.
      rows: As long as the header.
      sortable: Whether a click on a column's name sorts.
      note: A paragraph below.
      folded: Whether only the caption shows until it is opened.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sortable: bool = False
    note: str = ""
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of a section.

    Attributes:
      name: It is written to `figures/NAME.png`.
      figure: Drawn when the page is made.
      alt: What it shows, in words, for those who cannot see it.
      caption: How to read it, and what it does not say.
    """

    name: str
    figure: Figure
    alt: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the page: paragraphs, then tables above pictures, in order.

    Attributes:
      title: Its heading.
      text: Paragraphs.
      content: Tables and pictures.
    """

    title: str
    text: tuple[str, ...] = ()
    content: tuple[Table | Picture, ...] = ()

    @property
    def anchor(self) -> str:
        """The id of its heading."""
        words = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        return words if self.title.isascii() else f"{words}-{_digest(self.title)}".strip("-")


@dataclasses.dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
      kind: The experiment.
      title: The page's heading.
      lead: One sentence below it.
      sections: In order.
    """

    kind: str
    title: str
    lead: str
    sections: tuple[Section, ...]


def file_name(*parts: str) -> str:
    """A name for a picture from words that may hold anything; other words, another name.

    Lower-case letters, digits, "_" and "-", because file systems differ in what else they
    take and tell apart. Words that are not so written get a digest of what they were.
    """
    words = "_".join(part for part in parts if part)
    plain = re.sub(r"[^a-z0-9_-]+", "-", words.lower()).strip("-_")[:70].strip("-_")
    # A name that already looks like one with a digest gets its own.
    if plain == words and not re.search(r"-[0-9a-f]{8}$", words):
        return plain
    return f"{plain}-{_digest(*parts)}".strip("-")


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:8]

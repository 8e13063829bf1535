"""What a page is made of: sections as data, each with its text and its views."""

import dataclasses
import re
from collections.abc import Callable

from jaxanatomy.records import RunRecord
from jaxanatomy.report.views import View

# A paragraph, or what makes one of a run; "" or None leaves it out.
Words = str | Callable[[RunRecord], str | None]


def said(words: Words, record: RunRecord) -> str:
    """A paragraph for a run; empty where there is nothing to say."""
    return (words(record) if callable(words) else words) or ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, paragraphs, then tables and pictures. Left out where no view has rows.

    Attributes:
      title: Its heading.
      text: Paragraphs; the headline first.
      views: What is shown, in order.
    """

    title: str
    text: tuple[Words, ...] = ()
    views: tuple[View, ...] = ()

    @property
    def anchor(self) -> str:
        """The id of its heading."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclasses.dataclass(frozen=True)
class Page:
    """The report of an experiment.

    Attributes:
      kind: What the experiment is about.
      lead: One sentence below the heading.
      sections: In order.
      title: The heading; the model's id if empty.
    """

    kind: str
    lead: Words
    sections: tuple[Section, ...]
    title: str = ""

    def heading(self, record: RunRecord) -> str:
        """The heading of a run's page."""
        return self.title or str(record.provenance.get("model") or "this model")

"""What a page is made of: sections as data, each with its text and its views."""

import re
from collections.abc import Callable, Mapping, Sequence

from jaxanatomy.records import RunRecord
from jaxanatomy.report.views import View
from jaxanatomy.words import shortened

# A paragraph, or what makes one of a run; "" or None leaves it out.
Words = str | Callable[[RunRecord], str | None]


def said(words: Words, runs: Mapping[str, RunRecord]) -> list[str]:
    """A paragraph; what is made of a run is made of each, with its name before it."""
    if not callable(words):
        return [words]
    found = {name: words(record) for name, record in runs.items()}
    return [": ".join(filter(None, [name, text])) for name, text in found.items() if text]


def model_of(record: RunRecord) -> str:
    """The model that a run is of."""
    return str(record.provenance.get("model") or "this model")


def named(records: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """Runs by what tells them apart: the model, or the folder as well; one alone has no name."""
    if len(records) == 1:
        return {"": records[0]}
    models = [shortened(model_of(record)) for record in records]
    folders = [record.folder.name for record in records]
    both = [f"{model} ({folder})" for model, folder in zip(models, folders, strict=True)]
    paths = [str(record.folder) for record in records]
    names = next(
        some for some in (models, both, paths) if some is paths or len({*some}) == len(some)
    )
    return dict(zip(names, records, strict=True))


class Section:
    """A heading, paragraphs, then tables and pictures. Left out where no view has rows.

    Attributes:
      title: Its heading.
      text: Paragraphs; the headline first.
      views: What is shown, in order.
    """

    def __init__(self, title: str, *parts: Words | View):
        self.title = title
        self.text = tuple(part for part in parts if not isinstance(part, View))
        self.views = tuple(part for part in parts if isinstance(part, View))

    @property
    def anchor(self) -> str:
        """The id of its heading."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


class Page:
    """The report of an experiment.

    Attributes:
      kind: What the experiment is about.
      lead: One sentence below the heading.
      sections: In order.
      title: The heading; the model's id if empty.
    """

    def __init__(self, kind: str, lead: Words, *sections: Section, title: str = ""):
        self.kind, self.lead, self.sections, self.title = kind, lead, sections, title

"""From a page and a run to HTML: one file, no remote assets, figures in the page's colours."""

import base64
import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from matplotlib.figure import Figure

from jaxanatomy.records import RunRecord
from jaxanatomy.report import views
from jaxanatomy.report.sections import Page, Section, model_of, named, said

_MOST_ROWS = 1000  # of a figure whose numbers the page holds
_FIELD, _VALUE = views.Column("field", "field"), views.Column("value", "value")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A table's cell: its words, what sorting goes by, and the colour of its chip."""

    text: str
    value: float | None = None
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table with the rows of one facet.

    Attributes:
      view: What it shows.
      caption: Says what it holds.
      columns: Those that a row has.
      rows: Cells.
      csv: A link that saves it, with all digits.
    """

    view: views.Table
    caption: str
    columns: tuple[views.Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    csv: str

    @property
    def header(self) -> tuple[str, ...]:
        """The headings."""
        return tuple(column.head for column in self.columns)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure as the template wants it; `csv` saves its numbers, "" where they are too many."""

    name: str
    figure: Figure
    title: str
    caption: str
    csv: str

    @property
    def svg(self) -> str:
        """The figure as an element of the page."""
        return views.to_svg(self.figure, self.name)

    @property
    def width(self) -> int:
        """Pixels below which it scrolls instead of shrinking; it grows to twice that."""
        return int(self.figure.get_figwidth() * 70)


@dataclasses.dataclass(frozen=True)
class Filled:
    """A section with what it shows of one or several runs."""

    section: Section
    text: tuple[str, ...]
    content: tuple[Grid | Picture, ...]


def fill(page: Page, *records: RunRecord) -> list[Filled]:
    """The sections that have something to show; of several runs each row names its own."""
    runs = named(records)
    filled = []
    for section in page.sections:
        rows = [
            {name: view.rows(record) for name, record in runs.items()} for view in section.views
        ]
        shown = {name for found in rows for name in found if found[name]} if rows else set(runs)
        content = tuple(
            part
            for view, found in zip(section.views, rows, strict=True)
            for part in _parts(view, _joined(found))
        )
        those = {name: record for name, record in runs.items() if name in shown}
        text = tuple(line for words in section.text for line in said(words, those)) if those else ()
        filled.append(Filled(section, text, content))
    return [each for each in filled if each.text or each.content]


def render(page: Page, filled: Sequence[Filled], *records: RunRecord) -> str:
    """The page as HTML; the same files of a run give the same page."""
    folder = resources.files(__package__)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["picture"] = lambda part: isinstance(part, Picture)
    template = environment.from_string(folder.joinpath("page.html").read_text("utf-8"))
    runs = named(records)
    return template.render(
        kind=page.kind,
        title=page.title or " and ".join(name or model_of(runs[name]) for name in runs),
        lead=" ".join(said(lambda record: _lead(page, record), runs)),
        sections=filled,
        provenance=[grid for name in runs for grid in provenance(runs[name], name)],
        css=folder.joinpath("report.css").read_text("utf-8"),
    )


def provenance(record: RunRecord, name: str = "") -> list[Grid]:
    """Where the figures come from: model, hashes, versions, device, config, summary."""
    parts = {
        "Model, data and machine": record.provenance,
        "Config": record.config,
        "Summary (summary.json)": record.summary,
    }
    tables = {
        views.Table("", _flat, caption, cells=(_FIELD, _VALUE), folded=at > 0): fields
        for at, (caption, fields) in enumerate(parts.items())
    }
    return [_grid(table, name, _flat(fields)) for table, fields in tables.items() if fields]


def _lead(page: Page, record: RunRecord) -> str:
    words = page.lead(record) if callable(page.lead) else page.lead
    if record.summary:
        return words
    return f"This run is not finished; it has {len(record.rows):,} rows so far. {words}"


def _joined(found: Mapping[str, Sequence[views.Row]]) -> list[views.Row]:
    return [
        row | {views.RUN: name} if name else row for name, rows in found.items() for row in rows
    ]


def _parts(view: views.View, rows: Sequence[views.Row]) -> Iterator[Grid | Picture]:
    if not rows:
        return
    if isinstance(view, views.Table):
        for name, own in view.facets(rows).items():
            yield _grid(view, name, own)
        return
    drawn = views.draw(view, rows)
    figure = (drawn[0] if isinstance(drawn, tuple) else drawn).figure
    numbers = _csv(_drawn(view, rows), rows) if len(rows) <= _MOST_ROWS else ""
    yield Picture(view.name, figure, view.heading(rows), view.caption, numbers)


def _grid(view: views.Table, facet: str, rows: Sequence[views.Row]) -> Grid:
    columns = tuple(view.shown(rows))
    cells = tuple(
        tuple(
            Cell(column.text(row), _number(row, column.field), str(row.get(column.kind) or ""))
            for column in columns
        )
        for row in rows
    )
    caption = ": ".join(filter(None, [facet, view.heading(rows)]))
    fields = dict.fromkeys(column.field for column in columns)
    return Grid(view, caption, columns, cells, _csv(fields, rows) if view.name else "")


def _drawn(view: views.View, rows: Sequence[views.Row]) -> list[str]:
    """The fields of rows that a view names."""
    named = {views.RUN, *_words(view)}
    return [
        field for field in dict.fromkeys(name for row in rows for name in row) if field in named
    ]


def _words(value: Any) -> Iterator[str]:
    """Every word in a view and in what it is made of."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _words(each)
    elif dataclasses.is_dataclass(value):
        yield from _words(tuple(vars(value).values()))


def _csv(fields: Iterable[str], rows: Sequence[views.Row]) -> str:
    """A link that saves some fields with all digits, intervals as fields of their own."""
    flat = [views.with_ends(row, fields) for row in rows]
    stream = io.StringIO()
    header = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.DictWriter(stream, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    content = base64.b64encode(stream.getvalue().encode()).decode()
    return f"data:text/csv;charset=utf-8;base64,{content}"


def _flat(fields: Mapping[str, Any], prefix: str = "") -> list[views.Row]:
    """Nested fields under names with dots; equal list items are counted, not repeated."""
    flat: list[views.Row] = []
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append({"field": f"{prefix}{name}", "value": _plain(value)})
    return flat


def _plain(value: Any) -> str:
    if isinstance(value, list):
        if len(value) > 1 and all(item == value[0] for item in value):
            return f"{len(value)} × {_plain(value[0])}"
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)


def _number(row: views.Row, field: str) -> float | None:
    """What a cell is sorted by."""
    found = views.with_ends(row, [field]).get(field)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if is_number and math.isfinite(found) else None

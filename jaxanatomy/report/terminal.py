"""Tables as plain text: what a run prints when it ends."""

from collections.abc import Iterator, Sequence

from jaxanatomy.records import RunRecord
from jaxanatomy.report.sections import Page
from jaxanatomy.report.views import Column, Row, Table

# What a terminal may lack, and what stands for it.
_ASCII = str.maketrans({"−": "-", "–": "-", "×": "x", "·": ".", "→": "->", "÷": "/", "²": "2"})


def printed(page: Page, record: RunRecord) -> str:
    """The tables of a page that are printed, one below the other.

    Returns:
      Lines of ASCII characters, as long as the names in the rows are.
    """
    tables = [view for section in page.sections for view in section.views]
    tables = [view for view in tables if isinstance(view, Table) and view.printed]
    return "\n\n".join(text for view in tables for text in texts(view, view.rows(record)))


def texts(view: Table, rows: Sequence[Row]) -> Iterator[str]:
    """A table as text, once for each of its facets."""
    for name, own in view.facets(rows).items() if rows else ():
        heading = ", ".join(filter(None, [str(name or ""), view.heading(own)]))
        yield "\n".join([heading, *_lines(view.shown(own), own)]).translate(_ASCII)


def _lines(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    cells = [[column.head for column in columns]]
    cells += [[column.text(row) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in cells
    ]

"""Tables as plain text: what a run prints when it ends, and those of rows in no run."""

from collections.abc import Iterable, Iterator, Sequence

from jaxanatomy.errors import InputError, choose
from jaxanatomy.experiment import EXPERIMENTS
from jaxanatomy.records import RunRecord
from jaxanatomy.report.common import EFFECT, PPL, in_panels
from jaxanatomy.report.sections import Page
from jaxanatomy.report.views import Column, Row, Table

# What a terminal may lack, and what stands for it.
_ASCII = str.maketrans({"−": "-", "–": "-", "×": "x", "·": ".", "→": "->", "÷": "/", "²": "2"})
VARIANTS = Table(
    "variants",
    lambda record: in_panels(record.rows),
    cells=(Column("variant", "variant"), PPL, EFFECT),
)


def summary_table(rows: RunRecord | Iterable[Row], experiment: str = "") -> str:
    """What a run prints at its end, or a line for each variant.

    Args:
      rows: A run (`ja.read_run`), or rows of variants on texts (`ja.sweep`); a data frame, too.
      experiment: Whose tables to print of rows that are no run: "importance", "structure", ...

    Returns:
      Lines of ASCII characters, as far as the names in the rows are.

    Raises:
      InputError: No rows, rows of another kind, or an unknown experiment.
    """
    record = rows if isinstance(rows, RunRecord) else RunRecord.of_rows(rows)
    experiment = experiment or record.experiment
    if experiment:
        choose("experiment", experiment, EXPERIMENTS)
        text = printed(EXPERIMENTS[experiment].page, record)
    elif all({"variant", "ppl"} <= row.keys() for row in record.rows):
        text = "\n\n".join(texts(VARIANTS, VARIANTS.rows(record)))
    else:
        text = ""
    if not text:
        found = f"rows with the fields {', '.join(record.fields)}" if record.rows else "no rows"
        raise InputError(
            f"a table needs a run, rows of variants, or rows of the experiment that is named; got "
            f"{found}; name it: summary_table(rows, 'structure')"
        )
    return text


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

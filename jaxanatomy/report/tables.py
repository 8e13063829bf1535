"""Rows as a plain-text table."""

from collections.abc import Iterable

from jaxanatomy.errors import InputError, choose
from jaxanatomy.experiment import EXPERIMENTS
from jaxanatomy.records import RunRecord
from jaxanatomy.report.common import EFFECT, PPL, in_panels
from jaxanatomy.report.terminal import printed, texts
from jaxanatomy.report.views import Column, Row, Table

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

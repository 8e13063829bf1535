"""Rows of any experiment as a plain-text table."""

from collections.abc import Iterable

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.records import RunRecord
from jaxanatomy.report import importance, manipulation, predictability, terminal
from jaxanatomy.report.cells import (
    Row,
    interval,
    number,
    panel_name,
    panels_of,
    percent,
    perplexity,
    records,
)
from jaxanatomy.report.claims import summary_table as claims_table
from jaxanatomy.report.structure import DELTAS, means


def summary_table(rows: Iterable[Row]) -> str:
    """What a run prints at its end.

    Args:
      rows: Rows of variants on texts (`ja.sweep`), of `ja.structure`, or of a finished run of
        importance, structure, predictability, manipulation or claims; a list or a data frame.

    Returns:
      Lines of ASCII characters. Variants that are no experiment's (steps, or sets of layers,
      of one's own) have a line each: perplexity, its change in percent, 95 % interval.

    Raises:
      InputError: No rows, or rows of another kind.
    """
    rows = records(rows)
    # The baseline is the same in all experiments.
    others = [row for row in rows if row.get("variant") != BASELINE]
    fields = {field for row in others for field, value in row.items() if value is not None}
    if "claim" in fields:
        return claims_table(rows)
    if "metric" in fields:
        return "\n\n".join(terminal.texts(DELTAS, means(RunRecord.of_rows(rows))))
    if "reading" in fields:
        return terminal.printed(predictability.PAGE, RunRecord.of_rows(rows))
    if "intervention" in fields:
        return terminal.printed(importance.PAGE, RunRecord.of_rows(rows))
    if any(row.get("set") == "measured" for row in rows):
        return terminal.printed(manipulation.PAGE, RunRecord.of_rows(rows))
    variants = [row for row in rows if "variant" in row and "ppl" in row and not row.get("kind")]
    if not variants:
        found = f"rows with the fields {', '.join(rows[0])}" if rows else "no rows"
        raise InputError(
            "a table needs rows of variants, importance, structure, predictability, manipulation "
            f"or claims; got {found}; other runs print their own when they end"
        )
    return "\n\n".join(_variants(panel_name(*key), own) for key, own in panels_of(variants).items())


def _variants(text: str | None, rows: list[Row]) -> str:
    """A line for each variant on one text."""
    lines = [(text or "text", "perplexity", "change %", "95 % interval")]
    for row in rows:
        ends = interval(row)
        change = percent(number(row, "degradation_percent"))
        between = " .. ".join(map(percent, ends)) if ends else "-"
        lines.append((str(row["variant"]), perplexity(row), change, between))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )

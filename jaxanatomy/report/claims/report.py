"""The report of the claims audit: an overview that fits a phone, and each claim's evidence."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.records import RunRecord
from jaxanatomy.report.claims import CLAIMS, VERDICTS, Evidence, audit, experiment_of
from jaxanatomy.report.document import Cell, Chip, Report, Section, Table

Row = Mapping[str, Any]

_COLOURS = dict(zip(VERDICTS, ("better", "critical", "redundant"), strict=True))
_PAPER = "The papers' own figures"
_FIELDS = {
    "paper": "paper",
    "measured": "measured",
    "null": "null or control",
    "rule": "rule: it holds if",
    "reason": "what decided",
    "text": "texts",
    "source": "source",
}
_HOW_TO_READ = (
    "Every verdict comes from a written rule with its threshold and from the rows of the runs, "
    "never by hand. “Cannot tell”: an interval crosses the threshold, texts contradict each "
    "other, or the claim was not measured here, or not all of it. A text that cannot tell leaves "
    "the verdict to the others."
)
_ARITHMETIC = (
    "Arithmetic on what the papers print, without any model: whether the figures of a paper agree "
    "with each other and with its text. The same on every checkpoint."
)


def claims_report(record: RunRecord) -> Report | None:
    """The report of a run of the claims audit; None if it is of another experiment."""
    rows = [row for row in record.rows if "claim" in row and "verdict" in row]
    if not rows:
        return None
    groups = _groups(rows)
    runs = record.summary.get("runs") or {}
    content = (_counts(groups), *([_runs(runs)] if runs else ()))
    sections = [Section("At a glance", (_HOW_TO_READ, *_versions(runs)), content)]
    for title, group in groups.items():
        text = (_ARITHMETIC,) if title == _PAPER else ()
        sections.append(Section(title, text, (_overview(group), *map(_details, group))))
    said = Counter(row["verdict"] for row in rows if row["needs"])
    words = ", ".join(f"{said[verdict]} {_plural(verdict, said[verdict])}" for verdict in VERDICTS)
    return Report(
        kind="Claims audit",
        title=str(record.provenance.get("model") or rows[0]["model"] or "this model"),
        lead=f"Of {said.total()} claims about the model {words}; {len(rows) - said.total()} more "
        "about the papers' own figures.",
        sections=tuple(sections),
    )


def claims_section(record: RunRecord) -> Section | None:
    """The claims that the rows of one run decide, for that run's own report.

    Args:
      record: A run of any experiment.

    Returns:
      A section with an overview and each claim's evidence; None if no claim is about the
      experiment.
    """
    name = experiment_of(record)
    claims = [claim for claim in CLAIMS if claim.needs == (name,)]
    if not claims:
        return None
    rows = audit(Evidence({name: record}), claims)
    return Section("Claims of the paper", (_HOW_TO_READ,), (_overview(rows), *map(_details, rows)))


def summary_table(rows: Iterable[Row]) -> str:
    """A line for each claim about the model, and counts: plain text for the terminal."""
    rows = list(rows)
    width = max(map(len, VERDICTS))
    lines = [f"{row['verdict']:{width}}  {row['statement']}" for row in rows if row["needs"]]
    for title, part in (("the model", True), ("the papers' own figures", False)):
        counts = Counter(row["verdict"] for row in rows if bool(row["needs"]) is part)
        words = ", ".join(f"{counts[v]} {_plural(v, counts[v])}" for v in VERDICTS)
        lines.append(f"claims about {title}: {words}")
    return "\n".join(lines)


def _groups(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by what they are about, in order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        title = " and ".join(row["needs"]).capitalize().replace("_", " ") or _PAPER
        groups.setdefault(title, []).append(row)
    return groups


def _counts(groups: Mapping[str, Sequence[Row]]) -> Table:
    lines = []
    for title, rows in groups.items():
        counts = Counter(row["verdict"] for row in rows)
        cells = (Cell(str(counts[verdict])) for verdict in VERDICTS)
        lines.append((Cell(title), *cells))
    return Table("Number of claims by verdict", ("about", *VERDICTS), tuple(lines))


def _versions(runs: Mapping[str, Row]) -> tuple[str, ...]:
    """A warning where the runs are of different versions of the code."""
    names: dict[str, list[str]] = {}
    for name, run in runs.items():
        names.setdefault(str(run["code_version"] or "unknown"), []).append(name)
    if len(names) < 2:
        return ()
    words = "; ".join(f"{', '.join(those)}: {version}" for version, those in names.items())
    return (
        f"The runs were measured by {len(names)} versions of the code ({words}). A version ends in "
        "a hash of all sources that measure, so another one need not have measured otherwise; to "
        "be sure, measure the older runs again.",
    )


def _runs(runs: Mapping[str, Row]) -> Table:
    return Table(
        "The runs that were read",
        ("experiment", "folder", "rows", "finished", "code version"),
        tuple(
            (
                Cell(name.capitalize().replace("_", " ")),
                Cell(run["folder"]),
                Cell(f"{run['rows']:,}", run["rows"]),
                Cell("yes" if run["finished"] else "no"),
                Cell(str(run["code_version"] or "unknown")),
            )
            for name, run in runs.items()
        ),
        folded=True,
    )


def _overview(rows: Sequence[Row]) -> Table:
    """Two columns, so that it can be read on a phone; the rest is in `_details`."""
    return Table(
        "Claims and verdicts",
        ("claim", "verdict, and what decided"),
        tuple((Cell(row["statement"]), _verdict(row, row["reason"])) for row in rows),
        note="The evidence for each follows below, with the paper's figure, ours, the null or "
        "control, and the rule; a click opens it.",
    )


def _details(row: Row) -> Table:
    lines = [(Cell("verdict"), _verdict(row))]
    for field, name in _FIELDS.items():
        if row[field]:
            lines.append((Cell(name), Cell(str(row[field]))))
    caption = f"{row['statement']} ({row['verdict']})"
    return Table(caption, ("", ""), tuple(lines), folded=True)


def _verdict(row: Row, text: str = "") -> Cell:
    verdict = row["verdict"]
    return Cell(text, chips=(Chip(verdict, _COLOURS[verdict], certain=verdict != VERDICTS[-1]),))


def _plural(verdict: str, count: int) -> str:
    if count == 1 or verdict == VERDICTS[-1]:
        return verdict if verdict != VERDICTS[-1] else "cannot be told"
    return verdict.replace("holds", "hold").replace("does not", "do not")

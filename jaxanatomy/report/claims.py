"""The page of the claims audit: counts, verdicts with what decided, and each claim's evidence."""

from collections import Counter
from typing import Any

from jaxanatomy.claims.audit import CLAIMS, audit
from jaxanatomy.claims.core import FAILS, HOLDS, UNDECIDED, UNMEASURED, VERDICTS
from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.records import RunRecord
from jaxanatomy.report.common import only
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import Column, Row, Table

CHIPS = {HOLDS: "better", FAILS: "critical", UNDECIDED: "redundant", UNMEASURED: "unmeasured"}
FIGURES = "The papers' own figures"


def verdicts(record: RunRecord) -> list[Row]:
    """The rows of an audit, in panels by what they are about, with a colour for each verdict."""
    times = Counter(row["claim"] for row in record.rows)
    return [
        {
            **_coloured(row),
            "cites": row["source"].partition(" ")[0],
            "panel": _about(row) + (f", {row['model']}" if times[row["claim"]] > 1 else ""),
        }
        for row in record.rows
    ]


unmeasured = only(verdicts, lambda row: row["verdict"] == UNMEASURED)
decided = only(verdicts, lambda row: row["verdict"] != UNMEASURED)
measured = only(decided, lambda row: row["about"] == "model")
summed = only(decided, lambda row: row["about"] == "figures")


def _coloured(row: Row) -> dict[str, Any]:
    return {**row, "chip": CHIPS[row["verdict"]]}


def _about(row: Row) -> str:
    return " and ".join(row["needs"]).capitalize().replace("_", " ") or FIGURES


def counts(record: RunRecord) -> list[Row]:
    """How many claims of each group have which verdict."""
    found: dict[str, Counter] = {}
    for row in verdicts(record):
        found.setdefault(row["panel"], Counter())[row["verdict"]] += 1
    return [
        {"about": about, **{name: said[name] for name in VERDICTS}} for about, said in found.items()
    ]


def lead(record: RunRecord) -> str:
    """The counts in a sentence."""
    rows = [row for row in record.rows if row["about"] == "model"]
    said, claims = Counter(row["verdict"] for row in rows), len({row["claim"] for row in rows})
    of = f"Of {claims} claims about models"
    if len(rows) > claims:
        of = f"{claims} claims about models, on several of them {len(rows)} verdicts:"
    return (
        f"{of} {said[HOLDS]} hold, {said[FAILS]} do not, {said[UNDECIDED]} cannot be told, and "
        f"{said[UNMEASURED]} were not measured."
    )


def versions(record: RunRecord) -> str:
    """A warning where the runs are of different versions of the code."""
    names: dict[str, list[str]] = {}
    for run in record.summary.get("runs") or ():
        names.setdefault(str(run["code_version"] or "unknown"), []).append(run["experiment"])
    if len(names) < 2:
        return ""
    words = "; ".join(f"{', '.join(those)}: {version}" for version, those in names.items())
    return (
        f"The runs were measured by {len(names)} versions of the code ({words}). Another version "
        "need not have measured otherwise; to be sure, measure the older runs again."
    )


def runs(record: RunRecord) -> list[Row]:
    """The runs that were read."""
    return [
        {**run, "code_version": run["code_version"] or "unknown"}
        for run in record.summary.get("runs") or ()
    ]


def of_run(record: RunRecord) -> list[Row]:
    """The claims that one run alone decides, for its own page."""
    claims = [claim for claim in CLAIMS if claim.needs == (record.experiment,)]
    rows = audit([Evidence({record.experiment: record})], claims) if claims else []
    return list(map(_coloured, rows))


CLAIM = Column("claim", "statement")
VERDICT = Column("verdict", "verdict", kind="chip", filters=True)
OVERVIEW = (CLAIM, VERDICT, Column("paper", "cites", filters=True))
PRINTED, OURS = Column("printed", "paper"), Column("ours", "measured")
WHY, SOURCE = Column("what decided", "reason"), Column("source", "source")
NULL, RULE = Column("null or control", "null"), Column("rule", "rule")
TEXTS, NAME = Column("texts", "text"), Column("name", "claim")
EVIDENCE = (*OVERVIEW, PRINTED, OURS, NULL, WHY, RULE, TEXTS, SOURCE, NAME)


PAGE = Page(
    "Claims audit",
    lead,
    Section(
        "At a glance",
        versions,
        Table(
            "counts",
            counts,
            "Number of claims by verdict",
            cells=(Column("about", "about"), *(Column(name, name) for name in VERDICTS)),
            printed=True,
        ),
        Table(
            "runs",
            runs,
            "The runs that were read",
            cells=(
                Column("experiment", "experiment"),
                Column("model", "model", null="trained from scratch"),
                Column("folder", "folder"),
                Column("rows", "rows", ","),
                Column("finished", "finished"),
                Column("code version", "code_version"),
            ),
            folded=True,
        ),
    ),
    Section(
        "Claims about models",
        "Every verdict comes from a written rule and from the rows of the runs, never by hand. The "
        "claims on one run share an error of 5 %: the more are tested, the wider are the intervals "
        "of each. “Cannot tell”: an interval crosses the threshold, or texts contradict each "
        "other.",
        Table("verdicts", measured, "verdicts", cells=OVERVIEW, printed=True, prose=True),
        Table("evidence", measured, "evidence", cells=EVIDENCE, folded=True, prose=True),
    ),
    Section(
        "Arithmetic",
        "Figures against figures, without any measurement: whether those of a paper agree with "
        "each other, with its text, and with what follows from the sizes of its models.",
        Table("sums", summed, "verdicts", cells=OVERVIEW, prose=True),
        Table("sums_evidence", summed, "evidence", cells=EVIDENCE, folded=True, prose=True),
    ),
    Section(
        "Not measured",
        Table(
            "unmeasured",
            unmeasured,
            "What was not measured, and what it lacks",
            facet="",
            cells=(*OVERVIEW, WHY, PRINTED, SOURCE),
            folded=True,
            prose=True,
        ),
    ),
)

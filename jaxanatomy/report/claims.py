"""The page of the claims audit: counts, verdicts with what decided, and each claim's evidence."""

from collections import Counter

from jaxanatomy.claims.audit import CLAIMS, audit
from jaxanatomy.claims.core import FAILS, HOLDS, UNDECIDED, UNMEASURED, VERDICTS
from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.records import RunRecord
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import Column, Row, Table

CHIPS = {HOLDS: "better", FAILS: "critical", UNDECIDED: "redundant", UNMEASURED: "unmeasured"}
FIGURES = "The papers' own figures"


def verdicts(record: RunRecord) -> list[Row]:
    """The rows of an audit by what they are about, with a colour for each verdict."""
    several = len({row["model"] for row in record.rows if row["model"]}) > 1
    return [
        {
            **row,
            "chip": CHIPS[row["verdict"]],
            "cites": row["source"].partition(" ")[0],
            "group": ": ".join(filter(None, [row["model"] if several else "", _group(row)])),
        }
        for row in record.rows
    ]


def decided(record: RunRecord) -> list[Row]:
    """Those that were measured."""
    return [row for row in verdicts(record) if row["verdict"] != UNMEASURED]


def counts(record: RunRecord) -> list[Row]:
    """How many claims of each group have which verdict."""
    found: dict[str, Counter] = {}
    for row in verdicts(record):
        found.setdefault(row["group"], Counter())[row["verdict"]] += 1
    return [
        {"group": group, **{name: said[name] for name in VERDICTS}} for group, said in found.items()
    ]


def lead(record: RunRecord) -> str:
    """The counts in a sentence."""
    rows = [row for row in record.rows if row["about"] == "model"]
    said = Counter(row["verdict"] for row in rows)
    return (
        f"Of {len(rows)} claims about models {said[HOLDS]} hold, {said[FAILS]} do not, "
        f"{said[UNDECIDED]} cannot be told, and {said[UNMEASURED]} were not measured."
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
    return [{**row, "chip": CHIPS[row["verdict"]]} for row in rows]


def _group(row: Row) -> str:
    words = " and ".join(row["needs"]).capitalize().replace("_", " ")
    return words if words else FIGURES


CLAIM, VERDICT = (
    Column("claim", "statement"),
    Column("verdict", "verdict", kind="chip", filters=True),
)
CITES = Column("paper", "cites", filters=True)
OVERVIEW = (CLAIM, VERDICT, CITES)
PRINTED, OURS = Column("printed", "paper"), Column("ours", "measured")
WHY, SOURCE = Column("what decided", "reason"), Column("source", "source")
EVIDENCE = (
    *OVERVIEW,
    PRINTED,
    OURS,
    Column("null or control", "null"),
    WHY,
    Column("rule", "rule"),
    Column("texts", "text"),
    SOURCE,
    Column("name", "claim"),
)
HOW = (
    "Every verdict comes from a written rule and from the rows of the runs, never by hand. The "
    "claims on one run share an error of 5 %: the more are tested, the wider are the intervals of "
    "each. “Cannot tell”: an interval crosses the threshold, or texts contradict each other."
)


def _verdicts(about: str, title: str, text: str) -> Section:
    """Verdicts at a glance, and the evidence for each, folded."""

    def rows(record: RunRecord) -> list[Row]:
        return [row for row in decided(record) if row["about"] == about]

    is_printed = about == "model"
    look = {"facet": "group", "prose": True}
    return Section(
        title,
        text,
        Table(f"verdicts_{about}", rows, "verdicts", cells=OVERVIEW, printed=is_printed, **look),
        Table(f"evidence_{about}", rows, "evidence", cells=EVIDENCE, folded=True, **look),
    )


def unmeasured(record: RunRecord) -> list[Row]:
    """The claims that were not measured."""
    return [row for row in verdicts(record) if row["verdict"] == UNMEASURED]


PAGE = Page(
    "Claims audit",
    lead,
    Section(
        "At a glance",
        versions,
        Table(
            name="counts",
            rows=counts,
            title="Number of claims by verdict",
            facet="",
            cells=(Column("about", "group"), *(Column(name, name) for name in VERDICTS)),
            printed=True,
        ),
        Table(
            name="runs",
            rows=runs,
            title="The runs that were read",
            facet="",
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
    _verdicts("model", "Claims about models", HOW),
    _verdicts(
        "figures",
        "Arithmetic",
        "Figures against figures, without any measurement: whether those of a paper agree with "
        "each other, with its text, and with what follows from the sizes of its models.",
    ),
    Section(
        "Not measured",
        Table(
            name="unmeasured",
            rows=unmeasured,
            title="What was not measured, and what it lacks",
            facet="",
            cells=(*OVERVIEW, WHY, PRINTED, SOURCE),
            folded=True,
            prose=True,
        ),
    ),
)

"""The page of the evaluate experiment: what the model answers, and what changes cost by task."""

import numpy as np

from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.measures.statistics.shares import paired_share_difference
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import counted, estimate, grouped, once, only
from jaxanatomy.report.sections import Page, Section

LEVEL = 0.95
ACCURACY = "accuracy"


@once
def _sources(record: RunRecord) -> dict[tuple[str, str], set[str]]:
    """The sources of each task and metric: of files of one name there may be several."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in record.rows:
        found.setdefault((row["task"], row["metric"]), set()).add(row["text"])
    return found


def _task(record: RunRecord, row: v.Row) -> str:
    """A task, with its source where the name does not tell it."""
    several = len(_sources(record)[row["task"], row["metric"]]) > 1
    return f"{row['task']} of {row['text']}" if several else row["task"]


def _name(record: RunRecord, row: v.Row) -> str:
    """A task, with the metric where the harness has its own."""
    task = _task(record, row)
    return task if row["metric"] == ACCURACY else f"{task} ({row['metric']})"


def _percent(found: Estimate) -> Estimate:
    return found.map(lambda share: 100 * np.asarray(share))


@once
def reached(record: RunRecord) -> list[v.Row]:
    """The accuracy of the unchanged model on each task, in percent."""
    return [
        {
            **{name: row[name] for name in ("text", "task", "metric")},
            "name": _name(record, row),
            "accuracy": _percent(Estimate(row["accuracy"], *row["accuracy_ci95"])),
            "items": row["items"],
        }
        | ({} if row["chance"] is None else {"chance": 100 * row["chance"]})
        for row in record.rows
        if row["variant"] == BASELINE and row.get("items")
    ]


@once
def changes(record: RunRecord) -> list[v.Row]:
    """What each variant changes on each task: points of accuracy, and nats of the right answer.

    `band` holds for all variants of a task at once (Bonferroni), `told` says that it leaves out 0.
    """
    found = []
    names = {row["variant"] for row in record.rows} - {BASELINE}
    same = len({name.rpartition("/")[0] for name in names}) == 1
    for (text, task, metric), rows in grouped(record.rows, "text", "task", "metric").items():
        own = [row for row in rows if row.get("items")]
        base = next((row for row in own if row["variant"] == BASELINE), None)
        others = [row for row in own if row["variant"] != BASELINE]
        for row in others if base else ():
            level = 1 - (1 - LEVEL) / len(others)
            band = _percent(paired_share_difference(row["right"], base["right"], level))
            told = "no" if band.low <= 0 <= band.high else "worse" if band.high < 0 else "better"
            made = {"text": text, "metric": metric, "task": task, "undecided": told == "no"}
            made |= {"named": _task(record, row), "panel": _name(record, row)}
            made |= {"variant": row["variant"], "told": told, "band": band}
            made |= {name: row[name] for name in ("op", "size", "start") if name in row}
            where, _, layers = row["variant"].rpartition("/")
            made |= {"short": layers, "where": f"{where}/"} if same else {"short": row["variant"]}
            made["accuracy"] = _percent(Estimate(row["accuracy"], *row["accuracy_ci95"]))
            made["change"] = _percent(Estimate(row["change"], *row["ci95"]))
            made["lost"] = -made["change"].value
            if row["nll"] is not None:
                made["nats"] = estimate(row["nll_change"], row["nll_ci95"])
            found.append(made)
    return found


def is_mapped(row: v.Row, rows: list[v.Row]) -> bool:
    """Whether a change is of runs of layers of several lengths, which a map shows."""
    return len({each["size"] for each in rows if each.get("op") == row.get("op", "")}) > 1


def listed_changes(record: RunRecord) -> list[v.Row]:
    """The changes that are shown one by one."""
    rows = changes(record)
    return [row for row in rows if not is_mapped(row, rows)]


def mapped_changes(record: RunRecord) -> list[v.Row]:
    """The changes of runs of layers of several lengths."""
    rows = changes(record)
    found = [row for row in rows if is_mapped(row, rows)]
    return [row | {"panel": f"{row['op']}, {row['panel']}"} for row in found]


def figures(record: RunRecord) -> list[v.Row]:
    """Metrics of the harness that are not yes or no, as it reports them."""
    return [
        {"task": _name(record, row), **{name: row.get(name) for name in ("variant", "value")}}
        | ({"change": row["change"]} if "change" in row else {})
        for row in record.rows
        if not row.get("items")
    ]


def headline(record: RunRecord) -> str:
    """How many changes are told apart from the unchanged model."""
    made = changes(record)
    told = sum(row["told"] != "no" for row in made)
    words = (
        f"{told} of {len(made)} changes are told apart from the unchanged model, with bands that "
        "hold for all changes of a task at once."
    )
    return words if made else ""


REACHED = v.Strip(
    "accuracy",
    reached,
    place=v.Axis("name", "task", scale="names"),
    measure=v.Axis("accuracy", "right answers (%)", limits=(0, None)),
    marks=(
        v.Mark("accuracy", "unchanged model"),
        v.Mark("chance", "guessing", "|", style.CROSS),
    ),
    spans=(v.Span("accuracy", "95 % interval (Wilson)"),),
    caption="Without choices the answer must be what the model writes; guessing gets nothing.",
)
HEAT = v.Heatmap(
    "changes",
    listed_changes,
    lambda rows: rows[0].get("where", ""),
    facet="",
    x=v.Axis("short", "change of the model", "names"),
    y=v.Axis("panel", "task", "names"),
    cell=v.Axis("lost", "right answers lost (points)", "diverging"),
    caption="Points of accuracy lost on the same items; blue: more are right than unchanged.",
)
MAPS = v.Heatmap(
    "runs_of_layers",
    mapped_changes,
    columns=2,
    x=v.Axis("start", "first layer"),
    y=v.Axis("size", "layers"),
    cell=v.Axis("lost", "right answers lost (points)", "diverging"),
    dot="undecided",
    numbers=False,
    size=(4.8, 4.3),
    caption="Points of accuracy lost on the same items. A dot: not told apart from the unchanged "
    "model, with bands that hold for all changes of the task at once.",
)
CHANGES = v.Strip(
    "intervals",
    listed_changes,
    place=v.Axis("variant", scale="names"),
    measure=v.Axis("change", "change of right answers (points)"),
    spans=(
        v.Span("band", "holds for all changes of the task", style.FAINT, line=4.0),
        v.Span("change", "95 % interval, paired by item"),
    ),
    levels=(v.Level(0.0, colour=style.MUTED),),
    palette=v.Palette(
        "told",
        {"no": style.INK, "worse": "#AE2320", "better": "#1F5FA8"},
        {"no": "not told apart", "worse": "worse", "better": "better"},
    ),
    caption="Newcombe's intervals of a paired difference; the wide ones pay for the look at all.",
)
NATS = v.Strip(
    "nats",
    only(listed_changes, lambda row: "nats" in row),
    place=v.Axis("variant", scale="names"),
    measure=v.Axis("nats", "change of the right answer's loss (nats)"),
    levels=(v.Level(0.0, colour=style.MUTED),),
    share=False,
    caption=(
        "Says more than the accuracy does: it moves where no answer changes. Intervals: 95 %, "
        "paired by item."
    ),
)
TABLE = v.Table(
    "changes_table",
    lambda record: [row | {"panel": ""} for row in changes(record)],
    "Every change on every task",
    cells=(
        v.Column("task", "named", filters=True),
        v.Column("metric", "metric"),
        v.Column("change of the model", "variant"),
        v.Column("right, % (95 %)", "accuracy", ".1f"),
        v.Column("change, points (95 %)", "change", "+.1f"),
        v.Column("for all at once", "band", "+.1f"),
        v.Column("told apart", "told"),
        v.Column("loss of the right answer, nats (95 %)", "nats", "+.3f"),
    ),
    folded=True,
)
UNCHANGED = v.Table(
    "unchanged",
    reached,
    "The unchanged model",
    cells=(
        v.Column("task", "name"),
        v.Column("items", "items", ","),
        v.Column("right, % (95 %)", "accuracy", ".1f"),
        v.Column("guessing, %", "chance", ".1f"),
    ),
    printed=True,
)
FIGURES = v.Table(
    "figures",
    figures,
    "Other metrics of lm-evaluation-harness",
    cells=(
        v.Column("task", "task"),
        v.Column("change of the model", "variant"),
        v.Column("value", "value", ".4g"),
        v.Column("change", "change", "+.3g"),
    ),
    note="As the harness reports them, without intervals.",
)

PAGE = Page(
    "Tasks",
    lambda record: counted(record.rows, tasks="task", variants="variant", texts="text"),
    Section("What it answers", REACHED, UNCHANGED),
    Section(
        "What changes cost",
        headline,
        "The same items under each change of the model, against the unchanged model.",
        HEAT,
        MAPS,
        CHANGES,
        NATS,
        TABLE,
        FIGURES,
    ),
)

"""The page of alarms: faults found before the loss has doubled, how long before, false alarms."""

import numpy as np

from jaxanatomy.measures.arms.alarms import (
    ALL,
    CLEAN_FAULTS,
    EVERY_FAULT,
    SCORE,
    SHIPPED,
    SIMPLEST,
    WEIGHTS,
)
from jaxanatomy.records import RunRecord
from jaxanatomy.report import views as v
from jaxanatomy.report.common import joined, known, merged
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import label, listed

COLOURS = {ALL: "#1B2026", WEIGHTS: "#1F5FA8", SIMPLEST: "#F0A23B", SHIPPED: "#9AA3AD"}
TOGETHER = (EVERY_FAULT, CLEAN_FAULTS)  # rows of several faults, which come last
SHOWN = 3  # runs of a fault whose losses are drawn


def detected(record: RunRecord) -> list[v.Row]:
    """A row for each fault, detector and interval."""
    return [
        {
            **joined(row),
            "fault": row["fault"] if row["fault"] in TOGETHER else label(row["fault"]),
            "first": [label(kind) for kind in row["first"]],
        }
        for row in record.summary.get("detection", [])
    ]


def at_their_best(record: RunRecord) -> list[v.Row]:
    """The rows of the shortest interval; of what ships those of the longest, as it ships."""
    rows = detected(record)
    tried = [row["interval"] for row in rows] or [0]
    wanted = {SHIPPED: max(tried)}
    return [row for row in rows if row["interval"] == wanted.get(row["detector"], min(tried))]


def beside(record: RunRecord) -> list[v.Row]:
    """A row for each fault, those of several last, with the shares of all detectors."""
    rows = []
    for row in sorted(at_their_best(record), key=lambda row: row["fault"] in TOGETHER):
        own = {name: row[name] for name in ("fault", "runs", "doubled")}
        detector = f"{row['detector']} (every {row['interval']})"
        own[f"before.{detector}"] = row["before"] or "no loss doubled"
        own[f"flagged.{detector}"] = row["flagged"]
        if row["detector"] == ALL:
            own |= known({name: row[name] for name in ("lead", "delay", "first")})
        rows.append(own)
    return merged(rows, "fault")


def by_interval(record: RunRecord) -> list[v.Row]:
    """The shares against the steps between checks."""
    rows = sorted(detected(record), key=lambda row: row["fault"] in TOGETHER)
    return [{**row, "panel": row["fault"]} for row in rows if row["before"] is not None]


def wrong(record: RunRecord) -> list[v.Row]:
    """False alarms in 10,000 steps, and seeds with any: a row for each detector."""
    rows = [
        {name: row[name] for name in ("detector", "steps", "seeds")}
        | {f"every.{row['interval']}": row["per_10000"]}
        | {f"affected.{row['interval']}": row["affected"]}
        for row in map(joined, record.summary.get("false_alarms", []))
    ]
    return merged(rows, "detector")


def levels(record: RunRecord) -> list[v.Row]:
    """The level of each kind, beside the one that is shipped; None where none was chosen."""
    summary = record.summary
    return [
        {"kind": label(kind), "shipped": level, "chosen": summary["levels"].get(kind)}
        for kind, level in summary.get("shipped", {}).items()
    ]


def losses(record: RunRecord) -> list[v.Row]:
    """The loss over the twin's, of a few seeds of each fault."""
    rows = [row for row in record.rows if row["kind"] == "run" and row["purpose"] == SCORE]
    twins = {(row["fault"], row["seed"]): row["loss"] for row in rows}
    seeds = list(dict.fromkeys(row["seed"] for row in rows))[:SHOWN]
    return [
        {
            "panel": label(row["fault"]),
            "seed": row["seed"],
            "step": step - row["fault_step"],
            "ratio": float(np.divide(own, other)),
        }
        for row in rows
        if row["fault"] != row["twin"] and row["seed"] in seeds
        for step, (own, other) in enumerate(
            zip(row["loss"], twins[row["twin"], row["seed"]], strict=False)
        )
        if own is not None and step >= row["fault_step"] - 20
    ]


def left_out(record: RunRecord) -> str | None:
    """The kinds for which no level could be chosen."""
    kinds = record.summary.get("uncalibrated")
    if not kinds:
        return None
    return (
        f"Left out of the chosen levels: {listed(map(label, kinds))}. They read nothing above 0 in "
        "any healthy run, so that any level would be a guess."
    )


SERIES = v.Palette("detector", COLOURS, {name: name for name in COLOURS})
PAGE = Page(
    "Alarms",
    "Faults put into training runs of a small model, and runs in which nothing happens.",
    Section(
        "Faults found in time",
        "The loss has doubled when it is twice that of the twin, the same seed and data without "
        "the fault; a fault that never doubles it is in no share of those found in time. The loss "
        "of a batch with random targets does not count as doubled but does count as a jump, so "
        "that such a fault is found early by the way it is scored: the row without them leaves "
        "it out. In brackets: steps between checks. Levels are chosen on healthy runs of other "
        "seeds; those as shipped are for models of any size. Intervals: Wilson's 95 %, for several "
        "faults with seeds as the independent units.",
        v.Table(
            "in_time",
            beside,
            "Share flagged before the loss had doubled",
            cells=(
                v.Column("fault", "fault"),
                v.Column("runs", "runs"),
                v.Column("loss doubled", "doubled"),
                v.Column("{}", "before.*", ".2f"),
                v.Column("steps ahead (median)", "lead", "g"),
            ),
            printed=True,
        ),
        v.Table(
            "flagged",
            beside,
            "Share flagged at all",
            cells=(
                v.Column("fault", "fault"),
                v.Column("{}", "flagged.*", ".2f"),
                v.Column("steps after the fault (median)", "delay", "g"),
                v.Column("first", "first"),
            ),
            printed=True,
        ),
    ),
    Section(
        "Steps between checks",
        v.Curves(
            "intervals",
            by_interval,
            columns=4,
            x=v.Axis("interval", "steps between checks", "log"),
            y=v.Axis("before", "share found in time", limits=(-0.02, 1.02)),
            series=SERIES,
            band="y",
            point="always",
            size=(2.9, 2.3),
            caption=(
                "Mean over places of the first check; bands: Wilson's 95 %, seeds as units. A "
                "small model is lost within a few steps. One that has grown is checked at once; "
                "jumps of the loss, the gradient and the update are looked for at every step."
            ),
        ),
    ),
    Section(
        "False alarms",
        left_out,
        "A healthy run that grows counts from where it grows: before, it is the one that does not.",
        v.Table(
            "false_alarms",
            wrong,
            "False alarms in 10,000 healthy steps",
            cells=(
                v.Column("detector", "detector"),
                v.Column("healthy steps", "steps", ","),
                v.Column("a check every {} steps", "every.*", ".2f"),
                v.Column("seeds", "seeds"),
                v.Column("share of seeds, every {} steps", "affected.*", ".2f"),
            ),
            note="Intervals of the first as if steps were independent.",
            printed=True,
        ),
        v.Table(
            "levels",
            levels,
            cells=(
                v.Column("kind", "kind"),
                v.Column("first level as shipped", "shipped", "g"),
                v.Column("chosen here", "chosen", ".3g", null="none"),
            ),
        ),
    ),
    Section(
        "What the faults do",
        v.Curves(
            "losses",
            losses,
            columns=3,
            x=v.Axis("step", "steps after the fault"),
            y=v.Axis("ratio", "loss, times the twin's", "log"),
            thin="seed",
            levels=(v.Level(2.0, "doubled", dashed=True),),
            size=(3.4, 2.4),
            caption=f"The first {SHOWN} seeds of each fault.",
        ),
    ),
    title="Alarms, scored",
)

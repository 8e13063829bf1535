"""The page of alarms: faults found before the loss has doubled, how long before, false alarms."""

import numpy as np

from jaxanatomy.measures.alarms import (
    ALL,
    EVERY_FAULT,
    SCORE,
    SHIPPED,
    SIMPLEST,
    WEIGHTS,
)
from jaxanatomy.records import RunRecord
from jaxanatomy.report import views as v
from jaxanatomy.report.common import estimate, known
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import label, plain

COLOURS = {ALL: "#1B2026", WEIGHTS: "#1F5FA8", SIMPLEST: "#F0A23B", SHIPPED: "#9AA3AD"}
SHOWN = 3  # runs of a fault whose losses are drawn


def detected(record: RunRecord) -> list[v.Row]:
    """A row for each fault, detector and interval."""
    return [
        {
            **row,
            "fault": row["fault"] if row["fault"] == EVERY_FAULT else label(row["fault"]),
            "before": estimate(row["before"], row["before_ci95"]),
            "flagged": estimate(row["flagged"], row["flagged_ci95"]),
            "first": [label(kind) for kind in row["first"]],
        }
        for row in record.summary.get("detection", [])
    ]


def closest(record: RunRecord) -> list[v.Row]:
    """The rows of the shortest interval."""
    rows = detected(record)
    least = min((row["interval"] for row in rows), default=0)
    return [row for row in rows if row["interval"] == least]


def beside(record: RunRecord) -> list[v.Row]:
    """A row for each fault, all together last, with the shares of all detectors."""
    found: dict[str, v.Row] = {}
    for row in sorted(closest(record), key=lambda row: row["fault"] == EVERY_FAULT):
        own = found.setdefault(
            row["fault"], {"fault": row["fault"], "runs": row["runs"], "doubled": row["doubled"]}
        )
        own[f"before.{row['detector']}"] = row["before"] or "no loss doubled"
        own[f"flagged.{row['detector']}"] = row["flagged"]
        if row["detector"] == ALL:
            own |= known({name: row[name] for name in ("lead", "delay", "first")})
    return list(found.values())


def by_interval(record: RunRecord) -> list[v.Row]:
    """The shares against the steps between checks."""
    rows = sorted(detected(record), key=lambda row: row["fault"] == EVERY_FAULT)
    return [{**row, "panel": row["fault"]} for row in rows if row["before"] is not None]


def wrong(record: RunRecord) -> list[v.Row]:
    """False alarms in 10,000 steps: a row for each detector, a field for each interval."""
    found: dict[str, v.Row] = {}
    for row in record.summary.get("false_alarms", []):
        own = found.setdefault(row["detector"], {"detector": row["detector"]})
        own["steps"] = row["steps"]
        own[f"every.{row['interval']}"] = estimate(row["per_10000"], row["per_10000_ci95"])
    return list(found.values())


def levels(record: RunRecord) -> list[v.Row]:
    """The level of each kind, beside the one that is shipped."""
    summary = record.summary
    return [
        {"kind": label(kind), "shipped": level, "chosen": summary["levels"][kind]}
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


def headline(record: RunRecord) -> str | None:
    """The share found in time, and the false alarms."""
    rows = {row["detector"]: row for row in closest(record) if row["fault"] == EVERY_FAULT}
    if ALL not in rows or rows[ALL]["before"] is None:
        return None

    def share(detector: str) -> str:
        found = rows[detector]["before"]
        low, high = (plain(100 * end, 0) for end in found.ends)
        return f"{plain(100 * found.value, 0)} % ({low} to {high})"

    (false, *_) = [row for row in wrong(record) if row["detector"] == ALL]
    rate = false[f"every.{rows[ALL]['interval']}"]
    return (
        f"{rows[ALL]['doubled']} of {rows[ALL]['runs']} faults doubled the loss. Alarms were "
        f"raised before that for {share(ALL)} of them: weights and updates alone find "
        f"{share(WEIGHTS)}, jumps of the loss and of the gradient alone {share(SIMPLEST)}. False "
        f"alarms in 10,000 healthy steps: {plain(rate.value, 1)} ({plain(rate.low, 1)} to "
        f"{plain(rate.high, 1)}). Intervals: Wilson's 95 %."
    )


SERIES = v.Palette("detector", COLOURS, {name: name for name in COLOURS})
PAGE = Page(
    "Alarms",
    "Faults put into training runs of a small model, and runs in which nothing happens.",
    Section(
        "Faults found in time",
        headline,
        "The loss has doubled when it is twice that of the twin, the same seed and data without "
        "the fault, batches with random targets left out; a fault that never doubles it is in no "
        "share of those found in time. At the shortest interval between checks. Levels are chosen "
        "on healthy runs of other seeds; those as shipped are for models of any size.",
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
                "Mean over places of the first check; bands: Wilson's 95 % over runs. A small "
                "model is lost within a few steps. A model that has grown is checked at once."
            ),
        ),
    ),
    Section(
        "False alarms",
        v.Table(
            "false_alarms",
            wrong,
            "False alarms in 10,000 healthy steps",
            cells=(
                v.Column("detector", "detector"),
                v.Column("healthy steps", "steps", ","),
                v.Column("a check every {} steps", "every.*", ".1f"),
            ),
        ),
        v.Table(
            "levels",
            levels,
            cells=(
                v.Column("kind", "kind"),
                v.Column("first level as shipped", "shipped", "g"),
                v.Column("chosen here", "chosen", ".3g"),
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

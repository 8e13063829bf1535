"""The sentences of growth where depth matters: no more than its intervals say."""

from jaxanatomy.growth.depth_arms import grows
from jaxanatomy.measures.arms.khop_growth import SATURATED
from jaxanatomy.measures.arms.tuning import CURVE, of_purpose
from jaxanatomy.records import RunRecord
from jaxanatomy.report.arms import arm_order
from jaxanatomy.report.common import grouped
from jaxanatomy.report.khop_growth.rows import summary
from jaxanatomy.words import first, listed, plain


def lead(record: RunRecord) -> str:
    """The task, and how many arms and seeds."""
    rows = of_purpose(record.rows, CURVE)
    task = record.config.get("task") or {}
    asked = f"{task['name']}, {task['hops']} hops: " if {"name", "hops"} <= task.keys() else ""
    return f"{asked}{len(arm_order(rows))} arms, {len({row['seed'] for row in rows})} seeds."


def verdict(record: RunRecord) -> str:
    """Which growing arms have more loss and which less, by what they are compared with."""
    sides = [
        {**row, "side": _side(row["low"], row["high"])}
        for row in summary(record)["comparisons"]
        if grows(row["arm"]) and not row["saturated"]
    ]
    parts = []
    for (at, other), rows in grouped(sides, "at", "other").items():
        told = [
            f"{side}: {first([row['arm'] for row in own])}"
            for (side,), own in grouped(rows, "side").items()
        ]
        parts.append(f"At {at}, against {other}, {'; '.join(told)}.")
    return " ".join(parts)


def _side(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "no interval"
    return "less loss" if high < 1 else "more loss" if low > 1 else "not told apart"


def smallest(record: RunRecord) -> str:
    """What the run can show."""
    found = summary(record)["smallest_difference_percent"]
    if found is None:
        return ""
    return (
        f"The smallest difference between two arms that this run can show is {plain(found, 0)} % "
        "of the loss: one of that size is told in about half of such runs."
    )


def saturated(record: RunRecord) -> str:
    """Which arms have nothing left to gain."""
    names = [arm for arm, has in summary(record)["arms"].items() if has["saturated"]]
    if not names:
        return ""
    return (
        f"Saturated, with more than {100 * SATURATED:g} % right at the last hop: {listed(names)}. "
        "Among these nothing is claimed; ask for more hops."
    )


def edges(record: RunRecord) -> str:
    """Which arms may be better at another rate."""
    names = [arm for arm, has in summary(record)["arms"].items() if has["rate_at_edge"]]
    words = "At the edge of the rates that were tried, so that another may be better: {}."
    return words.format(listed(names)) if names else ""


def read_on(record: RunRecord) -> str:
    """What depth is read on."""
    first, of = (record.config.get(f"{name}_sequences") for name in ("depth", "held_out"))
    some = f"the first {first:,} of the {of:,}" if first and of else "the first"
    return (
        "The analyses of DG section 4 on the models that the arms leave, on "
        f"{some} held-out sequences."
    )

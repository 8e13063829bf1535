"""The sentences of depth growth: no more than its intervals say."""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.growth.depth_arms import BASELINE, SHALLOW, grows
from jaxanatomy.measures.arms.tuning import CURVE, FINAL, of_purpose
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report.arms import arm_order
from jaxanatomy.report.common import estimate_of, grouped, interval, told
from jaxanatomy.report.depth_growth.rows import summary


def lead(record: RunRecord) -> str:
    """How many arms and seeds."""
    rows = of_purpose(record.rows, CURVE)
    return f"{len(arm_order(rows))} arms, {len({row['seed'] for row in rows})} seeds."


def verdict(record: RunRecord) -> str:
    """On which side of the baseline each arm ends, as far as the intervals allow."""
    found = summary(record)["arms"]
    if BASELINE not in found:
        return "The baseline is not finished: nothing to compare with yet."
    return _ended(
        {
            name: f"{told(less)} the baseline" if less else _untold(found[name], found[BASELINE])
            for name, less in _differences(found, "less_baseline").items()
        }
    )


def shallow_verdict(record: RunRecord) -> str:
    """On which side of the arm that stays shallow each grown one ends."""
    less = _differences(summary(record)["arms"], "less_shallow")
    sides = {name: f"{told(each)} {SHALLOW}" for name, each in less.items() if each}
    return _ended(dict.fromkeys(less, "cannot be told") | sides)


def unmeasured(record: RunRecord) -> str:
    """A hint where growing arms lack their control."""
    found = arm_order(of_purpose(record.rows, FINAL))
    if SHALLOW in found or not any(map(grows, found)):
        return ""
    return f"Whether depth is needed was not measured: the arms of this run lack {SHALLOW}."


def read_on(record: RunRecord) -> str:
    """What depth is read on."""
    count = record.config.get("depth_sequences")
    some = f"{count:,} rows" if count else "rows"
    return (
        f"The analyses of DG section 4 on the models that the arms leave, on {some} of held-out "
        "text in the shares of the mixture. A block has as many layers as a growth step adds."
    )


def _differences(arms: Mapping[str, Any], other: str) -> dict[str, Estimate | None]:
    """The difference of each arm's loss from another's; None without an interval."""
    found = {name: arm["eval_nll"][other] for name, arm in arms.items()}
    return {
        name: interval({"loss": estimate_of(less)}, "loss") for name, less in found.items() if less
    }


def _untold(arm: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Why an arm has no interval against the baseline."""
    why = "an interval needs two seeds that neither diverged here nor in the baseline"
    if arm["seeds"] == arm["diverged"]:
        why = "all seeds diverged"
    elif baseline["seeds"] == baseline["diverged"]:
        why = "all seeds of the baseline diverged"
    return f"cannot be told, because {why}"


def _ended(sides: Mapping[str, str]) -> str:
    rows = [{"arm": arm, "side": side} for arm, side in sides.items()]
    parts = [
        f"{', '.join(row['arm'] for row in own)}: {side}"
        for (side,), own in grouped(rows, "side").items()
    ]
    return f"Held-out loss at the end: {'; '.join(parts)}." if parts else ""

"""The sentences of depth growth: no more than its intervals say."""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.growth.depth_arms import BASELINE, SHALLOW, grows
from jaxanatomy.measures.depth_growth import stopped, summarise
from jaxanatomy.measures.tuning import CURVE, FINAL, of_purpose
from jaxanatomy.records import RunRecord
from jaxanatomy.report.depth_growth.rows import arm_order


def lead(record: RunRecord) -> str:
    """How many arms and seeds."""
    rows = of_purpose(record.rows, CURVE)
    return f"{len(arm_order(rows))} arms, {len({row['seed'] for row in rows})} seeds."


def verdict(record: RunRecord) -> str:
    """On which side of the baseline each arm ends, as far as the intervals allow."""
    found = summarise(record.rows)["arms"]
    if BASELINE not in found:
        return "The baseline is not finished: nothing to compare with yet."
    sides = {
        name: _side(arm["eval_nll"]["less_baseline"], "the baseline")
        or f"cannot be told, because {_untold(arm, found[BASELINE])}"
        for name, arm in found.items()
        if name != BASELINE
    }
    return _ended(sides)


def shallow_verdict(record: RunRecord) -> str:
    """On which side of the arm that stays shallow each grown one ends."""
    found = summarise(record.rows)["arms"]
    sides = {
        name: _side(arm["eval_nll"]["less_shallow"], SHALLOW) or "cannot be told"
        for name, arm in found.items()
        if arm["eval_nll"]["less_shallow"]
    }
    return _ended(sides)


def unmeasured(record: RunRecord) -> str:
    """A hint where growing arms lack their control."""
    found = arm_order(of_purpose(record.rows, FINAL))
    if SHALLOW in found or not any(map(grows, found)):
        return ""
    return f"Whether depth is needed was not measured: the arms of this run lack {SHALLOW}."


def diverged(record: RunRecord) -> str:
    """Which seeds have diverged, in the order of the arms."""
    lost = stopped(record.rows)
    names = [
        f"{arm}, seed {seed}"
        for arm in arm_order(of_purpose(record.rows, CURVE))
        for own, seed in sorted(lost)
        if own == arm
    ]
    words = "Diverged and left out: {}. Their last checkpoints are kept in checkpoints/."
    return words.format("; ".join(names)) if names else ""


def _side(found: Mapping[str, Any], other: str) -> str:
    """On which side of another arm a difference of losses is; empty without an interval."""
    if found["low"] is None or found["high"] is None:
        return ""
    if found["low"] <= 0 <= found["high"]:
        return f"not told apart from {other}"
    return f"better than {other}" if found["high"] < 0 else f"worse than {other}"


def _untold(arm: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Why an arm has no interval against the baseline."""
    if arm["seeds"] == arm["diverged"]:
        return "all seeds diverged"
    if baseline["seeds"] == baseline["diverged"]:
        return "all seeds of the baseline diverged"
    return "an interval needs two seeds that neither diverged here nor in the baseline"


def _ended(sides: Mapping[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, side in sides.items():
        names.setdefault(side, []).append(name)
    parts = [f"{', '.join(own)}: {side}" for side, own in names.items()]
    return f"Held-out loss at the end: {'; '.join(parts)}." if parts else ""

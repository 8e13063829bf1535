"""The tidy rows of how arms compute at their end: what edits cost, and how deep they compute.

Of every experiment whose final rows have `edited` and `depth`; rows of older versions have neither.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.growth.depth_arms import BASELINE, EXPAND, Arm
from jaxanatomy.growth.depth_edits import EXIT, KINDS, REVERSE, SWAP
from jaxanatomy.measures.arms.computed_depth import summarise_depth
from jaxanatomy.measures.arms.depth_edits import summarise_edits, summarise_loops
from jaxanatomy.measures.arms.finals import finals_by_arm, living, seed_range
from jaxanatomy.records import RunRecord
from jaxanatomy.report.arms import arm_order, looks
from jaxanatomy.report.common import estimate_of, flattened, once, only
from jaxanatomy.report.views import Row

MANY = 9  # arms that one panel can show
FLAT = "constant depth"
PROFILE = {
    "influence": "change of later answers without it",
    "attention_norm": "attention: |a| / |h|",
    "attention_cosine": "attention: cosine of a and h",
    "mlp_norm_after_attention": "MLP: |m| / |h + a|",
    "mlp_cosine_after_attention": "MLP: cosine of m and h + a",
}
_OF_EDITS = {"accuracy": "right", "rise": "rise", "agreement": "agreement", "overlap": "overlap"}


@once
def readings(record: RunRecord) -> dict[str, Any]:
    """`loops` and `edits` by arm, and the rows of `depth`."""
    by_arm = finals_by_arm(record.rows)
    return {
        "loops": summarise_loops(by_arm),
        "edits": summarise_edits(by_arm),
        "depth": summarise_depth(by_arm),
    }


@once
def living_seeds(record: RunRecord) -> dict[str, list[Row]]:
    """The final rows of each arm's seeds that did not diverge; arms without one are left out."""
    found = {arm: [*living(own).values()] for arm, own in finals_by_arm(record.rows).items()}
    return {arm: rows for arm, rows in found.items() if rows}


def unread(record: RunRecord) -> list[str]:
    """Arms with a living seed that nothing was read of."""
    return [
        arm
        for arm, seeds in living_seeds(record).items()
        if not all(row.get("edited") is not None and row.get("depth") for row in seeds)
    ]


def loops(record: RunRecord) -> list[Row]:
    """How many times the loss is what it was with the middle block applied again."""
    return [
        {"arm": arm} | {name: estimate_of(loop["change"]) for name, loop in own.items()}
        for arm, own in readings(record)["loops"].items()
        if own
    ]


@once
def edits(record: RunRecord) -> list[Row]:
    """What is `right` after each edit, at the first layer that it touches; of exits the last.

    Of text the `rise` of the loss, and how much is said as at the end: `agreement`, `overlap`.
    """
    rows = [
        {"layer": edit["layers"][0], "edit": edit["kind"], "panel": edit_panel(edit)}
        | {field: estimate_of(edit[name]) for name, field in _OF_EDITS.items() if name in edit}
        | looks(arm)
        for arm, own in readings(record)["edits"].items()
        for edit in own
    ]
    return sorted(rows, key=lambda row: [*KINDS].index(row["edit"]))


# Edits of the layers behind the first, without exits: what is small beside those.
edits_within = only(edits, lambda row: row["layer"] > 0 and row["edit"] != EXIT)


def edit_panel(edit: Mapping[str, Any]) -> str:
    """What was done, for a title."""
    if edit["kind"] == REVERSE:
        return f"{len(edit['layers'])} layers in reverse order"
    if edit["kind"] != SWAP:
        return KINDS[edit["kind"]].partition(",")[0]
    width = len(edit["layers"]) // 2
    return "layer exchanged with the next" if width == 1 else f"block of {width} with the next"


def exits(record: RunRecord) -> list[Row]:
    """What is said as at the end where a model is left after a layer."""
    return in_families([row for row in edits(record) if row["edit"] == EXIT])


def in_families(rows: Sequence[Row]) -> list[Row]:
    """Rows of arms in panels of their families, the baseline in each; one panel for few arms."""
    order = arm_order(rows)
    families = {arm: family(arm) if len(order) > MANY else "" for arm in order}
    found = []
    for panel in dict.fromkeys(families.values()):
        found += [
            {**row, "panel": panel}
            for row in rows
            if row["arm"] == BASELINE or families[row["arm"]] == panel
        ]
    return found


def family(arm: str) -> str:
    """The arms that an arm is shown among."""
    parsed = Arm.parse(arm)
    if not parsed.grows:
        return FLAT
    if parsed.base == EXPAND:
        return "one-step expansion"
    return "growth with other settings" if parsed.changes else "growth and controls"


def depth_values(record: RunRecord) -> list[Row]:
    """Each reading of each arm, and its `difference` from the baseline's."""
    return list(map(flattened, readings(record)["depth"]))


# Those of arms that have a baseline beside them.
depth_differences = only(depth_values, lambda row: "difference" in row)


@once
def read_of_depth(record: RunRecord) -> dict[str, list[Row]]:
    """What was read of each living seed, by arm."""
    return {
        arm: [row["depth"] for row in seeds if row.get("depth")]
        for arm, seeds in living_seeds(record).items()
    }


def depth_profile(record: RunRecord) -> list[Row]:
    """What each layer does and adds: means over seeds and their ranges, a field of each."""
    rows = []
    for arm, found in read_of_depth(record).items():
        for layer in range(len(found[0]["influence"]) if found else 0):
            own = {
                name: estimate_of(seed_range([each[name][layer] for each in found]))
                for name in PROFILE
            }
            rows.append({"layer": layer, **own, **looks(arm)})
    return in_families(rows)


def similarities(record: RunRecord) -> list[Row]:
    """The cosine of every two blocks of `block` layers that share none: means over seeds."""
    size = record.config.get("block", 1)
    return _matrices(record, lambda own: own.get("similarity"), lambda a, b: abs(a - b) >= size)


def effects(name: str, record: RunRecord) -> list[Row]:
    """One of the effects of what is silent on later layers: means over seeds."""
    return _matrices(record, lambda own: own["effects"].get(name), lambda a, b: b > a)


def _matrices(
    record: RunRecord,
    read: Callable[[Row], Any],
    shown: Callable[[int, int], bool],
) -> list[Row]:
    rows = []
    for arm, found in read_of_depth(record).items():
        own = [matrix for matrix in map(read, found) if matrix]
        if own:
            mean_LL = np.mean(np.array(own, float), axis=0)
            rows += [
                {"panel": arm, "layer": b, "other": a, "value": float(value)}
                for (a, b), value in np.ndenumerate(mean_LL)
                if shown(a, b)
            ]
    return rows

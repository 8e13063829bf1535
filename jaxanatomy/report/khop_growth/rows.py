"""The tidy rows of growth where depth matters: what its tables and figures are made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxanatomy.growth.depth_arms import BASELINE, Arm, grows
from jaxanatomy.growth.depth_edits import EXIT
from jaxanatomy.measures.arms.finals import seed_range
from jaxanatomy.measures.arms.khop_growth import is_flat, summarise
from jaxanatomy.measures.statistics.estimates import Estimate, wilson_interval
from jaxanatomy.records import RunRecord
from jaxanatomy.report import arms as shared
from jaxanatomy.report.arms import arm_order, cost_fields, looks
from jaxanatomy.report.common import estimate_of, flattened, known, once
from jaxanatomy.report.model_readings.rows import FLAT, MANY, family, in_families, living_seeds
from jaxanatomy.report.views import Row

GUESSING = "guessing"
ITS = "the arm itself"


@once
def summary(record: RunRecord) -> dict[str, Any]:
    """What `measures.khop_growth.summarise` has of a run."""
    return summarise(record.rows)


def arms(record: RunRecord) -> list[Row]:
    """What each arm comes to, what it costs, and how many times the baseline's loss it has."""
    found = summary(record)
    ratios = {row["arm"]: row for row in found["comparisons"] if row["other"] == BASELINE}
    rows = []
    for name, arm in found["arms"].items():
        own = {measure: arm[measure] for measure in ("layers", "eval_nll", "accuracy")}
        own |= {"ratio": estimate_of(ratios.get(name))}
        own |= {"saturated": arm["saturated"] or None, "edge": arm["rate_at_edge"] or None}
        rows.append({**cost_fields(name, arm), **flattened(own)})
    return rows


def ratios(record: RunRecord) -> list[Row]:
    """How many times another's loss an arm has, by what it is compared with and at what."""
    found = summary(record)
    smallest = 1 + (found["smallest_difference_percent"] or 0) / 100
    lines = {"told": smallest, "least": 1 / smallest} if smallest > 1 else {}
    panels: dict[str, list[Row]] = {}
    for row in found["comparisons"]:
        ratio, field = estimate_of(row), "saturated" if row["saturated"] else "ratio"
        panel = f"at {row['at']}, against {row['other']}"
        panel += "" if grows(row["arm"]) else f": {FLAT}"
        own = known({field: ratio})
        panels.setdefault(panel, []).append({"arm": row["arm"], "panel": panel, **lines, **own})
    return [row for rows in panels.values() for row in rows]


def by_hop(record: RunRecord) -> list[Row]:
    """What each arm gets wrong by hop, over seeds, in a panel of its family; guessing beside."""
    own = [
        {"hop": hop, "wrong": each, **looks(arm)}
        for arm, seeds in living_seeds(record).items()
        for hop, each in enumerate(_wrong_by_hop(seeds), 1)
    ]
    return _beside_guessing(record, own)


def by_hop_of_one_seed(record: RunRecord) -> list[Row]:
    """The same of the first seed of each arm, with Wilson's interval.

    It has as many answers as there are held-out sequences: those of one sequence depend on each
    other, and it takes them for one.
    """
    own = [
        {"hop": hop, "wrong": wilson_interval(1 - share, len(row["unit_tokens"])), **looks(arm)}
        for arm, (row, *_) in living_seeds(record).items()
        for hop, share in enumerate(row["accuracy_by_hop"], 1)
    ]
    return _beside_guessing(record, own)


def _beside_guessing(record: RunRecord, own: Sequence[Row]) -> list[Row]:
    level = [
        {"hop": hop, "wrong": 1 - share, "operator": GUESSING, "look": GUESSING}
        for hop, share in enumerate(summary(record)["guessing_by_hop"], 1)
    ]
    rows = in_families(own)
    panels = dict.fromkeys(row["panel"] for row in rows)
    return rows + [{**row, "panel": panel} for panel in panels for row in level]


def _wrong_by_hop(seeds: Sequence[Row]) -> list[Estimate | float | None]:
    """Of each hop the mean share of wrong answers, with the lowest and the highest seed."""
    wrong_SK = 1 - np.array([row["accuracy_by_hop"] for row in seeds])
    return [estimate_of(seed_range(wrong_S)) for wrong_S in wrong_SK.T]


def by_cost(record: RunRecord) -> list[Row]:
    """What arms get wrong at some hops, against layers and FLOPs; constant depths are a line."""
    found = summary(record)
    guessed = found["guessing_by_hop"]
    wrong = {arm: _wrong_by_hop(seeds) for arm, seeds in living_seeds(record).items()}
    rows = []
    for hop in some_hops(len(guessed)):
        for arm in sorted(wrong, key=lambda each: found["arms"][each]["layers"]):
            has, own = found["arms"][arm], wrong[arm][hop - 1]
            series = FLAT if is_flat(arm) else arm
            if len(wrong) > MANY and not is_flat(arm):
                series = family(arm) if grows(arm) else f"{FLAT}, {looks(arm)['look']}"
            place = {"panel": f"hop {hop}", "layers": has["layers"], "flops": has["flops"]}
            names = {"series": series, "points": not is_flat(arm), "guessing": 1 - guessed[hop - 1]}
            # Of points no band, which would join them.
            rows.append({**place, **names, "wrong": own if is_flat(arm) else own.value})
    return rows


def curves(record: RunRecord) -> list[Row]:
    """The held-out loss of each arm along its way, in a panel of its family."""
    return in_families(shared.curves(record))


def beside_flat(record: RunRecord) -> list[Row]:
    """The curve of each growing arm, in a panel with those of constant depths that it has had."""
    own = shared.curves(record)
    depths: dict[str, list[int]] = {}
    for row in record.rows:
        if row["kind"] == "curve" and row["layers"] not in depths.setdefault(row["arm"], []):
            depths[row["arm"]].append(row["layers"])
    flat: dict[int, str] = {}
    for arm in arm_order(own):
        if is_flat(arm):
            flat.setdefault(depths[arm][0], arm)
    rows = []
    for arm in arm_order(own):
        if grows(arm) and not Arm.parse(arm).equal:
            beside = {flat[each]: each for each in depths[arm] if each in flat}
            rows += [{**row, "panel": arm, "depth": ITS} for row in own if row["arm"] == arm]
            rows += [
                {**row, "panel": arm, "depth": f"{each} layers from the start"}
                for other, each in beside.items()
                for row in own
                if row["arm"] == other
            ]
    return rows


def exits(record: RunRecord) -> list[Row]:
    """What is right by hop of a model that is left after each layer; whole after the last."""
    rows = []
    for arm, has in summary(record)["arms"].items():
        left = [edit for edit in has["edits"] if edit["kind"] == EXIT]
        whole = [each["mean"] for each in has["accuracy_by_hop"]]
        after = [(edit["layers"][0], edit["accuracy_by_hop"]) for edit in left]
        for layer, right_K in [*after, (has["layers"] - 1, whole)] if left else ():
            rows += [
                {"arm": arm, "panel": arm, "layer": layer, "hop": hop, "right": right}
                for hop, right in enumerate(right_K, 1)
            ]
    return rows


def some_hops(hops: int) -> list[int]:
    """A quarter, a half, three quarters and all of the hops."""
    return sorted({-(-hops * part // 4) for part in (1, 2, 3, 4)}) if hops else []

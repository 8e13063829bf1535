"""The tidy rows of growth where depth matters: what its tables and figures are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxanatomy.growth.depth_arms import BASELINE, grows
from jaxanatomy.growth.maps import OPERATORS
from jaxanatomy.measures.khop_growth import TUNED_BY, budget, summarise
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report import arms as shared
from jaxanatomy.report.arms import arm_order, cost_fields, looks
from jaxanatomy.report.common import estimate_of, known, once, tuned
from jaxanatomy.report.views import Row

MANY = 9  # arms that one panel can show
GUESSING = "guessing by the symbol"
FLAT = "constant depth"
ITS = "the arm itself"
_GROWING = (*OPERATORS, "aligned", "random_copies", "fresh_layers")


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
        more = {
            "layers": arm["layers"],
            "loss": estimate_of(arm["eval_nll"]),
            "ratio": estimate_of(ratios.get(name)),
            "saturated": arm["saturated"] or None,
            "edge": arm["rate_at_edge"] or None,
        }
        hops = arm["accuracy_by_hop"]
        more |= {"last": estimate_of(hops[-1])} if hops else {}
        rows.append({**cost_fields(name, arm), **known(more)})
    return rows


def ratios(record: RunRecord) -> list[Row]:
    """How many times another's loss an arm has: a panel for each of those, and each budget."""
    found = summary(record)
    smallest = 1 + (found["smallest_difference_percent"] or 0) / 100
    rows = []
    for row in found["comparisons"]:
        field = "saturated" if row["saturated"] else "ratio"
        panel = f"{row['at']}, against {row['other']}"
        reach = {"shown": smallest, "least": 1 / smallest} if smallest > 1 else {}
        own = {"arm": row["arm"], "panel": panel, **reach, **known({field: estimate_of(row)})}
        rows.append(own | known({"interval": estimate_of(row)}))
    return sorted(
        rows, key=lambda row: list(dict.fromkeys(r["panel"] for r in rows)).index(row["panel"])
    )


def by_hop(record: RunRecord) -> list[Row]:
    """The accuracy of each arm by hop, in a panel of its family; guessing beside."""
    found = summary(record)
    own = [
        {"hop": hop, "accuracy": Estimate(**_value(each)), **looks(arm)}
        for arm, has in found["arms"].items()
        for hop, each in enumerate(has["accuracy_by_hop"], 1)
    ]
    level = [
        {"hop": hop, "accuracy": share, "operator": GUESSING, "look": GUESSING}
        for hop, share in enumerate(found["guessing_by_hop"], 1)
    ]
    rows = in_families(own)
    panels = dict.fromkeys(row["panel"] for row in rows)
    return rows + [{**row, "panel": panel} for panel in panels for row in level]


def by_cost(record: RunRecord) -> list[Row]:
    """The accuracy at some hops against layers and FLOPs: constant depths as a line, others as
    points."""
    found = summary(record)
    guessed = found["guessing_by_hop"]
    rows = []
    for hop in some_hops(len(guessed)):
        for arm, has in found["arms"].items():
            if not has["accuracy_by_hop"]:
                continue
            is_flat = not grows(arm) and budget(arm)[0] == "" and looks(arm)["look"] == shared.PLAIN
            own = {"layers": has["layers"], "flops": has["flops"], "guessing": guessed[hop - 1]}
            own |= {"accuracy": Estimate(**_value(has["accuracy_by_hop"][hop - 1]))}
            names = {"series": FLAT if is_flat else arm, "points": not is_flat}
            rows.append({"panel": f"hop {hop}", **names, **own})
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
        if len(depths[arm]) == 1 and not budget(arm)[0] and looks(arm)["look"] == shared.PLAIN:
            flat.setdefault(depths[arm][0], arm)
    rows = []
    for arm in arm_order(own):
        if grows(arm) and not budget(arm)[0]:
            beside = {flat[each]: each for each in depths[arm] if each in flat}
            rows += [{**row, "panel": arm, "depth": ITS} for row in own if row["arm"] == arm]
            rows += [
                {**row, "panel": arm, "depth": f"{each} layers from the start"}
                for other, each in beside.items()
                for row in own
                if row["arm"] == other
            ]
    return rows


def loops(record: RunRecord) -> list[Row]:
    """How many times the loss is what it was with the middle block applied again."""
    return [
        {"arm": arm} | {name: estimate_of(loop["change"]) for name, loop in has["loops"].items()}
        for arm, has in summary(record)["arms"].items()
        if has["loops"]
    ]


def rates(record: RunRecord) -> list[Row]:
    """The loss of each learning rate that was tried."""
    return tuned(record.rows, TUNED_BY, summary(record)["arms"])


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
    operator = looks(arm)["operator"]
    if not grows(arm):
        return FLAT
    if operator.startswith("expand"):
        return "one-step expansion"
    return "growth and controls" if operator in _GROWING else "growth with other settings"


def some_hops(hops: int) -> list[int]:
    """A quarter, a half, three quarters and all of the hops."""
    return sorted({-(-hops * part // 4) for part in (1, 2, 3, 4)}) if hops else []


def _value(found: Mapping[str, float]) -> dict[str, float]:
    return {"value": found["mean"], "low": found["low"], "high": found["high"]}

"""What pages of arms that grow in depth share: how arms look, their curves, what they cost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.growth import depth_arms
from jaxanatomy.measures.arms.finals import stopped
from jaxanatomy.measures.arms.tuning import CURVE, losses_by_rate, of_purpose
from jaxanatomy.records import RunRecord
from jaxanatomy.report import views as v
from jaxanatomy.report.common import ARM, counted, flat, known, over_seeds
from jaxanatomy.report.sections import Section
from jaxanatomy.report.views import Row

COLOURS = {
    depth_arms.BASELINE: "#1B2026",
    depth_arms.SHALLOW: "#9AA3AD",
    depth_arms.MEAN_DEPTH: "#C2855A",
    "midas": "#AE2320",
    "lidas": "#1F5FA8",
    "stack_top": "#5B8C5A",
    "stack_last": "#8A6FB0",
    "insert_zero": "#F0A23B",
    depth_arms.ALIGNED: "#4E9DB3",
    depth_arms.RANDOM: "#C98BB9",
    depth_arms.FRESH: "#D55E00",
}
PLAIN, SCALED = "plain", "LN-scaling"
EQUAL, SECONDS = "equal FLOPs", "equal seconds"
BOTH, SCALED_SECONDS = f"{SCALED}, {EQUAL}", f"{SCALED}, {SECONDS}"
_STYLES = {
    SCALED: "--",
    EQUAL: ":",
    BOTH: "-.",
    SECONDS: (0, (5, 1, 1, 1, 1, 1)),
    SCALED_SECONDS: (0, (2, 1)),
}
OPERATORS = v.Palette("operator", COLOURS)
LOOKS = v.Dashes("look", _STYLES, {name: name for name in _STYLES})
FROM_ZERO = (0, None)
STEPS = v.Axis("step", "steps", limits=FROM_ZERO)
PLACES = (
    STEPS,
    v.Axis("tokens", "million tokens", unit=1e6, limits=FROM_ZERO),
    v.Axis("flops", "TFLOP of matrix products", unit=1e12, limits=FROM_ZERO),
    v.Axis("seconds", "seconds for one seed", limits=FROM_ZERO),
)


def looks(arm: str) -> Row:
    """What tells an arm's lines and points from others': its colour, and its line style."""
    parsed = depth_arms.Arm.parse(arm)
    equal = {"flops": EQUAL, "seconds": SECONDS}.get(parsed.equal)
    look = ", ".join(filter(None, [SCALED if parsed.ln_scaling else "", equal])) or PLAIN
    operator = arm.removesuffix(depth_arms.EQUAL_FLOPS).removesuffix(depth_arms.EQUAL_SECONDS)
    operator = operator.removeprefix(depth_arms.LN_SCALING).removeprefix("_") or depth_arms.BASELINE
    return {"arm": arm, "operator": operator, "look": look}


def arm_order(rows: Iterable[Row]) -> list[str]:
    """The arms of some rows, in their order."""
    return list(dict.fromkeys(row["arm"] for row in rows))


def arms_and_seeds(record: RunRecord) -> str:
    """How many there are."""
    return counted(of_purpose(record.rows, CURVE), arms="arm", seeds="seed")


def cost_fields(name: str, arm: Row) -> Row:
    """What `measures.arms.finals.account` has of an arm, and how many of its seeds are `kept`."""
    fields = ("learning_rate", "steps", "tokens", "flops", "seconds", "tokens_per_second", "mfu")
    kept = len(arm["seeds"]) - len(arm["diverged"])
    found = known({field: arm[field] for field in fields})
    return {"arm": name, "mfu": "not known", "kept": kept, **found}


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


def meaning(record: RunRecord) -> list[Row]:
    """What each arm is."""
    arms = arm_order(of_purpose(record.rows, CURVE))
    return [{"arm": arm, "what": depth_arms.describe(arm)} for arm in arms]


def points(record: RunRecord, places: Sequence[str]) -> list[Row]:
    """The held-out loss of each arm along its way: means and ranges over living seeds.

    `grown` says where a stage begins.
    """
    lost = stopped(record.rows)
    rows = of_purpose(record.rows, CURVE)
    rows = [row for row in rows if (row["arm"], row["seed"]) not in lost]
    found = []
    for arm in arm_order(rows):
        own = over_seeds([row for row in rows if row["arm"] == arm], "eval_nll", places)
        stages = [point["stage"] for point in own]
        for at, point in enumerate(own):
            found.append({**point, "grown": at > 0 and stages[at] != stages[at - 1]})
    return found


def curves(record: RunRecord) -> list[Row]:
    """These points against all that arms took, with what tells arms apart."""
    found = points(record, [axis.field for axis in PLACES])
    return [{**point, **looks(point["arm"])} for point in found]


def courses(name: str, rows: Callable[[RunRecord], Sequence[Row]], **more: Any) -> v.Curves:
    """Curves of arms against what they took, with a band of their seeds and growth as points."""
    shared = {"x": PLACES, "series": OPERATORS, "dashes": LOOKS, "band": "loss"}
    grown = {"point": "grown", "point_label": "has just grown"}
    return v.Curves(name, rows, **shared | grown | more)


def costs_table(rows: Callable[[RunRecord], Sequence[Row]]) -> v.Table:
    """What arms cost, of rows with `cost_fields`."""
    return v.Table(
        "costs",
        rows,
        "What each arm costs, of one seed",
        cells=(
            ARM,
            v.Column("steps", "steps", ","),
            v.Column("tokens", "tokens", ","),
            v.Column("TFLOP", "flops", _teraflops),
            v.Column("seconds", "seconds", ",.1f"),
            v.Column("tokens per second", "tokens_per_second", ",.0f"),
            v.Column("MFU", "mfu", ".1%"),
        ),
        note=(
            "FLOPs are those of matrix products, three times the forward. Seconds are means over "
            "seeds, leave out compilation and evaluation, and depend on the machine. MFU: the "
            "FLOPs in these seconds as a share of what the devices can do at most, as published "
            "for bfloat16 products or as train.peak_flops says."
        ),
        printed=True,
    )


def _teraflops(flops: float) -> str:
    """A cost in TFLOP, small ones to two digits."""
    size = flops / 1e12
    return f"{size:,.2f}" if size >= 1 else f"{size:.2g}"


def tuned(rows: Iterable[Row], measure: str, arms: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row for each arm: the loss of each learning rate that was tried, and which was taken.

    Args:
      rows: Of a run.
      measure: Field of the loss that rates are chosen by.
      arms: Of its summary, with `learning_rate` and `rate_at_edge`.
    """
    found = []
    for arm, losses in losses_by_rate(rows, measure).items():
        own = arms.get(arm, {})
        taken = {"taken": own.get("learning_rate"), "edge": own.get("rate_at_edge") or None}
        found.append({"arm": arm, **flat({"loss": losses}, "loss"), **known(taken)})
    return found


def rates(
    measure: str,
    arms: Callable[[RunRecord], Mapping[str, Mapping[str, Any]]],
    lead: str,
    write: str = ".3f",
    printed: bool = False,
) -> Section:
    """The learning rates that were tried, and those taken; arguments as of `tuned`."""
    table = v.Table(
        "rates",
        lambda record: tuned(record.rows, measure, arms(record)),
        "Held-out loss of the tuning seeds at the end by learning rate",
        cells=(
            ARM,
            v.Column("{}", "loss.*", write, null="diverged"),
            v.Column("taken", "taken", "g"),
            v.Column("at the edge of the grid", "edge"),
        ),
        note="Beyond the edge of the grid a rate may be better.",
        printed=printed,
    )
    return Section("Learning rates", lead, table)


MEANING = v.Table(
    "meaning",
    meaning,
    "What each arm is",
    cells=(ARM, v.Column("what", "what")),
    folded=True,
    prose=True,
)

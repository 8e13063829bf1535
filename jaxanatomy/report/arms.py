"""What pages of arms that grow in depth share: how arms look, their curves, what they cost."""

from collections.abc import Callable, Iterable, Sequence

from jaxanatomy.growth.depth_arms import (
    ALIGNED,
    BASELINE,
    EQUAL_FLOPS,
    EQUAL_SECONDS,
    FRESH,
    LN_SCALING,
    MEAN_DEPTH,
    RANDOM,
    SHALLOW,
    Arm,
    describe,
)
from jaxanatomy.measures.arms.finals import stopped
from jaxanatomy.measures.arms.tuning import CURVE, of_purpose
from jaxanatomy.records import RunRecord
from jaxanatomy.report import views as v
from jaxanatomy.report.common import ARM, known, over_seeds
from jaxanatomy.report.views import Row

COLOURS = {
    BASELINE: "#1B2026",
    SHALLOW: "#9AA3AD",
    MEAN_DEPTH: "#C2855A",
    "midas": "#AE2320",
    "lidas": "#1F5FA8",
    "stack_top": "#5B8C5A",
    "stack_last": "#8A6FB0",
    "insert_zero": "#F0A23B",
    ALIGNED: "#4E9DB3",
    RANDOM: "#C98BB9",
    FRESH: "#D55E00",
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
GROWN = "has just grown"
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
    parsed = Arm.parse(arm)
    equal = {"flops": EQUAL, "seconds": SECONDS}.get(parsed.equal)
    look = ", ".join(filter(None, [SCALED if parsed.ln_scaling else "", equal])) or PLAIN
    operator = arm.removesuffix(EQUAL_FLOPS).removesuffix(EQUAL_SECONDS)
    operator = operator.removeprefix(LN_SCALING).removeprefix("_") or BASELINE
    return {"arm": arm, "operator": operator, "look": look}


def arm_order(rows: Iterable[Row]) -> list[str]:
    """The arms of some rows, in their order."""
    return list(dict.fromkeys(row["arm"] for row in rows))


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
    return [{"arm": arm, "what": describe(arm)} for arm in arms]


def curves(record: RunRecord) -> list[Row]:
    """The held-out loss of each arm along its way: means and ranges over living seeds."""
    lost = stopped(record.rows)
    rows = of_purpose(record.rows, CURVE)
    rows = [row for row in rows if (row["arm"], row["seed"]) not in lost]
    found = []
    for arm in arm_order(rows):
        own = [row for row in rows if row["arm"] == arm]
        points = over_seeds(own, "eval_nll", [axis.field for axis in PLACES])
        stages = [point["stage"] for point in points]
        for at, point in enumerate(points):
            grown = at > 0 and stages[at] != stages[at - 1]
            found.append({**point, **looks(arm), "grown": grown})
    return found


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


MEANING = v.Table(
    "meaning",
    meaning,
    "What each arm is",
    cells=(ARM, v.Column("what", "what")),
    folded=True,
    prose=True,
)

"""Sections of the page of roles that are moved: widths, registers, skip gates."""

from jaxanatomy.data.registers import KINDS
from jaxanatomy.measures.arms.finals import finals_by_arm, living, seed_range
from jaxanatomy.measures.arms.registers import FREQUENT, KIND, ON_FIRST, ON_REGISTERS, REGISTERS
from jaxanatomy.measures.arms.role_moves import UNIFORM
from jaxanatomy.measures.arms.role_shape import CV
from jaxanatomy.measures.arms.skips import ORDERS
from jaxanatomy.measures.arms.tuning import of_purpose
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import ARM, entries, estimate_of, grouped
from jaxanatomy.report.sections import Section
from jaxanatomy.words import label, plain

STRAIGHT, WALK = "straight on, at Adam's rates", "a random walk at these rates"
MOVES = {
    REGISTERS: style.SERIES[1],
    FREQUENT: style.SERIES[0],
    STRAIGHT: style.MUTED,
    WALK: style.CROSS,
}


# What each arm of uneven layers is less that of equal ones.
widths = entries("widths", "arms")
registers = entries("registers")  # what becomes of registers, a row for each arm


def slope(record: RunRecord) -> str | None:
    """How much of a width a layer's CV follows."""
    found = estimate_of((record.summary.get("widths") or {}).get("slope"))
    if not isinstance(found, Estimate):
        return None
    told = "follows the widths" if found.low > 0 else "runs against the widths"
    verdict = told if not found.low <= 0 <= found.high else "is not told apart from equal layers'"
    return (
        f"Specialization {verdict}: where a layer is 10 % wider than the mean, its CV is "
        f"{plain(10 * found.value, 1)} % above that of the same layer among equal ones "
        f"({plain(10 * found.low, 1)} to {plain(10 * found.high, 1)} %), mean over the arms."
    )


def by_layer(record: RunRecord) -> list[v.Row]:
    """The CV of each layer, means over seeds and their ranges."""
    shown = {UNIFORM, *(row["arm"] for row in widths(record))}
    rows = []
    for arm, seeds in finals_by_arm(record.rows).items():
        own = [row["features"][CV] for row in living(seeds).values()]
        for layer, values in enumerate(zip(*own, strict=True)) if arm in shown else ():
            values = [value for value in values if value is not None]
            if values and len(shown) > 1:
                found = estimate_of(seed_range(values))
                rows.append({"arm": arm, "layer": layer, "cv": found})
    return rows


def moves(record: RunRecord) -> list[v.Row]:
    """How far rows of the embedding have moved by step, means over seeds and their ranges."""
    followed = [row for row in of_purpose(record.rows, KIND) if row["step"]]
    rows = []
    for (arm, step), own in sorted(grouped(followed, "arm", "step").items()):
        place = {"panel": label(arm), "step": step}
        for name, field in ((STRAIGHT, "straight"), (WALK, "walk")):
            rows.append({**place, "rows": name, "moved": own[0][field]})
        for name in (REGISTERS, FREQUENT):
            values = [row[name]["moved"] for row in own]
            if any(values):
                found = estimate_of(seed_range(values))
                rows.append({**place, "rows": name, "moved": found})
    return rows


def placed(record: RunRecord) -> list[v.Row]:
    """What each order of skipping is worth."""
    return [
        row
        | {"order": label(row["order"])}
        | {f"cost.{size}": cost for size, cost in enumerate(row["cost_K"], 1)}
        for row in entries("skips", "orders", key="order")(record)
    ]


def costs(record: RunRecord) -> list[v.Row]:
    """What is lost by the number of layers that are skipped, and by any."""
    orders = (record.summary.get("skips") or {"orders": {}})["orders"]
    lines = {label(name): own["cost_K"] for name, own in orders.items()}
    lines["any, on average"] = next((own["random_K"] for own in orders.values()), [])
    return [
        {"order": name, "layers": size, "cost": cost}
        for name, cost_K in lines.items()
        for size, cost in enumerate(cost_K, 1)
        if cost is not None
    ]


WIDTHS = Section(
    "Widths",
    slope,
    "Arms of uneven layers have the same layers in other places, and as many parameters as equal "
    "ones. LR section 6 finds specialization in the last two layers where widths are equal, and "
    "over five where they rise.",
    v.Table(
        "widths",
        widths,
        "Where specialization stands, less that of equal layers on the same seeds",
        cells=(
            ARM,
            v.Column("place of the CV, 0 first to 1 last", "centre", "+.3f"),
            v.Column("layers over which it is spread", "spread", "+.3f"),
            v.Column("roles: distance to equal layers", "strips.between", ".2f"),
            v.Column("among seeds of one arm", "strips.within", ".2f"),
            v.Column("p", "strips.p", ".3f"),
            v.Column("widths, over the mean", "widths", ".2f"),
        ),
        note=(
            "Intervals hold for all of this table and the slope at once (95 %). p: how often any "
            "other split of the strips of both arms into two is as far apart."
        ),
        printed=True,
    ),
    v.Curves(
        "cv_by_layer",
        by_layer,
        x=v.Axis("layer", "layer", "names"),
        y=v.Axis("cv", "CV of co-magnitudes"),
        series=v.Palette("arm"),
        band="cv",
        size=(6.0, 3.0),
        caption="Means over seeds and their ranges.",
    ),
)
REGISTERS_SECTION = Section(
    "Registers",
    "Places before every window at which nothing is predicted: "
    + "; ".join(f"{label(name)}: {help}" for name, help in KINDS.items())
    + ". LR found that its registers moved 30 times less than a gradient of one direction would "
    "have moved them; its figures (RMS 0.01807 to 0.01812) differ by 5e-5, not by 5e-4 as printed.",
    v.Table(
        "registers",
        registers,
        "What becomes of registers",
        cells=(
            ARM,
            v.Column("attention on registers", ON_REGISTERS, ".3f"),
            v.Column("on the first token", ON_FIRST, ".3f"),
            v.Column("registers moved, RMS", f"{REGISTERS}.moved", ".3g"),
            v.Column("their RMS changed by", f"{REGISTERS}.rms_change", "+.2g"),
            v.Column("times less than straight on", f"{REGISTERS}.times_less", ".3g"),
            v.Column("frequent tokens moved", f"{FREQUENT}.moved", ".3g"),
            v.Column("times less than straight on", f"{FREQUENT}.times_less", ".3g"),
        ),
        note="Means over seeds with 95 % intervals; of attention over layers and heads, too.",
        printed=True,
    ),
    v.Curves(
        "moves",
        moves,
        columns=3,
        x=v.Axis("step", "step"),
        y=v.Axis("moved", "RMS of what entries have moved", "log"),
        series=v.Palette("rows", MOVES),
        band="moved",
        size=(3.6, 2.8),
        caption=(
            "A step of Adam is about as large as its rate: straight on is the sum of the rates, "
            "the walk of a gradient whose sign is noise the root of the sum of their squares."
        ),
    ),
)
SKIPS = Section(
    "Skip gates",
    "Layers that are left out of the trained models of equal layers, nothing being trained for "
    "it, on held-out text that no role was read on. Every set of each size is measured: 1/2 of "
    "them cost more than one chosen at random.",
    v.Table(
        "skips",
        placed,
        "Sets of as many layers that cost more, above 1/2",
        cells=(
            v.Column("layers are left out", "order"),
            v.Column("share, less 1/2", "share", "+.2f"),
            v.Column("nats lost, {} out", "cost.*", ".3f"),
        ),
        note=(
            "; ".join(f"{label(name)}: {help}" for name, help in ORDERS.items())
            + ". Intervals by dealing layers anew, in all seeds alike; those of roles and scores "
            "hold at once."
        ),
        printed=True,
    ),
    v.Curves(
        "skip_costs",
        costs,
        x=v.Axis("layers", "layers left out", "names"),
        y=v.Axis("cost", "nats a token lost"),
        series=v.Palette("order"),
        point="always",
        size=(5.0, 3.0),
        caption="Means over seeds.",
    ),
)

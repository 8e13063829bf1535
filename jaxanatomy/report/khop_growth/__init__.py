"""The page of growth where depth matters: does it pay, where, and against what."""

import dataclasses

from jaxanatomy.growth.depth_arms import grows
from jaxanatomy.measures.arms.khop_growth import SATURATED, TUNED_BY
from jaxanatomy.records import RunRecord
from jaxanatomy.report import arms, model_readings, role_courses, style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import ARM, grouped, sides
from jaxanatomy.report.khop_growth import rows
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import plain


def lead(record: RunRecord) -> str:
    """The task, and how many arms and seeds."""
    task = record.config.get("task") or {}
    asked = f"{task['name']}, {task['hops']} hops: " if {"name", "hops"} <= task.keys() else ""
    return f"{asked}{arms.arms_and_seeds(record)}"


def verdict(record: RunRecord) -> str:
    """Which growing arms have more loss and which less, by what they are compared with."""
    found = [row for row in rows.ratios(record) if grows(row["arm"]) and "saturated" not in row]
    parts = [
        f"{panel}: {sides(own, 'ratio', 1.0)}" for (panel,), own in grouped(found, "panel").items()
    ]
    return f"Held-out loss, {'. Held-out loss, '.join(parts)}." if parts else ""


def smallest(record: RunRecord) -> str:
    """What the run can show."""
    found = rows.summary(record)["smallest_difference_percent"]
    if found is None:
        return ""
    return (
        f"The smallest difference between two arms that this run can show is {plain(found, 0)} % "
        "of the loss: one of that size is told in about half of such runs."
    )


def read_on(record: RunRecord) -> str:
    """What depth is read on."""
    first, of = (record.config.get(f"{name}_sequences") for name in ("depth", "held_out"))
    some = f"the first {first:,} of the {of:,}" if first and of else "the first"
    return (
        f"The analyses of DG section 4 on the models that the arms leave, on {some} held-out "
        "sequences."
    )


WRONG = v.Axis("wrong", "share of answers that are wrong", "log")
RATIO = "times the other's held-out loss"
LOOKS = v.Dashes("look", {**arms.LOOKS.styles, rows.GUESSING: (0, (1, 2))}, arms.LOOKS.names)
ARMS_AND_GUESSING = v.Palette("operator", {**arms.COLOURS, rows.GUESSING: style.MUTED})
RATIOS = v.Strip(
    "ratios",
    rows.ratios,
    place=v.Axis("arm", scale="names"),
    measure=v.Axis("ratio", RATIO, "log"),
    marks=(
        v.Mark("ratio"),
        v.Mark("saturated", "both arms are saturated: nothing is claimed", hollow=True),
    ),
    levels=(
        v.Level(1.0),
        v.Level("told", "the smallest difference that this run can show", style.MUTED, True),
        v.Level("least", "", style.MUTED, True),
    ),
    share=False,
    caption=(
        "Left of 1 the arm has less loss than the one it is compared with. Intervals are over "
        "seeds and held-out sequences, and hold with 95 % for all pairs of this figure at once; "
        "they reach further by what another of the learning rates that were tried may gain. "
        "random_copies is one draw of copies in all seeds: its intervals have nothing of others."
    ),
)
ARMS = v.Table(
    "arms",
    rows.arms,
    "What each arm comes to, mean over seeds",
    cells=(
        ARM,
        v.Column("layers", "layers"),
        v.Column("seeds", "kept"),
        v.Column("rate", "learning_rate", "g"),
        v.Column("held-out loss", "eval_nll", ".3g"),
        v.Column("times the baseline's", "ratio", ".3g"),
        v.Column("right, all hops", "accuracy", ".3f"),
        v.Column("saturated", "saturated"),
        v.Column("rate at the edge", "edge"),
    ),
    note=(
        "Loss in nats and share of right answers, means over hops, with the lowest and highest "
        "seed; of the ratio the mean is geometric, and its interval that of the figure. Saturated: "
        f"more than {100 * SATURATED:g} % right at the last hop. Two such arms differ in how sure "
        "they are, not in what they can do, and nothing is claimed of them."
    ),
    printed=True,
)
BY_HOP = v.Curves(
    "wrong_by_hop",
    rows.by_hop,
    x=v.Axis("hop", "hop", "names"),
    y=WRONG,
    series=ARMS_AND_GUESSING,
    dashes=LOOKS,
    band="wrong",
    size=(9.0, 3.4),
    caption=(
        "Means over seeds, and bands from the lowest seed to the highest. Where a line ends "
        "nothing was wrong. Guessing: the best table of answers by the last three symbols or the "
        "most frequent one, measured."
    ),
)
BY_HOP_OF_ONE_SEED = dataclasses.replace(
    BY_HOP,
    name="wrong_by_hop_of_one_seed",
    rows=rows.by_hop_of_one_seed,
    caption=(
        "The first seed of each arm alone, with Wilson's 95 % for as many answers as there are "
        "held-out sequences: answers of one sequence depend on each other, and are taken for one. "
        "The bands are of other sequences for the same models; what other seeds do is above."
    ),
)
BY_COST = v.Curves(
    "wrong_by_cost",
    rows.by_cost,
    x=(
        v.Axis("layers", "layers at the end", "names"),
        v.Axis("flops", "TFLOP of matrix products", unit=1e12),
    ),
    y=WRONG,
    series=v.Palette("series", {**arms.COLOURS, rows.FLAT: style.INK}),
    dashes=v.Dashes("points", {True: ""}),
    band="wrong",
    point="always",
    levels=(v.Level("guessing", rows.GUESSING, style.MUTED, True),),
    size=(3.9, 2.5),
    caption=(
        "The line joins the arms of constant depth at equal steps; its band runs from the lowest "
        "seed to the highest. A point below it is of an arm that gets less wrong than constant "
        "depth for its FLOPs."
    ),
)
LOSS = v.Axis("loss", "held-out loss (nats)", "log")
CURVES = arms.courses(
    "curves",
    rows.curves,
    y=LOSS,
    size=(3.1, 3.0),
    caption="Means over seeds and their ranges. A seed that has diverged is in no line.",
)
BESIDE_FLAT = arms.courses(
    "beside_flat",
    rows.beside_flat,
    x=arms.PLACES[0],
    y=LOSS,
    dashes=v.Dashes(),
    series=v.Palette("depth", {rows.ITS: style.CROSS}),
    columns=3,
    size=(3.4, 2.7),
    caption=(
        "Where a growing model meets the line of its new depth, it has lost nothing by having been "
        "shallow. Lines of those of its depths that the run has a constant arm of."
    ),
)
EDITS = model_readings.edits(
    v.Axis("right", "share of answers that are right", limits=(0, 1)),
    "All hops alike; a model is left through its own final norm and head",
)
EXITS = v.Heatmap(
    "exits",
    rows.exits,
    columns=3,
    x=v.Axis("hop", "hop"),
    y=v.Axis("layer", "left after layer"),
    cell=v.Axis("right", "share of answers that are right", limits=(0, 1)),
    numbers=False,
    caption="At the last layer the whole model; means over seeds.",
)

PAGE = Page(
    "Growth where depth matters",
    lead,
    Section(
        "Does growing pay?",
        verdict,
        smallest,
        arms.diverged,
        model_readings.unread,
        RATIOS,
        ARMS,
        arms.MEANING,
    ),
    Section(
        "Where the advantage lies",
        "A hop asks for the answer to the one before, so that each layer that learns to follow "
        "another pointer moves the edge at which accuracy falls. An arm that gains at the last "
        "hops has gained depth; one that gains at all alike has learnt faster.",
        BY_HOP,
        BY_HOP_OF_ONE_SEED,
        BY_COST,
    ),
    Section("Curves", CURVES, BESIDE_FLAT),
    *model_readings.sections(EDITS, EXITS, read_on=read_on),
    arms.rates(
        TUNED_BY,
        lambda record: rows.summary(record)["arms"],
        "Each arm's seeds take the rate of its lowest loss, tuned on seeds of their own.",
        ".3g",
    ),
    Section("Costs", arms.costs_table(rows.arms)),
    role_courses.SECTION,
    title="Growing in depth where depth matters",
)

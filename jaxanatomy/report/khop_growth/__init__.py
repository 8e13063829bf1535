"""The page of growth where depth matters: does it pay, where, and against what."""

import dataclasses
import functools

from jaxanatomy.measures.khop_growth import SATURATED
from jaxanatomy.report import role_courses, style
from jaxanatomy.report import views as v
from jaxanatomy.report.arms import (
    COLOURS,
    GROWN,
    LOOKS,
    MEANING,
    OPERATORS,
    PLACES,
    costs_table,
    diverged,
)
from jaxanatomy.report.common import ARM, EDGE, RATES
from jaxanatomy.report.khop_growth import rows, words
from jaxanatomy.report.sections import Page, Section

WRONG = v.Axis("wrong", "share of answers that are wrong", "log")
RATIO = "times the other's held-out loss"
LOOKS = v.Dashes("look", {**LOOKS.styles, rows.GUESSING: (0, (1, 2))}, LOOKS.names)
ARMS_AND_GUESSING = v.Palette("operator", {**COLOURS, rows.GUESSING: style.MUTED})
RATIOS = v.Strip(
    "ratios",
    rows.ratios,
    place=v.Axis("arm", scale="names"),
    measure=v.Axis("ratio", RATIO, "log"),
    marks=(
        v.Mark("ratio"),
        v.Mark("saturated", "both arms are saturated: nothing is claimed", hollow=True),
    ),
    spans=(v.Span("interval"),),
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
        v.Column("held-out loss", "loss", ".3g"),
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
    series=v.Palette("series", {**COLOURS, rows.FLAT: style.INK}),
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
CURVES = v.Curves(
    "curves",
    rows.curves,
    x=PLACES,
    y=LOSS,
    series=OPERATORS,
    dashes=LOOKS,
    band="loss",
    point="grown",
    point_label=GROWN,
    size=(3.1, 3.0),
    caption="Means over seeds and their ranges. A seed that has diverged is in no line.",
)
BESIDE_FLAT = v.Curves(
    "beside_flat",
    rows.beside_flat,
    x=PLACES[0],
    y=LOSS,
    series=v.Palette("depth", {rows.ITS: style.CROSS}),
    band="loss",
    point="grown",
    point_label=GROWN,
    columns=3,
    size=(3.4, 2.7),
    caption=(
        "Where a growing model meets the line of its new depth, it has lost nothing by having been "
        "shallow. Lines of those of its depths that the run has a constant arm of."
    ),
)
LOOPS = v.Strip(
    "loops",
    rows.loops,
    place=v.Axis("arm", scale="names"),
    measure=v.Axis("once", "times the loss without", "log"),
    marks=(
        v.Mark("once", "once more", "o", style.PAPER, -0.2),
        v.Mark("twice", "twice more", "s", style.CROSS),
        v.Mark("damped", "once more, at half strength", "D", style.MUTED, 0.2),
    ),
    spans=(
        v.Span("once", "", style.PAPER, shift=-0.2),
        v.Span("twice", "", style.CROSS),
        v.Span("damped", "", style.MUTED, shift=0.2),
    ),
    levels=(v.Level(1.0),),
    caption=(
        "Left of 1 the model is better with its middle block applied again, of as many layers in "
        "every arm (block of the config), also where the name says another size. Intervals are "
        "over seeds, and hold for all of this figure at once."
    ),
)
EDITS = v.Curves(
    "edits",
    rows.edits,
    columns=4,
    x=v.Axis("layer", "layer", "names"),
    y=v.Axis("right", "share of answers that are right", limits=(0, 1)),
    series=OPERATORS,
    dashes=LOOKS,
    band="right",
    size=(2.6, 2.7),
    caption=(
        "All hops alike; means over seeds and their ranges. Of exchanged blocks the layer is the "
        "first of the two; a model is left through its own final norm and head."
    ),
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
DEPTH = v.Strip(
    "depth_differences",
    rows.depth_differences,
    columns=2,
    size=(4.4, 1.7),
    place=v.Axis("arm", scale="names"),
    measure=v.Axis("less", "less the baseline's"),
    marks=(v.Mark("less"),),
    spans=(v.Span("less"),),
    levels=(v.Level(0.0),),
    share=False,
    caption=(
        "h is the stream before a layer, a what its attention adds. Differences seed by seed; "
        "intervals are over seeds and hold for all arms of a panel at once. Arms of another depth "
        "are left out; of those that answer less than a quarter of what guessing leaves only the "
        "weights are compared."
    ),
)
DEPTH_TABLE = v.Table(
    "depth_readings",
    rows.depth_values,
    "How deep trained models compute, mean over seeds",
    cells=(
        v.Column("reading", "reading"),
        ARM,
        v.Column("mean, lowest and highest seed", "value", ".3g"),
        v.Column("less the baseline's (95 %)", "less", "+.3g"),
    ),
    note=(
        "Depth score: the layer, counted from 0, at which what layers do for answers at later "
        "tokens stands on average. Late exits: the share of answers, left after a layer of the "
        "second half, that are the final ones. Symmetry: 1 where blocks mirrored at the centre "
        "are as alike as each other, about 0 by chance. Periodicity: how much more alike layers a "
        "block apart are than layers one more or one less apart. Effect of first attention: what "
        "later layers change without that of a block's first layer, cos(a, h) of it, and how much "
        "more |a| / |h| the last layer of a block has than the first: means over inner blocks. "
        "Blocks are of as many layers in every arm."
    ),
    printed=True,
)
DEPTH_PROFILE = v.Curves(
    "depth_profile",
    rows.depth_profile,
    columns=3,
    x=v.Axis("layer", "layer", "names"),
    y=tuple(v.Axis(field, label) for field, label in rows.PROFILE.items()),
    series=OPERATORS,
    dashes=LOOKS,
    band="y",
    size=(3.2, 2.5),
    caption=(
        "Means over seeds and their ranges; h is the stream before the layer, a what attention "
        "writes, m what the MLP writes (DG Figure 4)."
    ),
)
SIMILARITY = v.Heatmap(
    "block_similarity",
    rows.similarities,
    columns=3,
    x=v.Axis("layer", "first layer of a block"),
    y=v.Axis("other", "first layer"),
    cell=v.Axis("value", "cosine of two blocks' FFN weights", "diverging"),
    numbers=False,
    caption=(
        "Blocks of as many layers as a growth step adds (DG Figure 7a), but of as many in arms "
        "whose names say another size (_b1, _b3), so that arms compare; means over seeds."
    ),
)
EFFECTS = tuple(
    v.Heatmap(
        f"effects_{name}",
        functools.partial(rows.effects, name),
        columns=3,
        x=v.Axis("layer", "effect at layer"),
        y=v.Axis("other", "silenced"),
        cell=v.Axis("value", label),
        numbers=False,
        caption=f"{caption}; means over seeds.",
    )
    for name, label, caption in (
        (
            "later",
            "mean relative change at later tokens",
            "A layer writes nothing up to a boundary, and layers pass the change on (DG Figure 5a)",
        ),
        (
            "later_local",
            "mean relative change at later tokens",
            "The same, but each later layer sees that change alone (DG Figure 5b)",
        ),
        (
            "attention",
            "mean relative change at all tokens",
            "The attention of a layer writes nothing at all (DG Figure 7b)",
        ),
    )
)
TUNING = v.Table(
    "rates",
    rows.rates,
    "Held-out loss of the tuning seeds at the end by learning rate",
    cells=tuple(
        dataclasses.replace(each, write=".3g") if each.field == "loss.*" else each for each in RATES
    ),
    note=EDGE,
)

PAGE = Page(
    "Growth where depth matters",
    words.lead,
    Section(
        "Does growing pay?",
        words.verdict,
        words.smallest,
        words.saturated,
        words.edges,
        diverged,
        RATIOS,
        ARMS,
        MEANING,
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
    Section(
        "The middle block applied again",
        "Nothing is trained for it. A model whose layers were copied from each other might take "
        "one more pass as one more layer (arXiv 2602.16490); what flat models make of it is the "
        "control.",
        LOOPS,
    ),
    Section(
        "Which layers a trained model needs",
        "Nothing is trained for this either. A model that uses its depth loses answers without its "
        "late layers; one whose blocks are copies of each other might not mind their order (DG "
        "sections 4.1 and 4.2).",
        EDITS,
        EXITS,
    ),
    Section(
        "How deep trained models compute",
        words.read_on,
        DEPTH,
        DEPTH_TABLE,
        DEPTH_PROFILE,
        *EFFECTS,
        SIMILARITY,
    ),
    Section(
        "Learning rates",
        "Each arm's seeds take the rate of its lowest loss, tuned on seeds of their own.",
        TUNING,
    ),
    Section("Costs", costs_table(rows.arms)),
    role_courses.SECTION,
    title="Growing in depth where depth matters",
)

"""The page of depth growth: which arm ends better, and which is cheaper."""

from typing import Any

from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.growth.depth_arms import BASELINE, MEAN_DEPTH, SHALLOW, arm_names
from jaxanatomy.report import style
from jaxanatomy.report.common import EDGE, RATES
from jaxanatomy.report.depth_growth import rows
from jaxanatomy.report.depth_growth.rows import BOTH, EQUAL, PLAIN, SCALED
from jaxanatomy.report.depth_growth.words import (
    diverged,
    lead,
    shallow_verdict,
    unmeasured,
    verdict,
)
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import (
    Axis,
    Column,
    Curves,
    Level,
    Mark,
    Palette,
    Span,
    Strip,
    Table,
)

COLOURS = {
    BASELINE: "#1B2026",
    SHALLOW: "#9AA3AD",
    MEAN_DEPTH: "#C2855A",
    "midas": "#AE2320",
    "lidas": "#1F5FA8",
    "stack_top": "#5B8C5A",
    "stack_last": "#8A6FB0",
    "insert_zero": "#F0A23B",
}


def teraflops(flops: float) -> str:
    """A cost in TFLOP, small ones to two digits."""
    size = flops / 1e12
    return f"{size:,.2f}" if size >= 1 else f"{size:.2g}"


def _trained(name: str, make: Any, x: Any, y: Any, caption: str, **more: Any) -> Curves:
    """Curves of arms: a colour for each operator, a line style for what else differs."""
    return Curves(
        name=name,
        rows=make,
        facet="",
        x=x,
        y=y,
        series=OPERATORS,
        dashes="look",
        dash_styles={PLAIN: "-", SCALED: "--", EQUAL: ":", BOTH: "-."},
        dash_names={SCALED: SCALED, EQUAL: EQUAL, BOTH: BOTH},
        point="grown",
        point_label="has just grown",
        size=(3.1, 3.4),
        caption=caption,
        **more,
    )


OPERATORS = Palette("operator", COLOURS, {name: name for name in COLOURS})
ARM = Column("arm", "arm")
LEVEL = Column("level of differences", "level", ".2%")


def _differences(words: str) -> tuple[Column, Column]:
    """The columns of differences from another arm."""
    return tuple(
        Column(
            f"{head} less {words}", f"{each}_less", "+.3f", f"{each}_less_low", f"{each}_less_high"
        )
        for head, each in (("loss", "loss"), ("accuracy", "accuracy"))
    )


LOSS_LESS, ACCURACY_LESS = _differences("baseline")
TOKENS = Axis("tokens", "million tokens", unit=1e6, limits=(0, None))
FLOPS = Axis("flops", "TFLOP of matrix products", unit=1e12, limits=(0, None))
SECONDS = Axis("seconds", "seconds for one seed", limits=(0, None))
STEPS = Axis("step", "steps", limits=(0, None))

PAGE = Page(
    kind="Depth growth",
    title="Models that grow in depth against models of constant depth",
    lead=lead,
    sections=(
        Section(
            "Does growth win?",
            (
                verdict,
                "All arms have the same seeds, data in the same order and a learning rate without "
                "breaks, tuned for each arm on seeds of their own where the config has several. "
                "All but the controls (shallow, mean_depth) have the same architecture at the "
                "end. At equal steps an arm that grows has read as many tokens with fewer FLOPs; "
                "arms of equal FLOPs train longer on more tokens.",
                diverged,
                unmeasured,
            ),
            (
                Strip(
                    name="differences",
                    rows=lambda record: [row for row in rows.arms(record) if "loss_less" in row],
                    facet="",
                    place=Axis("arm", scale="names", names={name: name for name in arm_names()}),
                    measure=Axis(
                        "loss_less",
                        "held-out loss less that of the baseline (nats per token)",
                    ),
                    marks=(Mark("loss_less", ""),),
                    spans=(Span("loss_less_low", "loss_less_high", "interval"),),
                    levels=(Level(0.0),),
                    caption=(
                        "Intervals are over seeds and the held-out rows that both arms share, and "
                        "hold with 95 % for all differences of their kind on this page at once."
                    ),
                ),
                Table(
                    name="arms",
                    rows=rows.arms,
                    title="What each arm comes to, mean over seeds",
                    facet="",
                    cells=(
                        ARM,
                        Column("seeds", "kept"),
                        Column("rate", "learning_rate", "g"),
                        Column("held-out loss", "loss", ".3f", "loss_low", "loss_high"),
                        LOSS_LESS,
                        Column("accuracy", "accuracy", ".3f", "accuracy_low", "accuracy_high"),
                        ACCURACY_LESS,
                        Column("chance", "chance", ".3f"),
                        LEVEL,
                    ),
                    note=(
                        "Loss in nats per token, the mean over the sources of the mixture by "
                        "their shares; accuracy is the mean of the primitives. Intervals of means "
                        "are Student's over seeds; those of differences are at the level given, "
                        "so that all hold at once with 95 %."
                    ),
                    printed=True,
                ),
                Table(
                    name="costs",
                    rows=rows.arms,
                    title="What each arm costs, of one seed",
                    facet="",
                    cells=(
                        ARM,
                        Column("steps", "steps", ","),
                        Column("tokens", "tokens", ","),
                        Column("TFLOP", "flops", teraflops),
                        Column("seconds", "seconds", ",.1f"),
                        Column("tokens per second", "tokens_per_second", ",.0f"),
                        Column("MFU", "mfu", ".1%"),
                    ),
                    note=(
                        "FLOPs are those of matrix products, three times the forward. Seconds are "
                        "means over seeds, leave out compilation and evaluation, and depend on "
                        "the machine. MFU: the FLOPs in these seconds as a share of what the "
                        "devices can do at most, as published for bfloat16 products or as "
                        "train.peak_flops says."
                    ),
                    printed=True,
                ),
                Table(
                    name="meaning",
                    rows=rows.meaning,
                    title="What each arm is",
                    facet="",
                    cells=(ARM, Column("what", "what")),
                    folded=True,
                    prose=True,
                ),
            ),
        ),
        Section(
            "Is depth needed?",
            (
                shallow_verdict,
                "A model that grows is shallow for most of its steps. If it ends better than the "
                "baseline, either depth is better added late, or it is not needed at all: the arm "
                "'shallow' never has more layers than a growing model begins with. Below 0, the "
                "layers that were added are of use.",
            ),
            (
                Table(
                    name="beside_shallow",
                    rows=rows.beside_shallow,
                    title="Grown less shallow, at equal steps",
                    facet="",
                    cells=(ARM, *_differences(SHALLOW), LEVEL),
                    printed=True,
                ),
            ),
        ),
        Section(
            "Curves",
            (),
            (
                _trained(
                    "curves",
                    rows.curves,
                    (STEPS, TOKENS, FLOPS, SECONDS),
                    Axis("loss", "held-out loss (nats per token)", holds=0.92),
                    "Means over seeds and their ranges; a point stands where a model has just "
                    "grown, before its first step at the new depth. The frame may cut the highest "
                    "losses of the start. A seed that has diverged is in no line.",
                    band=("low", "high"),
                ),
            ),
        ),
        Section(
            "Learning rates",
            (
                "Each arm's seeds take the rate of its lowest loss. Where arms differ by less than "
                "their own columns do, a comparison at one rate would have said little.",
            ),
            (
                Table(
                    name="rates",
                    rows=rows.rates,
                    title="Held-out loss of the tuning seeds at the end by learning rate",
                    facet="",
                    cells=RATES,
                    note=EDGE,
                ),
            ),
        ),
        Section(
            "Every step",
            (),
            (
                _trained(
                    "training",
                    rows.training,
                    STEPS,
                    (
                        Axis("loss", "training loss (nats per token)"),
                        Axis("gradient_norm", "gradient norm", limits=(0, None)),
                        Axis("learning_rate", "learning rate", limits=(0, None)),
                        Axis(
                            "tokens_per_second",
                            "thousand tokens per second",
                            unit=1e3,
                            limits=(0, None),
                        ),
                    ),
                    "Means over seeds, and over each hundredth of the steps. Loss and gradient "
                    "norm are before each step, on its batch; gradients of a norm above 1 are "
                    "scaled to it. A grown model computes more, so that tokens per second fall.",
                ),
            ),
        ),
        Section(
            "Reasoning primitives",
            (
                "Held-out questions of each kind; the choice with the highest summed "
                "log-probability counts. Chance is guessing among all choices. In copying the "
                "answer stands in the second half of the ten words and is never among those "
                "repeated; who guesses among the words that are left so, one to five of them, is "
                "right in (1/5 + 1/4 + 1/3 + 1/2 + 1) / 5 = 45.7 % without copying.",
            ),
            (
                Strip(
                    name="primitives",
                    rows=rows.answers,
                    facet="",
                    place=Axis("task", scale="names", names={name: name for name in PRIMITIVES}),
                    spread="spread",
                    size=(9.6, 1.3 + 0.8 * len(PRIMITIVES)),
                    measure=Axis(PLAIN, "share of questions answered", limits=(-0.03, 1.03)),
                    marks=(
                        Mark(PLAIN, "a seed", "o", ""),
                        Mark(SCALED, SCALED, "o", "", hollow=True),
                        Mark(EQUAL, EQUAL, "D", ""),
                        Mark(BOTH, BOTH, "D", "", hollow=True),
                    ),
                    spans=(
                        Span("guessing", "guessing", "guessing at best", "#C2855A", 0.8),
                        Span("chance", "chance", "chance", style.MUTED, 0.8),
                    ),
                    palette=OPERATORS,
                    caption="A point for each seed; arms in the order of the tables.",
                ),
                Table(
                    name="answered",
                    rows=rows.primitives,
                    title="Share of questions answered, mean over seeds with its 95 % interval",
                    facet="",
                    cells=(
                        Column("primitive", "task"),
                        Column("questions", "questions"),
                        Column("chance", "chance", ".2f"),
                        Column("guessing", "guessing", ".2f"),
                        Column("{}", "mean.*", ".2f", "low.*", "high.*", "above.*"),
                    ),
                    note=(
                        "Blue: the whole interval lies above chance and what guessing reaches at "
                        "best; yellow: above chance alone. Intervals are Wilson's at the mean over "
                        "seeds, for as many questions as one seed was asked: all seeds are asked "
                        "the same ones, so that more seeds are no more questions. They say what "
                        "these seeds would answer of other questions, not what other seeds would. "
                        "Of a hundred cells at the level of guessing two or three are coloured by "
                        "chance."
                    ),
                ),
            ),
        ),
        Section(
            "Loss by source",
            (),
            (
                Table(
                    name="sources",
                    rows=rows.sources,
                    title="Held-out loss at the end by source, mean over seeds, nats per token",
                    facet="",
                    cells=(ARM, Column("{}", "loss.*", ".3f")),
                ),
            ),
        ),
    ),
)

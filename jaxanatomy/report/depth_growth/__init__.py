"""The page of depth growth: which arm ends better, and which is cheaper."""

from jaxanatomy.growth.depth_arms import BASELINE, SHALLOW, grows
from jaxanatomy.measures.arms.depth_growth import TUNED_BY
from jaxanatomy.measures.arms.tuning import FINAL, of_purpose
from jaxanatomy.records import RunRecord
from jaxanatomy.report import arms, model_readings, role_courses, style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import ARM, only, sides
from jaxanatomy.report.depth_growth import rows
from jaxanatomy.report.sections import Page, Section


def verdict(record: RunRecord) -> str:
    """On which side of the baseline each arm ends, as far as the intervals allow."""
    if BASELINE not in rows.summary(record)["arms"]:
        return "The baseline is not finished: nothing to compare with yet."
    others = [row for row in rows.arms(record) if row["arm"] != BASELINE]
    return f"Held-out loss less that of the baseline: {sides(others, 'eval_nll.less_baseline')}."


def unmeasured(record: RunRecord) -> str:
    """A hint where growing arms lack their control."""
    found = arms.arm_order(of_purpose(record.rows, FINAL))
    if SHALLOW in found or not any(map(grows, found)):
        return ""
    return f"Whether depth is needed was not measured: the arms of this run lack {SHALLOW}."


def read_on(record: RunRecord) -> str:
    """What depth is read on."""
    count = record.config.get("depth_sequences")
    some = f"{count:,} rows" if count else "rows"
    return (
        f"The analyses of DG section 4 on the models that the arms leave, on {some} of held-out "
        "text in the shares of the mixture. A block has as many layers as a growth step adds."
    )


TRAINED = (3.1, 3.4)
LEVEL = v.Column("level of differences", "level", ".2%")
DIFFERENCES = v.Strip(
    "differences",
    only(rows.arms, lambda row: "eval_nll.less_baseline" in row),
    place=v.Axis("arm", scale="names"),
    measure=v.Axis(
        "eval_nll.less_baseline", "held-out loss less that of the baseline (nats per token)"
    ),
    levels=(v.Level(0.0),),
    caption=(
        "Intervals are over seeds and the held-out rows that both arms share, and hold with 95 % "
        "for all differences of their kind on this page at once; one needs two seeds that diverged "
        "neither here nor in the baseline."
    ),
)
ARMS = v.Table(
    "arms",
    rows.arms,
    "What each arm comes to, mean over seeds",
    cells=(
        ARM,
        v.Column("seeds", "kept"),
        v.Column("rate", "learning_rate", "g"),
        v.Column("held-out loss", "eval_nll", ".3f"),
        v.Column("loss less baseline", "eval_nll.less_baseline", "+.3f"),
        v.Column("accuracy", "accuracy", ".3f"),
        v.Column("accuracy less baseline", "accuracy.less_baseline", "+.3f"),
        v.Column("chance", "chance", ".3f"),
        v.Column("guessing", "guessing", ".3f"),
        LEVEL,
    ),
    note=(
        "Loss in nats per token, the mean over the sources of the mixture by their shares; "
        "accuracy is the mean of the tasks, as are chance and guessing at best. Intervals of means "
        "are Student's over seeds; those of differences are at the level given, so that all hold "
        "at once with 95 %. Those of the loss reach further by what another of the learning rates "
        "that were tried may gain, as each was chosen on few seeds."
    ),
    printed=True,
)
BESIDE_SHALLOW = v.Table(
    "beside_shallow",
    rows.beside_shallow,
    "Grown less shallow, in as many steps or with as many FLOPs",
    cells=(
        ARM,
        v.Column("control", "control"),
        v.Column(f"loss less {SHALLOW}", "eval_nll.less_shallow", "+.3f"),
        v.Column(f"accuracy less {SHALLOW}", "accuracy.less_shallow", "+.3f"),
        LEVEL,
    ),
    printed=True,
)
CURVES = arms.courses(
    "curves",
    arms.curves,
    y=v.Axis("loss", "held-out loss (nats per token)", holds=0.92),
    size=TRAINED,
    caption=(
        "Means over seeds and their ranges; a point stands where a model has just grown, before "
        "its first step at the new depth. The frame may cut the highest losses of the start. A "
        "seed that has diverged is in no line."
    ),
)
TRAINING = arms.courses(
    "training",
    rows.training,
    x=arms.STEPS,
    y=(
        v.Axis("loss", "training loss (nats per token)"),
        v.Axis("gradient_norm", "gradient norm", limits=arms.FROM_ZERO),
        v.Axis("learning_rate", "learning rate", limits=arms.FROM_ZERO),
        v.Axis("tokens_per_second", "thousand tokens per second", unit=1e3, limits=arms.FROM_ZERO),
    ),
    band="",
    size=TRAINED,
    caption=(
        "Means over seeds, and over each hundredth of the steps. Loss and gradient norm are before "
        "each step, on its batch; gradients of a norm above 1 are scaled to it. A grown model "
        "computes more, so that tokens per second fall."
    ),
)
ANSWERS = v.Strip(
    "answers",
    rows.answers,
    place=v.Axis("task", scale="names"),
    spread="spread",
    per_place=0.8,
    measure=v.Axis(arms.PLAIN, "share of questions answered", limits=(-0.03, 1.03)),
    marks=(
        v.Mark(arms.PLAIN, "a seed", "o", ""),
        v.Mark(arms.SCALED, arms.SCALED, "o", "", hollow=True),
        v.Mark(arms.EQUAL, arms.EQUAL, "D", ""),
        v.Mark(arms.BOTH, arms.BOTH, "D", "", hollow=True),
    ),
    spans=(
        v.Span("guessing", "guessing at best", "#C2855A", 0.8),
        v.Span("chance", "chance", style.MUTED, 0.8),
    ),
    palette=arms.OPERATORS,
    caption="A point for each seed; arms in the order of the tables.",
)
ANSWERED = v.Table(
    "answered",
    rows.answered,
    "Share of questions answered, mean over seeds with its 95 % interval",
    cells=(
        v.Column("task", "task"),
        v.Column("questions", "questions"),
        v.Column("chance", "chance", ".2f"),
        v.Column("guessing", "guessing", ".2f"),
        v.Column("{}", "mean.*", ".2f", "above.*"),
    ),
    note=(
        "Blue: the whole interval lies above chance and what guessing reaches at best; yellow: "
        "above chance alone. Intervals are Wilson's at the mean over seeds, for as many questions "
        "as one seed was asked: all seeds are asked the same ones, so that more seeds are no more "
        "questions. They say what these seeds would answer of other questions, not what other "
        "seeds would. Of a hundred cells at the level of guessing two or three are coloured by "
        "chance."
    ),
)
SOURCES = v.Table(
    "sources",
    rows.sources,
    "Held-out loss at the end by source, mean over seeds, nats per token",
    cells=(ARM, v.Column("{}", "loss.*", ".3f")),
)
EDITS = model_readings.edits(
    v.Axis("rise", "rise of the loss (nats per token)"),
    "On rows of held-out text, without those of layer 0, which cost far more",
    model_readings.rows.edits_within,
)
EXITS = v.Curves(
    "exits",
    model_readings.rows.exits,
    columns=2,
    x=v.Axis("layer", "left after layer", "names"),
    y=(
        v.Axis("overlap", "share of the five likeliest tokens", limits=(0, 1)),
        v.Axis("agreement", "share of the likeliest tokens", limits=(0, 1)),
    ),
    series=arms.OPERATORS,
    dashes=arms.LOOKS,
    band="y",
    size=(3.6, 2.7),
    caption=(
        "That are those of the whole model (DG Figure 1B), through its own final norm and head; "
        "means over seeds and their ranges."
    ),
)

PAGE = Page(
    "Depth growth",
    arms.arms_and_seeds,
    Section(
        "Does growth win?",
        verdict,
        "All arms have the same seeds, data in the same order and a learning rate without breaks, "
        "tuned for each arm on seeds of their own where the config has several. All but the "
        "controls (shallow, mean_depth) have the same architecture at the end. At equal steps an "
        "arm that grows has read as many tokens with fewer FLOPs; arms of equal FLOPs train longer "
        "on more tokens.",
        arms.diverged,
        unmeasured,
        model_readings.unread,
        DIFFERENCES,
        ARMS,
        arms.costs_table(rows.arms),
        arms.MEANING,
    ),
    Section(
        "Is depth needed?",
        "A model that grows is shallow for most of its steps. If it ends better than the baseline, "
        "either depth is better added late, or it is not needed at all: the arm 'shallow' never "
        "has more layers than a growing model begins with. Below 0, the layers that were added are "
        "of use.",
        BESIDE_SHALLOW,
    ),
    Section("Curves", CURVES),
    *model_readings.sections(EDITS, EXITS, read_on=read_on),
    arms.rates(
        TUNED_BY,
        lambda record: rows.summary(record)["arms"],
        "Each arm's seeds take the rate of its lowest loss. Where arms differ by less than their "
        "own columns do, a comparison at one rate would have said little.",
        printed=True,
    ),
    Section("Every step", TRAINING),
    Section(
        "Questions",
        "Held-out questions of each kind; the choice with the highest summed log-probability "
        "counts. Chance is guessing among all choices. Guessing at best is measured on questions "
        "that no model was asked: who knows a clue of each choice, such as where a word stands, "
        "and how often choices with that clue are right, takes the likeliest. In copying that is "
        "whether a word stands in the second half and is not repeated: 46 % without copying.",
        ANSWERS,
        ANSWERED,
    ),
    Section("Loss by source", SOURCES),
    role_courses.SECTION,
    title="Models that grow in depth against models of constant depth",
)

"""The page of the manipulation experiment: strategies on whole sets of layers, beside controls."""

import dataclasses

from jaxanatomy.measures.manipulation import VIABLE_PERCENT
from jaxanatomy.records import RunRecord
from jaxanatomy.report import manipulation_rows as rows
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import CELL, CHANGE, EFFECT, HEAT, LAYER, PPL, counted, tally
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import percent, perplexity, plain, signed

STRATEGY_COLOURS = {
    "scale": "#D9660F",
    "scale_output": "#E2A52B",
    "zero": style.INK,
    "clone": "#1F5FA8",
    "clone_high": "#4F93D2",
    "clone_with_norms": "#2BA0B0",
    "blend_2": "#3E8E41",
    "blend_4": "#8DBB3C",
    "low_rank": "#7B4EA3",
    "own_svd": "#C2437E",
    "predicted": "#8C5A3C",
}
SET_COLOURS = {
    "measured": "#12856A",
    "paper": style.PAPER,
    "paper, inner": "#D9660F",
    "AH Table 4": style.INK,
}
UNCHANGED = v.Level(0.0)
METHOD = v.Column("strategy", "method")


def better(record: RunRecord) -> str:
    """How many variants improve on the baseline, and how many of these beyond doubt."""
    found = rows.improvements(record)
    tried = sum(row["strategy"] != rows.NOISE for row in rows.trials(record))
    words = f"{len(found)} of {tried} variants have a perplexity below the baseline's"
    return f"{'; '.join(filter(None, [words, tally(found, 'change', 'changes')]))}."


WIDE = (10.4, 4.2)
DOSES = v.Curves(
    "manipulation",
    rows.doses,
    "layers scaled by α",
    size=WIDE,
    x=v.Axis("taken", "1 − α: what is taken off the matrices (0: unedited, 1: the layers skipped)"),
    y=CHANGE,
    series=v.Palette("shown", SET_COLOURS),
    dashes=v.Dashes(
        "strategy",
        {"scale_output": (0, (4, 2)), "AH": ""},
        {"scale": "all seven matrices", "scale_output": "o_proj and down_proj alone"},
    ),
    band="change",
    levels=(UNCHANGED,),
    point="always",
    caption=(
        "All layers of a set are multiplied by α. Bands are 95 % intervals, paired over documents; "
        "a cross at the upper edge is a perplexity that is not finite. “measured” is the control "
        "for the paper's set. A curve says nothing about a single layer of its set. AH's "
        "perplexities are set against the baseline that its Table 4 prints."
    ),
)
SETS = v.Heatmap(
    "manipulation_sets",
    rows.grid,
    "every strategy on every set of layers",
    x=v.Axis("shown", "set of layers", "names", write=lambda name: name.replace(" ", "\n")),
    y=v.Axis("method", scale="names"),
    cell=CELL,
    dot="undecided",
    cell_width=0.52,
    rule_after="paper, inner",
    caption=(
        f"{HEAT} Right of the line: the k inner layers whose neighbour mean costs least, chosen "
        "on the first text, where they therefore look a little better than they are. Intervals are "
        "in the last table."
    ),
)
PAIRS = v.Heatmap(
    "manipulation_pairs",
    rows.pairs,
    "two layers at once",
    facet="triangle",
    columns=2,
    x=v.Axis("second", "second layer"),
    y=v.Axis("first", "first layer"),
    cell=CELL,
    dot="undecided",
    caption=f"{HEAT} A pair's effect is not the sum of its layers' effects.",
)
COUNTS = v.Curves(
    "manipulation_layers",
    rows.by_count,
    "how many layers",
    size=WIDE,
    x=v.Axis("count", "number of layers changed, the least important first"),
    y=CHANGE,
    series=v.Palette("strategy", STRATEGY_COLOURS, rows.STRATEGIES),
    dashes=v.Dashes(
        "dose",
        {"second": (0, (3, 3))},
        {"first": "mildest dose; of factors that next to 0.9", "second": "next to 0.5"},
    ),
    levels=(UNCHANGED, v.Level(VIABLE_PERCENT, "doubled", style.MUTED, dashed=True)),
    point="always",
    caption=(
        "Layers are added by their neighbour mean on the first text. Point estimates: curves that "
        "lie close are not told apart; another order of layers would give others."
    ),
)
COMPOUNDING = v.Curves(
    "compounding",
    rows.noise,
    "does a small error compound?",
    size=WIDE,
    x=v.Axis("count", "number of layers with noise (random orders, nested sets)", "log"),
    y=v.Axis("noised", CELL.label, "log"),
    series=v.Palette("method"),
    dashes=v.Dashes(
        "what",
        {"draw": "", "additive": (0, (3, 3))},
        {"mean": "mean over draws", "additive": "if losses add up"},
    ),
    caption=(
        "Gaussian noise, so many percent of each matrix's standard deviation; dots are single "
        "draws. Dashed, the null: the mean loss by one layer times the number of layers. Steeper: "
        "errors compound; flatter: they cancel. What is not above 0 is in the CSV alone. "
        "Random noise says nothing about errors with a direction, such as those of predictions."
    ),
)
ATTENTION = v.Curves(
    "attention_shift",
    rows.attention,
    "attention moved",
    size=(4.9, 3.0),
    x=LAYER,
    y=(
        v.Axis("total_variation", "total variation", "log"),
        v.Axis("argmax_changed", "share of queries with another top token", "log"),
    ),
    series=v.Palette("noise", {"matched noise": style.INK}),
    dashes=v.Dashes("full", {True: ":"}, {True: "nothing of the matrix left"}),
    caption=(
        "Left: the share of attention that goes to another token, mean over heads and queries. "
        "This layer's matrix alone changes, not the stream that it reads. Matched noise, of the "
        "matrix's mean and spread, is the full scale. That attention moves does not say that it "
        "moves to a wrong token, nor that the output changes."
    ),
)
SURVIVAL = v.Table(
    "survival",
    rows.survival,
    "Change of perplexity when all layers of a set are changed at once [95 %]",
    cells=(
        METHOD,
        v.Column("AH (%)", "paper", signed),
        v.Column("{} (%)", "change.*", signed, "kind.*"),
    ),
    note=(
        "Coloured: the whole interval lies in the category (below 0, 10 %, 30 %, 100 %, above). "
        "AH, Table 4, scales nine layers; its other rows are of two that it does not name."
    ),
    printed=True,
)
LAYERS = v.Table(
    "sets",
    rows.sets,
    "Sets of layers",
    cells=(
        v.Column("set", "shown"),
        v.Column("number", "number", "d"),
        PPL,
        v.Column("layers", "layers", "d"),
    ),
    printed=True,
)
OUTERMOST = v.Table(
    "outermost",
    rows.outermost,
    "The paper's set scaled with and without its outermost layers: perplexities",
    cells=(
        v.Column("α", "alpha", "g"),
        v.Column("paper", "paper", perplexity),
        v.Column("paper, inner", "paper_inner", perplexity),
        v.Column("with outermost ÷ without (95 %)", "times", plain),
        v.Column("measured", "measured", perplexity),
    ),
)
RANGES = v.Table(
    "pair_ranges",
    rows.pair_ranges,
    "Pairs with and without the model's first or last layer: median [least, most]",
    cells=(
        METHOD,
        v.Column("pairs", "pairs", "d"),
        v.Column("with", "outer", percent),
        v.Column("without", "inner", percent),
        v.Column("AH Table 4, two layers", "paper", percent),
        v.Column("pairs near AH", "near", "d"),
        v.Column("with first or last", "near_outer", "d"),
    ),
    note=(
        "Near: within a factor of 10 of the perplexity that AH prints for two layers that it does "
        "not name, on another model and other sentences; such a pair need not be the paper's."
    ),
)
CALIBRATION = v.Table(
    "improvements",
    rows.improvements,
    "Perplexities below the baseline's, before and after calibration",
    cells=(
        v.Column("variant", "variant"),
        EFFECT,
        v.Column("after calibration", "calibrated", percent, "kind_calibrated"),
        v.Column("explained", "explained_by_calibration", null="–"),
        v.Column("temperature", "temperature", ".3f", null="–"),
        v.Column("of the baseline", "baseline_temperature", ".3f", null="–"),
        v.Column("fitted on", "fit_text"),
    ),
)
RATIOS = v.Table(
    "compounding_ratio",
    rows.compounding,
    "How the effect grows with the number of layers that get noise",
    cells=(
        v.Column("noise", "method"),
        v.Column("all at once ÷ sum of single (95 %)", "ratio", ".3f", null="–"),
        v.Column("verdict", "verdict"),
        v.Column("exponent (95 %)", "exponent", ".2f", null="–"),
        v.Column("all at once", "degradation_all_percent", percent),
        v.Column("draws", "seeds", "d"),
    ),
    note=(
        "The ratio compares changes of the loss and decides, by Fieller's interval over draws of "
        "the noise; none from fewer than five. Its null is 1: they add up. The exponent of the "
        "size of the change is 0.5 for independent effects of random sign, 1 for effects that add "
        "up."
    ),
)
SHARES = v.Table(
    "attention",
    rows.attention_means,
    "Attention that moves (%), mean over layers, heads and queries",
    cells=(
        v.Column("matrix", "component"),
        v.Column("noise", "noise"),
        v.Column("total variation", "total_variation", plain),
        v.Column("another top token", "argmax_changed", plain),
        v.Column("propagated: total variation", "propagated_total_variation", plain),
        v.Column("propagated: another top token", "propagated_argmax_changed", plain),
    ),
    note="Propagated: the matrices of all layers up to this one are changed.",
)
EVERYTHING = v.Table(
    "variants",
    rows.trials,
    "All variants",
    cells=(
        METHOD,
        v.Column("set", "shown"),
        v.Column("draw", "seed", "d", null="–"),
        v.Column("layers", "layers", "d"),
        PPL,
        EFFECT,
        v.Column("without first predictions", "degradation_percent_without_first", percent),
    ),
    folded=True,
)
CHOSEN = dataclasses.replace(EVERYTHING, name="chosen", rows=rows.chosen, printed=True)

PAGE = Page(
    "Layer manipulation",
    lambda record: counted(rows.trials(record), methods="method", sets="set", texts="text"),
    Section(
        "What survives",
        "AH section 4.4 finds one viable strategy, scaling by 0.9. The paper's set holds the first "
        "and the last layer, “paper, inner” does not; “measured” is at least nine inner layers "
        "whose neighbour mean costs least.",
        SURVIVAL,
        LAYERS,
        CHOSEN,
    ),
    Section("Dose and response", DOSES, OUTERMOST),
    Section("Strategies on sets", SETS),
    Section("Pairs of layers", PAIRS, RANGES),
    Section("Number of layers", COUNTS),
    Section(
        "Improvements and temperature",
        better,
        "A model that is too sure of itself gains from any change that makes it less sure. So "
        "variant and baseline each get the temperature that suits them best on another text. "
        "Explained: the calibrated baseline is at least as good as the variant was, or the "
        "interval of what is left holds 0. Some variants improve by chance.",
        CALIBRATION,
    ),
    Section("Does a small error compound?", COMPOUNDING, RATIOS),
    Section("Does 1 % redirect attention?", ATTENTION, SHARES),
    Section("All rows", EVERYTHING),
)

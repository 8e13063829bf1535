"""The page of the manipulation experiment: strategies on whole sets of layers, beside controls."""

import dataclasses

from jaxanatomy.measures.manipulation import VIABLE_PERCENT
from jaxanatomy.records import RunRecord
from jaxanatomy.report import manipulation_rows as rows
from jaxanatomy.report import style
from jaxanatomy.report.common import CHANGE, LAYER, PPL
from jaxanatomy.report.manipulation_names import NOISE, STRATEGIES
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import Axis, Column, Curves, Heatmap, Level, Palette, Table
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
UNCHANGED = Level(0.0)
CELL = Axis("degradation_percent", "change of perplexity (%)", "percent")
METHOD = Column("strategy", "method")
EFFECT = Column("change", "degradation_percent", percent, "low", "high")
COLOURS = (
    "Numbers are changes of perplexity in percent; k is thousands, M millions. A colour means the "
    "same percentage in every figure: white no effect, blue an improvement. Empty: not measured; "
    "crossed out (n/f): not finite."
)


def survivors(record: RunRecord) -> str:
    """How many strategies each main set survives."""
    counts: dict[tuple, list[bool]] = {}
    for row in rows.survival(record):
        if row["method"] != "own SVD, full rank":  # changes nothing: a check, no strategy
            for name in (field for field in row if field.startswith("change.")):
                key = (row["panel"], name.removeprefix("change."))
                value = row[name]
                counts.setdefault(key, []).append(value is not None and value < VIABLE_PERCENT)
    parts = [
        f"{sum(kept)} of {len(kept)} strategies on {panel or 'the text'}, set “{name}”"
        for (panel, name), kept in counts.items()
    ]
    return f"Perplexity less than doubles, as point estimates: {'; '.join(parts)}." if parts else ""


def worse_with_ends(record: RunRecord) -> str:
    """Whether the paper's set is worse for its outermost layers, by the intervals."""
    found: dict[str, list] = {}
    for row in rows.outermost(record):
        if row["alpha"] <= rows.STRONG_DOSE:
            found.setdefault(row["panel"], []).append(row)
    return " ".join(
        f"{panel + ': t' if panel else 'T'}he paper's set is worse with layers "
        f"{' and '.join(map(str, own[0]['left']))} than without them at "
        f"{sum(row['worse'] for row in own)} of {len(own)} factors up to {rows.STRONG_DOSE:g}, by "
        "the whole 95 % interval."
        for panel, own in found.items()
    )


def better(record: RunRecord) -> str:
    """How many variants improve on the baseline, and how many of these beyond doubt."""
    found = rows.improvements(record)
    sure = sum(row["settled"] for row in found)
    tried = sum(row["strategy"] != NOISE for row in rows.trials(record))
    return (
        f"{len(found)} of {tried} variants have a perplexity below the baseline's; for {sure} of "
        "them the whole 95 % interval lies below it."
    )


def lead(record: RunRecord) -> str:
    """What was measured."""
    found = rows.trials(record)
    texts = dict.fromkeys(row["panel"] for row in found if row["panel"])
    return f"{len(found):,} changes of sets of layers{' on ' if texts else ''}{', '.join(texts)}."


DOSES = Curves(
    name="manipulation",
    rows=rows.doses,
    title="layers scaled by α",
    facet="panel",
    size=(10.4, 4.2),
    x=Axis("taken", "1 − α: what is taken off the matrices (0: unedited, 1: the layers skipped)"),
    y=CHANGE,
    series=Palette("shown", SET_COLOURS),
    dashes="strategy",
    dash_styles={"scale_output": (0, (4, 2)), "AH": ""},
    dash_names={"scale": "all seven matrices", "scale_output": "o_proj and down_proj alone"},
    band=("low", "high"),
    levels=(UNCHANGED,),
    point="always",
    caption=(
        "All layers of a set are multiplied by α. Bands are 95 % intervals, paired over documents; "
        "a cross at the upper edge is a perplexity that is not finite. “measured” is the control "
        "for the paper's set. A curve says nothing about a single layer of its set. AH's "
        "perplexities are set against the baseline that its Table 4 prints."
    ),
)
SETS = Heatmap(
    name="manipulation_sets",
    rows=rows.grid,
    title="every strategy on every set of layers",
    facet="panel",
    x=Axis("column", "set of layers", "names"),
    y=Axis("method", scale="names"),
    cell=CELL,
    cell_width=0.52,
    rule_after=("paper,\ninner",),
    caption=(
        f"{COLOURS} Right of the line: the k inner layers whose neighbour mean costs least, chosen "
        "on the first text, where they therefore look a little better than they are. A cell has "
        "no interval here; see the last table."
    ),
)
PAIRS = Heatmap(
    name="manipulation_pairs",
    rows=rows.pairs,
    title="two layers at once",
    facet="triangle",
    columns=2,
    x=Axis("second", "second layer"),
    y=Axis("first", "first layer"),
    cell=CELL,
    caption=f"{COLOURS} A pair's effect is not the sum of its layers' effects.",
)
COUNTS = Curves(
    name="manipulation_layers",
    rows=rows.by_count,
    title="how many layers",
    facet="panel",
    size=(10.4, 4.2),
    x=Axis("count", "number of layers changed, the least important first"),
    y=CHANGE,
    series=Palette("strategy", STRATEGY_COLOURS, STRATEGIES),
    dashes="dose",
    dash_styles={"second": (0, (3, 3))},
    dash_names={"first": "mildest dose; of factors that next to 0.9", "second": "next to 0.5"},
    levels=(UNCHANGED,),
    point="always",
    caption=(
        "Layers are added by their neighbour mean on the first text. Point estimates: curves that "
        "lie close are not told apart; another order of layers would give others."
    ),
)
COMPOUNDING = Curves(
    name="compounding",
    rows=rows.noise,
    title="does a small error compound?",
    facet="panel",
    size=(10.4, 4.2),
    x=Axis("count", "number of layers with noise (random orders, nested sets)", "log"),
    y=Axis("change", "change of perplexity (%)", "log"),
    series=Palette("method"),
    dashes="what",
    dash_styles={"draw": "", "additive": (0, (3, 3))},
    dash_names={"mean": "mean over draws", "additive": "if losses add up"},
    caption=(
        "Gaussian noise, so many percent of each matrix's standard deviation; dots are single "
        "draws. Dashed, the null: the mean loss by one layer times the number of layers. Steeper: "
        "errors compound; flatter: they cancel. What is not above 0 stands in the table alone. "
        "Random noise says nothing about errors with a direction, such as those of predictions."
    ),
)
ATTENTION = Curves(
    name="attention_shift",
    rows=rows.attention,
    title="attention moved",
    facet="panel",
    size=(4.9, 3.0),
    x=LAYER,
    y=(
        Axis("total_variation", "total variation", "log"),
        Axis("argmax_changed", "share of queries with another top token", "log"),
    ),
    series=Palette("noise", {"matched noise": style.INK}),
    dashes="full",
    dash_styles={True: ":"},
    dash_names={True: "nothing of the matrix left"},
    caption=(
        "Left: the share of attention that goes to another token, mean over heads and queries. "
        "This layer's matrix alone changes, not the stream that it reads. Matched noise, of the "
        "matrix's mean and spread, is the full scale. That attention moves does not say that it "
        "moves to a wrong token, nor that the output changes."
    ),
)
SURVIVAL = Table(
    name="survival",
    rows=rows.survival,
    title="Change of perplexity when all layers of a set are changed at once [95 %]",
    facet="panel",
    cells=(
        METHOD,
        Column("AH (%)", "paper", signed),
        Column("{} (%)", "change.*", signed, "low.*", "high.*", "kind.*"),
    ),
    note=(
        "Coloured: the whole interval lies in the category (below 0, 10 %, 30 %, 100 %, above). "
        "AH, Table 4, scales nine layers; its other rows are of two that it does not name."
    ),
    printed=True,
)
LAYERS = Table(
    name="sets",
    rows=rows.sets,
    title="Sets of layers",
    facet="panel",
    cells=(
        Column("set", "shown"),
        Column("number", "number", "d"),
        Column("perplexity", "ppl", perplexity),
        Column("layers", "layers", "d"),
    ),
    printed=True,
)
OUTERMOST = Table(
    name="outermost",
    rows=rows.outermost,
    title="The paper's set scaled with and without its outermost layers: perplexities",
    facet="panel",
    cells=(
        Column("α", "alpha", "g"),
        Column("paper", "paper", perplexity),
        Column("paper, inner", "paper_inner", perplexity),
        Column("with outermost ÷ without (95 %)", "times", plain, "low", "high"),
        Column("measured", "measured", perplexity),
    ),
)
RANGES = Table(
    name="pair_ranges",
    rows=rows.pair_ranges,
    title="Pairs with and without the model's first or last layer: median [least, most]",
    facet="panel",
    cells=(
        METHOD,
        Column("pairs", "pairs", "d"),
        Column("with", "outer", percent, "outer_low", "outer_high"),
        Column("without", "inner", percent, "inner_low", "inner_high"),
        Column("AH Table 4, two layers", "paper", percent),
        Column("pairs near AH", "near", "d"),
        Column("with first or last", "near_outer", "d"),
    ),
    note=(
        "Near: within a factor of 10 of the perplexity that AH prints for two layers that it does "
        "not name, on another model and other sentences; such a pair need not be the paper's."
    ),
)
BEARABLE = Table(
    name="bearable",
    rows=rows.bearable,
    title="Least important layers that can be changed before the perplexity doubles",
    facet="panel",
    cells=(METHOD, Column("layers", "kept", "d"), Column("of", "most", "d")),
    folded=True,
)
CALIBRATION = Table(
    name="improvements",
    rows=rows.improvements,
    title="Perplexities below the baseline's, before and after calibration",
    facet="panel",
    cells=(
        Column("variant", "variant"),
        EFFECT,
        Column(
            "after calibration",
            "degradation_percent_calibrated",
            percent,
            "low_calibrated",
            "high_calibrated",
            "kind_calibrated",
        ),
        Column("explained", "explained_by_calibration", null="–"),
        Column("temperature", "temperature", ".3f", null="–"),
        Column("of the baseline", "baseline_temperature", ".3f", null="–"),
        Column("fitted on", "fit_text"),
    ),
)
RATIOS = Table(
    name="compounding_ratio",
    rows=rows.compounding,
    title="How the effect grows with the number of layers that get noise",
    facet="",
    cells=(
        Column("noise", "method"),
        Column(
            "all at once ÷ sum of single (95 %)",
            "ratio_all_to_sum",
            ".3f",
            "ratio_low",
            "ratio_high",
            null="–",
        ),
        Column("null: they add up", "null", ".0f"),
        Column("verdict", "verdict"),
        Column("exponent (95 %)", "exponent", ".2f", "exponent_low", "exponent_high", null="–"),
        Column("all at once", "degradation_all_percent", percent),
        Column("draws", "seeds", "d"),
    ),
    note=(
        "The ratio compares changes of the loss and decides, by Fieller's interval over draws of "
        "the noise; none from fewer than five. The exponent of the size of the change is 0.5 for "
        "independent effects of random sign, 1 for effects that add up."
    ),
)
GROWTH = Table(
    name="compounding_means",
    rows=rows.noise_means,
    title="Mean change by the number of layers with noise",
    facet="panel",
    cells=(
        Column("noise", "method"),
        Column("layers", "count", "d"),
        Column("measured", "mean", percent),
        Column("if losses add up", "additive", percent),
    ),
    folded=True,
)
SHARES = Table(
    name="attention",
    rows=rows.attention_means,
    title="Attention that moves (%), mean over layers, heads and queries",
    facet="",
    cells=(
        Column("matrix", "component"),
        Column("noise", "noise"),
        Column("total variation", "total_variation", plain),
        Column("another top token", "argmax_changed", plain),
        Column("propagated: total variation", "propagated_total_variation", plain),
        Column("propagated: another top token", "propagated_argmax_changed", plain),
    ),
    note="Propagated: the matrices of all layers up to this one are changed.",
)
EVERYTHING = Table(
    name="variants",
    rows=rows.trials,
    title="All variants",
    facet="panel",
    cells=(
        METHOD,
        Column("set", "shown"),
        Column("draw", "seed", "d", null="–"),
        Column("layers", "layers", "d"),
        PPL,
        EFFECT,
        Column("without first predictions", "degradation_percent_without_first", percent),
    ),
    folded=True,
)
CHOSEN = dataclasses.replace(EVERYTHING, name="chosen", rows=rows.chosen, printed=True)

PAGE = Page(
    kind="Layer manipulation",
    lead=lead,
    sections=(
        Section(
            "What survives",
            (
                survivors,
                "AH section 4.4 finds one viable strategy, scaling by 0.9. The paper's set holds "
                "the first and the last layer, “paper, inner” does not; “measured” is at least "
                "nine inner layers whose neighbour mean costs least.",
            ),
            (SURVIVAL, LAYERS, CHOSEN),
        ),
        Section("Dose and response", (worse_with_ends,), (DOSES, OUTERMOST)),
        Section("Strategies on sets", (), (SETS,)),
        Section("Pairs of layers", (), (PAIRS, RANGES)),
        Section("Number of layers", (), (COUNTS, BEARABLE)),
        Section(
            "Improvements and temperature",
            (
                better,
                "A model that is too sure of itself gains from any change that makes it less sure. "
                "So variant and baseline each get the temperature that suits them best on another "
                "text. Explained: the calibrated baseline is at least as good as the variant was, "
                "or the interval of what is left holds 0. Some variants improve by chance.",
            ),
            (CALIBRATION,),
        ),
        Section("Does a small error compound?", (), (COMPOUNDING, RATIOS, GROWTH)),
        Section("Does 1 % redirect attention?", (), (ATTENTION, SHARES)),
        Section("All rows", (), (EVERYTHING,)),
    ),
)

"""The page of the importance experiment: what the model loses without each layer, and its parts."""

from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.records import RunRecord
from jaxanatomy.report import importance_rows as tidy
from jaxanatomy.report import importance_words as words
from jaxanatomy.report import style
from jaxanatomy.report.common import CHANGE, LAYER, PPL
from jaxanatomy.report.importance_rows import NEIGHBOUR_MEAN
from jaxanatomy.report.importance_words import RANGES, signed
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import (
    Axis,
    Bars,
    Column,
    Heatmap,
    Level,
    Mark,
    Palette,
    Row,
    Span,
    Strip,
    Table,
)
from jaxanatomy.words import label

COLOURS = {**style.CATEGORY_COLOURS, "better": style.BETTER}
EVERYWHERE, FIRST, OTHERS = "#C9D0D6", "#6A3D9A", "#E08A1E"

HEAT = (
    "Numbers are changes of perplexity in percent; k is thousands, M millions. A colour means the "
    "same percentage in every figure: white no effect, blue an improvement."
)
CELL = Axis(tidy.CHANGE, "change of perplexity (%)", "percent")
IMPORTANCE = Bars(
    name="importance",
    facet="panel",
    rows=tidy.layers,
    title=lambda rows: rows[0]["heading"],
    place=LAYER,
    measure=CHANGE,
    palette=Palette("kind", COLOURS, RANGES),
    spans=(
        Span("band_low", "band_high", "all layers at once", line=0.6),
        Span("low", "high", "95 % interval of each layer", line=2.0),
    ),
    marks=(
        Mark("without_first", "without each document's first prediction", "_"),
        Mark("paper", "AH Table 1, base model", "D", style.PAPER, hollow=True),
    ),
    levels=(
        *(Level(end, colour=style.MUTED, dashed=True) for end in THRESHOLDS_PERCENT),
        Level(0.0),
    ),
    hatched="boundary",
    hatch_label="boundary: one neighbour, copied",
    write="written",
    caption=(
        "Each layer's seven matrices are replaced by the mean of its neighbours' (AH section 3.2). "
        "Thick lines are each layer's own 95 % interval, paired over documents, or over blocks of "
        "64 tokens where there are fewer than five: a category is settled only if the whole line "
        "lies in it. Thin lines hold for all layers at once: what is picked after looking, an "
        "anti-layer above all, is judged by them. The first prediction of each document dominates "
        "on short documents. Hatched layers do not compare with the others."
    ),
)
DIVERGENCE = Bars(
    name="kl",
    facet="panel",
    rows=tidy.divergences,
    title="KL divergence from the unedited model",
    place=LAYER,
    measure=Axis("kl", "KL divergence (nats per token)"),
    palette=Palette("kind", COLOURS, RANGES),
    spans=(Span("kl_low", "kl_high", "95 % interval"),),
    hatched="boundary",
    hatch_label="boundary: one neighbour, copied",
    caption=(
        "How far the predictions move, whichever way: a change that the text happens to like is no "
        "smaller for it. It is never below 0, so that an interval clear of 0 says nothing. Colours "
        "are the categories of the map."
    ),
)
CONTROLS = Heatmap(
    name="controls",
    facet="panel",
    rows=tidy.controls,
    title="whole layers, every intervention",
    x=Axis("layer", "layer"),
    y=Axis("intervention", scale="names"),
    cell=CELL,
    rule_below=(NEIGHBOUR_MEAN,),
    caption=(
        f"{HEAT} Empty: not defined at this layer, or not measured. Crossed out (n/f): the "
        "perplexity is not finite. Of what is random the median draw."
    ),
)
RATIOS = Strip(
    name="control_ratios",
    facet="panel",
    rows=tidy.ratios,
    title="controls against the neighbour mean",
    place=Axis("intervention", scale="names"),
    measure=Axis(
        "ratio",
        "← less damage · perplexity under the control ÷ under the neighbour mean · more →",
        "log",
    ),
    palette=Palette("category", style.CATEGORY_COLOURS, RANGES),
    spans=(Span("low", "high", "from the mildest to the worst draw", style.MUTED),),
    marks=(
        Mark("ratio", "", "o", ""),
        Mark("median", "median over layers", "|", style.PAPER),
    ),
    levels=(Level(1.0),),
    spread="shift",
    beside="beside",
    write="written",
    caption=(
        "A dot for each layer with two neighbours; numbers name outlying layers. Where zero (the "
        "layer skipped) lies clearly left of 1, the neighbour mean does harm of its own. The "
        "rescaled mean undoes the loss of norm, the aligned mean the mixing of neurons; matched "
        "noise and permuted rows keep a layer's statistics and nothing else. These are point "
        "estimates: a ratio near 1 decides nothing on a short text."
    ),
)
DRAWS = Table(
    name="draws",
    facet="panel",
    rows=tidy.draws,
    title="each layer in several random draws, change of perplexity (%)",
    cells=(
        Column("layer", "layer"),
        Column("draws", "draws"),
        Column("median draw, 95 % over documents", "median", signed, "low", "high"),
        Column("mildest draw", "draws_low", signed),
        Column("worst draw", "draws_high", signed),
        Column("95 % over draws and documents, from", "both_low", signed),
        Column("to", "both_high", signed),
    ),
    note=(
        "The range of n draws holds the median of all possible ones with probability "
        "1 − 2^(1 − n), 0.875 for four. The last columns are for the mean over other draws and "
        "other documents at once."
    ),
    folded=True,
)
FIRST_TOKEN = Bars(
    name="first_token",
    facet="panel",
    rows=tidy.first_token,
    place=LAYER,
    measure=Axis("everywhere", CHANGE.label, "percent"),
    palette=Palette("edit", {"at all tokens": EVERYWHERE}),
    marks=(
        Mark("first", "at the first token only", "o", FIRST),
        Mark("others", "at all other tokens only", "s", OTHERS),
    ),
    levels=(Level(0.0),),
    write="written",
    caption=(
        "A circle far above its square: the layer matters through the first token of a document, "
        "as one does that writes the attention sink there; its number stands above. An edit at "
        "some tokens selects outputs: the edited layer's stand there, the unedited layer's "
        "elsewhere, both from the same input. The two effects need not add up to the bar."
    ),
)


def scopes(intervention: str = NEIGHBOUR_MEAN, least: int = 1) -> Heatmap:
    """The figure of an intervention on parts of layers, of texts with at least so many parts."""

    def rows(record: RunRecord) -> list[Row]:
        return tidy.parts(record, intervention, least)

    equal = (
        " Some rows must be equal: a product with one factor zero is zero whichever it is, so "
        "q_proj equals k_proj; v_proj, o_proj and attention are equal; and so are gate_proj, "
        "up_proj, down_proj and MLP."
    )
    return Heatmap(
        name=f"scopes_{intervention}",
        facet="panel",
        rows=rows,
        title=f"each part of each layer: {label(intervention)}",
        x=Axis("layer", "layer"),
        y=Axis("scope", scale="names", names={"layer": "whole layer"}),
        cell=CELL,
        rule_below=("layer",),
        caption=HEAT + (equal if intervention == "zero" else ""),
    )


def heads(intervention: str = "zero") -> Heatmap:
    """The figure of an intervention on single heads."""
    return Heatmap(
        name="heads",
        facet="panel",
        rows=lambda record: tidy.heads(record, intervention),
        title=f"each query head: {label(intervention)}",
        x=Axis("layer", "layer"),
        y=Axis("scope", scale="names"),
        cell=CELL,
        caption=f"{HEAT} Each head alone: its slice of the input of o_proj is edited.",
    )


LAYERS = Table(
    name="layers",
    facet="panel",
    rows=tidy.readings,
    title=lambda rows: rows[0]["heading"],
    cells=(
        Column("layer", "layer"),
        Column("category", "verdict", kind="kind"),
        PPL,
        Column("change (%), 95 %", tidy.CHANGE, signed, "low", "high"),
        Column("zero (%)", "zero", signed),
        Column("first (%)", "first", signed),
        Column("others (%)", "others", signed),
    ),
    note=(
        "Zero is the layer skipped; first and others are the neighbour mean at the first token "
        "alone and at all others."
    ),
    printed=True,
)
MORE = Table(
    name="layers_more",
    facet="panel",
    rows=tidy.readings,
    title="all layers at once, and other readings",
    cells=(
        Column("layer", "layer"),
        Column("category", "verdict", kind="kind"),
        Column("change (%)", tidy.CHANGE, signed),
        Column("all layers at once, from (%)", "band_low", signed),
        Column("to (%)", "band_high", signed),
        Column("without first predictions (%)", "without_first", signed),
        Column("KL (nats), 95 %", "kl", ".4f", "kl_low", "kl_high"),
        Column("AH Table 1 (%)", "paper", signed),
        Column("reason", "reason"),
    ),
)

PAGE = Page(
    kind="Layer importance",
    lead=words.lead,
    sections=(
        Section(
            "Which layers matter",
            (words.extremes, words.settled),
            (
                Table(
                    name="glance",
                    rows=words.glance,
                    title="change of perplexity when a layer is replaced",
                    facet="",
                    cells=(Column("finding", "finding"), Column("{}", "words.*")),
                    note=(
                        "A category is settled where the layer's own 95 % interval lies in it. "
                        "What is picked after looking (most, least, better) is judged by intervals "
                        "that hold for all layers at once."
                    ),
                    prose=True,
                ),
            ),
        ),
        Section("Importance map", (), (IMPORTANCE,)),
        Section("Distance from the unedited model", (), (DIVERGENCE,)),
        Section(
            "What the controls say",
            (
                "A neighbour mean is not a clean removal: it shrinks norms (two independent "
                "matrices average to 0.71 of the norm) and mixes neurons that do not correspond. "
                "The controls show how much of a layer's importance is due to that.",
                words.skipped,
            ),
            (CONTROLS, RATIOS, DRAWS),
        ),
        Section("First token or the others", (words.at_first_token,), (FIRST_TOKEN,)),
        Section(
            "Parts of layers",
            (
                "Each row edits one part alone; effects of parts do not add up to the layer's, "
                "since parts can stand in for each other.",
            ),
            (scopes(NEIGHBOUR_MEAN, 2), scopes("zero", 2)),
        ),
        Section(
            "Heads",
            ("Heads that back each other up look harmless one by one.", words.undecided_heads),
            (heads(),),
        ),
        Section("All layers", (), (LAYERS, MORE)),
    ),
)

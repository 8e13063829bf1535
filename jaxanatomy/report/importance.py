"""The page of the importance experiment: what the model loses without each layer, and its parts."""

from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.report import importance_rows as tidy
from jaxanatomy.report import importance_words as words
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import CELL, CHANGE, HEAT, LAYER, PPL
from jaxanatomy.report.importance_words import RANGES
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import label, signed

CATEGORIES = v.Palette("kind", {**style.CATEGORY_COLOURS, "better": style.BETTER}, RANGES)
EVERYWHERE, FIRST, OTHERS = "#C9D0D6", "#6A3D9A", "#E08A1E"
INTERVENTION = v.Axis("intervention", scale="names", write=label)
BOUNDARY = "boundary: one neighbour, copied"
NUMBER = v.Axis("layer", "layer")

IMPORTANCE = v.Bars(
    "importance",
    tidy.layers,
    lambda rows: rows[0]["heading"],
    place=LAYER,
    measure=CHANGE,
    palette=CATEGORIES,
    spans=(
        v.Span("band", "all layers at once", line=0.6),
        v.Span("change", "95 % interval of each layer", line=2.0),
    ),
    marks=(
        v.Mark("without_first", "without each document's first prediction", "_"),
        v.Mark("paper", "AH Table 1, base model", "D", style.PAPER, hollow=True),
    ),
    levels=(
        *(v.Level(end, colour=style.MUTED, dashed=True) for end in THRESHOLDS_PERCENT),
        v.Level(0.0),
    ),
    hatched="boundary",
    hatch_label=BOUNDARY,
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
DIVERGENCE = v.Bars(
    "kl",
    tidy.divergences,
    "KL divergence from the unedited model",
    place=LAYER,
    measure=v.Axis("kl", "KL divergence (nats per token)"),
    palette=CATEGORIES,
    spans=(v.Span("kl", "95 % interval"),),
    hatched="boundary",
    hatch_label=BOUNDARY,
    caption=(
        "How far the predictions move, whichever way: a change that the text happens to like is no "
        "smaller for it. It is never below 0, so that an interval clear of 0 says nothing. Colours "
        "are the categories of the map."
    ),
)
CONTROLS = v.Heatmap(
    "controls",
    tidy.controls,
    "whole layers, every intervention",
    x=NUMBER,
    y=INTERVENTION,
    cell=CELL,
    rule_below=tidy.NEIGHBOUR_MEAN,
    caption=f"{HEAT} Of what is random the median draw.",
)
RATIOS = v.Strip(
    "control_ratios",
    tidy.ratios,
    "controls against the neighbour mean",
    place=INTERVENTION,
    measure=v.Axis(
        "ratio",
        "← less damage · perplexity under the control ÷ under the neighbour mean · more →",
        "log",
    ),
    palette=v.Palette("category", style.CATEGORY_COLOURS, RANGES),
    spans=(v.Span("draws", "from the mildest to the worst draw", style.MUTED),),
    marks=(v.Mark("ratio", colour=""), v.Mark("median", "median over layers", "|", style.PAPER)),
    levels=(v.Level(1.0),),
    spread="shift",
    beside="beside",
    write="written",
    caption=(
        "A dot for each layer with two neighbours; the lowest and the highest have their numbers. "
        "Where zero (the layer skipped) lies clearly left of 1, the neighbour mean does harm of "
        "its own. The rescaled mean undoes the loss of norm, the aligned mean the mixing of "
        "neurons; matched noise and permuted rows keep a layer's statistics and nothing else. "
        "These are point estimates: a ratio near 1 decides nothing on a short text."
    ),
)
DRAWS = v.Table(
    "draws",
    tidy.draws,
    "each layer in several random draws, change of perplexity (%)",
    cells=(
        v.Column("layer", "layer"),
        v.Column("draws", "draws"),
        v.Column("median draw, 95 % over documents", "documents", signed),
        v.Column("median draw, mildest to worst", "range", signed),
        v.Column("mean draw, 95 % over draws and documents", "both", signed),
    ),
    note=(
        "The range of n draws holds the median of all possible ones with probability "
        "1 − 2^(1 − n), 0.875 for four. The last column is for the mean over other draws and "
        "other documents at once."
    ),
    folded=True,
)
FIRST_TOKEN = v.Bars(
    "first_token",
    tidy.first_token,
    place=LAYER,
    measure=v.Axis("everywhere", CHANGE.label, "percent"),
    palette=v.Palette("", {None: EVERYWHERE}),
    marks=(
        v.Mark("first", "at the first token only", "o", FIRST),
        v.Mark("others", "at all other tokens only", "s", OTHERS),
    ),
    levels=(v.Level(0.0),),
    write="written",
    caption=(
        "Bars: at all tokens. A circle far above its square: the layer matters through the first "
        "token of a document, as one does that writes the attention sink there; its number stands "
        "above. An edit at some tokens selects outputs: the edited layer's stand there, the "
        "unedited layer's elsewhere, both from the same input. The two effects need not add up to "
        "the bar."
    ),
)


def scopes(intervention: str = tidy.NEIGHBOUR_MEAN, least: int = 1) -> v.Heatmap:
    """The figure of an intervention on parts of layers, of texts with at least so many parts."""
    equal = (
        " Some rows must be equal: a product with one factor zero is zero whichever it is, so "
        "q_proj equals k_proj; v_proj, o_proj and attention are equal; and so are gate_proj, "
        "up_proj, down_proj and MLP."
    )
    return v.Heatmap(
        f"scopes_{intervention}",
        lambda record: tidy.parts(record, intervention, least),
        f"each part of each layer: {label(intervention)}",
        x=NUMBER,
        y=v.Axis("scope", scale="names", write=label),
        cell=CELL,
        rule_below="layer",
        caption=HEAT + (equal if intervention == "zero" else ""),
    )


def heads(intervention: str = "zero") -> v.Heatmap:
    """The figure of an intervention on single heads."""
    return v.Heatmap(
        "heads",
        lambda record: tidy.heads(record, intervention),
        f"each query head: {label(intervention)}",
        x=NUMBER,
        y=v.Axis("scope", scale="names", write=label),
        cell=CELL,
        caption=f"{HEAT} Each head alone: its slice of the input of o_proj is edited.",
    )


GLANCE = v.Table(
    "glance",
    words.glance,
    "change of perplexity when a layer is replaced",
    cells=(v.Column("finding", "finding"), v.Column("{}", "words.*")),
    note=(
        "A category is settled where the layer's own 95 % interval lies in it. What is picked "
        "after looking (most, least, better) is judged by intervals that hold for all layers at "
        "once."
    ),
    prose=True,
)
VERDICT = (v.Column("layer", "layer"), v.Column("category", "verdict", kind="kind"))
LAYERS = v.Table(
    "layers",
    tidy.layers,
    lambda rows: rows[0]["heading"],
    cells=(
        *VERDICT,
        PPL,
        v.Column("change (%), 95 %", "change", signed),
        v.Column("zero (%)", "zero", signed),
        v.Column("first (%)", "first", signed),
        v.Column("others (%)", "others", signed),
    ),
    note=(
        "Zero is the layer skipped; first and others are the neighbour mean at the first token "
        "alone and at all others."
    ),
    printed=True,
)
MORE = v.Table(
    "layers_more",
    tidy.layers,
    "all layers at once, and other readings",
    cells=(
        *VERDICT,
        v.Column("change (%), all layers at once", "band", signed),
        v.Column("without first predictions (%)", "without_first", signed),
        v.Column("KL (nats), 95 %", "kl", ".4f"),
        v.Column("AH Table 1 (%)", "paper", signed),
        v.Column("reason", "reason"),
    ),
)

PAGE = Page(
    "Layer importance",
    words.lead,
    Section("Which layers matter", words.extremes, GLANCE),
    Section("Importance map", IMPORTANCE),
    Section("Distance from the unedited model", DIVERGENCE),
    Section(
        "What the controls say",
        "A neighbour mean is not a clean removal: it shrinks norms (two independent matrices "
        "average to 0.71 of the norm) and mixes neurons that do not correspond. The controls show "
        "how much of a layer's importance is due to that.",
        words.skipped,
        CONTROLS,
        RATIOS,
        DRAWS,
    ),
    Section("First token or the others", FIRST_TOKEN),
    Section(
        "Parts of layers",
        "Each row edits one part alone; effects of parts do not add up to the layer's, since parts "
        "can stand in for each other.",
        scopes(tidy.NEIGHBOUR_MEAN, 2),
        scopes("zero", 2),
    ),
    Section(
        "Heads",
        "Heads that back each other up look harmless one by one.",
        words.undecided_heads,
        heads(),
    ),
    Section("All layers", LAYERS, MORE),
)

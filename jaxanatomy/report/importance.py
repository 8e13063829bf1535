"""The page of the importance experiment: what the model loses without each layer, and its parts."""

from collections.abc import Iterator
from statistics import median

from jaxanatomy.measures.importance import CATEGORIES, THRESHOLDS_PERCENT
from jaxanatomy.measures.statistics import estimates as statistics
from jaxanatomy.measures.statistics.many_looks import MapLooks
from jaxanatomy.records import RunRecord
from jaxanatomy.report import importance_rows as tidy
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import CELL, CHANGE, HEAT, LAYER, PPL, counted, interval
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import label, listed, plain, signed

RANGES = {
    "redundant": "redundant (below 10 %)",
    "minor": "minor (10 to 30 %)",
    "important": "important (30 to 100 %)",
    "critical": "critical (100 % and above)",
    "better": "anti-layer (all layers at once: below 0)",
}


def glance(record: RunRecord) -> list[v.Row]:
    """A line for each finding, the words of each text as `words.NAME` where its rows allow it."""
    rows: dict[str, dict[str, str]] = {}
    for cells in tidy.texts(record):
        correlation = _correlation(cells, record)
        for finding, words in (*_findings(cells), *_looked_at_whole(cells.looks), *correlation):
            own = rows.setdefault(finding, {"finding": finding})
            own[f"words.{cells.panel or 'text'}"] = words
    return list(rows.values())


def _findings(cells: tidy.Cells) -> Iterator[tuple[str, str]]:
    yield "baseline", tidy.baseline_words(cells)
    for name in reversed(CATEGORIES):
        own = [row for row in cells.inner.values() if tidy.category(row) == name]
        unsettled = [row["layer"] for row in own if not tidy.is_settled(row)]
        words = f"; not settled: {listed(unsettled)}" if unsettled else ""
        yield RANGES[name], listed(row["layer"] for row in own) + words
    boundary = sorted(cells.of(cells.main).keys() - cells.inner.keys())
    if boundary:
        yield "boundary layers, whose one neighbour was copied", listed(boundary)
    found = {layer: interval(row, "change") for layer, row in cells.inner.items()}
    undecided = [layer for layer, each in found.items() if each and each.low <= 0 <= each.high]
    if any(found.values()):
        yield "cannot be told from no effect (own interval holds 0)", listed(undecided)


def _looked_at_whole(looks: MapLooks | None) -> Iterator[tuple[str, str]]:
    if looks is None:
        return
    yield "settled by intervals that hold for all layers at once", listed(looks.settled)
    yield "may be the most important", listed(looks.most)
    yield "may be the least important", listed(looks.least)
    yield "better without it (band of all layers below 0)", listed(looks.anti_layers)
    least = looks.smallest_effect
    if least:
        one, picked = map(statistics.degradation_percent, (least.pointwise, least.simultaneous))
        count = f"{plain(looks.chance_better, 1)} of {len(looks.band)} layers"
        yield "as many better by chance, by their own intervals", count
        yield (
            "smallest effect that this text can show",
            f"{plain(one, 1)} % ({plain(least.pointwise, 3)} nats) for a layer named beforehand, "
            f"{plain(picked, 1)} % ({plain(least.simultaneous, 3)}) for one picked from the map; "
            f"{looks.units} documents (blocks of {statistics.BLOCK_TOKENS} tokens if fewer than "
            f"{statistics.MIN_DOCUMENTS})",
        )


def _correlation(cells: tidy.Cells, record: RunRecord) -> Iterator[tuple[str, str]]:
    part = (record.summary.get("texts") or {}).get(cells.panel) or {}
    found = part.get("rank_correlation") or {}
    if found.get("value") is not None:
        words = plain(found["value"])
        if found.get("ci95"):
            words += " (95 % interval {} to {})".format(*map(plain, found["ci95"]))
        yield "rank correlation with AH Table 1", f"{words}, {found['layers']} layers"


def skipped(record: RunRecord) -> str:
    """How skipping a layer compares with its neighbour mean, by paired intervals."""
    parts = []
    for cells in tidy.texts(record):
        found, zero = cells.ratios("zero"), cells.of("zero")
        milder = [layer for layer, ratio in found.items() if ratio < 1]
        apart = sum(
            statistics.paired_difference(zero[layer], cells.inner[layer]).high < 0
            for layer in milder
        )
        if found:
            on = f"On {cells.panel} skipping" if cells.panel else "Skipping"
            parts.append(
                f"{on} the layer altogether gives a lower perplexity than its neighbour mean in "
                f"{len(milder)} of {len(found)} layers (median ratio "
                f"×{plain(median(found.values()))}); in {apart} of them the 95 % "
                "interval of the difference over documents lies below 0, each by itself."
            )
    return " ".join(parts)


PALETTE = v.Palette("kind", {**style.CATEGORY_COLOURS, "better": style.BETTER}, RANGES)
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
    palette=PALETTE,
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
    palette=PALETTE,
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
    dot="undecided",
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
        dot="undecided",
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
        dot="undecided",
        caption=f"{HEAT} Each head alone: its slice of the input of o_proj is edited.",
    )


GLANCE = v.Table(
    "glance",
    glance,
    "change of perplexity when a layer is replaced",
    cells=(v.Column("finding", "finding"), v.Column("{}", "words.*")),
    note=(
        "A category is settled where the layer's own 95 % interval lies in it. What is picked "
        "after looking (most, least, better) is judged by intervals that hold for all layers at "
        "once."
    ),
    prose=True,
)
LAYERS = v.Table(
    "layers",
    tidy.layers,
    lambda rows: rows[0]["heading"],
    cells=(
        v.Column("layer", "layer"),
        v.Column("category", "verdict", kind="kind"),
        PPL,
        v.Column("change (%), 95 %", "change", signed),
        v.Column("zero (%)", "zero", signed),
        v.Column("first (%)", "first", signed),
        v.Column("others (%)", "others", signed),
        v.Column("reason", "reason"),
    ),
    note=(
        "Zero is the layer skipped; first and others are the neighbour mean at the first token "
        "alone and at all others."
    ),
    printed=True,
)

PAGE = Page(
    "Layer importance",
    lambda record: counted(record.rows, variants="variant", layers="layer", texts="text"),
    Section("Which layers matter", GLANCE),
    Section("Importance map", IMPORTANCE),
    Section("Distance from the unedited model", DIVERGENCE),
    Section(
        "What the controls say",
        "A neighbour mean is not a clean removal: it shrinks norms (two independent matrices "
        "average to 0.71 of the norm) and mixes neurons that do not correspond. The controls show "
        "how much of a layer's importance is due to that.",
        skipped,
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
    Section("Heads", "Heads that back each other up look harmless one by one.", heads()),
    Section("All layers", LAYERS),
)

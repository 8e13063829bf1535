"""The page of the predictability experiment: do earlier layers foretell later ones?"""

from typing import Any

from jaxanatomy import tree
from jaxanatomy.measures.predictability import summarise
from jaxanatomy.measures.statistics.draws import median_draw
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import (
    COMPONENT,
    LAYER,
    by_component,
    counted,
    estimate,
    grouped,
    once,
    only,
    perplexity_of,
    published,
    tally,
)
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import percent, perplexity

READINGS = {
    "extrapolate": "extrapolate: fit l < t, score t",
    "in_sample": "in_sample: fit l < t, score l < t",
    "target_included": "target_included: fit l ≤ t, score t",
    "sorted": "sorted: values sorted, extrapolated",
    "sorted_weak": "sorted_weak: sorted, penalty near 0",
    "statistics": "statistics: mean, deviation, quantiles",
}
BY_TARGET = ("extrapolate", "in_sample", "target_included", "sorted")
STRATEGIES = {
    "predicted": "predicted",
    "zero": "deleted",
    "predicted_noise": "noise as large as the error of the prediction, median draw",
}
NOISE, ORDER = "#B9C1C9", "#8C6BB1"


def weights(record: RunRecord) -> list[v.Row]:
    """R2 of each reading, component and target beside its nulls; no target: the mean over them."""
    rows = [row for row in record.rows if row.get("reading") in READINGS]
    rows = [
        row
        | {
            "null": estimate(row["null_r2"], (row["null_low"], row["null_high"])),
            "shuffled": estimate(row["shuffled_r2"], (row["shuffled_low"], row["shuffled_high"])),
        }
        for row in rows
    ]
    return sorted(rows, key=lambda row: tree.MATRICES.index(row["component"]))


def means(record: RunRecord) -> list[v.Row]:
    """R2 of each reading and component, mean over targets, beside its nulls and the paper's."""
    paper = published(record, "table2_r2")
    rows = [row for row in weights(record) if row["target"] is None]
    rows.sort(key=lambda row: list(READINGS).index(row["reading"]))
    return [
        row
        | {"title": READINGS[row["reading"]]}
        | dict(zip(("paper", "paper_best"), paper.get(row["component"], ()), strict=False))
        for row in rows
    ]


def targets(record: RunRecord) -> list[v.Row]:
    """R2 at each target of some readings, and of Gaussian noise."""
    return [
        row | {"shown": row[field], "of": of}
        for row in weights(record)
        if row["target"] is not None and row["reading"] in BY_TARGET
        for field, of in (("r2", "weights"), ("null_r2", "noise"))
    ]


def tested(record: RunRecord) -> list[v.Row]:
    """The function test: perplexity of each strategy on each set of layers, small sets first.

    Of noise the median draw.
    """
    rows = [row for row in record.rows if row.get("reading") == "function"]
    bases = {row["text"]: row["ppl"] for row in rows if row["strategy"] == "none"}
    rows = [row for row in rows if row["strategy"] in STRATEGIES]
    rows = [median_draw(draws) for draws in grouped(rows, "text", "strategy", "set").values()]
    found = []
    for row in sorted(rows, key=lambda row: (len(row["layers"]), row["layers"])):
        base = bases.get(row["text"])
        own = {"panel": row["text"], "layer": row["layers"][0], "baseline": base}
        found.append(row | own | {"ppl": perplexity_of(row, base)})
    return found


single = only(tested, lambda row: len(row["layers"]) == 1)


@once
def differences(record: RunRecord) -> list[v.Row]:
    """Predicted layers against deleted ones and against noise of the error's size.

    Each perplexity with its interval, and the differences of `summarise` with theirs.
    """
    rows: list[dict[str, Any]] = []
    ppl = {(row["panel"], row["set"], row["strategy"]): row["ppl"] for row in tested(record)}
    for text, found in summarise(record.rows)["function"].items():
        for name, each in found["sets"].items():
            row = {"panel": text, "set": name, **each}
            row |= {s: ppl[text, name, s] for s in STRATEGIES if (text, name, s) in ppl}
            row["less_zero"] = estimate(each["difference"], each["ci95"])
            if "noise_difference" in each:
                row["less_noise"] = estimate(each["noise_difference"], each["noise_ci95"])
            rows.append(row)
    return rows


def counts(record: RunRecord) -> str:
    """In how many single layers predicting does better or worse than its two controls."""
    rows = [row for row in differences(record) if len(row["layers"]) == 1]
    controls = {"less_zero": "deleting", "less_noise": "noise of the error's size"}
    found = [
        f"Loss of predicting less that of {control}, single layers on {text}: {words}."
        for (text,), own in grouped(rows, "panel").items()
        for field, control in controls.items()
        if (words := tally(own, field))
    ]
    return " ".join(found)


R2 = v.Strip(
    "r2_readings",
    means,
    facet="title",
    columns=3,
    size=(3.7, 2.6),
    place=COMPONENT,
    measure=v.Axis("r2", "R², mean over targets"),
    spans=(
        v.Span("null", "Gaussian noise of the same moments, 95 %", NOISE, 0.5),
        v.Span("shuffled", "layers in random order, 95 %", ORDER, shift=0.32),
    ),
    marks=(
        v.Mark("paper", "AH Table 2, average", "D", style.PAPER, -0.34, hollow=True),
        v.Mark("r2", "weights", "o", style.CROSS),
    ),
    share=False,
    caption=(
        "Each panel has its own scale. Red dots on grey: the weights do what noise of the same "
        "moments does. One figure in twenty lies outside by chance."
    ),
)
R2_TABLE = v.Table(
    "r2",
    means,
    "R² of each reading and matrix, mean and best over targets",
    cells=(
        v.Column("reading", "reading"),
        v.Column("matrix", "component"),
        v.Column("R², mean", "r2", ".3f"),
        v.Column("Gaussian noise, 95 %", "null", ".3f"),
        v.Column("random order, 95 %", "shuffled", ".3f"),
        v.Column("AH Table 2, average", "paper", ".3f"),
        v.Column("best", "best", ".3f"),
        v.Column("best of noise", "null_best", ".3f"),
        v.Column("AH Table 2, best", "paper_best", ".3f"),
    ),
    folded=True,
    printed=True,
)
TARGETS = by_component(
    "r2_targets",
    targets,
    x=v.Axis("target", "target layer t"),
    y=v.Axis("shown", "R²"),
    series=v.Palette("reading"),
    dashes=v.Dashes("of", {"weights": ""}, {"noise": "Gaussian noise"}),
    caption="Fitted readings fall with t: four features fit few layers better.",
)
SINGLE = v.Curves(
    "function_layers",
    single,
    "one layer",
    size=(10.4, 3.4),
    x=LAYER,
    y=v.Axis("ppl", "perplexity", "log"),
    series=v.Palette("strategy", names=STRATEGIES),
    band="ppl",
    levels=(v.Level("baseline", "the unedited model", dashed=True),),
    point="always",
    caption="Bands: 95 % intervals over documents. A cross: not finite.",
)
DIFFERENCES = v.Table(
    "function",
    differences,
    "perplexity; difference in nats per token (above 0: predicting is worse)",
    cells=(
        v.Column("set", "set"),
        v.Column("layers", "layers", "d"),
        v.Column("predicted (95 %)", "predicted", perplexity),
        v.Column("change", "predicted_percent", percent),
        v.Column("deleted (95 %)", "zero", perplexity),
        v.Column("less deleted (95 %)", "less_zero", "+.3f"),
        v.Column("noise, median draw (95 %)", "predicted_noise", perplexity),
        v.Column("less noise, mean of draws (95 %)", "less_noise", "+.3f"),
    ),
    printed=True,
)

PAGE = Page(
    "Predictability of layers",
    lambda record: counted(record.rows, components="component", readings="reading", texts="text"),
    Section(
        "Do weights foretell weights",
        "A ridge regression on l, l², sin(lπ/N) and cos(lπ/N) predicts each sampled parameter of "
        "layer t from the layers before it (AH section 3.3). The paper does not say on which "
        "layers it scores, so six readings of its text stand here.",
        "A high R² that noise has as well says nothing about weights: a regression that has seen "
        "its target fits noise in part, and sorted noise equals sorted noise.",
        R2,
        R2_TABLE,
        TARGETS,
    ),
    Section(
        "Do predicted weights work",
        counts,
        "The seven matrices of a layer are replaced by their predictions from all layers before "
        "it; norm weights stay. Deleting the layer is the control. A prediction near zero errs by "
        "the layer itself: better than that noise is no success. The noise is drawn several "
        "times; the interval of the difference from it holds for other draws, too.",
        SINGLE,
        DIFFERENCES,
    ),
)

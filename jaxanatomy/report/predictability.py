"""The page of the predictability experiment: do earlier layers foretell later ones?"""

from collections.abc import Sequence

from jaxanatomy import tree
from jaxanatomy.measures.predictability import summarise
from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report.common import LAYER, with_ends
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import (
    Axis,
    Column,
    Curves,
    Level,
    Mark,
    Palette,
    Row,
    Span,
    Strip,
    Table,
)
from jaxanatomy.words import percent, perplexity, plain, shortened

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
    "predicted_noise": "noise as large as the error of the prediction",
}
NOISE, ORDER = "#B9C1C9", "#8C6BB1"


def means(record: RunRecord) -> list[Row]:
    """R2 of each reading and component, mean over targets, beside its nulls and the paper's."""
    made = {"config": record.config, "provenance": record.provenance}
    paper = paper_table("table2_r2") if table1_of(made) else {}
    rows = [row for row in _weights(record) if row["target"] is None]
    rows.sort(key=lambda row: list(READINGS).index(row["reading"]))
    return [
        row
        | {"title": READINGS[row["reading"]]}
        | dict(zip(("paper", "paper_best"), paper.get(row["component"], ()), strict=False))
        for row in rows
    ]


def targets(record: RunRecord) -> list[Row]:
    """R2 at each target of some readings, and of Gaussian noise."""
    rows = []
    for row in _weights(record):
        if row["target"] is not None and row["reading"] in BY_TARGET:
            rows.append(row | {"shown": row["r2"], "of": "weights"})
            rows.append(row | {"shown": row["null_r2"], "of": "noise"})
    return rows


def tested(record: RunRecord) -> list[Row]:
    """The function test: a row for each strategy on each set of layers, small sets first."""
    rows = [row for row in record.rows if row.get("reading") == "function"]
    base = {row["text"]: row["ppl"] for row in rows if row["strategy"] == "none"}
    rows = [row for row in rows if row["strategy"] in STRATEGIES]
    rows.sort(key=lambda row: (len(row["layers"]), row["layers"]))
    found = []
    for row in rows:
        row = with_ends(row) | {"baseline": base.get(row["text"])}
        if row["baseline"] and "low" in row:
            ends = {end: row["baseline"] * (1 + row[end] / 100) for end in ("low", "high")}
            row |= ends
        found.append(row | {"layer": row["layers"][0]})
    return found


def single(record: RunRecord) -> list[Row]:
    """The function test on single layers."""
    return [row for row in tested(record) if len(row["layers"]) == 1]


def several(record: RunRecord) -> list[Row]:
    """The function test on sets of layers, a row for each set with its strategies as fields."""
    found: dict[tuple, Row] = {}
    for row in tested(record):
        if len(row["layers"]) > 1:
            own = {"text": row["text"], "set": row["set"], "baseline": row["baseline"]}
            wide = found.setdefault((row["text"], row["set"]), own)
            wide |= {row["strategy"]: row["ppl"]}
            if "low" in row:
                wide |= {f"{row['strategy']}_{end}": row[end] for end in ("low", "high")}
    return list(found.values())


def differences(record: RunRecord) -> list[Row]:
    """Predicted layers against deleted ones and against noise of the error's size."""
    rows = []
    for text, found in summarise(record.rows)["function"].items():
        for name, each in found["sets"].items():
            row = {"text": shortened(text), "set": name, **each}
            row = with_ends(row, "ci95", ("low", "high"))
            rows.append(with_ends(row, "noise_ci95", ("noise_low", "noise_high")))
    return rows


def _weights(record: RunRecord) -> list[Row]:
    rows = [row for row in record.rows if row.get("reading") in READINGS]
    return sorted(rows, key=lambda row: tree.MATRICES.index(row["component"]))


def against_noise(record: RunRecord) -> str:
    """How each reading compares with noise, over the components."""
    words = []
    for reading in READINGS:
        rows = [row for row in means(record) if row["reading"] == reading and row["r2"] is not None]
        if rows:
            inside = sum(row["null_low"] <= row["r2"] <= row["null_high"] for row in rows)
            gain = max(row["r2"] - row["null_r2"] for row in rows)
            words.append(
                f"{reading}: R² {_range(rows, 'r2')} against {_range(rows, 'null_r2')} of noise, "
                f"inside its band in {inside} of {len(rows)} matrices, "
                f"at most {plain(gain, 3)} above"
            )
    return "; ".join(words) + "." if words else ""


def counts(record: RunRecord) -> str:
    """In how many single layers predicting does better or worse than its two controls."""
    words = []
    for text in dict.fromkeys(row["text"] for row in differences(record)):
        rows = [
            row for row in differences(record) if row["text"] == text and len(row["layers"]) == 1
        ]
        for prefix, control in (("", "deleting"), ("noise_", "noise of the error's size")):
            known = [row for row in rows if f"{prefix}low" in row]
            worse = sum(row[f"{prefix}low"] > 0 for row in known)
            better = sum(row[f"{prefix}high"] < 0 for row in known)
            if known:
                words.append(
                    f"On {text} predicting is worse than {control} in {worse} and better in "
                    f"{better} of {len(rows)} single layers, by whole 95 % intervals."
                )
    return " ".join(words)


def _range(rows: Sequence[Row], field: str) -> str:
    values = [row[field] for row in rows]
    return f"{plain(min(values), 3)} to {plain(max(values), 3)}"


def _lead(record: RunRecord) -> str:
    components = dict.fromkeys(row["component"] for row in _weights(record))
    return f"{len(components)} matrices of each layer, {len(record.rows):,} rows."


MATRIX = Axis("component", scale="names")
READING = Column("reading", "reading")
NULL = Column("Gaussian noise, 95 %", "null_r2", ".3f", "null_low", "null_high")
STRATEGY = Palette("strategy", names=STRATEGIES)
BASELINE = Level("baseline", "the unedited model", dashed=True)

PAGE = Page(
    kind="Predictability of layers",
    lead=_lead,
    sections=(
        Section(
            "Do weights foretell weights",
            (
                "A ridge regression on l, l², sin(lπ/N) and cos(lπ/N) predicts each sampled "
                "parameter of layer t from the layers before it (AH section 3.3). The paper does "
                "not say on which layers it scores, so six readings of its text stand here.",
                against_noise,
                "A high R² that noise has as well says nothing about weights: a regression that "
                "has seen its target fits noise in part, and sorted noise equals sorted noise.",
            ),
            (
                Strip(
                    name="r2_readings",
                    rows=means,
                    facet="title",
                    columns=3,
                    size=(3.7, 2.6),
                    place=MATRIX,
                    measure=Axis("r2", "R², mean over targets"),
                    spans=(
                        Span(
                            "null_low",
                            "null_high",
                            "Gaussian noise of the same moments, 95 %",
                            NOISE,
                            0.5,
                        ),
                        Span(
                            "shuffled_low",
                            "shuffled_high",
                            "layers in random order, 95 %",
                            ORDER,
                            0.0,
                            0.32,
                        ),
                    ),
                    marks=(
                        Mark("paper", "AH Table 2, average", "D", style.PAPER, -0.34, hollow=True),
                        Mark("r2", "weights", "o", style.CROSS),
                    ),
                    share=False,
                    caption=(
                        "Each panel has its own scale. Red dots on grey: the weights do what noise "
                        "of the same moments does. One figure in twenty lies outside by chance."
                    ),
                ),
                Table(
                    name="r2",
                    rows=means,
                    title="R² of each reading and matrix, mean and best over targets",
                    facet="",
                    cells=(
                        READING,
                        Column("matrix", "component"),
                        Column("R², mean", "r2", ".3f"),
                        NULL,
                        Column(
                            "random order, 95 %",
                            "shuffled_r2",
                            ".3f",
                            "shuffled_low",
                            "shuffled_high",
                        ),
                        Column("AH Table 2, average", "paper", ".3f"),
                        Column("best", "best", ".3f"),
                        Column("best of noise", "null_best", ".3f"),
                        Column("AH Table 2, best", "paper_best", ".3f"),
                    ),
                    folded=True,
                    printed=True,
                ),
                Curves(
                    name="r2_targets",
                    rows=targets,
                    facet="component",
                    columns=4,
                    size=(2.9, 2.1),
                    x=Axis("target", "target layer t"),
                    y=Axis("shown", "R²"),
                    series=Palette("reading"),
                    dashes="of",
                    dash_styles={"weights": "", "noise": "-"},
                    dash_names={"noise": "Gaussian noise"},
                    caption="Fitted readings fall with t: four features fit few layers better.",
                ),
            ),
        ),
        Section(
            "Do predicted weights work",
            (
                counts,
                "The seven matrices of a layer are replaced by their predictions from all layers "
                "before it; norm weights stay. Deleting the layer is the control. A prediction "
                "near zero errs by the layer itself: better than that noise is no success.",
            ),
            (
                Curves(
                    name="function_layers",
                    rows=single,
                    title="one layer",
                    size=(10.4, 3.4),
                    x=LAYER,
                    y=Axis("ppl", "perplexity", "log"),
                    series=STRATEGY,
                    band=("low", "high"),
                    levels=(BASELINE,),
                    point="always",
                    caption="Bands: 95 % intervals over documents. A cross: not finite.",
                ),
                Strip(
                    name="function_sets",
                    rows=several,
                    title="sets of layers",
                    place=Axis("set", scale="names"),
                    measure=Axis("predicted", "perplexity", "log"),
                    spans=(
                        Span(
                            "predicted_low",
                            "predicted_high",
                            "95 % interval",
                            style.MUTED,
                            0.0,
                            -0.2,
                        ),
                        Span("zero_low", "zero_high", "", style.MUTED),
                        Span(
                            "predicted_noise_low", "predicted_noise_high", "", style.MUTED, 0.0, 0.2
                        ),
                    ),
                    marks=(
                        Mark("predicted", "predicted", "o", style.SERIES[0], -0.2),
                        Mark("zero", "deleted", "s", style.SERIES[1]),
                        Mark(
                            "predicted_noise",
                            STRATEGIES["predicted_noise"],
                            "^",
                            style.SERIES[2],
                            0.2,
                        ),
                    ),
                    levels=(BASELINE,),
                ),
                Table(
                    name="function",
                    rows=differences,
                    title="perplexity; difference in nats per token (above 0: predicting is worse)",
                    cells=(
                        Column("set", "set"),
                        Column("layers", "layers", "d"),
                        Column("predicted", "predicted_ppl", perplexity),
                        Column("change", "predicted_percent", percent),
                        Column("deleted", "zero_ppl", perplexity),
                        Column("less deleted (95 %)", "difference", "+.3f", "low", "high"),
                        Column("noise", "noise_ppl", perplexity),
                        Column(
                            "less noise (95 %)",
                            "noise_difference",
                            "+.3f",
                            "noise_low",
                            "noise_high",
                        ),
                    ),
                    folded=True,
                    printed=True,
                ),
            ),
        ),
    ),
)

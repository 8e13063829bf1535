"""The page of the structure experiment: delta correlations, cosines and PCA over layers."""

from collections.abc import Iterator

import numpy as np

from jaxanatomy.forensics.blocks import FFN, PERIODICITY
from jaxanatomy.measures.structure import repeating, side_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import (
    COMPONENT,
    by_component,
    counted,
    interval,
    merged,
    null_of,
    once,
    published,
)
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.tree import MATRICES
from jaxanatomy.words import listed, plain, spread

DELTA = "delta_correlation"
MEASURED, GAUSSIAN, SHUFFLED = "#AE2320", "#7FA9D2", "#C9D0D6"
METRICS = {
    "lag2_delta_correlation": "lag-2 delta correlation",
    "mean_cosine": "mean cosine",
    "pca_top1": "first component of PCA",
    "pca_top5": "first five components of PCA",
    "pca_effective_rank": "effective rank of PCA",
}
BLOCK_SCORES = {
    "block_similarity": "mean cosine",
    "block_symmetry": "symmetry about the centre",
    PERIODICITY: "periodicity",
}
KEY = ("component", "metric", "layer")


@once
def beside_nulls(record: RunRecord) -> list[v.Row]:
    """One row for each component, metric and layer, with all nulls as fields beside the value.

    `gaussian` and `shuffled_layers` have their intervals over draws; `z` and `side` are against
    `gaussian`; of runs of the papers' model the published value is `paper`.
    """
    paper, rows = published(record, "table3_delta_correlation"), []
    for row in (row for row in record.rows if row["component"] != FFN):
        wide = {name: row[name] for name in (*KEY, "value")} | {row["null"]: null_of(row)}
        if row["null"] == "gaussian":
            wide |= {"z": row["z"], "side": side_of(row)}
        if (row["metric"], row["layer"]) == (DELTA, None) and row["component"] in paper:
            wide["paper"] = paper[row["component"]]
        rows.append(wide)
    return sorted(merged(rows, *KEY), key=lambda row: MATRICES.index(row["component"]))


def means(record: RunRecord) -> list[v.Row]:
    """The delta correlation of each component, mean over layers."""
    found = [row for row in beside_nulls(record) if (row["metric"], row["layer"]) == (DELTA, None)]
    return [row | {"beside": f"z = {plain(row['z'], 1)} against Gaussian"} for row in found]


def layers(record: RunRecord) -> list[v.Row]:
    """The delta correlation at every layer; `residual` and `null` are less the Gaussian mean."""
    found = []
    for row in beside_nulls(record):
        null = interval(row, "gaussian")
        if (
            row["metric"] == DELTA
            and row["layer"] is not None
            and row["value"] is not None
            and null
        ):
            less = null.map(lambda each, centre=null.value: each - centre)
            found.append(row | {"residual": row["value"] - null.value, "null": less})
    return found


def others(record: RunRecord) -> list[v.Row]:
    """The other metrics."""
    rows = [row for row in beside_nulls(record) if row["metric"] in METRICS]
    rows = [row | {"label": METRICS[row["metric"]]} for row in rows if row["layer"] is None]
    return sorted(rows, key=lambda row: list(METRICS).index(row["metric"]))


def cosines(record: RunRecord) -> list[v.Row]:
    """The cosine of every two layers of each component."""
    return [
        {"component": name, "layer": int(a), "other": int(b), "cosine": float(matrix_LL[a, b])}
        for name, matrix_LL in _arrays(record, "cosine_")
        for a, b in np.ndindex(*matrix_LL.shape)
        if a != b
    ]


def spectra(record: RunRecord) -> list[v.Row]:
    """Shares of the variance of each principal component, measured and of Gaussian layers."""
    return [
        {"component": name, "principal": at, "share": 100 * float(share), "kind": kind}
        | {"equal": 100 / (len(shares) - 1)}
        for kind, prefix in (("measured", "pca_"), ("gaussian", "pca_gaussian_"))
        for name, shares in _arrays(record, prefix)
        # The last one is 0: the mean layer was taken away.
        for at, share in enumerate(shares[:-1], start=1)
    ]


def block_scores(record: RunRecord) -> list[v.Row]:
    """One row for each score and size of blocks, with its nulls beside it."""
    rows = [
        {"metric": row["metric"], "block": row["block"], "label": BLOCK_SCORES[row["metric"]]}
        | {"value": row["value"], row["null"]: null_of(row)}
        | ({"p": row["p"]} if row["null"] == "shuffled_layers" else {})
        for row in record.rows
        if row["component"] == FFN
    ]
    return merged(rows, "metric", "block")


def block_similarities(record: RunRecord) -> list[v.Row]:
    """The cosine of every two blocks that share no layer, by their first layers."""
    sizes = {row["block"]: None for row in record.rows if row["component"] == FFN}
    return [
        {"panel": f"blocks of {size}", "layer": int(a), "other": int(b), "cosine": float(cosine)}
        for size in sizes
        for (a, b), cosine in np.ndenumerate(record.arrays.get(f"block_similarity_{size}", ()))
        if abs(a - b) >= size
    ]


def periods(record: RunRecord) -> str:
    """At which sizes the layers repeat themselves."""
    rows = [row for row in record.rows if row["metric"] == PERIODICITY]
    if not rows:
        return ""
    tried = listed(str(size) for size in dict.fromkeys(row["block"] for row in rows))
    found = [str(size) for size in repeating(record.rows)]
    if not found:
        return f"FFN weights repeat themselves at no distance of {tried} layers beyond chance."
    return (
        f"FFN weights repeat themselves every {listed(found)} layers, of {tried} that were tried."
    )


def _arrays(record: RunRecord, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name in MATRICES:
        if f"{prefix}{name}" in record.arrays:
            yield name, record.arrays[f"{prefix}{name}"]


def headline(record: RunRecord) -> str:
    """Measured values, what independent layers give, and how far apart the two are."""
    rows = [row for row in means(record) if None not in (row["value"], row.get("closed_form"))]
    if not rows:
        return "No delta correlation is defined: the layers are equal or have no spread."
    apart = {row["component"]: abs(row["value"] - row["closed_form"]) for row in rows}
    farthest = max(apart, key=apart.get)
    return (
        f"The mean delta correlation is {spread(row['value'] for row in rows)}; independent layers "
        f"of the same variances give {spread(row['closed_form'] for row in rows)}. Matrix by "
        f"matrix the two differ by at most {plain(apart[farthest], 4)} ({farthest})."
    )


MATRIX = v.Column("component", "component")
VALUE = v.Column("measured", "value", "+.4f")
NULLS = (
    v.Column("independent layers", "closed_form", "+.4f"),
    v.Column("Gaussian layers, 95 %", "gaussian", "+.4f"),
    v.Column("z", "z", "+.1f"),
    v.Column("outside them", "side", null="no"),
    v.Column("random order, 95 %", "shuffled_layers", "+.4f"),
    v.Column("standardised", "standardised", "+.4f"),
    v.Column("untrained model", "random_init", "+.4f"),
)
MEANS = v.Strip(
    "delta_correlation",
    means,
    "mean delta correlation of each matrix, beside its nulls",
    place=COMPONENT,
    measure=v.Axis(
        "value",
        "← layers alternate more than chance      delta correlation      "
        "neighbours resemble each other →",
    ),
    spans=(
        v.Span("shuffled_layers", "layers in random order, 95 %", SHUFFLED, 0.62),
        v.Span("gaussian", "Gaussian layers, 95 %", GAUSSIAN, 0.42),
    ),
    marks=(
        v.Mark("closed_form", "independent layers (closed form)", "|"),
        v.Mark("random_init", "untrained model", "s", style.MUTED, hollow=True),
        v.Mark("paper", "AH Table 3, base model", "D", style.PAPER, -0.36, hollow=True),
        v.Mark("value", "measured", "o", MEASURED),
    ),
    levels=(v.Level(-0.5),),
    beside="beside",
    caption=(
        "What counts is the distance of a red dot from the black stroke, not from −0.5. One "
        "measurement in twenty falls outside the blue bar by chance. The grey bar forgets which "
        "layers are large, so that a trend of scale leaves it though no layer resembles another."
    ),
)
DELTAS = v.Table(
    "delta_correlation",
    means,
    "Mean delta correlation of each matrix, beside its nulls",
    cells=(MATRIX, VALUE, v.Column("AH Table 3", "paper", "+.3f"), *NULLS),
    note=(
        "Independent layers: the closed form, with each layer's own variance. Standardised: each "
        "layer scaled to mean 0 and standard deviation 1. With millions of weights a large z can "
        "be a tiny effect."
    ),
    printed=True,
)
RESIDUALS = by_component(
    "delta_correlation_residuals",
    layers,
    x=v.Axis("layer", "layer"),
    y=v.Axis("residual", "measured less Gaussian"),
    series=v.Palette("", {None: MEASURED}),
    dashes=v.Dashes("metric", {DELTA: ""}),
    band="null",
    levels=(v.Level(0.0),),
    caption=(
        "Bands hold 95 % of Gaussian layers: one layer in twenty is outside by chance. The scale "
        "is fine."
    ),
)
LAYERS = v.Table(
    "delta_correlation_layers",
    layers,
    "Delta correlation at each layer, beside its nulls",
    cells=(MATRIX, v.Column("layer", "layer"), VALUE, *NULLS),
    folded=True,
)
COSINES = v.Heatmap(
    "cosine",
    cosines,
    facet="component",
    columns=4,
    x=v.Axis("layer"),
    y=v.Axis("other"),
    cell=v.Axis("cosine", "cosine of two layers", "diverging"),
    numbers=False,
    caption="Whether their mean is that of chance: mean cosine, in the last table.",
)
BLOCKS = v.Heatmap(
    "blocks",
    block_similarities,
    columns=3,
    x=v.Axis("layer", "first layer"),
    y=v.Axis("other", "first layer"),
    cell=v.Axis("cosine", "cosine of two blocks", "diverging"),
    numbers=False,
    caption=(
        "Gate, up and down of a block laid end to end (DG Figure 7a). Blocks that share layers are "
        "left out; those of the paper begin at multiples of their size."
    ),
)
BLOCK_TABLE = v.Table(
    "block_scores",
    block_scores,
    "Blocks of layers, beside their nulls",
    cells=(
        v.Column("layers in a block", "block"),
        v.Column("score", "label"),
        v.Column("measured", "value", "+.4f", null="none"),
        v.Column("random order, 95 %", "shuffled_layers", "+.4f", null="none"),
        v.Column("p", "p", ".3f", null="none"),
        v.Column("Gaussian layers, 95 %", "gaussian", "+.4f", null="none"),
        v.Column("untrained model", "random_init", "+.4f", null="none"),
    ),
    note=(
        "Symmetry: of what varies between blocks equally far apart, how much their mirror images "
        "share; 1 at most, about 0 by chance. What is smooth over depth may have any, so that it "
        "needs other models beside it and has no verdict. Periodicity: the cosine of layers so "
        "far apart, less that of layers one more or one less apart; p: how often random orders "
        "have as much."
    ),
    printed=True,
)
SPECTRA = by_component(
    "pca",
    spectra,
    x=v.Axis("principal", "principal component"),
    y=v.Axis("share", "share of variance (%)", limits=(0, None)),
    series=v.Palette(
        "kind",
        {"measured": MEASURED, "gaussian": GAUSSIAN},
        {"gaussian": "Gaussian layers, mean of the draws"},
    ),
    dashes=v.Dashes("kind", {"measured": ""}),
    levels=(v.Level("equal", "all equal", style.MUTED, dashed=True),),
)
OTHERS = v.Table(
    "metrics",
    others,
    "Lag-2 delta correlation, cosine and PCA, beside their nulls",
    cells=(MATRIX, v.Column("metric", "label"), VALUE, *NULLS),
    note="Cosine and PCA do not depend on the order of layers.",
    folded=True,
)

PAGE = Page(
    "Weight structure",
    lambda record: counted(beside_nulls(record), components="component", metrics="metric"),
    Section(
        "Delta correlation",
        headline,
        "A delta correlation of −0.5 alone is no finding. Consecutive deltas share a layer with "
        "opposite signs, so that layers which know nothing of each other give exactly −0.5 where "
        "their variances are equal. Weights that swing from layer to layer (AH section 4.3) would "
        "give values towards −1, weights that drift towards 0.",
        MEANS,
        DELTAS,
    ),
    Section(
        "Layer by layer",
        "The value at l correlates the change from layer l to l + 1 with that from l + 1 to l + 2. "
        "A layer larger than its neighbours weighs more in both and pushes it towards −1; less the "
        "mean of Gaussian layers of the same sizes, it does not.",
        RESIDUALS,
        LAYERS,
    ),
    Section(
        "Resemblance of layers",
        "An oscillation would show as a chessboard, a drift as a bright band along the diagonal. "
        "Independent layers show neither.",
        COSINES,
    ),
    Section(
        "Blocks of layers",
        "A model that was grown in blocks of layers would be bright a block beside the diagonal; "
        "one that grew at its centre would look the same from both ends (DG section 4.4).",
        periods,
        BLOCKS,
        BLOCK_TABLE,
    ),
    Section(
        "Principal components over layers",
        "Each layer is one point, the mean layer taken away. A standing wave would put much of the "
        "variance on one component.",
        SPECTRA,
    ),
    Section("All metrics", OTHERS),
)

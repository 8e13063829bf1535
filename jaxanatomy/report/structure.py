"""The page of the structure experiment: delta correlations, cosines and PCA over layers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.structure import side_of
from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import (
    Axis,
    Column,
    Curves,
    Heatmap,
    Level,
    Mark,
    Palette,
    Row,
    Span,
    Strip,
    Table,
)
from jaxanatomy.tree import MATRICES
from jaxanatomy.words import plain

DELTA = "delta_correlation"
MEASURED, GAUSSIAN, SHUFFLED = "#AE2320", "#7FA9D2", "#C9D0D6"
METRICS = {
    "lag2_delta_correlation": "lag-2 delta correlation",
    "mean_cosine": "mean cosine",
    "pca_top1": "first component of PCA",
    "pca_top5": "first five components of PCA",
    "pca_effective_rank": "effective rank of PCA",
}


def beside_nulls(record: RunRecord) -> list[Row]:
    """One row for each component, metric and layer, with all nulls as fields beside the value.

    `gaussian_low`, `gaussian_z`, `shuffled_layers_low`, `closed_form`, `random_init`, ...; of
    runs of the papers' model the published value as `paper`.
    """
    made = {"config": record.config, "provenance": record.provenance}
    paper = paper_table("table3_delta_correlation") if table1_of(made) else {}
    found: dict[tuple, dict[str, Any]] = {}
    for row in record.rows:
        key = (row["component"], row["metric"], row["layer"])
        wide = found.setdefault(
            key, {**dict(zip(("component", "metric", "layer"), key, strict=True)), **_own(row)}
        )
        for name in ("value", "low", "high"):
            wide[row["null"] + ("" if name == "value" else f"_{name}")] = row[f"null_{name}"]
        wide[f"{row['null']}_z"] = row["z"]
        wide[f"{row['null']}_side"] = side_of(row)
        if key[1:] == (DELTA, None) and row["component"] in paper:
            wide["paper"] = paper[row["component"]]
    place = {name: index for index, name in enumerate(MATRICES)}
    return sorted(found.values(), key=lambda row: place[row["component"]])


def means(record: RunRecord) -> list[Row]:
    """The delta correlation of each component, mean over layers."""
    found = [row for row in beside_nulls(record) if (row["metric"], row["layer"]) == (DELTA, None)]
    words = "z = {} against Gaussian"
    return [row | {"beside": words.format(plain(row["gaussian_z"], 1))} for row in found]


def layers(record: RunRecord) -> list[Row]:
    """The delta correlation at every layer, also less the mean of Gaussian layers."""
    found = []
    for row in beside_nulls(record):
        if row["metric"] == DELTA and row["layer"] is not None and row["value"] is not None:
            less = {
                "residual": row["value"],
                "low": row["gaussian_low"],
                "high": row["gaussian_high"],
            }
            centre = row["gaussian"]
            found.append(row | {name: value - centre for name, value in less.items()})
    return found


def others(record: RunRecord) -> list[Row]:
    """The other metrics."""
    found = [
        row for row in beside_nulls(record) if row["metric"] in METRICS and row["layer"] is None
    ]
    return sorted(found, key=lambda row: list(METRICS).index(row["metric"]))


def cosines(record: RunRecord) -> list[Row]:
    """The cosine of every two layers of each component."""
    return [
        {"component": name, "layer": int(a), "other": int(b), "cosine": float(matrix_LL[a, b])}
        for name, matrix_LL in _arrays(record, "cosine_")
        for a, b in np.ndindex(*matrix_LL.shape)
        if a != b
    ]


def spectra(record: RunRecord) -> list[Row]:
    """Shares of the variance of each principal component, measured and of Gaussian layers."""
    rows = []
    for name, share_L in _arrays(record, "pca_"):
        # The last one is 0: the mean layer was taken away.
        for kind, shares in (
            ("measured", share_L),
            ("gaussian", record.arrays[f"pca_gaussian_{name}"]),
        ):
            rows += [
                {"component": name, "principal": at, "share": 100 * float(share), "kind": kind}
                | {"equal": 100 / (len(shares) - 1)}
                for at, share in enumerate(shares[:-1], start=1)
            ]
    return rows


def headline(record: RunRecord) -> str:
    """Measured values, what independent layers give, and how far apart the two are."""
    rows = [row for row in means(record) if None not in (row["value"], row.get("closed_form"))]
    if not rows:
        return "No delta correlation is defined: the layers are equal or have no spread."
    apart = {row["component"]: abs(row["value"] - row["closed_form"]) for row in rows}
    farthest = max(apart, key=apart.get)
    return (
        f"The mean delta correlation is {_range([row['value'] for row in rows])}; independent "
        f"layers of the same variances give {_range([row['closed_form'] for row in rows])}. Matrix "
        f"by matrix the two differ by at most {plain(apart[farthest], 4)} ({farthest})."
    )


def exceptions(record: RunRecord) -> str:
    """Which matrices lie outside their nulls."""
    rows = means(record)
    words = "More alternation than independent Gaussian layers: {}. Less: {}."
    sides = [
        ", ".join(
            f"{row['component']} (by {plain(row['value'] - row['gaussian'], 4)})"
            for row in rows
            if row["gaussian_side"] == side
        )
        or "none"
        for side in ("below", "above")
    ]
    return words.format(*sides)


def outside(record: RunRecord) -> str:
    """How many layers of each component lie outside the Gaussian interval."""
    counts = {}
    for row in layers(record):
        counts.setdefault(row["component"], []).append(row["gaussian_side"] is not None)
    parts = [f"{name} {sum(found)} of {len(found)}" for name, found in counts.items()]
    return f"Layers outside their interval: {', '.join(parts)}; by chance one in twenty."


def alike(record: RunRecord) -> str:
    """The components whose layers resemble or oppose each other more than by chance."""
    found = [
        f"{row['component']} ({plain(row['value'], 4)}; Gaussian layers "
        f"{plain(row['gaussian_low'], 4)} to {plain(row['gaussian_high'], 4)})"
        for row in others(record)
        if row["metric"] == "mean_cosine" and row["gaussian_side"]
    ]
    return (
        f"Mean cosine over all pairs outside that of Gaussian layers: {', '.join(found) or 'none'}."
    )


def _own(row: Row) -> dict[str, Any]:
    return {"value": row["value"], "label": METRICS.get(row["metric"], "delta correlation")}


def _arrays(record: RunRecord, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name in MATRICES:
        if f"{prefix}{name}" in record.arrays:
            yield name, record.arrays[f"{prefix}{name}"]


def _range(values: Sequence[float]) -> str:
    low, high = plain(min(values), 3), plain(max(values), 3)
    return low if low == high else f"{low} to {high}"


LAYER = Axis("layer", "layer")
NULLS = (
    Column("independent layers", "closed_form", "+.4f"),
    Column("Gaussian layers, 95 %", "gaussian", "+.4f", "gaussian_low", "gaussian_high"),
    Column("z", "gaussian_z", "+.1f"),
    Column(
        "random order, 95 %",
        "shuffled_layers",
        "+.4f",
        "shuffled_layers_low",
        "shuffled_layers_high",
    ),
    Column("standardised", "standardised", "+.4f"),
    Column("untrained model", "random_init", "+.4f"),
)
DELTAS = Table(
    name="delta_correlation",
    rows=means,
    title="Mean delta correlation of each matrix, beside its nulls",
    facet="",
    cells=(
        Column("component", "component"),
        Column("measured", "value", "+.4f"),
        Column("AH Table 3", "paper", "+.3f"),
        *NULLS,
    ),
    note=(
        "Independent layers: the closed form, with each layer's own variance. Standardised: each "
        "layer scaled to mean 0 and standard deviation 1. With millions of weights a large z can "
        "be a tiny effect."
    ),
    printed=True,
)

PAGE = Page(
    kind="Weight structure",
    lead=lambda record: f"{len(means(record))} matrices, {len(record.rows):,} readings.",
    sections=(
        Section(
            "Delta correlation",
            (
                headline,
                "A delta correlation of −0.5 alone is no finding. Consecutive deltas share a layer "
                "with opposite signs, so that layers which know nothing of each other give exactly "
                "−0.5 where their variances are equal. Weights that swing from layer to layer (AH "
                "section 4.3) would give values towards −1, weights that drift towards 0.",
                exceptions,
            ),
            (
                Strip(
                    name="delta_correlation",
                    rows=means,
                    title="mean delta correlation of each matrix, beside its nulls",
                    facet="",
                    place=Axis("component", scale="names"),
                    measure=Axis(
                        "value",
                        "← layers alternate more than chance      delta correlation      "
                        "neighbours resemble each other →",
                    ),
                    spans=(
                        Span(
                            "shuffled_layers_low",
                            "shuffled_layers_high",
                            "layers in random order, 95 %",
                            SHUFFLED,
                            0.62,
                        ),
                        Span(
                            "gaussian_low", "gaussian_high", "Gaussian layers, 95 %", GAUSSIAN, 0.42
                        ),
                    ),
                    marks=(
                        Mark("closed_form", "independent layers (closed form)", "|"),
                        Mark("random_init", "untrained model", "s", style.MUTED, hollow=True),
                        Mark(
                            "paper", "AH Table 3, base model", "D", style.PAPER, -0.36, hollow=True
                        ),
                        Mark("value", "measured", "o", MEASURED),
                    ),
                    levels=(Level(-0.5),),
                    beside="beside",
                    caption=(
                        "What counts is the distance of a red dot from the black stroke, not "
                        "from −0.5. One measurement in twenty falls outside the blue bar by "
                        "chance. The grey bar forgets which layers are large, so that a trend of "
                        "scale leaves it though no layer resembles another."
                    ),
                ),
                DELTAS,
            ),
        ),
        Section(
            "Layer by layer",
            (
                "The value at l correlates the change from layer l to l + 1 with that from l + 1 "
                "to l + 2. A layer larger than its neighbours weighs more in both and pushes it "
                "towards −1; the second figure takes this away.",
                outside,
            ),
            (
                Curves(
                    name="delta_correlation_layers",
                    rows=lambda record: [
                        row | {"shown": row[field], "kind": kind}
                        for row in layers(record)
                        for field, kind in (("value", "measured"), ("closed_form", "closed"))
                    ],
                    facet="component",
                    columns=4,
                    size=(2.9, 2.1),
                    x=LAYER,
                    y=Axis("shown", "delta correlation"),
                    series=Palette(
                        "kind",
                        {"measured": MEASURED, "closed": style.INK},
                        {"closed": "independent layers (closed form)"},
                    ),
                    dashes="kind",
                    dash_styles={"measured": ""},
                    levels=(Level(-0.5, colour=style.FAINT),),
                ),
                Curves(
                    name="delta_correlation_residuals",
                    rows=layers,
                    facet="component",
                    columns=4,
                    size=(2.9, 2.1),
                    x=LAYER,
                    y=Axis("residual", "measured less Gaussian"),
                    series=Palette("", {None: MEASURED}),
                    dashes="metric",
                    dash_styles={DELTA: ""},
                    band=("low", "high"),
                    levels=(Level(0.0),),
                    caption="Bands hold 95 % of Gaussian layers. The scale is fine.",
                ),
            ),
        ),
        Section(
            "Resemblance of layers",
            (
                "An oscillation would show as a chessboard, a drift as a bright band along the "
                "diagonal. Independent layers show neither.",
                alike,
            ),
            (
                Heatmap(
                    name="cosine",
                    rows=cosines,
                    facet="component",
                    columns=4,
                    x=Axis("layer"),
                    y=Axis("other"),
                    cell=Axis("cosine", "cosine of two layers", "diverging"),
                    numbers=False,
                ),
            ),
        ),
        Section(
            "Principal components over layers",
            (
                "Each layer is one point, the mean layer taken away. A standing wave would put "
                "much of the variance on one component.",
            ),
            (
                Curves(
                    name="pca",
                    rows=spectra,
                    facet="component",
                    columns=4,
                    size=(2.9, 2.1),
                    x=Axis("principal", "principal component"),
                    y=Axis("share", "share of variance (%)", limits=(0, None)),
                    series=Palette(
                        "kind",
                        {"measured": MEASURED, "gaussian": GAUSSIAN},
                        {"gaussian": "Gaussian layers, mean of the draws"},
                    ),
                    dashes="kind",
                    dash_styles={"measured": ""},
                    levels=(Level("equal", "all equal", style.MUTED, dashed=True),),
                ),
            ),
        ),
        Section(
            "All metrics",
            (),
            (
                Table(
                    name="metrics",
                    rows=others,
                    title="Lag-2 delta correlation, cosine and PCA, beside their nulls",
                    facet="",
                    cells=(
                        Column("component", "component"),
                        Column("metric", "label"),
                        Column("measured", "value", "+.4f"),
                        *NULLS,
                    ),
                    note="Cosine and PCA do not depend on the order of layers.",
                    folded=True,
                ),
            ),
        ),
    ),
)

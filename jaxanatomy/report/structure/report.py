"""The report of the structure experiment: delta correlations, cosines and PCA over layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.structure import side_of
from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.report.document import Picture, Report, Section
from jaxanatomy.report.structure import figures
from jaxanatomy.report.structure.tables import (
    Readings,
    delta_table,
    interval,
    number,
    others_table,
    spread,
)

_WHY_HALF = (
    "A delta correlation of −0.5 alone is no finding. Consecutive deltas W[l+1] − W[l] and "
    "W[l+2] − W[l+1] share the layer W[l+1] with opposite signs, so layers that know nothing of "
    "each other give −s² / √((r² + s²)(s² + t²)) for layers of standard deviations r, s and t: "
    "exactly −0.5 where the three are equal. Weights that swing from layer to layer, as AH "
    "section 4.3 reads its Table 3, would give values towards −1, and weights that drift "
    "values towards 0."
)
_DELTA_CAPTION = (
    "Red dots are the means over layers. What counts is their distance from the upright "
    "stroke, which is what independent layers with the same variances give, not from −0.5. The "
    "blue bar holds 95 % of draws of Gaussian layers with these means and variances; one "
    "measurement in twenty falls outside by chance. The grey bar holds 95 % of random orders "
    "of the layers: it forgets which layers are large, so a trend of scale leaves it though "
    "no layer resembles another."
)
_PAPER_CAPTION = " Diamonds are AH Table 3, from the base model, printed with three decimals."
_PROFILE_TEXT = (
    "The value at l correlates the change from layer l to l + 1 with that from l + 1 to l + 2. "
    "The closed form departs from −0.5, too: a layer larger than its neighbours weighs more in "
    "both changes and pushes the value towards −1, a smaller one towards 0. The second figure "
    "takes this away and shows what is left."
)
_RESIDUAL_CAPTION = (
    "Dots outside the blue band are layers whose neighbours are not independent of them; of the "
    "dots of independent layers, one in twenty lies outside. The scale is fine: compare it with "
    "the figure above."
)
_COSINE_TEXT = (
    "Cosines of the flattened matrices of every two layers. An oscillation would show as a "
    "chessboard, a drift as a bright band along the diagonal. Independent layers show neither. "
    "All panels share one scale, which ends at the largest value off the diagonal."
)
_SPECTRA_TEXT = (
    "Principal components over layers: each layer is one point, and the mean layer is taken away. "
    "A standing wave would put much of the variance on one component. Independent layers have "
    "one component fewer than there are layers, with shares that differ only as the layers' "
    "norms do; the Gaussian layers have the same norms."
)


def structure_report(record: Any) -> Report | None:
    """The report of a `RunRecord` of the structure experiment; None if it is of another."""
    readings = Readings.of(record.rows)
    names = readings.components
    if not names:
        return None
    config = {"config": record.config, "provenance": record.provenance}
    paper = paper_table("table3_delta_correlation") if table1_of(config) else {}
    drawn = [name for name in names if f"pca_{name}" in record.arrays]
    sections = [
        _delta_section(readings, paper),
        _profile_section(readings),
        _cosine_section(record.arrays, drawn, readings),
        _spectra_section(record.arrays, drawn, readings),
        Section("All metrics", (), (others_table(readings),)),
    ]
    layers = max((len(readings.layers(name)) for name in names), default=0) + 2
    return Report(
        kind="Weight structure",
        title=str(record.provenance.get("model") or "this model"),
        lead=f"{len(names)} matrices of {layers} layers, {len(record.rows):,} readings.",
        sections=tuple(section for section in sections if section),
    )


def _delta_section(readings: Readings, paper: Mapping[str, float]) -> Section:
    axes = figures.delta_correlations(readings, paper)
    words = "; ".join(
        f"{name} {number(readings.value(name))}, independent layers "
        f"{number(readings.row(name, 'closed_form').get('null_value'))}"
        for name in readings.components
    )
    picture = Picture(
        "delta_correlation",
        axes.figure,
        f"Mean delta correlation of each matrix beside its nulls: {words}.",
        _DELTA_CAPTION + (_PAPER_CAPTION if paper else ""),
    )
    text = tuple(filter(None, (_headline(readings), _WHY_HALF, _exceptions(readings))))
    return Section("Delta correlation", text, (delta_table(readings, paper), picture))


def _headline(readings: Readings) -> str:
    """Measured values, what independent layers give, and how far apart the two are."""
    pairs = {}
    for name in readings.components:
        value = readings.value(name)
        closed = readings.row(name, "closed_form").get("null_value")
        if value is not None and closed is not None:
            pairs[name] = (value, closed)
    if not pairs:
        return "No delta correlation is defined: the layers are equal or have no spread."
    apart = {name: value - closed for name, (value, closed) in pairs.items()}
    farthest = max(apart, key=lambda name: abs(apart[name]))
    return (
        f"The mean delta correlation is {spread([value for value, _ in pairs.values()])}. "
        "Independent layers with the same variances give "
        f"{spread([closed for _, closed in pairs.values()])}. "
        f"Matrix by matrix the two differ by at most {number(abs(apart[farthest]))} ({farthest})."
    )


def _exceptions(readings: Readings) -> str:
    """Which matrices lie outside their nulls, and what that says."""
    names = readings.components
    gaussian = {name: side_of(readings.row(name, "gaussian")) for name in names}
    shuffled = {name: side_of(readings.row(name, "shuffled_layers")) for name in names}
    below = [name for name in names if gaussian[name] == "below"]
    above = [name for name in names if gaussian[name] == "above"]
    words = []
    if not below:
        words.append("No matrix alternates more than independent Gaussian layers do.")
    else:
        words.append(
            f"More alternation than independent Gaussian layers: {_with_z(readings, below)}."
        )
    if above:
        words.append(
            f"Above their interval, that is, with less alternation: {_with_z(readings, above)}."
        )
    trend = [name for name in names if shuffled[name] and not gaussian[name]]
    if trend:
        alike = [readings.row(name, "standardised").get("null_value") for name in trend]
        words.append(
            "Outside the random orders but inside the Gaussian interval, which keeps each "
            f"layer's variance in its place: {', '.join(trend)}. There the order of the layers' "
            f"sizes moves the value; standardised, they give {', '.join(map(number, alike))}."
        )
    return " ".join(words)


def _with_z(readings: Readings, names: Sequence[str]) -> str:
    found = []
    for name in names:
        row = readings.row(name, "gaussian")
        apart = number(row["value"] - row["null_value"])
        found.append(f"{name} (by {apart}, z = {number(row['z'], 1)})")
    return ", ".join(found)


def _profile_section(readings: Readings) -> Section:
    content = (
        Picture(
            "delta_correlation_layers",
            figures.layer_profiles(readings)[0].figure,
            "For each matrix the delta correlation of every layer, beside the closed form of "
            "independent layers.",
        ),
        Picture(
            "delta_correlation_residuals",
            figures.layer_residuals(readings)[0].figure,
            "For each matrix the delta correlation of every layer less that of Gaussian layers, "
            f"with their 95 % interval. {_inside_words(readings)}",
            f"{_RESIDUAL_CAPTION} {_inside_words(readings)}",
        ),
    )
    return Section("Layer by layer", (_PROFILE_TEXT,), content)


def _inside_words(readings: Readings) -> str:
    """How many layers of each component lie outside the Gaussian interval."""
    words = []
    for name in readings.components:
        rows = [readings.row(name, "gaussian", layer=layer) for layer in readings.layers(name)]
        words.append(f"{name} {sum(side_of(row) is not None for row in rows)} of {len(rows)}")
    return f"Outside: {', '.join(words)}."


def _cosine_section(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], readings: Readings
) -> Section | None:
    if not names:
        return None
    picture = Picture(
        "cosine",
        figures.cosines(arrays, names)[0].figure,
        f"Heatmaps of the cosine of every two layers: {', '.join(names)}.",
    )
    return Section("Resemblance of layers", (_COSINE_TEXT, _cosines_outside(readings)), (picture,))


def _cosines_outside(readings: Readings) -> str:
    """The components whose layers resemble or oppose each other more than by chance."""
    rows = {name: readings.row(name, "gaussian", "mean_cosine") for name in readings.components}
    found = [
        f"{name} ({number(row['value'])}, Gaussian layers {interval(row)}, "
        f"z = {number(row['z'], 1)})"
        for name, row in rows.items()
        if side_of(row)
    ]
    if not found:
        return "No matrix has a mean cosine outside the interval of Gaussian layers."
    return f"Mean cosine outside the interval of Gaussian layers: {', '.join(found)}."


def _spectra_section(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], readings: Readings
) -> Section | None:
    if not names:
        return None
    metric = "pca_effective_rank"
    ranks = "; ".join(
        f"{name} {number(readings.value(name, metric), 2)}, Gaussian "
        f"{number(readings.row(name, 'gaussian', metric).get('null_value'), 2)}"
        for name in names
    )
    picture = Picture(
        "pca",
        figures.spectra(arrays, names)[0].figure,
        f"Explained shares of PCA over layers beside Gaussian layers. Effective rank: {ranks}.",
    )
    return Section("Principal components over layers", (_SPECTRA_TEXT,), (picture,))

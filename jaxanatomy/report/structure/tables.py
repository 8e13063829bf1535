"""The rows of a structure run looked up by component, metric, layer and null, and as tables."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.report.document import Cell, Table
from jaxanatomy.tree import MATRICES

Row = Mapping[str, Any]

DELTA = "delta_correlation"
LAG2 = "lag2_delta_correlation"
OTHERS = (LAG2, "mean_cosine", "pca_top1", "pca_top5", "pca_effective_rank")
LABELS = {
    DELTA: "delta correlation",
    LAG2: "lag-2 delta correlation",
    "mean_cosine": "mean cosine",
    "pca_top1": "first component of PCA",
    "pca_top5": "first five components of PCA",
    "pca_effective_rank": "effective rank of PCA",
    "closed_form": "independent layers",
    "gaussian": "Gaussian layers",
    "shuffled_layers": "layers in random order",
    "random_init": "untrained model",
    "standardised": "standardised layers",
}
_LAST = -1e9  # sorts below everything


@dataclasses.dataclass(frozen=True)
class Readings:
    """The rows of a run.

    Attributes:
      rows: By (component, metric, layer, null).
    """

    rows: Mapping[tuple[str, str, int | None, str], Row]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Readings":
        return cls(
            {
                (row["component"], row["metric"], row["layer"], row["null"]): row
                for row in rows
                if "metric" in row and "null" in row
            }
        )

    @property
    def components(self) -> list[str]:
        """The components that were measured, in the order of a block."""
        found = {key[0] for key in self.rows}
        return [name for name in MATRICES if name in found]

    def layers(self, component: str, metric: str = DELTA) -> list[int]:
        """The layers that a delta correlation has values for."""
        found = {key[2] for key in self.rows if key[:2] == (component, metric)}
        return sorted(layer for layer in found if layer is not None)

    def row(self, component: str, null: str, metric: str = DELTA, layer: int | None = None) -> Row:
        """One row; empty if it was not measured."""
        return self.rows.get((component, metric, layer, null), {})

    def value(self, component: str, metric: str = DELTA, layer: int | None = None) -> float | None:
        """The metric itself, which is the same beside every null."""
        found = (key for key in self.rows if key[:3] == (component, metric, layer))
        return next((self.rows[key]["value"] for key in found), None)


def number(value: float | None, digits: int = 4) -> str:
    """A number with a minus sign; a dash for what is undefined."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "−")


def interval(row: Row, digits: int = 4) -> str:
    """The 95 % interval of a null's draws."""
    if row.get("null_low") is None:
        return "–"
    return f"{number(row['null_low'], digits)} to {number(row['null_high'], digits)}"


def structure_table(rows: Iterable[Row]) -> str:
    """Mean delta correlations beside their nulls, plain text for the terminal.

    Args:
      rows: Rows of a structure run.

    Returns:
      Lines of at most 100 ASCII characters.
    """
    readings = Readings.of(rows)
    header = ("component", "delta corr.", "independent", "Gaussian, 95 %", "z")
    header += ("random order, 95 %", "untrained")
    lines = [header]
    for name in readings.components:
        gaussian = readings.row(name, "gaussian")
        cells = [name, number(readings.value(name))]
        cells.append(number(readings.row(name, "closed_form").get("null_value")))
        cells += [interval(gaussian), number(gaussian.get("z"), 1)]
        cells.append(interval(readings.row(name, "shuffled_layers")))
        cells.append(number(readings.row(name, "random_init").get("null_value")))
        lines.append(tuple(cells))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]  # numbers align right
        )
        for line in lines
    )
    note = "Independent layers give a delta correlation of about -0.5: alone it is no finding."
    return text.replace("−", "-").replace("–", "-") + f"\n{note}"


def delta_table(readings: Readings, paper: Mapping[str, float]) -> Table:
    """The mean delta correlation of each component beside all its nulls and the paper's."""
    header = ["component", "measured", *(["AH Table 3"] if paper else [])]
    header += ["independent layers", "Gaussian layers, 95 %", "z (Gaussian)"]
    header += ["random order, 95 %", "z (order)", "standardised", "untrained model"]
    rows = []
    for name in readings.components:
        row = [Cell(name), _cell(readings.value(name))]
        row += [_cell(paper.get(name), 3)] if paper else []
        row.append(_cell(readings.row(name, "closed_form").get("null_value")))
        for null in ("gaussian", "shuffled_layers"):
            beside = readings.row(name, null)
            row += [Cell(interval(beside), _sortable(beside.get("null_low")))]
            row.append(_cell(beside.get("z"), 1))
        for null in ("standardised", "random_init"):
            row.append(_cell(readings.row(name, null).get("null_value")))
        rows.append(tuple(row))
    note = (
        "Independent layers: the closed form, with each layer's own variance. Standardised: the "
        "same weights, each layer scaled to mean 0 and standard deviation 1, which leaves only "
        "what layers share. z is the distance from the mean of the draws in their standard "
        "deviations; with millions of weights a large z can be a tiny effect."
    )
    return Table(
        "Mean delta correlation of each matrix, beside its nulls",
        tuple(header),
        tuple(rows),
        sortable=True,
        note=note,
    )


def others_table(readings: Readings) -> Table:
    """The other metrics, a row for each component and metric."""
    nulls = ("closed_form", "gaussian", "shuffled_layers", "standardised", "random_init")
    rows = []
    for metric in OTHERS:
        digits = 2 if metric == "pca_effective_rank" else 4
        for name in readings.components:
            row = [Cell(name), Cell(LABELS[metric]), _cell(readings.value(name, metric), digits)]
            for null in nulls:
                beside = readings.row(name, null, metric)
                if null in ("gaussian", "shuffled_layers"):
                    low = beside.get("null_low")
                    row.append(Cell(interval(beside, digits), _sortable(low)))
                else:
                    row.append(_cell(beside.get("null_value"), digits))
            row.append(_cell(readings.row(name, "gaussian", metric).get("z"), 1))
            rows.append(tuple(row))
    header = ("component", "metric", "measured", "independent layers", "Gaussian layers, 95 %")
    header += ("random order, 95 %", "standardised", "untrained model", "z (Gaussian)")
    note = (
        "Cosine and PCA do not depend on the order of layers, so they have no null of random "
        "orders. PCA has no closed form here."
    )
    caption = "Lag-2 delta correlation, cosine and PCA of each matrix, beside their nulls"
    return Table(caption, header, tuple(rows), sortable=True, note=note, folded=True)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The range of some values: "−0.505 to −0.497"; one number where they agree."""
    low, high = number(min(values), digits), number(max(values), digits)
    return low if low == high else f"{low} to {high}"


def _cell(value: float | None, digits: int = 4) -> Cell:
    return Cell(number(value, digits), _sortable(value))


def _sortable(value: float | None) -> float:
    return _LAST if value is None else value

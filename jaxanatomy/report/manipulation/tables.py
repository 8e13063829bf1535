"""The tables of the manipulation report, and the paper's figures that stand in them."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.report.cells import Row, category, chip, interval, number, signed
from jaxanatomy.report.document import Cell, Chip, Table
from jaxanatomy.report.manipulation.rows import (
    Method,
    Trials,
    main_sets,
    percent,
    set_label,
)

PAPER_ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # AH section 3.5
# AH Table 4 marks these rows "2 layers", and does not name the layers.
_PAPER_PAIRS = {
    "zero": "skip_2_layers",
    "clone": "clone_2_layers",
    "clone_high": "clone_2_layers",
    "blend_2": "blend_2_layers",
    "blend_4": "blend_2_layers",
    "low_rank": "low_rank_blend_2_layers",
}
_LAST = sys.float_info.max  # sorts last; JavaScript reads no "inf"


class Published:
    """AH Table 4 in percent of its own baseline; empty for another model than the paper's.

    Percentages are taken from the printed perplexities, because those that are printed
    beside them belong to a second, lower baseline.

    Attributes:
      by_alpha: Degradation of the nine layers scaled by alpha.
      pairs: Degradation of two unnamed layers, by strategy.
    """

    def __init__(self, record: Any):
        known = table1_of({"config": record.config, "provenance": record.provenance})
        self._ppl = paper_table("table4_ppl") if known else {}
        found = {alpha: self._percent(f"scale_{alpha:.1f}") for alpha in PAPER_ALPHAS}
        self.by_alpha = {alpha: value for alpha, value in found.items() if value is not None}
        found = {strategy: self._percent(name) for strategy, name in _PAPER_PAIRS.items()}
        self.pairs = {strategy: value for strategy, value in found.items() if value is not None}

    def __bool__(self) -> bool:
        return bool(self._ppl)

    def cell(self, method: Method) -> Cell:
        """What the paper prints for a method, with the layers that it changes."""
        if method.strategy == "scale" and method.dose in self.by_alpha:
            return self._cell(f"scale_{method.dose:.1f}", "nine layers")
        if method.strategy in self.pairs:
            return self._cell(_PAPER_PAIRS[method.strategy], "two layers, not named")
        return Cell("–", -_LAST)

    def _cell(self, name: str, words: str) -> Cell:
        value = self._percent(name)
        return Cell(f"{signed(value)} % ({self._ppl[name]:,.0f}; {words})", value)

    def _percent(self, name: str) -> float | None:
        if name not in self._ppl:
            return None
        return 100 * (self._ppl[name] / self._ppl["baseline"] - 1)


def tabled_methods(trials: Trials) -> list[Method]:
    """The methods of the main table: of the factors those of the paper, where it has any."""
    methods = trials.measured_on(main_sets(trials))
    shown = []
    for method in methods:
        alphas = [other.dose for other in methods if other.strategy == method.strategy]
        chosen = [alpha for alpha in alphas if alpha in PAPER_ALPHAS]
        if not method.strategy.startswith("scale") or not chosen or method.dose in chosen:
            shown.append(method)
    return shown


def strategy_table(trials: Trials, published: Published) -> Table:
    """Every strategy on the main sets, and what the paper prints."""
    sets, methods = main_sets(trials), tabled_methods(trials)
    header = ["strategy"]
    for name in sets:
        header += [f"{set_label(name)} (%)", f"{set_label(name)}: perplexity"]
    rows = []
    for order, method in enumerate(methods):
        cells = [Cell(method.label, order)]
        for name in sets:
            row = trials.row(method, name)
            cells += [change_cell(row), ppl_cell(row)]
        rows.append((*cells, *([published.cell(method)] if published else [])))
    note = (
        "In brackets: 95 % interval. Filled: the whole interval lies in the category (below 10 %, "
        "30 %, 100 %, above); outlined: it does not."
    )
    if published:
        note += " Rows of AH that say two layers do not name them; see the pairs below."
    layers = "; ".join(f"{set_label(name)}: {_layer_list(trials, name)}" for name in sets)
    return Table(
        caption=f"{on(trials)}change of perplexity when all layers of a set are changed at once",
        header=(*header, *(["AH Table 4 (%; perplexity)"] if published else [])),
        rows=tuple(rows),
        sortable=True,
        note=f"Layers: {layers}. {note}",
    )


def all_rows_table(trials: Trials) -> Table:
    """Every sweep row of a text."""
    methods = {method: order for order, method in enumerate(trials.methods)}
    sets = {name: order for order, name in enumerate(trials.sets)}
    keys = sorted(trials.rows, key=lambda key: (methods[key[0]], sets[key[1]]))
    rows = []
    for method, name in keys:
        row = trials.rows[method, name]
        layers = row.get("layers") or []
        rows.append(
            (
                Cell(method.label, methods[method]),
                Cell(set_label(name), sets[name]),
                Cell(", ".join(map(str, layers)), len(layers)),
                ppl_cell(row),
                number_cell(number(row, "degradation_percent")),
                interval_cell(row.get("ci95")),
                number_cell(number(row, "degradation_percent_without_first")),
            )
        )
    header = ("strategy", "set", "layers", "perplexity", "change (%)", "95 % interval (%)")
    return Table(
        caption=f"{on(trials)}all {len(rows)} variants",
        header=(*header, "without first predictions (%)"),
        rows=tuple(rows),
        sortable=True,
        folded=True,
    )


def calibration_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """What is left of each improvement when variant and baseline have their temperatures.

    Args:
      entries: What `measures.calibration.calibrated` gave for each improvement.
    """
    rows = []
    for order, entry in enumerate(entries):
        explained = entry.get("explained_by_calibration")
        verdict = {True: "yes", False: "no"}.get(explained, "–")
        kind = "better" if explained is False else ""
        rows.append(
            (
                Cell(str(entry.get("variant")), order),
                Cell(f"{entry.get('text')} (fitted on {entry.get('fit_text')})", order),
                number_cell(_float(entry, "degradation_percent")),
                interval_cell(entry.get("ci95")),
                number_cell(_float(entry, "degradation_percent_calibrated")),
                interval_cell(entry.get("ci95_calibrated")),
                _temperatures(entry),
                Cell("", float(explained is False), (Chip(verdict, kind),))
                if kind
                else Cell(verdict, float(explained is False)),
            )
        )
    return Table(
        caption="Improvements before and after calibration; below 0 is better",
        header=(
            "variant",
            "text",
            "change (%)",
            "95 % interval (%)",
            "after calibration (%)",
            "95 % interval after (%)",
            "temperatures: variant, baseline",
            "explained by calibration",
        ),
        rows=tuple(rows),
        sortable=True,
    )


def compounding_table(summary: Mapping[str, Any]) -> Table:
    """Sum and exponent of the effects for each size of the noise."""
    rows = []
    for alpha, entry in sorted(summary.items(), key=lambda item: float(item[0])):
        ratio = _float(entry, "ratio_all_to_sum")
        rows.append(
            (
                Cell(percent(float(alpha))),
                Cell(
                    "–"
                    if math.isnan(ratio)
                    else f"×{ratio:.3f}{_brackets(entry.get('ratio_ci95'), 3)}"
                ),
                Cell("×1"),
                Cell(f"{plain(_float(entry, 'exponent'))}{_brackets(entry.get('exponent_ci95'))}"),
                number_cell(_float(entry, "degradation_all_percent")),
            )
        )
    return Table(
        caption="How the effect grows with the number of layers that get noise",
        header=(
            "noise",
            "all at once ÷ sum of single layers (95 % interval)",
            "null: independent errors add up",
            "exponent (95 % interval)",
            "all at once (%)",
        ),
        rows=tuple(rows),
        note="The ratio compares changes of the loss and decides: errors compound if its whole "
        "interval, Fieller's over draws of the noise, is above 1; a dash where the single effects "
        "are not settled, no interval from fewer than five draws. The exponent is that of the size "
        "of the change in the number of layers: 0.5 for independent effects of random sign, 1 for "
        "effects that add up.",
    )


def attention_table(summary: Mapping[str, Any]) -> Table:
    """How far attention moves, averaged over layers, for each size of the noise."""
    fields = {
        "total_variation": "total variation (%)",
        "argmax_changed": "another top token (%)",
        "propagated_total_variation": "propagated: total variation (%)",
        "propagated_argmax_changed": "propagated: another top token (%)",
    }
    rows = []
    for component, doses in summary.items():
        for alpha in sorted(doses, key=_dose_order):
            words = "matched noise" if alpha == "matched_noise" else percent(float(alpha))
            shares = [100 * _float(doses[alpha], field) for field in fields]
            head = Cell(f"{component}, {words}")
            rows.append((head, *(Cell(plain(share), share) for share in shares)))
    return Table(
        caption="Change of the attention distribution, mean over layers, heads and queries",
        header=("noise", *fields.values()),
        rows=tuple(rows),
        note="First two columns: the matrix of one layer is changed and its input is not. "
        "Propagated: the matrices of all layers up to this one are changed. Matched noise "
        "replaces a matrix by noise of its own mean and spread: the full scale.",
    )


def change_cell(row: Row | None) -> Cell:
    """A degradation on the ground of its category, with its interval."""
    if row is None:
        return Cell("–", -_LAST)
    value = number(row, "degradation_percent")
    if math.isinf(value):
        return Cell("not finite", _LAST)
    ends = interval(row)
    words = f"({signed(ends[0])} to {signed(ends[1])})" if ends else ""
    kind = "better" if ends and ends[1] < 0 else category(row)
    return Cell(words, value, (chip(row, kind, signed(value)),))


def ppl_cell(row: Row | None) -> Cell:
    """A row's perplexity."""
    value = math.nan if row is None else number(row, "ppl")
    if math.isinf(value):
        return Cell("not finite", _LAST)
    return Cell("–", -_LAST) if math.isnan(value) else Cell(f"{value:,.2f}", value)


def number_cell(value: float) -> Cell:
    """A percentage; infinite: not finite; NaN: a dash."""
    if math.isinf(value):
        return Cell("not finite", _LAST)
    return Cell("–", -_LAST) if math.isnan(value) else Cell(signed(value), value)


def interval_cell(ends: Any) -> Cell:
    """The ends of an interval, or a dash."""
    if not ends:
        return Cell("–", -_LAST)
    return Cell(f"{signed(ends[0])} to {signed(ends[1])}", ends[0])


def plain(value: float) -> str:
    """Three digits, without an exponent."""
    if math.isnan(value):
        return "–"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.2g}"


def on(trials: Trials) -> str:
    """The text, to begin a caption with."""
    return f"{trials.text}: " if trials.text else ""


def _temperatures(entry: Mapping[str, Any]) -> Cell:
    found = [_float(entry, name) for name in ("temperature", "baseline_temperature")]
    value = -_LAST if math.isnan(found[0]) else found[0]
    return Cell(", ".join("–" if math.isnan(each) else f"{each:.3f}" for each in found), value)


def _float(entry: Mapping[str, Any], field: str) -> float:
    """A field of the summary: NaN where it is absent or null."""
    value = entry.get(field)
    return math.nan if value is None else float(value)


def _brackets(ends: Any, digits: int = 2) -> str:
    return f" ({ends[0]:.{digits}f} to {ends[1]:.{digits}f})" if ends else ""


def _dose_order(alpha: str) -> float:
    return math.inf if alpha == "matched_noise" else float(alpha)


def _layer_list(trials: Trials, name: str) -> str:
    row = next(row for (_, other), row in trials.rows.items() if other == name)
    return ", ".join(map(str, row["layers"]))

"""The table at the top of an importance report: which layers matter, and how sure that is."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxanatomy.measures.importance import CATEGORIES
from jaxanatomy.measures.statistics import degradation_percent
from jaxanatomy.report.cells import (
    NEIGHBOUR_MEAN,
    Cells,
    Row,
    category,
    interval,
    is_certain,
    label,
    number,
)
from jaxanatomy.report.document import Cell, Chip, Table
from jaxanatomy.report.importance.controls import ratios

_RANGES = {
    "critical": "100 % and above",
    "important": "30 to 100 %",
    "minor": "10 to 30 %",
    "redundant": "below 10 %",
}


def glance(texts: Sequence[Cells], summary: Mapping[str, Any]) -> Table:
    """A column for each text, a line for each finding that the rows allow.

    Args:
      texts: The rows.
      summary: The run's `summary.json`; its rank correlations are shown.
    """
    lines: list[tuple[str, Callable[[Cells], Cell]]] = [("baseline perplexity", _baseline)]
    lines += [(f"{name} ({_RANGES[name]})", _of(name)) for name in reversed(CATEGORIES)]
    lines += [
        ("boundary layers, one neighbour copied", _boundary),
        ("may be the most important", _most),
        ("may be the least important", _least),
        ("better without it (band of all layers below 0)", _anti_layers),
        ("as many better by chance, by their own intervals", _chance),
        ("cannot be told from no effect (own interval holds 0)", _undecided),
        ("smallest effect that this text can show", _smallest),
        ("milder than the neighbour mean (point estimates)", _milder),
        (
            "act through the first token (critical there, over 3 times what they are elsewhere)",
            _first_token,
        ),
        ("rank correlation with AH Table 1", lambda cells: _correlation(cells, summary)),
    ]
    rows = [(Cell(name), *map(function, texts)) for name, function in lines]
    rows = [
        tuple(cell if cell.text or cell.chips else Cell("not measured") for cell in row)
        for row in rows
        if any(cell.text or cell.chips for cell in row[1:])
    ]
    return Table(
        caption="At a glance: change of perplexity when a layer is replaced "
        f"({label(texts[0].main)})",
        header=("", *(cells.text or "text" for cells in texts)),
        rows=tuple(rows),
        note="Filled: the layer's own 95 % interval lies in the category. Outlined: it reaches "
        "into another, or there is none; on this text the category is not settled. What is picked "
        "after looking (most, least, better) is judged by intervals that hold for all at once.",
    )


def chip(row: Row, kind: str | None = None, text: str | None = None) -> Chip:
    """A layer's chip, filled if its category is settled."""
    value, ends = number(row, "degradation_percent"), interval(row)
    hint = "perplexity not finite" if math.isinf(value) else f"{signed(value)} %"
    if ends:
        hint += f", 95 % interval {signed(ends[0])} to {signed(ends[1])} %"
    return Chip(text or str(row["layer"]), kind or category(row), is_certain(row), hint)


def signed(value: float) -> str:
    """A percentage with its sign, without needless digits."""
    words = f"{value:+,.1f}" if abs(value) < 1e3 else f"{value:+,.0f}"
    return words.replace("-", "−")


def main_rows(cells: Cells, boundary: bool = False) -> list[Row]:
    """The main map's rows of layers with two neighbours, or of the others."""
    rows = [row for layer in cells.layers if (row := cells.row(cells.main, layer))]
    return [row for row in rows if bool(row.get("boundary")) == boundary]


def first_token_layers(cells: Cells) -> list[int]:
    """Layers that are critical at the first token, and there three times what they are else."""
    found = []
    for layer in cells.layers:
        rows = [cells.row(NEIGHBOUR_MEAN, layer, "layer", p) for p in ("first", "others")]
        if all(rows):
            first, others = (number(row, "degradation_percent") for row in rows)
            if first >= 100 and first > 3 * max(others, 1.0):
                found.append(layer)
    return found


def _baseline(cells: Cells) -> Cell:
    if not cells.baseline or math.isinf(number(cells.baseline, "ppl")):
        return Cell("not finite" if cells.baseline else "")
    tokens = cells.baseline.get("tokens")
    words = f"{cells.baseline['ppl']:.2f}"
    return Cell(f"{words} over {tokens:,} predicted tokens" if tokens else words)


def _of(name: str) -> Callable[[Cells], Cell]:
    def line(cells: Cells) -> Cell:
        rows = [row for row in main_rows(cells) if category(row) == name]
        return Cell("" if rows else "none", chips=tuple(map(chip, rows)))

    return line


def _boundary(cells: Cells) -> Cell:
    return Cell(chips=tuple(map(chip, main_rows(cells, boundary=True))))


def _anti_layers(cells: Cells) -> Cell:
    if not cells.looks:
        return Cell()
    rows = [row for row in main_rows(cells) if row["layer"] in cells.looks.anti_layers]
    return Cell("" if rows else "none", chips=tuple(chip(row, "better") for row in rows))


def _most(cells: Cells) -> Cell:
    return _one_of(cells, cells.looks.most) if cells.looks else Cell()


def _least(cells: Cells) -> Cell:
    return _one_of(cells, cells.looks.least) if cells.looks else Cell()


def _one_of(cells: Cells, layers: Sequence[int]) -> Cell:
    rows = [row for row in main_rows(cells) if row["layer"] in layers]
    return Cell(chips=tuple(map(chip, rows)))


def _chance(cells: Cells) -> Cell:
    if not cells.looks or not cells.looks.smallest_effect:
        return Cell()
    return Cell(f"{cells.looks.chance_better:.1f} of {len(cells.looks.band)} layers")


def _smallest(cells: Cells) -> Cell:
    least = cells.looks and cells.looks.smallest_effect
    if not least:
        return Cell()
    one, picked = (degradation_percent(each) for each in (least.pointwise, least.simultaneous))
    return Cell(
        f"{one:,.1f} % ({least.pointwise:.3f} nats) for a layer named beforehand, {picked:,.1f} % "
        f"({least.simultaneous:.3f}) for one picked from the map; {cells.looks.units} documents"
    )


def _undecided(cells: Cells) -> Cell:
    pairs = [(row, ends) for row in main_rows(cells) if (ends := interval(row))]
    rows = [row for row, (low, high) in pairs if low <= 0 <= high]
    return Cell("" if rows or not pairs else "none", chips=tuple(map(chip, rows)))


def _milder(cells: Cells) -> Cell:
    """In how many layers each control does less damage."""
    parts = []
    for name in cells.interventions:
        values = ratios(cells, name).values() if name != NEIGHBOUR_MEAN else ()
        if values:
            parts.append(f"{label(name)} {sum(v < 1 for v in values)} of {len(values)}")
    return Cell("; ".join(parts) + (" layers" if parts else ""))


def _first_token(cells: Cells) -> Cell:
    if not cells.has(NEIGHBOUR_MEAN, "layer", "first"):
        return Cell()
    parts = []
    for layer in first_token_layers(cells):
        rows = [cells.row(NEIGHBOUR_MEAN, layer, "layer", p) for p in ("first", "others")]
        first, others = (signed(number(row, "degradation_percent")) for row in rows)
        parts.append(f"layer {layer}: {first} % there alone, {others} % elsewhere")
    return Cell("; ".join(parts) or "none")


def _correlation(cells: Cells, summary: Mapping[str, Any]) -> Cell:
    part = (summary.get("texts") or {}).get(cells.text) or {}
    found = part.get("rank_correlation") if isinstance(part, Mapping) else None
    if not isinstance(found, Mapping) or found.get("value") is None:
        return Cell()
    words = f"{found['value']:.2f}"
    if found.get("ci95"):
        words += " (95 % interval {:.2f} to {:.2f})".format(*found["ci95"])
    return Cell(f"{words}, {found['layers']} layers" if "layers" in found else words)

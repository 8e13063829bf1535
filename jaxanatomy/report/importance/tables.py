"""The summary that a run prints at its end: a line for each layer, plain text."""

import math
from collections.abc import Iterable, Sequence

from jaxanatomy.report.cells import (
    NEIGHBOUR_MEAN,
    Cells,
    Row,
    by_text,
    category,
    interval,
    label,
    number,
)

_NOTES = {
    "*": "boundary: its one neighbour copied",
    "!": "anti-layer: below 0 in the band of all layers",
}
# Header, intervention and positions of the readings beside the neighbour mean.
_BESIDE = (
    ("zero %", "zero", "all"),
    ("first %", NEIGHBOUR_MEAN, "first"),
    ("others %", NEIGHBOUR_MEAN, "others"),
)


def summary_table(rows: Iterable[Row]) -> str:
    """A table for each text: perplexity, degradation, interval, category, readings beside.

    Args:
      rows: Rows of an importance run.

    Returns:
      Lines of at most 100 ASCII characters. Readings that were not measured have no
      column. `zero` is the layer skipped; `first` and `others` are the neighbour mean at
      the first token alone and at all others.
    """
    return "\n\n".join(_table(cells) for cells in by_text(rows) if cells.cells)


def _table(cells: Cells) -> str:
    columns = [_layers(cells), *_main(cells)]
    for header, intervention, positions in _BESIDE:
        if (intervention, positions) != (cells.main, "all") and cells.has(
            intervention, "layer", positions
        ):
            values = cells.profile(intervention, "layer", positions)
            columns.append(_right(header, [percent(value) for value in values]))
    lines = ["  ".join(parts).rstrip() for parts in zip(*columns, strict=True)]
    notes = [
        f"{mark} {note}" for mark, note in _NOTES.items() if any(mark in c for c in columns[0])
    ]
    return "\n".join([_heading(cells), *lines, *notes])


def _heading(cells: Cells) -> str:
    name = cells.name or "text"
    baseline = cells.baseline or {}
    if not math.isfinite(number(baseline, "ppl")):
        return f"{name}: no finite baseline"
    words = f"{name}: {label(cells.main)}; baseline perplexity {baseline['ppl']:.4f}"
    return f"{words}, {baseline['tokens']:,} predicted tokens" if "tokens" in baseline else words


def _layers(cells: Cells) -> list[str]:
    """Layer numbers with their marks."""
    anti_layers = cells.looks.anti_layers if cells.looks else ()
    names = []
    for layer in cells.layers:
        row = cells.row(cells.main, layer) or {}
        marks = ("*" if row.get("boundary") else "") + ("!" if layer in anti_layers else "")
        names.append(f"{layer:>3}{marks:<2}")
    return ["layer", *names]


def _main(cells: Cells) -> list[list[str]]:
    """The columns of the main intervention at all positions."""
    rows = [cells.row(cells.main, layer) for layer in cells.layers]
    if not any(rows):
        return []
    ppl = [perplexity(row) for row in rows]
    values = [percent(value) for value in cells.profile(cells.main)]
    ends = [interval(row) if row else None for row in rows]
    lows = _right("", [percent(pair[0]) if pair else "" for pair in ends])[1:]
    highs = _right("", [percent(pair[1]) if pair else "-" for pair in ends])[1:]
    between = [" .. " if pair else "    " for pair in ends]
    intervals = list(map("".join, zip(lows, between, highs, strict=True)))
    categories = ["category", *(category(row) if row else "-" for row in rows)]
    width = max(map(len, categories))
    return [
        _right("perplexity", ppl),
        _right("change %", values),
        _right("95 % interval", intervals),
        [name.ljust(width) for name in categories],
    ]


def perplexity(row: Row | None) -> str:
    """A row's perplexity, at most ten ASCII characters; "-": not measured."""
    if row is None:
        return "-"
    value = number(row, "ppl")
    if math.isinf(value):
        return "not finite"
    return f"{value:,.2f}" if abs(value) < 1e7 else f"{value:.2e}"


def percent(value: float) -> str:
    """A percentage with its sign, at most nine ASCII characters; "-": not measured."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "n/f"
    if abs(value) >= 1e6:
        return f"{value:+.1e}"
    return f"{value:+,.1f}" if abs(value) < 1e3 else f"{value:+,.0f}"


def _right(header: str, values: Sequence[str]) -> list[str]:
    width = max(map(len, [header, *values]))
    return [text.rjust(width) for text in [header, *values]]

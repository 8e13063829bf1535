"""Tables of the controls that are random: every draw's spread beside that over documents."""

import math
import sys

from jaxanatomy.measures.draws import draws_degradation, draws_range
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.report.cells import Cells, interval, label
from jaxanatomy.report.document import Cell, Table
from jaxanatomy.report.importance.glance import signed

_LAST = sys.float_info.max  # sorts last; JavaScript reads no "inf"


def random_tables(cells: Cells) -> list[Table]:
    """For each control of whole layers in several draws: the median draw and two intervals."""
    if cells.baseline is None:
        return []
    return [
        _table(cells, name)
        for name in cells.interventions
        if any(len(cells.draws(name, layer)) > 1 for layer in cells.layers)
    ]


def _table(cells: Cells, name: str) -> Table:
    rows, most = [], 0
    for layer in cells.layers:
        drawn = cells.draws(name, layer)
        if not drawn:
            continue
        most = max(most, len(drawn))
        span = draws_range(drawn, cells.baseline)
        both = draws_degradation(drawn, cells.baseline)
        ends = interval(cells.row(name, layer))
        rows.append(
            (
                Cell(str(layer), layer),
                _value(span.value),
                _ends(*ends) if ends else Cell("–", _LAST),
                _ends(span.low, span.high),
                _ends(both.low, both.high),
            )
        )
    on = f"{cells.text}: " if cells.text else ""
    return Table(
        caption=f"{on}{label(name)} of each layer in {most} draws. The range of {most} draws holds "
        f"the median of all possible ones with probability {1 - 2 ** (1 - most):.3g}; the last "
        "column is for the mean over other draws and other documents at once",
        header=(
            *("layer", "median draw (%)", "its 95 % interval over documents (%)"),
            *("range of the draws (%)", "95 % interval over draws and documents (%)"),
        ),
        rows=tuple(rows),
        sortable=True,
    )


def _value(value: float) -> Cell:
    return Cell(signed(value), value) if math.isfinite(value) else Cell("not finite", _LAST)


def _ends(low: float, high: float) -> Cell:
    found = Estimate(low, low, high).ends
    return Cell(f"{signed(low)} to {signed(high)}", low) if found else Cell("–", _LAST)

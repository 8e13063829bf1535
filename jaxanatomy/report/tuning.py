"""What each learning rate came to, by arm, and which was taken."""

from collections.abc import Collection, Mapping

from jaxanatomy.report.document import Cell, Table


def tuning_table(
    tuning: Mapping[str, Mapping[float, float | None]],
    taken: Mapping[str, float],
    at_edge: Collection[str],
    caption: str,
) -> Table:
    """A row for each arm, a column for each rate.

    Args:
      tuning: Of `measures.tuning.tried`.
      taken: The rate of each arm's results.
      at_edge: Arms whose rate is the lowest or highest that was tried.
      caption: Says which loss it is.
    """
    rates = sorted({rate for own in tuning.values() for rate in own})
    rows = []
    for arm, own in tuning.items():
        cells = [_cell(own, rate) for rate in rates]
        chosen = taken.get(arm)
        rows.append((Cell(arm), *cells, Cell("" if chosen is None else f"{chosen:g}", chosen)))
    edge = f"At the edge of the grid, beyond which a rate may be better: {', '.join(at_edge)}."
    header = ("arm", *(f"{rate:g}" for rate in rates), "taken")
    return Table(caption, header, tuple(rows), note=edge if at_edge else "")


def _cell(own: Mapping[float, float | None], rate: float) -> Cell:
    if rate not in own:
        return Cell("")
    value = own[rate]
    return Cell("diverged" if value is None else f"{value:.3f}", value)

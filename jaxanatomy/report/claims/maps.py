"""The importance map of one text as the claims read it: layers, and those that are missing."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from jaxanatomy.report.cells import NEIGHBOUR_MEAN, Cells, Row, by_text
from jaxanatomy.report.claims.claim import Evidence, Finding, effect, mean_nll, per_text_of_depth

_WORDS = {
    NEIGHBOUR_MEAN: "",
    "zero": " skipped",
    "rescaled_mean": " with the norms restored",
    "matched_noise": " with matched noise",
}


@dataclasses.dataclass(frozen=True)
class LayerMap:
    """The rows of one text.

    Attributes:
      cells: The rows, looked up by what was edited.
      depth: The number of layers of the model; 0 if no run says.
    """

    cells: Cells
    depth: int = 0

    @property
    def inner(self) -> list[int]:
        """The layers with two neighbours; where the depth is unknown, those measured so."""
        if self.depth:
            return list(range(1, self.depth - 1))
        means = {layer: self.cells.row(NEIGHBOUR_MEAN, layer) for layer in self.cells.layers}
        return [layer for layer, row in means.items() if row and not row.get("boundary")]

    @property
    def ends(self) -> list[int]:
        """The first and the last layer; where the depth is unknown, those flagged so."""
        if self.depth:
            return [0, self.depth - 1]
        means = {layer: self.cells.row(NEIGHBOUR_MEAN, layer) for layer in self.cells.layers}
        return [layer for layer, row in means.items() if row and row.get("boundary")]

    def rows(self, intervention: str = NEIGHBOUR_MEAN) -> list[Row]:
        """The rows of whole inner layers, as far as they were measured."""
        return [row for layer in self.inner if (row := self.cells.row(intervention, layer))]

    def absent(self, *interventions: str, among: Iterable[int] | None = None) -> list[str]:
        """The layers that lack a row, in words.

        Args:
          *interventions: What each layer needs a row of; default: the neighbour mean.
          among: Layers; default: the inner ones.
        """
        return [
            f"L{layer}{_WORDS[name]}"
            for name in interventions or (NEIGHBOUR_MEAN,)
            for layer in (self.inner if among is None else among)
            if not self.cells.row(name, layer)
        ]


def per_map(
    test: Callable[[LayerMap], Finding | None], everywhere: bool = False
) -> Callable[[Evidence], Finding | None]:
    """A test of the map of one text, applied to each text; see `per_text_of_depth`."""
    return per_text_of_depth(
        "importance", lambda rows, depth: test(layer_map(rows, depth)), everywhere
    )


def layer_map(rows: Iterable[Row], depth: int) -> LayerMap:
    """The map of the rows of one text."""
    (cells,) = by_text(list(rows))
    return LayerMap(cells, depth)


def extremes(rows: Sequence[Row]) -> tuple[Row, Row] | None:
    """The least and the most damaging row."""
    ordered = sorted(rows, key=mean_nll)
    return (ordered[0], ordered[-1]) if len(ordered) > 1 else None


def span(rows: Sequence[Row]) -> str:
    """From the least to the most damaging row, for reading."""
    ends = extremes(rows)
    return " to ".join(f"L{row['layer']} {effect(row)}" for row in ends) if ends else ""


def skipped_span(layers: LayerMap) -> str:
    """The control of the map, for reading: the same layers skipped."""
    words = span(layers.rows("zero"))
    return f"layers skipped instead: {words}" if words else ""

"""The rows of an importance run, looked up by what was edited.

A row stands for one variant on one text: an intervention on a scope of a layer at some
positions. The figures, the page and the terminal table all read rows through `Cells`.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.measures.draws import median_draw
from jaxanatomy.measures.importance import categorise
from jaxanatomy.measures.many_looks import MapLooks, look_at_map

Row = Mapping[str, Any]

NEIGHBOUR_MEAN = "neighbour_mean"
INTERVENTIONS = (
    NEIGHBOUR_MEAN,
    "neighbour_mean_with_norms",
    "rescaled_mean",
    "aligned_mean",
    "copy_previous",
    "copy_next",
    "zero",
    "permuted_rows",
    "matched_noise",
)
PARTS = ("layer", "attention", "mlp")


@dataclasses.dataclass(frozen=True)
class Cells:
    """The rows of one text.

    Attributes:
      text: The text's name; empty when the rows do not say.
      baseline: The row of the unedited model, or None.
      cells: Rows by (intervention, scope, positions, layer); of what is random the median
        draw's (`measures.draws.median_draw`).
      drawn: All draws of each, in order.
      model: The model's id where the rows are of several models, else empty.
    """

    text: str
    baseline: Row | None
    cells: Mapping[tuple[str, str, str, int], Row]
    drawn: Mapping[tuple[str, str, str, int], tuple[Row, ...]] = dataclasses.field(
        default_factory=dict
    )
    model: str = ""

    @property
    def name(self) -> str:
        """Model and text as titles have them."""
        return panel_name(self.model, self.text)

    @property
    def layers(self) -> range:
        """All layers from 0 to the last that a row names."""
        return range(1 + max((key[3] for key in self.cells), default=-1))

    @property
    def interventions(self) -> tuple[str, ...]:
        """Interventions of whole layers, the known ones first."""
        found = _unique(key[0] for key in self.cells if key[1:3] == ("layer", "all"))
        return _known_first(found, INTERVENTIONS)

    @property
    def main(self) -> str:
        """The intervention that the map is about: the neighbour mean where it was measured."""
        others = self.interventions or tuple(key[0] for key in self.cells)
        return NEIGHBOUR_MEAN if self.has(NEIGHBOUR_MEAN) or not others else others[0]

    @functools.cached_property
    def looks(self) -> MapLooks | None:
        """What the main map says looked at whole, its boundary layers left out."""
        rows = [row for layer in self.layers if (row := self.row(self.main, layer))]
        inner = [row for row in rows if not row.get("boundary")]
        return look_at_map(inner, self.baseline) if self.baseline else None

    def scopes(self, intervention: str) -> tuple[str, ...]:
        """Scopes of an intervention at all positions, without single heads."""
        found = _unique(key[1] for key in self.cells if key[0] == intervention and key[2] == "all")
        return _known_first([scope for scope in found if head_number(scope) is None], PARTS)

    def heads(self, intervention: str) -> tuple[str, ...]:
        """Scopes of an intervention that are single query heads, in order."""
        found = _unique(key[1] for key in self.cells if key[0] == intervention)
        return tuple(sorted((s for s in found if head_number(s) is not None), key=head_number))

    def row(
        self, intervention: str, layer: int, scope: str = "layer", positions: str = "all"
    ) -> Row | None:
        return self.cells.get((intervention, scope, positions, layer))

    def draws(
        self, intervention: str, layer: int, scope: str = "layer", positions: str = "all"
    ) -> tuple[Row, ...]:
        """Every draw of what is random; one row of what is not."""
        return self.drawn.get((intervention, scope, positions, layer), ())

    def profile(
        self,
        intervention: str,
        scope: str = "layer",
        positions: str = "all",
        field: str = "degradation_percent",
    ) -> list[float]:
        """One field over all layers: NaN where not measured, inf where not finite."""
        rows = (self.row(intervention, layer, scope, positions) for layer in self.layers)
        return [math.nan if row is None else number(row, field) for row in rows]

    def has(self, intervention: str, scope: str = "layer", positions: str = "all") -> bool:
        return any(key[:3] == (intervention, scope, positions) for key in self.cells)


def by_text(rows: Iterable[Row] | Sequence[Cells]) -> tuple[Cells, ...]:
    """Groups rows by text, in the order in which the texts appear.

    Args:
      rows: Mappings with the fields of the importance experiment (DESIGN section 3), a data
        frame of them, or what this function returned. Draws of one variant are kept apart.

    Returns:
      One `Cells` for each text, of rows of several models for each model and text.

    Raises:
      InputError: A variant comes twice with different losses.
    """
    rows = records(rows)
    if rows and isinstance(rows[0], Cells):
        return tuple(rows)
    return tuple(_cells(model, text, own) for (model, text), own in panels_of(rows).items())


def _cells(model: str, text: str, rows: Iterable[Row]) -> Cells:
    baseline: dict[str, Row] = {}
    drawn: dict[tuple, dict[Any, Row]] = {}
    for row in rows:
        if row.get("variant") == "baseline":
            put(baseline, "baseline", row)
        elif _is_number(row.get("layer")):
            scope, positions = row.get("scope") or "layer", row.get("positions") or "all"
            key = (row["intervention"], scope, positions, int(row["layer"]))
            put(drawn.setdefault(key, {}), row.get("draw"), row)
    every = {key: tuple(by_draw.values()) for key, by_draw in drawn.items()}
    median = {key: median_draw(draws) for key, draws in every.items()}
    return Cells(text, baseline.get("baseline"), median, every, model)


def panels_of(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by (model, text), in their order; the model is empty where all rows are of one."""
    rows = list(rows)
    several = len({row.get("model") for row in rows}) > 1
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        model = str(row.get("model") or "model without a name") if several else ""
        found.setdefault((model, str(row.get("text") or "")), []).append(row)
    return found


def put(found: dict[Any, Row], key: Any, row: Row) -> None:
    """Enters a row; the same figures may come twice.

    Raises:
      InputError: Another row of the same variant has other figures.
    """
    other = found.setdefault(key, row)
    if any(row.get(name) != other.get(name) for name in ("nll", "degradation_percent")):
        variant = row.get("variant") or ", ".join(map(str, [*key] if key else ["a row"]))
        raise InputError(
            f"rows must hold each variant of a model and text once; {variant} on "
            f"{row.get('text') or 'a text'} came twice with different figures; give each model an "
            "id of its own (dataclasses.replace(model, id='mine')), or draw one run at a time"
        )


def panel_name(model: str, text: str) -> str:
    """Model and text as titles have them, long names cut."""
    return ", ".join(shortened(name) for name in (model, text) if name)


def records(rows: Any) -> list:
    """Rows as a list; a data frame writes null as NaN, which is undone here."""
    if not hasattr(rows, "to_dict"):
        return list(rows)
    return [
        {name: None if _is_nan(value) else value for name, value in row.items()}
        for row in rows.to_dict("records")
    ]


def number(row: Row, field: str) -> float:
    """A field as a float: NaN where it is absent, inf where it is null or not finite."""
    if field not in row:
        return math.nan
    value = row[field]
    return float(value) if _is_number(value) and math.isfinite(value) else math.inf


def interval(row: Row) -> tuple[float, float] | None:
    """The 95 % interval of a row's degradation in percent, if it is there and finite."""
    ends = row.get("ci95")
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return None
    return (float(ends[0]), float(ends[1])) if all(map(_is_number, ends)) else None


def category(row: Row) -> str:
    """The row's category, worked out where the row does not say."""
    if "category" in row:
        return row["category"] or ""
    return categorise(number(row, "degradation_percent")) or ""


def is_certain(row: Row) -> bool:
    """Whether the whole 95 % interval (pointwise) lies in the row's category."""
    ends = interval(row)
    return ends is not None and all(categorise(end) == category(row) for end in ends)


def head_number(scope: str) -> int | None:
    """5 for "head_5", None for any other scope."""
    prefix, _, index = scope.partition("head_")
    return int(index) if not prefix and index.isdigit() else None


def label(name: str) -> str:
    """An intervention or scope as it is written in figures and tables."""
    index = head_number(name)
    if index is not None:
        return f"head {index}"
    if name.endswith("_proj"):
        return name
    return {"mlp": "MLP"}.get(name, name.replace("_", " "))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_number(value: Any) -> bool:
    # NumPy's scalars are numbers, too.
    return hasattr(value, "__float__") and not isinstance(value, bool) and not _is_nan(value)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _known_first(names: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in known if name in names) + tuple(
        name for name in names if name not in known
    )


def shortened(name: str, length: int = 32) -> str:
    """The name of a text, of a long path its end."""
    return name if len(name) <= length else f"...{name[3 - length :]}"

"""Where the rows of a claim are: which rows of a run, in which parts, and what is missing."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.records import Row, RunRecord
from jaxanatomy.words import label

Key = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of one text of a run; those that are about no text have the text "".

    Attributes:
      text: Its name.
      rows: Its rows.
      record: The run.
      found: What was read of them already.
    """

    text: str
    rows: Sequence[Row]
    record: RunRecord
    found: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for this table."""
        if key not in self.found:
            self.found[key] = make()
        return self.found[key]

    @property
    def baseline(self) -> Row | None:
        """The row of the unedited model."""
        plain = (row for row in self.rows if row.get("kind") is None)
        return next((row for row in plain if row.get("variant") == BASELINE), None)

    @property
    def layers(self) -> range:
        """Every layer of the model; none if the run does not say."""
        return range(len((self.record.provenance.get("architecture") or {}).get("layers") or ()))

    def find(self, where: Mapping[str, Any]) -> list[Row]:
        """The rows whose fields have these values; `kind` is None unless it is asked for."""
        wanted = tuple((name, plainly(value)) for name, value in {"kind": None, **where}.items())
        return self.once(wanted, lambda: _matching(self.rows, wanted))


Values = Iterable[Any] | Callable[[Table], Iterable[Any]]


class MissingError(Exception):
    """Why something cannot be read: rows that were not measured, or that decide nothing."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the things that a claim is about: a layer, a strategy on a set, an arm.

    Attributes:
      key: The fields that name it.
      rows: Its rows: none if it was not measured, several if they are draws (of noise, seeds).
      table: Where they are from.
      draws: How many rows it needs.
    """

    key: Mapping[str, Any]
    rows: Sequence[Row]
    table: Table
    draws: int = 1

    @property
    def name(self) -> str:
        """For reading: "L11", "scale 0.9 on paper"."""
        words = (_word(field, value) for field, value in self.key.items() if value is not None)
        return " ".join(words)

    def require_rows(self) -> None:
        """Raises `MissingError` if it was not measured, or not drawn often enough."""
        if not self.rows:
            raise MissingError("no rows")
        if len(self.rows) < self.draws:
            raise MissingError(f"drawn fewer than {self.draws} times")

    def partners(self, where: Mapping[str, Any]) -> list[Row]:
        """The rows to compare with: those of the same key where `where` does not say other."""
        key = [each for each in self.key.items() if each[0] not in where]
        return _matching(self.table.find(where), key)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """A set of rows.

        MAP = Rows("importance").where(intervention="neighbour_mean", scope="layer")
        MAP.at(layer=(14, 17))

    Attributes:
      experiment: Whose rows.
      derive: What makes them of those of a text.
      fields: The values that they have.
      axes: Their parts: fields, and the values of each that are to be there.
      draws: How many rows of a part are needed at least, where they are draws of something random.
    """

    experiment: str
    derive: Callable[[Table], Sequence[Row]] | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    axes: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    draws: int = 1

    def where(self, **fields: Any) -> "Rows":
        """Those with these values."""
        return dataclasses.replace(self, fields={**self.fields, **fields})

    def at(self, **axes: Values) -> "Rows":
        """A part for each combination of values; a value that no row has was not measured."""
        return dataclasses.replace(self, axes={**self.axes, **axes})

    def drawn(self, least: int) -> "Rows":
        """Those of parts that were drawn so often at least."""
        return dataclasses.replace(self, draws=least)

    def tables(self, record: RunRecord) -> list[Table]:
        """The rows of the run by text."""
        texts: dict[str, list[Row]] = {}
        for row in record.rows:
            texts.setdefault(str(row.get("text") or ""), []).append(row)
        tables = [Table(text, own, record) for text, own in texts.items()]
        if self.derive is not None:
            tables = [Table(each.text, self.derive(each), record) for each in tables]
        return [table for table in tables if table.rows]

    def parts(self, table: Table) -> list[Part]:
        """The parts on one text, also those that were not measured."""
        found: dict[Key, list[Row]] = {}
        for row in table.find(self.fields):
            found.setdefault(tuple(plainly(row.get(name)) for name in self.axes), []).append(row)
        axes = [values(table) if callable(values) else values for values in self.axes.values()]
        return [
            Part(
                dict(zip(self.axes, key, strict=True)),
                found.get(plainly(key), []),
                table,
                self.draws,
            )
            for key in itertools.product(*axes)
        ]


def every_layer(table: Table) -> range:
    """All layers."""
    return table.layers


def inner_layers(table: Table) -> range:
    """The layers with two neighbours."""
    return table.layers[1:-1]


def outer_layers(table: Table) -> tuple[int, ...]:
    """The first and the last layer."""
    return (*table.layers[:1], *table.layers[-1:])


def _matching(rows: Iterable[Row], wanted: Iterable[tuple[str, Any]]) -> list[Row]:
    for name, value in wanted:
        plain = plainly(value)
        rows = [row for row in rows if plainly(row.get(name)) == plain]
    return list(rows)


def plainly(value: Any) -> Any:
    """A value that can be compared: lists of JSON as tuples, fractions without rounding error."""
    if isinstance(value, list | tuple):
        return tuple(map(plainly, value))
    return round(value, 9) if isinstance(value, float) else value


def _word(field: str, value: Any) -> str:
    if field == "layer":
        return f"L{value}"
    if field == "layers":
        return "+".join(f"L{layer}" for layer in value)
    if field in ("seed", "draw"):
        return f"{field} {value}"
    if field == "set":
        return f"on {value}"
    several = value if isinstance(value, tuple) else (value,)
    return " ".join(label(str(each)) for each in several if each is not None)

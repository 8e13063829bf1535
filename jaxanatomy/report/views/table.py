"""Tables: rows as they are, with columns that say how their numbers are written."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.report.views.core import Row, View
from jaxanatomy.words import formatted


@dataclasses.dataclass(frozen=True)
class Column:
    """A column; the interval of a field that has one stands behind its value.

    Attributes:
      head: Its heading, with the unit.
      field: Field of the rows; "rank.*.largest" is a column for each field that so begins and
        ends, with what is between in the place of the {} of the heading, and of the * of `kind`.
      write: Words for a value: a function of it, or a format such as "+.2f"; text stays.
      kind: Field whose value colours the cell as a chip; "" for none.
      null: Words for null.
      filters: Whether the reader may choose rows of the page by its values.
    """

    head: str
    field: str
    write: Callable[[Any], str] | str = ""
    kind: str = ""
    null: str = "not finite"
    filters: bool = False

    def of(self, rows: Sequence[Row]) -> list["Column"]:
        """The columns that it stands for in some rows; none where no row has the field."""
        fields = dict.fromkeys(field for row in rows for field in row)
        start, star, end = self.field.partition("*")
        if not star:
            return [self] if self.field in fields else []
        own = [field for field in fields if field.startswith(start) and field.endswith(end)]
        return [self._with(field.removeprefix(start).removesuffix(end)) for field in own]

    def _with(self, name: str) -> "Column":
        kind = self.kind.replace("*", name)
        field = self.field.replace("*", name)
        return dataclasses.replace(self, head=self.head.format(name), field=field, kind=kind)

    def text(self, row: Row) -> str:
        """A cell's words: a dash for what is absent."""
        return self._written(row[self.field]) if self.field in row else "–"

    def _written(self, value: Any) -> str:
        if value is None:
            return self.null
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list | tuple):
            return ", ".join(map(self._written, value)) or "none"
        if isinstance(value, Estimate):
            if not math.isfinite(value.value):
                return self.null
            ends = f" [{', '.join(map(self._written, value.ends))}]" if value.ends else ""
            return self._written(value.value) + ends
        return self.write(value) if callable(self.write) else formatted(value, self.write)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(View):
    """A table; the first cell of each row is its heading.

    Attributes:
      cells: Its columns. One that no row has is left out.
      note: A paragraph below.
      folded: Whether only its title shows until it is opened.
      printed: Whether the command line prints it when the run ends.
      prose: Whether cells are sentences, which wrap.
    """

    cells: tuple[Column, ...]
    note: str = ""
    folded: bool = False
    printed: bool = False
    prose: bool = False

    def shown(self, rows: Sequence[Row]) -> list[Column]:
        """The columns that some row has."""
        return [column for each in self.cells for column in each.of(rows)]

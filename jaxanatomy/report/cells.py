"""Readings of single rows that pages which are no `sections.Page` yet share."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.measures.importance import categorise
from jaxanatomy.report.document import Chip
from jaxanatomy.words import shortened

Row = Mapping[str, Any]


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


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_number(value: Any) -> bool:
    # NumPy's scalars are numbers, too.
    return hasattr(value, "__float__") and not isinstance(value, bool) and not _is_nan(value)


def signed(value: float) -> str:
    """A percentage with its sign, without needless digits."""
    words = f"{value:+,.1f}" if abs(value) < 1e3 else f"{value:+,.0f}"
    return words.replace("-", "−")


def chip(row: Row, kind: str | None = None, text: str | None = None) -> Chip:
    """A layer's chip, filled if its category is settled."""
    value, ends = number(row, "degradation_percent"), interval(row)
    hint = "perplexity not finite" if math.isinf(value) else f"{signed(value)} %"
    if ends:
        hint += f", 95 % interval {signed(ends[0])} to {signed(ends[1])} %"
    return Chip(text or str(row["layer"]), kind or category(row), is_certain(row), hint)


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

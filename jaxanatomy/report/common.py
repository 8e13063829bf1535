"""Axes, columns and ways to read rows that several pages share."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.measures.tuning import tried
from jaxanatomy.report import style
from jaxanatomy.report.views import Axis, Column, Row, Span
from jaxanatomy.words import perplexity

LAYER = Axis("layer", "layer", "layer")
CHANGE = Axis(
    "degradation_percent", "change of perplexity (%)\nlinear within ±10 %, log beyond", "percent"
)
INTERVAL = Span("low", "high", "95 % interval", style.INK)
PPL = Column("perplexity", "ppl", perplexity)
# Of the rows of `tuned`.
RATES = (
    Column("arm", "arm"),
    Column("{}", "loss.*", ".3f", null="diverged"),
    Column("taken", "taken", "g"),
    Column("at the edge of the grid", "edge"),
)
EDGE = "Beyond the edge of the grid a rate may be better."


def with_ends(row: Row, field: str = "ci95", names: tuple[str, str] = ("low", "high")) -> Row:
    """A row with the ends of an interval as fields of their own; without them where it has none."""
    ends = row.get(field) or (None, None)
    return row if None in ends else {**row, **dict(zip(names, ends, strict=True))}


def flat(row: Row, name: str) -> Row:
    """A field that is a mapping as fields of their own, `name.key`."""
    return {f"{name}.{key}": value for key, value in (row.get(name) or {}).items()}


def tuned(
    rows: Iterable[Row], measure: str, taken: Mapping[str, float], at_edge: Collection[str]
) -> list[Row]:
    """A row for each arm: the loss of each learning rate that was tried, and which was taken.

    Args:
      rows: Of a run.
      measure: Field of the loss that rates are chosen by.
      taken: The rate of each arm's results.
      at_edge: Arms whose rate is the lowest or highest that was tried.
    """
    return [
        {"arm": arm, **flat({"loss": losses}, "loss")}
        | ({"taken": taken[arm]} if arm in taken else {})
        | ({"edge": True} if arm in at_edge else {})
        for arm, losses in tried(rows, measure).items()
    ]


def in_panels(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows of variants, each once, with `panel`: their text, of several models with the model.

    Raises:
      InputError: Two rows of a variant on one model and text have different figures.
    """
    rows = list(rows)
    several = len({row.get("model") for row in rows}) > 1
    found: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        model = (row.get("model") or "model without a name") if several else ""
        panel = ", ".join(str(name) for name in (model, row.get("text")) if name)
        key = (model, row.get("text"), row["variant"], row.get("draw"))
        other = found.setdefault(key, {**row, "panel": panel})
        if any(row.get(name) != other.get(name) for name in ("nll", "degradation_percent")):
            raise InputError(
                f"rows must hold each variant of a model and text once; {row['variant']} on "
                f"{row.get('text') or 'a text'} came twice with different figures; give each model "
                "an id of its own (dataclasses.replace(model, id='mine')), or draw one run at a "
                "time"
            )
    return list(found.values())


def known(row: Row) -> Row:
    """A row without the fields that are null: there is no such value, which is no failure."""
    return {name: value for name, value in row.items() if value is not None}

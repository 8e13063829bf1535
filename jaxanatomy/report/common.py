"""Axes, columns and ways to read rows that several pages share."""

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, TypeVar

from jaxanatomy.errors import InputError
from jaxanatomy.measures.arms.tuning import losses_by_rate
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report.views import Axis, Column, Curves, Row
from jaxanatomy.words import percent, perplexity

Made = TypeVar("Made")

LAYER = Axis("layer", "layer", "layer")
COMPONENT = Axis("component", scale="names")
CHANGE = Axis("change", "change of perplexity (%)\nlinear within ±10 %, log beyond", "percent")
CELL = Axis("change", "change of perplexity (%)", "percent")
HEAT = (
    "Numbers are changes of perplexity in percent; k is thousands, M millions. A colour means the "
    "same percentage in every figure: white no effect, blue an improvement. Empty: not measured "
    "or not defined; crossed out (n/f): not finite."
)
ARM = Column("arm", "arm")
PPL = Column("perplexity", "ppl", perplexity)
EFFECT = Column("change (95 %)", "change", percent)
# Of the rows of `tuned`.
RATES = (
    ARM,
    Column("{}", "loss.*", ".3f", null="diverged"),
    Column("taken", "taken", "g"),
    Column("at the edge of the grid", "edge"),
)
EDGE = "Beyond the edge of the grid a rate may be better."


def once(make: Callable[[RunRecord], Made]) -> Callable[[RunRecord], Made]:
    """Makes something of a run once, however many figures of its page show it."""
    found: weakref.WeakKeyDictionary[RunRecord, Made] = weakref.WeakKeyDictionary()

    @functools.wraps(make)
    def kept(record: RunRecord) -> Made:
        if record not in found:
            found[record] = make(record)
        return found[record]

    return kept


def estimate(value: float | None, ends: Sequence[float | None] | None) -> Estimate | float | None:
    """A figure with its interval, for one field of a row; the bare figure where it has none."""
    return value if value is None or not ends or None in ends else Estimate(value, *ends)


def interval(row: Row, field: str) -> Estimate | None:
    """The figure in a field if it has an interval, else None."""
    return row[field] if isinstance(row.get(field), Estimate) else None


def estimate_of(found: Row | None) -> Estimate | float | None:
    """A figure of a summary, of `mean`, `low` and `high`; None where there is none."""
    return estimate(found["mean"], (found["low"], found["high"])) if found else None


def told(found: Estimate | None) -> str:
    """What a difference of losses from another arm says, as far as its interval allows."""
    if found is None or found.low <= 0 <= found.high:
        return "not told apart from"
    return "better than" if found.high < 0 else "worse than"


def flat(row: Row, name: str) -> Row:
    """A field that is a mapping as fields of their own, `name.key`."""
    return {f"{name}.{key}": value for key, value in (row.get(name) or {}).items()}


def known(row: Row) -> Row:
    """A row without the fields that are null: there is no such value, which is no failure."""
    return {name: value for name, value in row.items() if value is not None}


def grouped(rows: Iterable[Row], *fields: str) -> dict[tuple, list[Row]]:
    """Rows by the values of some fields, in their order."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(field) for field in fields), []).append(row)
    return found


def published(record: RunRecord, table: str) -> Any:
    """A table of AH for a run of its model; empty for other models."""
    made = {"config": record.config, "provenance": record.provenance}
    return paper_table(table) if table1_of(made) else {}


def in_panels(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows of variants, each once, with their figures and intervals.

    Returns:
      The rows with `panel`, their text, of several models with the model; `change`, the
      degradation in percent, and `kl`, each with its interval.

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
        other = found.setdefault(key, {**row, "panel": panel, **_figures(row)})
        if any(row.get(name) != other.get(name) for name in ("nll", "degradation_percent")):
            raise InputError(
                f"rows must hold each variant of a model and text once; {row['variant']} on "
                f"{row.get('text') or 'a text'} came twice with different figures; give each model "
                "an id of its own (dataclasses.replace(model, id='mine')), or draw one run at a "
                "time"
            )
    return list(found.values())


def _figures(row: Row) -> Row:
    change = estimate(row.get("degradation_percent"), row.get("ci95"))
    kl = {"kl": estimate(row["kl"], row.get("kl_ci95"))} if "kl" in row else {}
    return {"change": change, **kl}


def by_component(name: str, rows: Callable[[RunRecord], list[Row]], **more: Any) -> Curves:
    """Small curves, a panel for each matrix."""
    return Curves(name, rows, facet="component", columns=4, size=(2.9, 2.1), **more)


def complete(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each seed that has come as far as any."""
    seeds = grouped(rows, "seed").values()
    most = max(map(len, seeds), default=0)
    return [own for own in seeds if len(own) == most]


def over_seeds(rows: Iterable[Row], field: str, places: Iterable[str]) -> list[dict[str, Any]]:
    """The points of one arm's curve: means over its complete seeds, `loss` with its range.

    Args:
      rows: Of the arm; those without a value are left out.
      field: The loss.
      places: What else is averaged.
    """
    found = []
    for point in zip(*complete(row for row in rows if row[field] is not None), strict=True):
        losses = [row[field] for row in point]
        row = {name: fmean(row[name] for row in point) for name in places}
        row["loss"] = Estimate(fmean(losses), min(losses), max(losses))
        found.append({"arm": point[0]["arm"], "stage": point[0]["stage"], **row})
    return found


def tuned(rows: Iterable[Row], measure: str, arms: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row for each arm: the loss of each learning rate that was tried, and which was taken.

    Args:
      rows: Of a run.
      measure: Field of the loss that rates are chosen by.
      arms: Of its summary, with `learning_rate` and `rate_at_edge`.
    """
    found = []
    for arm, losses in losses_by_rate(rows, measure).items():
        own = arms.get(arm, {})
        taken = {"taken": own.get("learning_rate"), "edge": own.get("rate_at_edge") or None}
        found.append({"arm": arm, **flat({"loss": losses}, "loss"), **known(taken)})
    return found

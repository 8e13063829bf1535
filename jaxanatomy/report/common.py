"""Axes, columns and ways to read rows that several pages share."""

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, TypeVar

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.papers import paper_table, table1_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report.views import Axis, Column, Curves, Row
from jaxanatomy.words import first, percent, perplexity

Made = TypeVar("Made")

LAYER = Axis("layer", "layer", "layer")
COMPONENT = Axis("component", scale="names")
CHANGE = Axis("change", "change of perplexity (%)\nlinear within ±10 %, log beyond", "percent")
CELL = Axis("change", "change of perplexity (%)", "percent")
HEAT = (
    "Numbers are changes of perplexity in percent; k is thousands, M millions. A colour means the "
    "same percentage in every figure: white no effect, blue an improvement. Empty: not measured "
    "or not defined; crossed out (n/f): not finite. A dot: its own 95 % interval holds 0."
)
ARM = Column("arm", "arm")
PPL = Column("perplexity", "ppl", perplexity)
EFFECT = Column("change (95 %)", "change", percent)
# Readings of layers that need a logarithmic scale.
LOGARITHMIC = ("perplexity", "residual_norm", "peak_over_mean", "co_magnitude_cv", "write_total")
_ENDS = ("mean", "ci95", "low", "high", "seeds")  # of a figure of a summary


def once(make: Callable[[RunRecord], Made]) -> Callable[[RunRecord], Made]:
    """Makes something of a run once, however many figures of its page show it."""
    found: weakref.WeakKeyDictionary[RunRecord, Made] = weakref.WeakKeyDictionary()

    @functools.wraps(make)
    def kept(record: RunRecord) -> Made:
        if record not in found:
            found[record] = make(record)
        return found[record]

    return kept


def only(
    make: Callable[[RunRecord], Sequence[Row]], is_wanted: Callable[[Row], bool]
) -> Callable[[RunRecord], list[Row]]:
    """Makes those rows that are wanted."""
    return lambda record: [row for row in make(record) if is_wanted(row)]


def estimate(value: float | None, ends: Sequence[float | None] | None) -> Estimate | float | None:
    """A figure with its interval, for one field of a row; the bare figure where it has none."""
    return value if value is None or not ends or None in ends else Estimate(value, *ends)


def joined(row: Row) -> dict[str, Any]:
    """A row whose figures have their intervals: `kl` that of `kl_ci95`, `value` that of `ci95`.

    `change` is the degradation in percent with its `ci95`, `undecided` whether that holds 0.
    """
    found = dict(row)
    for name in row:
        base = name.removesuffix("_ci95").removesuffix("_range")
        if base != name and base in row:
            found[base] = estimate(row[base], found.pop(name))
    if "value" in row:
        found["value"] = estimate(row["value"], row.get("ci95"))
    if "degradation_percent" in row:
        change = found["change"] = estimate(row["degradation_percent"], row.get("ci95"))
        found["undecided"] = isinstance(change, Estimate) and change.low <= 0 <= change.high
    return found


def median_range(values: Sequence[float | None]) -> Estimate | None:
    """The median of some figures, from the least to the most; None where one is not finite."""
    return None if None in values else Estimate(median(values), min(values), max(values))


def perplexity_of(row: Row, base: float | None) -> Estimate | float | None:
    """The perplexity of a row with the interval of its change from that of the baseline."""
    ends = base and row["ci95"] and [base * (1 + end / 100) for end in row["ci95"]]
    return estimate(row["ppl"], ends)


def null_of(row: Row) -> Estimate | float | None:
    """What the null of a row gives, with its interval where it has draws."""
    return estimate(row["null_value"], (row["null_low"], row["null_high"]))


def interval(row: Row, field: str) -> Estimate | None:
    """The figure in a field if it has an interval, else None."""
    return row[field] if isinstance(row.get(field), Estimate) else None


def estimate_of(found: Row | None) -> Estimate | float | None:
    """A figure of a summary: `mean` and its `ci95`, or `low` and `high`; None without one."""
    if not found:
        return None
    ends = found["ci95"] if "ci95" in found else (found["low"], found["high"])
    return estimate(found["mean"], ends)


def flattened(entry: Row, prefix: str = "") -> Row:
    """An entry of a summary as a row: figures with their intervals, nested ones as `name.field`.

    What is null is left out: there is no such figure.
    """
    found: dict[str, Any] = {}
    for name, value in entry.items():
        inner = value if isinstance(value, Mapping) else {}
        own = None if inner else value
        if "mean" in inner:
            own = estimate_of(value)
            inner = {key: each for key, each in value.items() if key not in _ENDS}
        found |= known({prefix + name: own}) | flattened(inner, f"{prefix}{name}.")
    return found


def entries(*path: str, key: str = "arm") -> Callable[[RunRecord], list[Row]]:
    """Makes the rows of a summary's list, or of a mapping whose names are the `key` of each."""

    def rows(record: RunRecord) -> list[Row]:
        found: Any = record.summary
        for name in path:
            found = (found or {}).get(name)
        if isinstance(found, Mapping):
            found = [{key: name, **entry} for name, entry in found.items()]
        return [flattened(entry) for entry in found or ()]

    return rows


def merged(rows: Iterable[Row], *key: str) -> list[Row]:
    """Rows of one key as one, with the fields of all."""
    found: dict[tuple, Row] = {}
    for row in rows:
        own = tuple(row.get(name) for name in key)
        found[own] = found.get(own, {}) | row
    return list(found.values())


def sides(rows: Iterable[Row], field: str, zero: float = 0.0, name: str = "arm") -> str:
    """On which side of a figure rows lie with their whole interval: "below 0: a; above 0: b"."""
    told = (f"below {zero:g}", f"above {zero:g}")
    found: dict[str, list[str]] = {side: [] for side in (*told, "not told apart", "no interval")}
    for row in rows:
        own = interval(row, field)
        if own is None:
            found["no interval"].append(row[name])
        elif own.low <= zero <= own.high:
            found["not told apart"].append(row[name])
        else:
            found[told[own.low > zero]].append(row[name])
    return "; ".join(
        f"{side}: {first(names, 12) if side in told or len(names) < 4 else f'{len(names)} others'}"
        for side, names in found.items()
        if names
    )


def tally(rows: Iterable[Row], field: str, what: str = "intervals") -> str:
    """How many rows lie on which side of 0: "of 12 intervals 3 lie above 0 and 1 below"."""
    found = list(filter(None, (interval(row, field) for row in rows)))
    above, below = sum(each.low > 0 for each in found), sum(each.high < 0 for each in found)
    return f"of {len(found)} {what} {above} lie above 0 and {below} below" if found else ""


def flat(row: Row, name: str) -> Row:
    """A field that is a mapping as fields of their own, `name.key`."""
    return {f"{name}.{key}": value for key, value in (row.get(name) or {}).items()}


def counted(rows: Iterable[Row], **fields: str) -> str:
    """How many values fields have, as in "7 arms, 3 seeds." of `arms="arm", seeds="seed"`."""
    rows = list(rows)
    values = {what: {row.get(field) for row in rows} - {None} for what, field in fields.items()}
    counts = {what: len(own) for what, own in values.items()}
    words = (f"{n:,} {what if n != 1 else what.removesuffix('s')}" for what, n in counts.items())
    return f"{', '.join(words)}."


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
      degradation in percent, and `kl`, each with its interval; `undecided`, whether that of the
      change holds 0.

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
        other = found.setdefault(key, {"change": None, **joined(row), "panel": panel})
        if any(row.get(name) != other.get(name) for name in ("nll", "degradation_percent")):
            raise InputError(
                f"rows must hold each variant of a model and text once; {row['variant']} on "
                f"{row.get('text') or 'a text'} came twice with different figures; give each model "
                "an id of its own (dataclasses.replace(model, id='mine')), or draw one run at a "
                "time"
            )
    return list(found.values())


def by_component(name: str, rows: Callable[[RunRecord], list[Row]], **more: Any) -> Curves:
    """Small curves, a panel for each matrix."""
    return Curves(name, rows, facet="component", columns=4, size=(2.9, 2.1), **more)


def by_layer(
    name: str, rows: Callable[[RunRecord], list[Row]], fields: Mapping[str, str], **more: Any
) -> Curves:
    """Small curves over layers, a panel for each of some fields, whose words are its label."""
    y = tuple(
        Axis(field, words, "log" if field in LOGARITHMIC else "linear")
        for field, words in fields.items()
    )
    shared = {"x": LAYER, "columns": 3, "band": "y", "size": (3.6, 2.5)}
    return Curves(name, rows, y=y, **shared | more)


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

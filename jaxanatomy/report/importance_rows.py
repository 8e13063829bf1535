"""Tidy rows of an importance run: what each figure and table of its page shows."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping, Sequence

from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.measures.draws import draws_degradation, draws_range, median_draw
from jaxanatomy.measures.importance import categorise
from jaxanatomy.measures.many_looks import MapLooks, look_at_map
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.papers import table1_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report.common import in_panels, with_ends
from jaxanatomy.report.views import Row
from jaxanatomy.words import label, plain

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
CHANGE = "degradation_percent"
_SPREAD = (0.0, 0.16, -0.16, 0.08, -0.08)  # rows of dots, so that near values stay apart


@dataclasses.dataclass(frozen=True)
class Cells:
    """The rows of one text (of one model), by what was edited.

    Attributes:
      panel: The text's name, of several models with the model's; empty where rows do not say.
      baseline: The row of the unedited model, or None.
      drawn: By (intervention, scope, positions), by layer, the draws; one of what is not random.
    """

    panel: str
    baseline: Row | None
    drawn: Mapping[tuple[str, str, str], Mapping[int, Sequence[Row]]]

    def of(self, intervention: str, scope: str = "layer", positions: str = "all") -> dict[int, Row]:
        """The rows of an edit by layer; of what is random the median draw's."""
        found = self.drawn.get((intervention, scope, positions), {})
        return {layer: median_draw(found[layer]) for layer in sorted(found)}

    @property
    def interventions(self) -> list[str]:
        """Those of whole layers at all tokens, the known ones first."""
        found = [key[0] for key in self.drawn if key[1:] == ("layer", "all")]
        return sorted(found, key=lambda name: _place(INTERVENTIONS, name))

    def scopes(self, intervention: str) -> list[str]:
        """Those of an intervention at all tokens, heads last and in order."""
        found = [key[1] for key in self.drawn if (key[0], key[2]) == (intervention, "all")]
        return sorted(found, key=lambda scope: (head_number(scope), _place(PARTS, scope)))

    @property
    def main(self) -> str:
        """The intervention that the map is about: the neighbour mean where it was measured."""
        others = self.interventions or [key[0] for key in self.drawn]
        return NEIGHBOUR_MEAN if NEIGHBOUR_MEAN in others or not others else others[0]

    @functools.cached_property
    def inner(self) -> dict[int, Row]:
        """The main map without boundary layers, whose one neighbour was copied."""
        return {layer: row for layer, row in self.of(self.main).items() if not row.get("boundary")}

    @functools.cached_property
    def looks(self) -> MapLooks | None:
        """What the map says looked at whole."""
        return _look(*map(_units, [self.baseline, *self.inner.values()])) if self.baseline else None

    @property
    def anti_layers(self) -> tuple[int, ...]:
        """Layers that are better replaced, by the band of all layers."""
        return self.looks.anti_layers if self.looks else ()

    @functools.cached_property
    def sinks(self) -> dict[int, tuple[float, float]]:
        """Critical at the first token, three times what they are elsewhere: both changes."""
        first, others = (self.of(NEIGHBOUR_MEAN, "layer", at) for at in ("first", "others"))
        pairs = {
            layer: (number(first[layer]), number(others[layer]))
            for layer in first
            if layer in others
        }
        return {layer: pair for layer, pair in pairs.items() if is_sink(*pair)}


def texts(record: RunRecord) -> list[Cells]:
    """The rows of a run, text by text; texts of which no layer was edited are left out."""
    baselines: dict[str, Row] = {}
    drawn: dict[str, dict[tuple, dict[int, list[Row]]]] = {}
    for row in in_panels(record.rows):
        if row["variant"] == BASELINE:
            baselines[row["panel"]] = row
        elif row.get("layer") is not None:
            own = drawn.setdefault(row["panel"], {})
            key = row["intervention"], row.get("scope") or "layer", row.get("positions") or "all"
            own.setdefault(key, {}).setdefault(int(row["layer"]), []).append(row)
    return [Cells(panel, baselines.get(panel), own) for panel, own in drawn.items()]


@functools.lru_cache(maxsize=64)
def _look(baseline: tuple, *rows: tuple) -> MapLooks | None:
    """`look_at_map`, which draws much and is asked for by many figures of a page."""
    names = ("layer", "unit_nll", "unit_tokens")
    base, *others = (dict(zip(names, row, strict=True)) for row in (baseline, *rows))
    return look_at_map(others, base)


def _units(row: Row) -> tuple:
    lists = (row.get("unit_nll"), row.get("unit_tokens"))
    return (row.get("layer"), *(None if each is None else tuple(each) for each in lists))


def head_number(scope: str) -> int:
    """5 for "head_5", -1 for any other scope."""
    index = scope.removeprefix("head_")
    return int(index) if index.isdigit() and index != scope else -1


def number(row: Row, field: str = CHANGE) -> float:
    """A field as a float: NaN where it is absent, infinite where it is null or not finite."""
    value = row.get(field, math.nan)
    return math.inf if value is None or math.isinf(value) else float(value)


def category(row: Row) -> str:
    """A row's category, worked out where the row does not say."""
    return row.get("category") or categorise(number(row)) or ""


def is_settled(row: Row) -> bool:
    """Whether the whole 95 % interval of a row, its own, lies in the row's category."""
    row = with_ends(row)
    return "low" in row and {categorise(row["low"]), categorise(row["high"])} == {category(row)}


def is_sink(first: float, others: float) -> bool:
    """Whether an edit acts through the first token: critical there, three times the rest."""
    return first >= 100 and first > 3 * max(others, 1.0)


def baseline_words(cells: Cells) -> str:
    """The unedited model's perplexity and the size of the text."""
    base = cells.baseline or {}
    if not math.isfinite(number(base, "ppl")):
        return "no finite baseline"
    words = f"baseline perplexity {plain(base['ppl'], 4)}"
    return f"{words}, {base['tokens']:,} predicted tokens" if base.get("tokens") else words


def layers(
    record: RunRecord,
    intervention: str | None = None,
    scope: str = "layer",
    paper: Sequence[float] | None = None,
) -> list[Row]:
    """The map: an edit of each layer, with its interval and the band of all layers at once.

    Args:
      record: The run.
      intervention: None: the main one of each text.
      scope: Of which part of the layers.
      paper: Published changes by layer; None: AH Table 1 if the run is of its model.
    """
    if paper is None:
        paper = table1_of({"config": record.config, "provenance": record.provenance}) or ()
    rows = []
    for cells in texts(record):
        name = intervention or cells.main
        looks = cells.looks if (name, scope) == (cells.main, "layer") else None
        part = "each layer" if scope == "layer" else f"{label(scope)} of each layer"
        for layer, row in cells.of(name, scope).items():
            is_better = bool(looks) and layer in looks.anti_layers
            wide = with_ends(row) | {
                "heading": f"{part}: {label(name)}; {baseline_words(cells)}",
                "kind": "better" if is_better else category(row) or None,
                "verdict": ", ".join(
                    [category(row)] + ["boundary"] * bool(row.get("boundary"))
                    + ["anti-layer"] * is_better
                ),
            }  # fmt: skip
            if category(row) == "critical" and math.isfinite(number(row)):
                wide["written"] = f"{style.compact(row[CHANGE])} %"
            if math.isfinite(number(row, f"{CHANGE}_without_first")):
                wide["without_first"] = row[f"{CHANGE}_without_first"]
            if layer < len(paper) and math.isfinite(paper[layer]):
                wide["paper"] = paper[layer]
            if looks and layer in looks.band:
                wide |= _ends("band", looks.band[layer].degradation_percent())
            rows.append(with_ends(wide, "kl_ci95", ("kl_low", "kl_high")))
    return rows


def divergences(record: RunRecord) -> list[Row]:
    """The rows of the map that hold the KL divergence from the unedited model."""
    return [row for row in layers(record) if "kl" in row]


def readings(record: RunRecord) -> list[Row]:
    """The map with other readings of each layer as fields: `zero`, `first`, `others`."""
    rows = []
    for cells in texts(record):
        beside = {
            "zero": cells.of("zero") if cells.main != "zero" else {},
            "first": cells.of(NEIGHBOUR_MEAN, "layer", "first"),
            "others": cells.of(NEIGHBOUR_MEAN, "layer", "others"),
        }
        for row in layers(record):
            if row["panel"] == cells.panel:
                own = {name: found.get(row["layer"]) for name, found in beside.items()}
                rows.append(row | {name: each.get(CHANGE) for name, each in own.items() if each})
    return rows


def controls(record: RunRecord, least: int = 2) -> list[Row]:
    """Every intervention on whole layers, of texts with at least so many."""
    return [
        row
        for cells in texts(record)
        if len(cells.interventions) >= least
        for name in cells.interventions
        for row in cells.of(name).values()
    ]


def parts(record: RunRecord, intervention: str = NEIGHBOUR_MEAN, least: int = 1) -> list[Row]:
    """An intervention on each part of each layer, of texts with at least so many parts."""
    rows = []
    for cells in texts(record):
        scopes = [scope for scope in cells.scopes(intervention) if head_number(scope) < 0]
        if len(scopes) >= least:
            found = (row for scope in scopes for row in cells.of(intervention, scope).values())
            rows += [row | {"scope": row.get("scope") or "layer"} for row in found]
    return rows


def heads(record: RunRecord, intervention: str = "zero") -> list[Row]:
    """An intervention on each query head of each layer."""
    return [
        row
        for cells in texts(record)
        for scope in cells.scopes(intervention)
        if head_number(scope) >= 0
        for row in cells.of(intervention, scope).values()
    ]


def first_token(
    record: RunRecord, intervention: str | None = None, scope: str | None = None
) -> list[Row]:
    """Edits at the first token alone, at all others alone, and everywhere; None: all of them."""
    rows = []
    for cells in texts(record):
        for name, part, positions in cells.drawn:
            if positions != "first" or {intervention, scope} - {None, name, part}:
                continue
            first, others = (cells.of(name, part, at) for at in ("first", "others"))
            everywhere = cells.of(name, part)
            words = f"{'whole layers' if part == 'layer' else label(part)}: {label(name)}"
            for layer in sorted({*first, *others} if others else ()):
                found = {"first": first, "others": others, "everywhere": everywhere}
                row = {at: own[layer].get(CHANGE) for at, own in found.items() if layer in own}
                row |= {"panel": ", ".join(filter(None, [cells.panel, words])), "layer": layer}
                row["edit"] = "at all tokens"
                ends = [number(row, at) for at in ("first", "others")]
                row |= {"written": str(layer)} if is_sink(*ends) else {}
                rows.append(row)
    return rows


def ratios(record: RunRecord) -> list[Row]:
    """Perplexity under each control over that under the neighbour mean, at inner layers.

    Of what is random the median draw's, with the mildest and the worst draw's as `low` and
    `high`. One more row for each control has the `median` over layers.
    """
    rows = []
    for cells in texts(record):
        for name in cells.interventions if cells.main == NEIGHBOUR_MEAN else ():
            found = control_ratios(cells, name) if name != NEIGHBOUR_MEAN else {}
            if not found:
                continue
            own = {"panel": cells.panel, "intervention": name}
            middle = statistics.median(found.values())
            named = _outliers({layer: math.log(found[layer] / middle) for layer in found})
            for at, layer in enumerate(sorted(found, key=found.get)):
                row = own | {"layer": layer, "ratio": found[layer]}
                row |= {"category": category(cells.inner[layer]), "shift": _SPREAD[at % 5]}
                row |= {"written": str(layer)} if layer in named else {}
                drawn = [each.get("ppl") for each in cells.drawn[name, "layer", "all"][layer]]
                drawn = [ppl / cells.inner[layer]["ppl"] for ppl in drawn if ppl]
                row |= {"low": min(drawn), "high": max(drawn)} if len(drawn) > 1 else {}
                rows.append(row)
            worse = sum(value > 1 for value in found.values())
            words = f"worse in {worse} of {len(found)}; median ×{middle:,.2f}"
            rows.append(own | {"median": middle, "beside": words})
    return rows


def control_ratios(cells: Cells, control: str) -> dict[int, float]:
    """By inner layer, where both perplexities are finite."""
    other = cells.of(control)
    pairs = {layer: (other[layer], row) for layer, row in cells.inner.items() if layer in other}
    found = {
        layer: own["ppl"] / mean["ppl"]
        for layer, (own, mean) in pairs.items()
        if own.get("ppl") and mean.get("ppl")
    }
    return {layer: ratio for layer, ratio in found.items() if math.isfinite(ratio)}


def draws(record: RunRecord) -> list[Row]:
    """Controls of whole layers that are random: the median draw, and three intervals.

    `low`, `high`: of the median draw over documents; `draws_low`, ...: from the mildest to the
    worst draw; `both_low`, ...: over draws and documents at once.
    """
    rows = []
    for cells in texts(record):
        for name in cells.interventions if cells.baseline else ():
            drawn = cells.drawn[name, "layer", "all"]
            if max(map(len, drawn.values())) < 2:
                continue
            for layer, median in cells.of(name).items():
                span = draws_range(drawn[layer], cells.baseline)
                both = draws_degradation(drawn[layer], cells.baseline)
                row = {"panel": ", ".join(filter(None, [cells.panel, label(name)]))}
                row |= {"layer": layer, "draws": len(drawn[layer]), "ci95": median.get("ci95")}
                row["median"] = span.value if math.isfinite(span.value) else None
                rows.append(with_ends(row) | _ends("draws", span) | _ends("both", both))
    return rows


def _ends(name: str, estimate: Estimate) -> Row:
    low, high = estimate.ends or (None, None)
    return {} if low is None else {f"{name}_low": low, f"{name}_high": high}


def _place(known: Sequence[str], name: str) -> int:
    return known.index(name) if name in known else len(known)


def _outliers(logs: Mapping[int, float], reach: float = 0.8, gap: float = 0.45) -> set[int]:
    """Up to three layers at each end that lie far out and apart enough for a number."""
    found = set()
    for order in (sorted(logs, key=logs.get), sorted(logs, key=logs.get, reverse=True)):
        outer, side = math.inf, math.copysign(1, logs[order[0]])
        for layer in order[:3]:
            far = side * logs[layer]
            if far < reach or outer - far < gap:
                break
            found.add(layer)
            outer = far
    return found

"""Tidy rows of an importance run: what each figure and table of its page shows."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.measures.importance import categorise
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.draws import draws_degradation, draws_range, median_draw
from jaxanatomy.measures.statistics.many_looks import MapLooks, look_at_map
from jaxanatomy.papers import table1_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report.common import estimate, in_panels, interval, once, only
from jaxanatomy.report.views import Row, value
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
_SPREAD = (0.0, 0.16, -0.16, 0.08, -0.08)  # rows of dots, so that near values stay apart


@dataclasses.dataclass(frozen=True)
class Cells:
    """The rows of one text (of one model), by what was edited.

    Attributes:
      panel: The text's name, of several models with the model's; empty where rows do not say.
      baseline: The row of the unedited model; empty where there is none.
      drawn: By (intervention, scope, positions), by layer, the draws; one of what is not random.
    """

    panel: str
    baseline: Row
    drawn: Mapping[tuple[str, str, str], Mapping[int, Sequence[Row]]]

    def of(self, intervention: str, scope: str = "layer", positions: str = "all") -> dict[int, Row]:
        """The rows of an edit by layer; of what is random the median draw's."""
        found = self.drawn.get((intervention, scope, positions), {})
        return {layer: median_draw(found[layer]) for layer in sorted(found)}

    @property
    def at_all_tokens(self) -> list[tuple[str, str]]:
        """Interventions and scopes: the known ones first, heads last and in order."""
        found = [key[:2] for key in self.drawn if key[2] == "all"]
        return sorted(
            found,
            key=lambda key: (
                _place(INTERVENTIONS, key[0]),
                head_number(key[1]),
                _place(PARTS, key[1]),
            ),
        )

    @property
    def interventions(self) -> list[str]:
        """Those of whole layers at all tokens."""
        return [intervention for intervention, scope in self.at_all_tokens if scope == "layer"]

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
        return look_at_map(list(self.inner.values()), self.baseline)

    def ratios(self, control: str) -> dict[int, float]:
        """Perplexity under a control over that under the neighbour mean, at inner layers."""
        found = {}
        for layer, row in self.of(control).items() if self.main == NEIGHBOUR_MEAN else ():
            mean = self.inner.get(layer, {}).get("ppl")
            if control != NEIGHBOUR_MEAN and mean and row.get("ppl"):
                found[layer] = row["ppl"] / mean
        return found


@once
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
            row["scope"] = key[1]
            own.setdefault(key, {}).setdefault(int(row["layer"]), []).append(row)
    return [Cells(panel, baselines.get(panel, {}), own) for panel, own in drawn.items()]


def head_number(scope: str) -> int:
    """5 for "head_5", -1 for any other scope."""
    index = scope.removeprefix("head_")
    return int(index) if index.isdigit() and index != scope else -1


def category(row: Row) -> str:
    """A row's category, worked out where the row does not say."""
    return row.get("category") or categorise(value(row, "change")) or ""


def is_settled(row: Row) -> bool:
    """Whether the whole 95 % interval of a row, its own, lies in the row's category."""
    found = interval(row, "change")
    return bool(found) and {categorise(found.low), categorise(found.high)} == {category(row)}


def is_sink(first: float, others: float) -> bool:
    """Whether an edit acts through the first token: critical there, three times the rest."""
    return first >= 100 and first > 3 * max(others, 1.0)


def baseline_words(cells: Cells) -> str:
    """The unedited model's perplexity and the size of the text."""
    base = cells.baseline
    if not math.isfinite(value(base, "ppl")):
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

    Other readings of a layer stand beside: `zero`, and the `first` token and the `others` alone.

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
        heading = f"{part}: {label(name)}; {baseline_words(cells)}"
        beside = {
            "zero": cells.of("zero") if name != "zero" else {},
            "first": cells.of(NEIGHBOUR_MEAN, "layer", "first"),
            "others": cells.of(NEIGHBOUR_MEAN, "layer", "others"),
        }
        for layer, row in cells.of(name, scope).items():
            own = {"heading": heading, **_verdict(row, looks)}
            for reading, found in beside.items():
                if layer in found:
                    own[reading] = found[layer].get("degradation_percent")
            if layer < len(paper) and math.isfinite(paper[layer]):
                own["paper"] = paper[layer]
            rows.append({**row, **own})
    return rows


def _verdict(row: Row, looks: MapLooks | None) -> Row:
    """The category of a layer in words and as a colour, its band, and what is written over it."""
    is_better = bool(looks) and row["layer"] in looks.anti_layers
    words = [category(row)]
    words += ["boundary"] if row.get("boundary") else []
    words += ["anti-layer"] if is_better else []
    found = {"kind": "better" if is_better else words[0] or None, "verdict": ", ".join(words)}
    if words[0] == "critical" and math.isfinite(value(row, "change")):
        found["written"] = f"{style.compact(value(row, 'change'))} %"
    if row.get("degradation_percent_without_first") is not None:
        found["without_first"] = row["degradation_percent_without_first"]
    if looks and row["layer"] in looks.band and looks.band[row["layer"]].ends:
        found["band"] = looks.band[row["layer"]].degradation_percent()
    return found


divergences = only(layers, lambda row: "kl" in row)


def edits(record: RunRecord, is_wanted: Callable[[str, str], bool], least: int = 1) -> list[Row]:
    """Some edits at all tokens, layer by layer.

    Args:
      record: The run.
      is_wanted: Says which, by intervention and scope.
      least: Texts with fewer of them are left out.
    """
    rows: list[Row] = []
    for cells in texts(record):
        keys = [key for key in cells.at_all_tokens if is_wanted(*key)]
        for key in keys if len(keys) >= least else ():
            rows += cells.of(*key).values()
    return rows


def controls(record: RunRecord, least: int = 2) -> list[Row]:
    """Every intervention on whole layers, of texts with at least so many."""
    return edits(record, lambda _, scope: scope == "layer", least)


def parts(record: RunRecord, intervention: str = NEIGHBOUR_MEAN, least: int = 1) -> list[Row]:
    """An intervention on each part of each layer, of texts with at least so many parts."""
    return edits(record, lambda name, scope: name == intervention and head_number(scope) < 0, least)


def heads(record: RunRecord, intervention: str = "zero") -> list[Row]:
    """An intervention on each query head of each layer."""
    return edits(record, lambda name, scope: name == intervention and head_number(scope) >= 0)


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
            found = {"first": first, "others": others, "everywhere": cells.of(name, part)}
            words = f"{'whole layers' if part == 'layer' else label(part)}: {label(name)}"
            for layer in sorted({*first, *others} if others else ()):
                row = {at: own[layer]["change"] for at, own in found.items() if layer in own}
                row |= {"panel": ", ".join(filter(None, [cells.panel, words])), "layer": layer}
                is_named = is_sink(value(row, "first"), value(row, "others"))
                rows.append(row | ({"written": str(layer)} if is_named else {}))
    return rows


def ratios(record: RunRecord) -> list[Row]:
    """Perplexity under each control over that under the neighbour mean, at inner layers.

    Of what is random the median draw's, with the mildest and the worst draw's as `draws`. The
    lowest and the highest are `written`. One more row for each control has the `median`.
    """
    rows = []
    for cells in texts(record):
        for name in cells.interventions:
            found = cells.ratios(name)
            order = sorted(found, key=found.get)
            for at, layer in enumerate(order):
                row = {"panel": cells.panel, "intervention": name, "layer": layer}
                row |= {"ratio": found[layer], "shift": _SPREAD[at % 5]}
                row["category"] = category(cells.inner[layer])
                row |= {"written": str(layer)} if layer in (order[0], order[-1]) else {}
                drawn = [each.get("ppl") for each in cells.drawn[name, "layer", "all"][layer]]
                drawn = [ppl / cells.inner[layer]["ppl"] for ppl in drawn if ppl]
                ends = (min(drawn), max(drawn)) if len(drawn) > 1 else None
                rows.append(row | {"draws": estimate(found[layer], ends)})
            if found:
                middle = statistics.median(found.values())
                worse = sum(ratio > 1 for ratio in found.values())
                words = f"worse in {worse} of {len(found)}; median ×{middle:,.2f}"
                own = {"panel": cells.panel, "intervention": name}
                rows.append(own | {"median": middle, "beside": words})
    return rows


def draws(record: RunRecord) -> list[Row]:
    """Controls of whole layers that are random, in three readings.

    `documents`: the median draw with its interval over documents; `range`: from the mildest to
    the worst draw; `both`: the mean over draws, with its interval over draws and documents.
    """
    rows = []
    for cells in texts(record):
        for name in cells.interventions if cells.baseline else ():
            drawn = cells.drawn[name, "layer", "all"]
            is_random = any(len(each) > 1 for each in drawn.values())
            for layer, median in cells.of(name).items() if is_random else ():
                found = draws_range(drawn[layer], cells.baseline)
                row = {"panel": ", ".join(filter(None, [cells.panel, label(name)]))}
                row |= {"layer": layer, "draws": len(drawn[layer]), "range": found}
                row["documents"] = estimate(finite(found.value), median.get("ci95"))
                rows.append(row | {"both": draws_degradation(drawn[layer], cells.baseline)})
    return rows


def _place(known: Sequence[str], name: str) -> int:
    return known.index(name) if name in known else len(known)

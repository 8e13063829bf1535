"""Tidy rows of a manipulation run: strategies on sets of layers, noise, attention."""

import itertools
import math
import re
from statistics import fmean
from typing import Any

import numpy as np

from jaxanatomy.interventions.sets import MAIN_SETS
from jaxanatomy.measures.importance import categorise
from jaxanatomy.measures.manipulation import ROUNDING_PERCENT
from jaxanatomy.measures.readings.attention import LOCAL
from jaxanatomy.measures.statistics.estimates import degradation_percent, paired_difference
from jaxanatomy.papers import find, is_near
from jaxanatomy.ranges import is_numbers
from jaxanatomy.records import RunRecord
from jaxanatomy.report.common import (
    estimate,
    grouped,
    in_panels,
    interval,
    median_range,
    once,
    published,
)
from jaxanatomy.report.views import Row, value

# In the order of tables and figures: what AH tested first.
STRATEGIES = {
    "scale": "scale",
    "scale_output": "scale outputs",
    "zero": "zero",
    "clone": "clone",
    "clone_high": "clone high",
    "clone_with_norms": "clone with norms",
    "blend_2": "blend of 2",
    "blend_4": "blend of 4",
    "low_rank": "low rank",
    "own_svd": "own SVD",
    "predicted": "predicted",
    "neighbour_mean": "neighbour mean",
    "perturb": "noise",
}
SCALES = ("scale", "scale_output")
NOISE = "perturb"
RANKS = ("full", "half")
FAMILIES = ("least", "layers", "even", "last", "random")
PAPER_ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # AH section 3.5
# AH Table 4 marks these rows "2 layers", and does not name the layers.
PAPER_PAIRS = {
    "zero": "skip_2_layers",
    "clone": "clone_2_layers",
    "clone_high": "clone_2_layers",
    "blend_2": "blend_2_layers",
    "blend_4": "blend_2_layers",
    "low_rank": "low_rank_blend_2_layers",
}
SHOWN_ALPHAS = (0.9, 0.5)  # of curves over many strategies: the paper's viable dose, and half


@once
def trials(record: RunRecord) -> list[Row]:
    """Every strategy on every set and text, with words for both, in the order of both."""
    rows = [row for row in record.rows if "variant" in row and not row.get("kind")]
    rows = [
        row | {"method": method_of(row), "shown": set_name(row["set"])}
        for row in in_panels(rows)
        if row.get("set")
    ]
    return sorted(rows, key=lambda row: (method_order(row), set_order(row["set"])))


def table4(record: RunRecord) -> dict[tuple[str, float | None], float]:
    """AH Table 4 by strategy and alpha, in percent of the baseline that it prints.

    The percentages that it prints belong to a second, lower baseline. Empty for another model.
    """
    ppl = published(record, "table4_ppl")
    names: dict[tuple, str] = {(strategy, None): name for strategy, name in PAPER_PAIRS.items()}
    names |= {("scale", alpha): f"scale_{alpha:.1f}" for alpha in PAPER_ALPHAS}
    return {
        key: 100 * (ppl[name] / ppl["baseline"] - 1) for key, name in names.items() if name in ppl
    }


def on_main_sets(record: RunRecord) -> list[Row]:
    """Trials on the sets that the tables show: the measured, the paper's, those named by layers."""
    shown = _main(record)
    return [row for row in trials(record) if row["set"] in shown]


def _main(record: RunRecord) -> set[str]:
    """Names of sets; the grid's many pairs have a figure of their own."""
    named = {row["set"] for row in trials(record) if row["strategy"] != NOISE}
    if named & {*MAIN_SETS} and not record.config.get("sets"):
        return {*MAIN_SETS}
    return {*MAIN_SETS, *filter(is_numbers, named)}


def chosen(record: RunRecord) -> list[Row]:
    """The trials of a run whose sets the user named."""
    return trials(record) if record.config.get("sets") else []


def survival(record: RunRecord) -> list[Row]:
    """A row for each strategy, with its change on each main set as `change.paper`, ...

    Of the factors those of the paper, where it has any. `kind.paper` is the category that holds
    the whole interval.
    """
    rows, paper = on_main_sets(record), table4(record)
    used = {(row["strategy"], row["alpha"]) for row in rows if row["strategy"] in SCALES}
    shared = {strategy for strategy, alpha in used if alpha in PAPER_ALPHAS}
    rows = [row for row in rows if row["strategy"] not in shared or row["alpha"] in PAPER_ALPHAS]
    found = []
    for (panel, method), own in grouped(rows, "panel", "method").items():
        wide: dict[str, Any] = {"panel": panel, "method": method}
        key = (own[0]["strategy"], own[0].get("alpha"))
        wide |= {"paper": paper[key]} if key in paper else {}
        for row in own:
            wide |= {f"change.{row['shown']}": row["change"], f"kind.{row['shown']}": _settled(row)}
        found.append(wide)
    return found


def sets(record: RunRecord) -> list[Row]:
    """The layers of the main sets, and the unedited model's perplexity."""
    rows = [row for row in record.rows if row.get("variant") == "baseline" and not row.get("kind")]
    found = [
        {"panel": row["panel"], "shown": "none: the unedited model", "layers": []}
        | {"number": 0, "ppl": row["ppl"]}
        for row in in_panels(rows)
    ]
    for (panel, shown), own in grouped(on_main_sets(record), "panel", "shown").items():
        layers = own[0]["layers"]
        found.append({"panel": panel, "shown": shown, "layers": layers, "number": len(layers)})
    return found


def doses(record: RunRecord) -> list[Row]:
    """Scaling on the main sets, and what AH prints; `taken` is 1 - alpha."""
    rows = [row for row in on_main_sets(record) if row["strategy"] in SCALES]
    paper = [
        {"panel": panel, "strategy": "AH", "shown": "AH Table 4", "alpha": alpha, "change": change}
        for panel in dict.fromkeys(row["panel"] for row in rows)
        for (strategy, alpha), change in table4(record).items()
        if strategy == "scale"
    ]
    return [row | {"taken": 1 - row["alpha"]} for row in rows + paper]


def outermost(record: RunRecord) -> list[Row]:
    """Scaling the paper's set with and without its outermost layers, a row for each factor."""
    rows = [row for row in trials(record) if row["strategy"] == "scale" and row["set"] in MAIN_SETS]
    found = []
    for (panel, alpha), trio in grouped(rows, "panel", "alpha").items():
        own = {row["set"]: row for row in trio}
        if {"paper", "paper_inner"} <= own.keys():
            outer, inner = own["paper"], own["paper_inner"]
            times = paired_difference(outer, inner).map(np.exp)
            row = {name: own[name]["ppl"] for name in own} | {"panel": panel, "alpha": alpha}
            found.append(row | {"times": times})
    return found


def grid(record: RunRecord) -> list[Row]:
    """Every strategy on the main sets and on the least important layers; gaps are rows, too."""
    shown = _main(record)
    rows = [row for row in trials(record) if row["set"] in shown or count_of(row, "least")]
    found = []
    for (panel,), own in grouped(rows, "panel").items():
        cells = {(row["method"], row["set"]): row for row in own}
        names = sorted({row["set"] for row in own}, key=set_order)
        for method, name in itertools.product(dict.fromkeys(row["method"] for row in own), names):
            gap = {"panel": panel, "method": method, "set": name, "shown": set_name(name)}
            found.append(cells.get((method, name), gap))
    return found


def pairs(record: RunRecord) -> list[Row]:
    """Two layers at once: `first` and `second`; `triangle` names strategy and text."""
    return [
        row
        | dict(zip(("first", "second"), sorted(row["layers"]), strict=True))
        | {"triangle": ", ".join(filter(None, (row["panel"], row["method"])))}
        for row in trials(record)
        if re.fullmatch(r"\d+,\d+", row["set"])
    ]


def pair_ranges(record: RunRecord) -> list[Row]:
    """Of each strategy on pairs: medians and ranges with and without an outermost layer.

    `near` counts the pairs within a factor of 10 of the perplexity that AH prints, `near_outer`
    those of them with an outermost layer.
    """
    layers = (find(record.provenance, "architecture") or {}).get("layers") or ()
    named = itertools.chain([0], *(row["layers"] for row in trials(record)))
    ends = {0, len(layers) - 1 if layers else max(named)}
    paper, rows = table4(record), []
    for own in grouped(pairs(record), "triangle").values():
        wide = {"panel": own[0]["panel"], "method": own[0]["method"], "pairs": len(own)}
        outer = [row for row in own if ends & {*row["layers"]}]
        inner = [row for row in own if not ends & {*row["layers"]}]
        for name, some in (("outer", outer), ("inner", inner)):
            if some:
                wide[name] = median_range([value(row, "change") for row in some])
        if printed := paper.get((own[0]["strategy"], None)):
            near = [is_near(value(row, "change"), printed) for row in outer + inner]
            wide |= {"paper": printed, "near": sum(near), "near_outer": sum(near[: len(outer)])}
        rows.append(wide)
    return rows


def by_count(record: RunRecord) -> list[Row]:
    """The k least important layers: few doses of each strategy, `dose` "first" or "second"."""
    rows = [row | {"count": count_of(row, "least")} for row in trials(record)]
    rows = [row for row in rows if row["count"] and row["strategy"] != NOISE]
    found = []
    for own in grouped(rows, "panel", "strategy").values():
        shown = [own[0]["method"]]
        if own[0]["strategy"] in SCALES:
            near = [min(own, key=lambda row: abs(row["alpha"] - at)) for at in SHOWN_ALPHAS]
            shown = [row["method"] for row in near]
        for row in own:
            if row["method"] in shown:
                found.append(row | {"dose": ("first", "second")[shown.index(row["method"])]})
    return found


def improvements(record: RunRecord) -> list[Row]:
    """Variants with a perplexity below the baseline's, with what calibration leaves of them.

    Noise is left out: half of any small changes are improvements.
    """
    known = {
        (each["text"], each["variant"]): each for each in record.summary.get("calibration", ())
    }
    found = []
    for row in trials(record):
        if row["strategy"] != NOISE and value(row, "change") < -ROUNDING_PERCENT:
            entry = known.get((row.get("text"), row["variant"]), {})
            own = {**entry, **row}
            if entry:
                is_left = entry.get("explained_by_calibration") is False
                own["kind_calibrated"] = "better" if is_left else ""
                left = entry["degradation_percent_calibrated"]
                own["calibrated"] = estimate(left, entry.get("ci95_calibrated"))
            found.append(own)
    return found


def noise(record: RunRecord) -> list[Row]:
    """Change with noise in `count` layers: each draw, their mean, and what adds up.

    Means are of losses in nats, written as percent; `what` is "draw", "mean" or "additive".
    Losses that add up: the mean rise by one layer, times the number of layers.
    """
    rows = []
    own_rows = [row for row in trials(record) if row["strategy"] == NOISE]
    for (panel, alpha), own in grouped(own_rows, "panel", "alpha").items():
        single = [_nats(row) for row in own if row["set"].isdecimal()]
        counts: dict[int, list[float]] = {}
        for row in own:
            if count := count_of(row, "random"):
                counts.setdefault(count, []).append(_nats(row))
        single = single or counts.get(1, [])
        one = fmean(single) if single else math.nan
        for count, values in sorted(counts.items()):
            named = {"panel": panel, "method": share(alpha), "count": count}
            means = (("mean", fmean(values)), ("additive", one * count))
            rows += [
                named | {"what": what, "noised": float(degradation_percent(nats))}
                for what, nats in (*(("draw", each) for each in values), *means)
                if math.isfinite(nats)
            ]
    return rows


def compounding(record: RunRecord) -> list[Row]:
    """Whether noise in all layers does more than in each alone, by the interval of their ratio."""
    rows = []
    for alpha, entry in (record.summary.get("compounding") or {}).items():
        row = {**entry, "method": share(alpha)}
        row["ratio"] = estimate(entry["ratio_all_to_sum"], entry["ratio_ci95"])
        row["exponent"] = estimate(entry["exponent"], entry["exponent_ci95"])
        found = interval(row, "ratio")
        row["verdict"] = "that they add up is not excluded"
        if found is None:
            row["verdict"] = f"cannot be told ({entry.get('ratio_reason') or 'not measured'})"
        elif found.low > 1:
            row["verdict"] = "errors compound"
        elif found.high < 1:
            row["verdict"] = "errors partly cancel"
        rows.append(row)
    return sorted(rows, key=lambda row: float(row["method"].split()[0]))


def attention(record: RunRecord) -> list[Row]:
    """How far attention moves at each layer whose stream is unedited, mean over seeds."""
    rows = [row for row in record.rows if row.get("kind") == "attention"]
    rows = [row for row in rows if row["spread"] == LOCAL]
    several = len(grouped(rows, "model", "text")) > 1
    found = []
    keys = ("model", "text", "component", "alpha", "layer")
    for (model, text, component, alpha, layer), own in grouped(rows, *keys).items():
        names = (model, text, component) if several else (component,)
        panel = ", ".join(str(name) for name in names if name)
        row = {"panel": panel, "layer": layer, "noise": share(alpha), "full": alpha is None}
        fields = ("total_variation", "argmax_changed")
        found.append(row | {name: fmean(each[name] for each in own) for name in fields})
    return found


def attention_means(record: RunRecord) -> list[Row]:
    """The same, mean over layers, and with the change in all layers below; in percent."""
    return [
        {"component": component, "noise": share(alpha)}
        | {name: 100 * share_of for name, share_of in entry.items()}
        for component, entries in (record.summary.get("attention") or {}).items()
        for alpha, entry in entries.items()
    ]


def _settled(row: Row) -> str:
    """The category that holds the whole interval, "better" below 0; "" where there is none."""
    found = interval(row, "change")
    if found is None:
        return ""
    low, high = categorise(found.low), categorise(found.high)
    return "better" if found.high < 0 else low if low == high else ""


def _nats(row: Row) -> float:
    """The inverse of `measures.statistics.estimates.degradation_percent`."""
    return math.log1p(value(row, "change") / 100)


def dose_of(row: Row) -> float | str | None:
    """A row's alpha, else its rank, else None."""
    return row.get("rank") if row.get("alpha") is None else row["alpha"]


def method_of(row: Row) -> str:
    """A strategy with its dose: "scale × 0.9", "low rank, half rank"."""
    strategy, dose = row["strategy"], dose_of(row)
    words = STRATEGIES.get(strategy, strategy.replace("_", " "))
    if dose is None:
        return words
    if strategy == NOISE:
        return f"{words} of {share(dose)}"
    if strategy in SCALES:
        return f"{words} × {dose:g}"
    return f"{words}, {dose} rank" if dose in RANKS else f"{words}, rank {dose:g}"


def method_order(row: Row) -> tuple:
    """Known strategies first, mild doses before strong ones."""
    strategy, dose = row["strategy"], dose_of(row)
    place = [*STRATEGIES, strategy].index(strategy)
    if dose in RANKS:
        return place, strategy, RANKS.index(dose), 0.0
    return place, strategy, len(RANKS), -float(dose or 0.0)


def set_order(name: str) -> tuple:
    """The main sets first, then the families of sets, each by its numbers."""
    if name in MAIN_SETS:
        return 0, MAIN_SETS.index(name), ()
    family = "layers" if is_numbers(name) else name.split("_")[0]
    return 1, [*FAMILIES, family].index(family), tuple(map(int, re.findall(r"\d+", name)))


def set_name(name: str) -> str:
    """A set as tables have it: "paper, inner", "least 4", "layer 2", "2, 7"."""
    if name == "paper_inner":
        return "paper, inner"
    if name.isdecimal():
        return f"layer {name}"
    return name.replace(",", ", ").replace("_", " ")


def count_of(row: Row, family: str) -> int | None:
    """4 for the set "least_4" of the family "least"; None for other sets."""
    match = re.fullmatch(rf"{family}_(\d+)(_s\d+)?", row["set"])
    return int(match[1]) if match else None


def share(alpha: float | str | None) -> str:
    """A size of noise: "1 %"."""
    is_full = alpha in (None, "matched_noise")
    return "matched noise" if is_full else f"{100 * float(alpha):g} %"

"""Tidy rows of a manipulation run: strategies on sets of layers, noise, attention."""

import itertools
import math
import re
from collections.abc import Iterable
from statistics import fmean, median
from typing import Any

import numpy as np

from jaxanatomy.interventions.sets import MAIN_SETS
from jaxanatomy.measures.attention import LOCAL
from jaxanatomy.measures.importance import categorise
from jaxanatomy.measures.manipulation import ROUNDING_PERCENT, VIABLE_PERCENT
from jaxanatomy.measures.statistics import degradation_percent, paired_difference
from jaxanatomy.papers import find, is_near, paper_table, table1_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report.common import in_panels, with_ends
from jaxanatomy.report.manipulation_names import (
    NOISE,
    SCALES,
    column_of,
    count_of,
    is_main,
    method_of,
    method_order,
    set_order,
    share,
)
from jaxanatomy.report.views import Row

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
STRONG_DOSE = 0.7  # factors up to which scaling is no small change


def trials(record: RunRecord) -> list[Row]:
    """Every strategy on every set and text, with words for both, in the order of both."""
    rows = [row for row in record.rows if "variant" in row and not row.get("kind")]
    rows = [
        with_ends(row)
        | {"method": method_of(row), "shown": column_of(row["set"]).replace("\n", " ")}
        for row in in_panels(rows)
        if row.get("set")
    ]
    return sorted(rows, key=lambda row: (method_order(row), set_order(row["set"])))


def published(record: RunRecord) -> dict[tuple[str, float | None], float]:
    """AH Table 4 by strategy and alpha, in percent of the baseline that it prints.

    The percentages that it prints belong to a second, lower baseline. Empty for another model.
    """
    made = {"config": record.config, "provenance": record.provenance}
    ppl = paper_table("table4_ppl") if table1_of(made) else {}
    names: dict[tuple, str] = {(strategy, None): name for strategy, name in PAPER_PAIRS.items()}
    names |= {("scale", alpha): f"scale_{alpha:.1f}" for alpha in PAPER_ALPHAS}
    return {
        key: 100 * (ppl[name] / ppl["baseline"] - 1) for key, name in names.items() if name in ppl
    }


def on_main_sets(record: RunRecord) -> list[Row]:
    """Trials on the sets that the tables show: the measured, the paper's, those named by layers."""
    return [row for row in trials(record) if is_main(row)]


def chosen(record: RunRecord) -> list[Row]:
    """The trials of a run whose sets the user named."""
    return trials(record) if record.config.get("sets") else []


def survival(record: RunRecord) -> list[Row]:
    """A row for each strategy, with its change on each main set: `change.paper`, `low.paper`, ...

    Of the factors those of the paper, where it has any. `kind.paper` is the category that holds
    the whole interval.
    """
    rows, paper = on_main_sets(record), published(record)
    used = {(row["strategy"], row["alpha"]) for row in rows if row["strategy"] in SCALES}
    shared = {strategy for strategy, alpha in used if alpha in PAPER_ALPHAS}
    found: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        if row["strategy"] in shared and row["alpha"] not in PAPER_ALPHAS:
            continue
        own = {name: row[name] for name in ("panel", "method", "strategy")}
        wide = found.setdefault((row["panel"], row["method"]), own)
        key = (row["strategy"], row.get("alpha"))
        wide |= {"paper": paper[key]} if key in paper else {}
        wide |= {f"change.{row['shown']}": row["degradation_percent"]}
        wide |= {f"kind.{row['shown']}": _settled(row)}
        wide |= {f"{end}.{row['shown']}": row[end] for end in ("low", "high") if end in row}
    return list(found.values())


def sets(record: RunRecord) -> list[Row]:
    """The layers of the main sets, and the unedited model's perplexity."""
    rows = [row for row in record.rows if row.get("variant") == "baseline" and not row.get("kind")]
    rows = in_panels([*rows, *on_main_sets(record)])
    found: dict[tuple, Row] = {}
    for row in rows:
        shown = row.get("shown") or "none: the unedited model"
        own = {"panel": row["panel"], "shown": shown, "layers": row.get("layers") or []}
        own |= {} if row.get("set") else {"ppl": row["ppl"]}
        found.setdefault((row["panel"], shown), own | {"number": len(own["layers"])})
    return sorted(found.values(), key=lambda row: "ppl" not in row)


def doses(record: RunRecord) -> list[Row]:
    """Scaling on the main sets, and what AH prints; `taken` is 1 - alpha."""
    rows = [row for row in on_main_sets(record) if row["strategy"] in SCALES]
    paper = [
        {"panel": panel, "strategy": "AH", "shown": "AH Table 4", "alpha": alpha}
        | {"degradation_percent": value}
        for panel in dict.fromkeys(row["panel"] for row in rows)
        for (strategy, alpha), value in published(record).items()
        if strategy == "scale"
    ]
    return [row | {"taken": 1 - row["alpha"]} for row in rows + paper]


def outermost(record: RunRecord) -> list[Row]:
    """Scaling the paper's set with and without its outermost layers, a row for each factor."""
    found: dict[tuple, dict[str, Row]] = {}
    for row in trials(record):
        if row["strategy"] == "scale" and row["set"] in MAIN_SETS:
            found.setdefault((row["panel"], row["alpha"]), {})[row["set"]] = row
    rows = []
    for (panel, alpha), own in found.items():
        if {"paper", "paper_inner"} <= own.keys():
            outer, inner = own["paper"], own["paper_inner"]
            times = paired_difference(outer, inner).map(np.exp)
            row = {name: own[name]["ppl"] for name in own} | {"panel": panel, "alpha": alpha}
            row |= {"left": [each for each in outer["layers"] if each not in inner["layers"]]}
            row |= {"times": times.value if math.isfinite(times.value) else None}
            row = with_ends(row | {"ci95": times.ends})
            lost = outer["ppl"] is None and inner["ppl"] is not None
            rows.append(row | {"worse": lost or times.low > 1})
    return rows


def grid(record: RunRecord) -> list[Row]:
    """Every strategy on the main sets and on the least important layers; gaps are rows, too."""
    rows = [row for row in trials(record) if is_main(row) or count_of(row, "least")]
    found = []
    for (panel,), own in _grouped(rows, "panel").items():
        cells = {(row["method"], row["set"]): row for row in own}
        names = sorted({row["set"] for row in own}, key=set_order)
        for method, name in itertools.product(dict.fromkeys(row["method"] for row in own), names):
            cell = cells.get((method, name), {"panel": panel, "method": method, "set": name})
            found.append(cell | {"column": column_of(name)})
    return found


def pairs(record: RunRecord) -> list[Row]:
    """Two layers at once: `first` and `second`; `triangle` names strategy and text."""
    return [
        row
        | dict(zip(("first", "second"), sorted(row["layers"]), strict=True))
        | {"triangle": ", ".join(filter(None, (row["panel"], row["method"])))}
        for row in trials(record)
        if re.fullmatch(r"pair_\d+_\d+", row["set"])
    ]


def pair_ranges(record: RunRecord) -> list[Row]:
    """Of each strategy on pairs: medians and ranges with and without an outermost layer.

    `near` counts the pairs within a factor of 10 of the perplexity that AH prints, `near_outer`
    those of them with an outermost layer.
    """
    layers = (find(record.provenance, "architecture") or {}).get("layers") or ()
    named = itertools.chain([0], *(row["layers"] for row in trials(record)))
    ends = {0, len(layers) - 1 if layers else max(named)}
    paper, rows = published(record), []
    for own in _grouped(pairs(record), "triangle").values():
        wide = {"panel": own[0]["panel"], "method": own[0]["method"], "pairs": len(own)}
        outer = [row for row in own if ends & {*row["layers"]}]
        inner = [row for row in own if not ends & {*row["layers"]}]
        wide |= _range(outer, "outer") | _range(inner, "inner")
        if printed := paper.get((own[0]["strategy"], None)):
            near = [is_near(_number(row["degradation_percent"]), printed) for row in outer + inner]
            wide |= {"paper": printed, "near": sum(near), "near_outer": sum(near[: len(outer)])}
        rows.append(wide)
    return rows


def by_count(record: RunRecord) -> list[Row]:
    """The k least important layers: few doses of each strategy, `dose` "first" or "second"."""
    rows = [row | {"count": count_of(row, "least")} for row in trials(record)]
    rows = [row for row in rows if row["count"] and row["strategy"] != NOISE]
    found = []
    for own in _grouped(rows, "panel", "strategy").values():
        shown = list(dict.fromkeys(row["method"] for row in own))[:1]
        if own[0]["strategy"] in SCALES:
            near = [min(own, key=lambda row: abs(row["alpha"] - at)) for at in SHOWN_ALPHAS]
            shown = [row["method"] for row in near]
        for row in own:
            if row["method"] in shown:
                found.append(row | {"dose": ("first", "second")[shown.index(row["method"])]})
    return found


def bearable(record: RunRecord) -> list[Row]:
    """How many of the least important layers can be changed before the perplexity doubles."""
    rows = []
    for own in _grouped(by_count(record), "panel", "method").values():
        changes = {row["count"]: _number(row["degradation_percent"]) for row in own}
        lost = min((k for k in changes if not changes[k] < VIABLE_PERCENT), default=math.inf)
        row = {"panel": own[0]["panel"], "method": own[0]["method"], "most": max(changes)}
        rows.append(row | {"kept": max((k for k in changes if k < lost), default=0)})
    return rows


def improvements(record: RunRecord) -> list[Row]:
    """Variants with a perplexity below the baseline's, with what calibration leaves of them.

    Noise is left out: half of any small changes are improvements.
    """
    known = {
        (each["text"], each["variant"]): each for each in record.summary.get("calibration", ())
    }
    found = []
    for row in trials(record):
        if row["strategy"] != NOISE and _number(row["degradation_percent"]) < -ROUNDING_PERCENT:
            entry = known.get((row.get("text"), row["variant"]), {})
            own = with_ends(entry, "ci95_calibrated", ("low_calibrated", "high_calibrated"))
            own = {**own, **row, "settled": "high" in row and row["high"] < 0}
            if entry:
                explained = entry.get("explained_by_calibration")
                own |= {"kind_calibrated": "better" if explained is False else ""}
            found.append(own)
    return found


def noise(record: RunRecord) -> list[Row]:
    """Change with noise in `count` layers: each draw, their mean, and what adds up.

    Means are of losses in nats, written as percent; `what` is "draw", "mean" or "additive".
    Losses that add up: the mean rise by one layer, times the number of layers.
    """
    rows = []
    own_rows = [row for row in trials(record) if row["strategy"] == NOISE]
    for (panel, alpha), own in _grouped(own_rows, "panel", "alpha").items():
        single = [_nats(row) for row in own if row["set"].startswith("layer_")]
        counts: dict[int, list[float]] = {}
        for row in own:
            if count := count_of(row, "random"):
                counts.setdefault(count, []).append(_nats(row))
        single = single or counts.get(1, [])
        one = fmean(single) if single else math.nan
        for count, values in sorted(counts.items()):
            named = {"panel": panel, "alpha": alpha, "method": share(alpha), "count": count}
            means = {"mean": fmean(values), "additive": one * count}
            shown = [("draw", each) for each in values] + list(means.items())
            rows += [
                named | {"what": what, "change": float(degradation_percent(nats))}
                for what, nats in shown
                if math.isfinite(nats)
            ]
    return rows


def noise_means(record: RunRecord) -> list[Row]:
    """The means of `noise`, a row for each number of layers."""
    found: dict[tuple, Row] = {}
    for row in noise(record):
        if row["what"] != "draw":
            named = {name: row[name] for name in ("panel", "method", "count")}
            found.setdefault(tuple(named.values()), named)[row["what"]] = row["change"]
    return list(found.values())


def compounding(record: RunRecord) -> list[Row]:
    """Whether noise in all layers does more than in each alone, by the interval of their ratio."""
    rows = []
    for alpha, entry in (record.summary.get("compounding") or {}).items():
        row = with_ends(entry, "ratio_ci95", ("ratio_low", "ratio_high"))
        row = with_ends(row, "exponent_ci95", ("exponent_low", "exponent_high"))
        verdict = "that they add up is not excluded"
        if "ratio_low" not in row:
            verdict = f"cannot be told ({entry.get('ratio_reason') or 'not measured'})"
        elif row["ratio_low"] > 1:
            verdict = "errors compound"
        elif row["ratio_high"] < 1:
            verdict = "errors partly cancel"
        rows.append({**row, "method": share(alpha), "null": 1.0, "verdict": verdict})
    return sorted(rows, key=lambda row: float(row["method"].split()[0]))


def attention(record: RunRecord) -> list[Row]:
    """How far attention moves at each layer whose stream is unedited, mean over seeds."""
    rows = [row for row in record.rows if row.get("kind") == "attention"]
    rows = [row for row in rows if row["spread"] == LOCAL]
    several = len(_grouped(rows, "model", "text")) > 1
    found = []
    keys = ("model", "text", "component", "alpha", "layer")
    for (model, text, component, alpha, layer), own in _grouped(rows, *keys).items():
        names = (model, text, component) if several else (component,)
        panel = ", ".join(str(name) for name in names if name)
        row = {"panel": panel, "layer": layer, "noise": share(alpha), "full": alpha is None}
        fields = ("total_variation", "argmax_changed")
        found.append(row | {name: fmean(each[name] for each in own) for name in fields})
    return sorted(found, key=lambda row: row["layer"])


def attention_means(record: RunRecord) -> list[Row]:
    """The same, mean over layers, and with the change in all layers below; in percent."""
    return [
        {"component": component, "noise": share(alpha)}
        | {name: 100 * value for name, value in entry.items()}
        for component, entries in (record.summary.get("attention") or {}).items()
        for alpha, entry in entries.items()
    ]


def _settled(row: Row) -> str:
    """The category that holds the whole interval, "better" below 0; "" where there is none."""
    if "low" not in row:
        return ""
    low, high = categorise(row["low"]), categorise(row["high"])
    return "better" if row["high"] < 0 else low if low == high else ""


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _nats(row: Row) -> float:
    """The inverse of `measures.statistics.degradation_percent`."""
    return math.log1p(_number(row["degradation_percent"]) / 100)


def _range(rows: list[Row], name: str) -> Row:
    """Median, least and most of the changes, null where they are not finite."""
    values = [_number(row["degradation_percent"]) for row in rows]
    found = {"": median(values), "_low": min(values), "_high": max(values)} if values else {}
    return {name + end: each if math.isfinite(each) else None for end, each in found.items()}


def _grouped(rows: Iterable[Row], *fields: str) -> dict[tuple, list[Row]]:
    """Rows by the values of some fields, in their order."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(field) for field in fields), []).append(row)
    return found

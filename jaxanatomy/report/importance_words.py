"""What an importance run says, in words: the findings at a glance, and headlines."""

import math
import statistics
from collections.abc import Iterable

from jaxanatomy.measures.importance import CATEGORIES
from jaxanatomy.measures.statistics import degradation_percent, paired_difference
from jaxanatomy.records import RunRecord
from jaxanatomy.report import importance_rows as tidy
from jaxanatomy.report.common import with_ends
from jaxanatomy.report.importance_rows import CHANGE, NEIGHBOUR_MEAN, Cells, category, number, texts
from jaxanatomy.report.views import Row
from jaxanatomy.words import label, percent, plain

RANGES = {
    "redundant": "redundant (below 10 %)",
    "minor": "minor (10 to 30 %)",
    "important": "important (30 to 100 %)",
    "critical": "critical (100 % and above)",
    "better": "anti-layer (all layers at once: below 0)",
}


def signed(value: float | None) -> str:
    """A change in percent, of columns whose heads have the unit."""
    return percent(value).removesuffix(" %")


def glance(record: RunRecord) -> list[Row]:
    """A line for each finding, the words of each text as `words.NAME` where its rows allow it."""
    rows: dict[str, dict[str, str]] = {}
    for cells in texts(record):
        found = {"baseline": tidy.baseline_words(cells)}
        for name in reversed(CATEGORIES):
            own = [row for row in cells.inner.values() if category(row) == name]
            open_ = [row["layer"] for row in own if not tidy.is_settled(row)]
            words = f"; not settled: {_list(open_)}" if open_ else ""
            found[RANGES[name]] = _list(row["layer"] for row in own) + words
        boundary = cells.of(cells.main).keys() - cells.inner.keys()
        found["boundary layers, whose one neighbour was copied"] = boundary and _list(boundary)
        found |= _looked_at_whole(cells)
        ends = [with_ends(row) for row in cells.inner.values()]
        undecided = [
            row["layer"] for row in ends if "low" in row and row["low"] <= 0 <= row["high"]
        ]
        if any("low" in row for row in ends):
            found["cannot be told from no effect (own interval holds 0)"] = _list(undecided)
        found["milder than the neighbour mean (point estimates)"] = _milder(cells)
        if (NEIGHBOUR_MEAN, "layer", "first") in cells.drawn:
            found[
                "act through the first token (critical there, 3 times what they are elsewhere)"
            ] = _sinks(cells) or "none"
        found["rank correlation with AH Table 1"] = _correlation(cells, record)
        for name, words in found.items():
            own = rows.setdefault(name, {"finding": name})
            own |= {f"words.{cells.panel or 'text'}": words} if words else {}
    return [row for row in rows.values() if len(row) > 1]


def _looked_at_whole(cells: Cells) -> dict[str, str]:
    looks = cells.looks
    if looks is None:
        return {}
    found = {
        "may be the most important": _list(looks.most),
        "may be the least important": _list(looks.least),
        "better without it (band of all layers below 0)": _list(looks.anti_layers),
    }
    least = looks.smallest_effect
    if least:
        one, picked = map(degradation_percent, (least.pointwise, least.simultaneous))
        count = f"{plain(looks.chance_better, 1)} of {len(looks.band)} layers"
        found["as many better by chance, by their own intervals"] = count
        found["smallest effect that this text can show"] = (
            f"{plain(one, 1)} % ({plain(least.pointwise, 3)} nats) for a layer named beforehand, "
            f"{plain(picked, 1)} % ({plain(least.simultaneous, 3)}) for one picked from the map; "
            f"{looks.units} documents"
        )
    return found


def _milder(cells: Cells) -> str:
    words = []
    for name in cells.interventions if cells.main == NEIGHBOUR_MEAN else ():
        found = tidy.control_ratios(cells, name) if name != NEIGHBOUR_MEAN else {}
        if found:
            milder = sum(ratio < 1 for ratio in found.values())
            words.append(f"{label(name)} {milder} of {len(found)}")
    return "; ".join(words)


def _sinks(cells: Cells) -> str:
    return "; ".join(
        f"layer {layer}: {percent(first)} there alone, {percent(others)} elsewhere"
        for layer, (first, others) in cells.sinks.items()
    )


def _correlation(cells: Cells, record: RunRecord) -> str:
    part = (record.summary.get("texts") or {}).get(cells.panel) or {}
    found = part.get("rank_correlation") or {}
    if found.get("value") is None:
        return ""
    words = plain(found["value"])
    if found.get("ci95"):
        words += " (95 % interval {} to {})".format(*map(plain, found["ci95"]))
    return f"{words}, {found['layers']} layers"


def extremes(record: RunRecord) -> str:
    """The largest and the smallest effect, on the text with the most tokens."""
    found = texts(record)
    longest = max(found, key=lambda cells: (cells.baseline or {}).get("tokens") or 0, default=None)
    if longest is None or not longest.inner:
        return ""
    rows = sorted(longest.inner.values(), key=number)
    words = f"{_extreme(longest, rows[-1], 'most')} {_extreme(longest, rows[0], 'least')}"
    return f"On {longest.panel}: {words}" if longest.panel else words


def _extreme(cells: Cells, row: Row, which: str) -> str:
    """A layer is said to matter most or least only if it is told apart from all others."""
    may = getattr(cells.looks, which, ())
    if len(may) == 1:
        return f"Layer {row['layer']} matters {which} ({_effect(row)}), told apart from all others."
    rest = [layer for layer in may if layer != row["layer"]]
    words = f"it is not told apart from {_list(rest)}" if rest else "no layer is told apart"
    size = "largest" if which == "most" else "smallest"
    return f"Layer {row['layer']} has the {size} effect ({_effect(row)}); {words}."


def _effect(row: Row) -> str:
    if math.isinf(number(row)):
        return "its perplexity is not finite"
    row, words = with_ends(row), f"{percent(row[CHANGE])} perplexity"
    if "low" not in row:
        return words
    return f"{words}, 95 % interval {signed(row['low'])} to {percent(row['high'])}"


def settled(record: RunRecord) -> str:
    """Of how many layers the category is settled."""
    parts = []
    for cells in texts(record):
        own = sum(map(tidy.is_settled, cells.inner.values()))
        words = f"{own} of {len(cells.inner)} layers" + (
            f" on {cells.panel}" if cells.panel else ""
        )
        words += " by their own intervals"
        if cells.looks:
            words += f", {len(cells.looks.settled)} by those that hold at once"
        parts.append(words)
    return f"The category is settled for {' and '.join(parts)}." if parts else ""


def skipped(record: RunRecord) -> str:
    """How skipping a layer compares with its neighbour mean, by paired intervals."""
    parts = []
    for cells in texts(record):
        found = tidy.control_ratios(cells, "zero") if cells.main == NEIGHBOUR_MEAN else {}
        if found:
            milder = [layer for layer, ratio in found.items() if ratio < 1]
            zero = cells.of("zero")
            apart = sum(
                paired_difference(zero[layer], cells.inner[layer]).high < 0 for layer in milder
            )
            on = f"On {cells.panel} skipping" if cells.panel else "Skipping"
            parts.append(
                f"{on} the layer altogether gives a lower perplexity than its neighbour mean in "
                f"{len(milder)} of {len(found)} layers (median ratio "
                f"×{plain(statistics.median(found.values()))}); in {apart} of them the 95 % "
                "interval of the difference over documents lies below 0, each by itself."
            )
    return " ".join(parts)


def at_first_token(record: RunRecord) -> str:
    """The layers that act through the first token."""
    parts = [
        f"{cells.panel}: {_list(cells.sinks)}" if cells.panel else _list(cells.sinks)
        for cells in texts(record)
        if cells.sinks
    ]
    return f"Acting mainly through the first token: {'; '.join(parts)}." if parts else ""


def undecided_heads(record: RunRecord) -> str:
    """How many heads cannot be told from no effect."""
    rows = [row for row in map(with_ends, tidy.heads(record)) if "low" in row]
    held = sum(row["low"] <= 0 <= row["high"] for row in rows)
    return f"The 95 % interval holds 0 for {held} of {len(rows)} heads." if rows else ""


def lead(record: RunRecord) -> str:
    """How much was measured."""
    found = texts(record)
    names = " and ".join(cells.panel for cells in found if cells.panel)
    count = len({layer for cells in found for own in cells.drawn.values() for layer in own})
    on = f", on {names}" if names else ""
    return f"{len(record.rows):,} measurements on {count} layers{on}."


def _list(layers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(layers))) or "none"

"""What an importance run says, in words: the findings at a glance, and headlines."""

import math
import statistics
from collections.abc import Iterator

from jaxanatomy.measures.importance import CATEGORIES
from jaxanatomy.measures.statistics.estimates import (
    BLOCK_TOKENS,
    MIN_DOCUMENTS,
    degradation_percent,
    paired_difference,
)
from jaxanatomy.measures.statistics.many_looks import MapLooks
from jaxanatomy.records import RunRecord
from jaxanatomy.report.common import interval
from jaxanatomy.report.importance_rows import (
    NEIGHBOUR_MEAN,
    Cells,
    baseline_words,
    category,
    heads,
    is_settled,
    texts,
)
from jaxanatomy.report.views import Row, value
from jaxanatomy.words import listed, percent, plain, signed

RANGES = {
    "redundant": "redundant (below 10 %)",
    "minor": "minor (10 to 30 %)",
    "important": "important (30 to 100 %)",
    "critical": "critical (100 % and above)",
    "better": "anti-layer (all layers at once: below 0)",
}


def glance(record: RunRecord) -> list[Row]:
    """A line for each finding, the words of each text as `words.NAME` where its rows allow it."""
    rows: dict[str, dict[str, str]] = {}
    for cells in texts(record):
        correlation = _correlation(cells, record)
        for finding, words in (*_findings(cells), *_looked_at_whole(cells.looks), *correlation):
            own = rows.setdefault(finding, {"finding": finding})
            own[f"words.{cells.panel or 'text'}"] = words
    return list(rows.values())


def _findings(cells: Cells) -> Iterator[tuple[str, str]]:
    yield "baseline", baseline_words(cells)
    for name in reversed(CATEGORIES):
        own = [row for row in cells.inner.values() if category(row) == name]
        unsettled = [row["layer"] for row in own if not is_settled(row)]
        words = f"; not settled: {listed(unsettled)}" if unsettled else ""
        yield RANGES[name], listed(row["layer"] for row in own) + words
    boundary = sorted(cells.of(cells.main).keys() - cells.inner.keys())
    if boundary:
        yield "boundary layers, whose one neighbour was copied", listed(boundary)
    found = {layer: interval(row, "change") for layer, row in cells.inner.items()}
    undecided = [layer for layer, each in found.items() if each and each.low <= 0 <= each.high]
    if any(found.values()):
        yield "cannot be told from no effect (own interval holds 0)", listed(undecided)
    if (NEIGHBOUR_MEAN, "layer", "first") in cells.drawn:
        words = "; ".join(
            f"layer {layer}: {percent(first)} there alone, {percent(others)} elsewhere"
            for layer, (first, others) in cells.sinks.items()
        )
        title = "act through the first token (critical there, 3 times what they are elsewhere)"
        yield title, words or "none"


def _looked_at_whole(looks: MapLooks | None) -> Iterator[tuple[str, str]]:
    if looks is None:
        return
    yield "settled by intervals that hold for all layers at once", listed(looks.settled)
    yield "may be the most important", listed(looks.most)
    yield "may be the least important", listed(looks.least)
    yield "better without it (band of all layers below 0)", listed(looks.anti_layers)
    least = looks.smallest_effect
    if least:
        one, picked = map(degradation_percent, (least.pointwise, least.simultaneous))
        count = f"{plain(looks.chance_better, 1)} of {len(looks.band)} layers"
        yield "as many better by chance, by their own intervals", count
        yield (
            "smallest effect that this text can show",
            f"{plain(one, 1)} % ({plain(least.pointwise, 3)} nats) for a layer named beforehand, "
            f"{plain(picked, 1)} % ({plain(least.simultaneous, 3)}) for one picked from the map; "
            f"{looks.units} documents (blocks of {BLOCK_TOKENS} tokens if fewer than "
            f"{MIN_DOCUMENTS})",
        )


def _correlation(cells: Cells, record: RunRecord) -> Iterator[tuple[str, str]]:
    part = (record.summary.get("texts") or {}).get(cells.panel) or {}
    found = part.get("rank_correlation") or {}
    if found.get("value") is not None:
        words = plain(found["value"])
        if found.get("ci95"):
            words += " (95 % interval {} to {})".format(*map(plain, found["ci95"]))
        yield "rank correlation with AH Table 1", f"{words}, {found['layers']} layers"


def extremes(record: RunRecord) -> str:
    """The largest and the smallest effect, on the text with the most tokens."""
    longest = max(texts(record), key=lambda cells: cells.baseline.get("tokens") or 0, default=None)
    if longest is None or not longest.inner:
        return ""
    rows = sorted(longest.inner.values(), key=lambda row: value(row, "change"))
    words = f"{_extreme(longest, rows[-1], 'most')} {_extreme(longest, rows[0], 'least')}"
    return f"On {longest.panel}: {words}" if longest.panel else words


def _extreme(cells: Cells, row: Row, which: str) -> str:
    """A layer is said to matter most or least only if it is told apart from all others."""
    found, change = interval(row, "change"), value(row, "change")
    effect = f"{percent(change)} perplexity"
    if math.isinf(change):
        effect = "its perplexity is not finite"
    elif found:
        effect += f", 95 % interval {signed(found.low)} to {percent(found.high)}"
    may = getattr(cells.looks, which, ())
    if len(may) == 1:
        return f"Layer {row['layer']} matters {which} ({effect}), told apart from all others."
    rest = [layer for layer in may if layer != row["layer"]]
    words = f"it is not told apart from {listed(rest)}" if rest else "no layer is told apart"
    size = "largest" if which == "most" else "smallest"
    return f"Layer {row['layer']} has the {size} effect ({effect}); {words}."


def skipped(record: RunRecord) -> str:
    """How skipping a layer compares with its neighbour mean, by paired intervals."""
    parts = []
    for cells in texts(record):
        found, zero = cells.ratios("zero"), cells.of("zero")
        milder = [layer for layer, ratio in found.items() if ratio < 1]
        apart = sum(paired_difference(zero[layer], cells.inner[layer]).high < 0 for layer in milder)
        if found:
            on = f"On {cells.panel} skipping" if cells.panel else "Skipping"
            parts.append(
                f"{on} the layer altogether gives a lower perplexity than its neighbour mean in "
                f"{len(milder)} of {len(found)} layers (median ratio "
                f"×{plain(statistics.median(found.values()))}); in {apart} of them the 95 % "
                "interval of the difference over documents lies below 0, each by itself."
            )
    return " ".join(parts)


def undecided_heads(record: RunRecord) -> str:
    """How many heads cannot be told from no effect."""
    found = list(filter(None, (interval(row, "change") for row in heads(record))))
    held = sum(each.low <= 0 <= each.high for each in found)
    return f"The 95 % interval holds 0 for {held} of {len(found)} heads." if found else ""


def lead(record: RunRecord) -> str:
    """How much was measured."""
    found = texts(record)
    names = " and ".join(cells.panel for cells in found if cells.panel)
    count = len({layer for cells in found for own in cells.drawn.values() for layer in own})
    on = f", on {names}" if names else ""
    return f"{len(record.rows):,} measurements on {count} layers{on}."

"""AH sections 4.1 and 5: what the importance map says about each layer."""

import functools
import math
from collections.abc import Callable, Sequence

from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.measures.statistics import spearman, spearman_interval
from jaxanatomy.papers import paper_table, table1
from jaxanatomy.report.cells import NEIGHBOUR_MEAN, Row, interval, number
from jaxanatomy.report.claims.claim import (
    Answer,
    Claim,
    Finding,
    beyond,
    effect,
    every,
    harms_more,
    mean_nll,
    most,
    negated,
    padded,
    percent,
    reaches,
)
from jaxanatomy.report.claims.maps import LayerMap, extremes, per_map, skipped_span, span

REDUNDANT, CRITICAL = THRESHOLDS_PERCENT[0], THRESHOLDS_PERCENT[-1]
RADICAL = CRITICAL / REDUNDANT  # a radical difference: what is between the categories
RANK_AGREEMENT = 0.5  # least Spearman correlation of two rankings that agree
_PAPER = paper_table("table1")
_RANGE = _PAPER["range_factor"]
_PRINTED = _PAPER["degradation_percent"]


def _ratio(least: Row, top: Row) -> tuple[float, float] | None:
    """Bounds of the ratio of two degradations, whatever values in their intervals they have."""
    if math.isinf(number(top, "degradation_percent")):
        return None if math.isinf(number(least, "degradation_percent")) else (math.inf, math.inf)
    ends = interval(least), interval(top)
    if None in ends:
        return None
    (low, high), (top_low, top_high) = ends
    if top_low <= 0:
        return None
    return top_low / high if high > 0 else math.inf, top_high / low if low > 0 else math.inf


def _spread(layers: LayerMap, factor: float) -> Finding | None:
    """Whether the most damaging inner layer does so many times what the least damaging does."""
    inner, absent = layers.rows(), layers.absent()
    ends = extremes(inner)
    if ends is None:
        return None
    bounds = _ratio(*ends)
    answer = beyond(bounds, factor)
    if answer is False and absent:
        answer = None  # another layer may do less, or more
    settled = {
        "redundant": sum(reaches(row, REDUNDANT) is False for row in inner),
        "critical": sum(reaches(row, CRITICAL) is True for row in inner),
    }
    return Finding.of(
        answer,
        f"{span(inner)}; settled of {len(inner)} layers: {settled['redundant']} redundant, "
        f"{settled['critical']} critical",
        skipped_span(layers),
        f"it takes a ratio of {factor:,.0f}, this one is {_bounds(bounds)}",
        absent,
    )


def _bounds(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "without bounds"
    low, high = ends
    if math.isinf(low):
        return "not finite"
    upper = "up, with no upper bound, as the smaller may be 0"
    return f"{low:,.0f} to {high:,.0f}" if math.isfinite(high) else f"from {low:,.0f} {upper}"


def _agreement(
    own: Sequence[Row],
    other: Sequence[float],
    control: Callable[[], str],
    absent: Sequence[str],
) -> Finding | None:
    """Whether a ranking of all inner layers agrees with another."""
    if len(own) < 4:
        return None
    nll = [mean_nll(row) for row in own]
    found = spearman_interval(nll, other)
    ends = f"[{found.low:.2f}, {found.high:.2f}]"
    return Finding.of(
        None if absent else beyond(found.ends, RANK_AGREEMENT),
        f"rank correlation {found.value:.2f} {ends} over {len(own)} layers",
        control(),
        absent=absent,
    )


def _ranking(layers: LayerMap) -> Finding | None:
    published = table1()

    def control() -> str:
        zero = layers.rows("zero")
        if len(zero) < 4:
            return "0 for unrelated rankings"
        value = spearman([mean_nll(row) for row in zero], [published[row["layer"]] for row in zero])
        return f"0 for unrelated rankings; layers skipped instead: {value:.2f}"

    inner = layers.rows()
    return _agreement(inner, [published[row["layer"]] for row in inner], control, layers.absent())


def _is_importance(layers: LayerMap) -> Finding | None:
    pairs = [(row, layers.cells.row("zero", row["layer"])) for row in layers.rows()]
    pairs = [pair for pair in pairs if pair[1]]

    def control() -> str:
        noise = {row["layer"]: row for row in layers.rows("matched_noise")}
        shared = [(row, noise[row["layer"]]) for row, _ in pairs if row["layer"] in noise]
        if len(shared) < 4:
            return "0 for unrelated rankings"
        return f"with matched noise: {spearman(*_columns(shared)):.2f}"

    return _agreement(
        [row for row, _ in pairs],
        [mean_nll(zero) for _, zero in pairs],
        control,
        layers.absent(NEIGHBOUR_MEAN, "zero"),
    )


def _columns(pairs: Sequence[tuple[Row, Row]]) -> tuple[list[float], list[float]]:
    return [mean_nll(row) for row, _ in pairs], [mean_nll(row) for _, row in pairs]


def _boundary(layers: LayerMap) -> Finding | None:
    found = [
        (words, row)
        for name, words in ((NEIGHBOUR_MEAN, "neighbour copied"), ("zero", "skipped"))
        for layer in layers.ends
        if (row := layers.cells.row(name, layer))
    ]
    if not found:
        return None
    absent = layers.absent(NEIGHBOUR_MEAN, "zero", among=layers.ends)
    return Finding.of(
        every(padded((negated(reaches(row, REDUNDANT)) for _, row in found), absent)),
        ", ".join(f"L{row['layer']} {words} {effect(row)}" for words, row in found),
        "a median inner layer: " + _median(layers.rows()),
        absent=absent,
    )


def _median(rows: Sequence[Row]) -> str:
    ordered = sorted(rows, key=mean_nll)
    return effect(ordered[len(ordered) // 2]) if ordered else "not measured"


def _first_token(layers: LayerMap) -> Finding | None:
    ends, cells, absent = extremes(layers.rows()), layers.cells, layers.absent()
    if ends is None:
        return None
    layer = ends[1]["layer"]
    first, others = (cells.row(NEIGHBOUR_MEAN, layer, "layer", p) for p in ("first", "others"))
    if not first or not others:
        return None
    answer = reaches(others, CRITICAL)
    if answer is False and reaches(first, CRITICAL) is not True:
        answer = None  # critical nowhere alone: the parts do not say where it works
    skipped = [cells.row("zero", layer, "layer", p) for p in ("first", "others")]
    null = " and ".join(effect(row) for row in skipped if row)
    return Finding.of(
        None if absent else answer,  # another layer may be the most important one
        f"L{layer} at the first token alone {effect(first)}, at all others {effect(others)}",
        f"skipped instead: {null}" if null else "",
        "critical at the first token only" if answer is False else "",
        absent,
    )


def _cancellation(layers: LayerMap) -> Finding | None:
    def milder(control: str) -> list[Answer]:
        """By layer, whether the neighbour mean harms more than a control."""
        pairs = [(row, layers.cells.row(control, row["layer"])) for row in layers.rows()]
        return [harms_more(row, other) for row, other in pairs if other]

    def counted(name: str, answers: list[Answer]) -> str:
        return (
            f"{name}: milder in {answers.count(True)}, worse in {answers.count(False)} "
            f"of {len(answers)} layers"
        )

    rescaled, aligned = milder("rescaled_mean"), milder("aligned_mean")
    if not rescaled:
        return None
    absent = layers.absent(NEIGHBOUR_MEAN, "rescaled_mean")
    unknown = range(len(layers.inner) - len(rescaled))
    return Finding.of(
        most(padded(rescaled, unknown)),
        counted("norms restored", rescaled),
        counted("neurons aligned", aligned) if aligned else "",
        f"milder in {rescaled.count(True)}, worse in {rescaled.count(False)} of "
        f"{len(layers.inner)}",
        absent,
    )


def _claim(id: str, source: str, statement: str, paper: str, rule: str, test, **more) -> Claim:
    return Claim(id, source, statement, paper, rule, test, needs=("importance",), **more)


CLAIMS = (
    _claim(
        "non_equivalence",
        "AH hypothesis H1, section 4.1",
        "Layers are not interchangeable: replacing them does radically different damage.",
        f"{percent(min(_PRINTED))} to {percent(max(_PRINTED))}",
        f"The largest degradation of an inner layer is at least {RADICAL:g} times the smallest (as "
        "critical is to redundant), whatever values in their intervals the two have.",
        per_map(functools.partial(_spread, factor=RADICAL)),
    ),
    _claim(
        "importance_range",
        "AH section 4.1",
        "The damage of the layers ranges over a factor of more than 10^7.",
        "> 10^7",
        f"The largest degradation of an inner layer is at least {_RANGE:,} times the smallest, "
        "whatever values in their intervals the two have.",
        per_map(functools.partial(_spread, factor=_RANGE)),
    ),
    _claim(
        "table1_ranking",
        "AH Table 1",
        "The ranking of the layers is the one of Table 1.",
        "Table 1",
        "The interval of Spearman's rank correlation with Table 1 over all inner layers lies at "
        f"or above {RANK_AGREEMENT}.",
        per_map(_ranking),
        papers_model=True,
    ),
    _claim(
        "map_is_importance",
        "AH section 3.2",
        "The neighbour mean measures how important a layer is.",
        "used as the measure",
        "It ranks all inner layers as skipping them does: the interval of Spearman's correlation "
        f"lies at or above {RANK_AGREEMENT}.",
        per_map(_is_importance),
    ),
    _claim(
        "most_important_layer_reasons",
        "AH sections 4.1, 5.1",
        "The most important layer is the model's brain: it works on the text.",
        "L11, 'model brain', by interpretation alone",
        "Replaced at all tokens but the first of each document it is still critical "
        f"(whole interval at or above {CRITICAL:g} %); it fails if its whole interval lies below "
        "that there, and at or above it with the first token alone replaced.",
        per_map(_first_token),
    ),
    _claim(
        "boundary_layers_redundant",
        "AH Table 1",
        "The first and the last layer are redundant.",
        "L0 0.0 %, L29 0.0 %",
        "With the one neighbour copied, and skipped, the whole interval of both lies below "
        f"{REDUNDANT:g} %.",
        per_map(_boundary),
    ),
    _claim(
        "averaging_cancels",
        "AH section 5.2",
        "Averaging neighbours cancels their directions, which is why even minor layers are "
        "sensitive to it.",
        "explanation without a figure",
        "With the norms restored (rescaled mean) the damage is smaller in more than half of the "
        "inner layers, by paired intervals.",
        per_map(_cancellation),
    ),
)

"""What the rows of a manipulation run say, in sentences; by rule, never by hand."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.manipulation import VIABLE_PERCENT
from jaxanatomy.measures.statistics import paired_difference
from jaxanatomy.papers import NEAR, find, is_near
from jaxanatomy.report.cells import Row, number, signed
from jaxanatomy.report.manipulation.figures import typical
from jaxanatomy.report.manipulation.rows import (
    Method,
    Trials,
    least_sets,
    main_sets,
    pair_sets,
    percent,
    set_label,
)
from jaxanatomy.report.manipulation.tables import Published, on, plain, ppl_cell, tabled_methods

COLLAPSE = 10.0  # times the perplexity without the first and the last layer
STRONG_DOSE = 0.7  # factors up to which scaling is no small change
NEUTRAL = Method("own_svd", "full")  # changes nothing: a check, no strategy


def survivors(trials: Trials) -> str:
    """Which strategies the main sets survive."""
    parts = []
    for name in main_sets(trials):
        methods = [
            method
            for method in tabled_methods(trials)
            if trials.row(method, name) and method != NEUTRAL
        ]
        kept = [method.label for method in methods if trials.value(method, name) < VIABLE_PERCENT]
        listed = f" ({'; '.join(kept)})" if kept else ""
        parts.append(f"{len(kept)} of {len(methods)} on the set “{set_label(name)}”{listed}")
    return f"{on(trials)}strategies that keep it: {', '.join(parts)}."


def collapse(trials: Trials) -> str:
    """Whether the paper's set breaks down because of its first and last layer.

    It does if the 95 % interval finds the set worse with them at every factor up to
    `STRONG_DOSE`, and at the factor nearest to a half `COLLAPSE` times worse.
    """
    pairs = [
        (method.dose, trials.row(method, "paper"), trials.row(method, "paper_inner"))
        for method in trials.doses("scale", "paper")
        if method.dose <= STRONG_DOSE
    ]
    pairs = [pair for pair in pairs if pair[1] and pair[2]]
    if not pairs:
        return ""
    worse = sum(_is_worse(outer, inner) for _, outer, inner in pairs)
    # At half the weights the effect is large and hardly any perplexity has overflowed.
    alpha, outer, inner = min(pairs, key=lambda pair: abs(pair[0] - 0.5))
    left = [str(layer) for layer in outer["layers"] if layer not in inner["layers"]]
    words = (
        f"{on(trials)}scaling the paper's {len(outer['layers'])} layers by {alpha:g} gives a "
        f"perplexity of {_ppl(outer)}; without layers {' and '.join(left)} it is {_ppl(inner)}"
        f"{_ratio(inner, outer)}"
    )
    control = trials.row(Method("scale", alpha), "measured")
    if control:
        words += f", with the {len(control['layers'])} measured layers {_ppl(control)}"
    words += (
        f". The 95 % interval over documents finds the set with them worse at {worse} of "
        f"{len(pairs)} factors up to {STRONG_DOSE:g}. "
    )
    is_strong = number(outer, "ppl") > COLLAPSE * number(inner, "ppl")
    if worse == len(pairs) and is_strong:
        return f"{words}The collapse comes with layers {' and '.join(left)} in the set."
    return (
        f"{words}That does not show that a collapse comes with them, for which they would have to "
        f"be worse at every factor and {COLLAPSE:.0f} times worse at {alpha:g}."
    )


def boundary_of(trials: Trials, provenance: Mapping[str, Any]) -> set[int]:
    """The first and the last layer of the model."""
    layers = (find(provenance, "architecture") or {}).get("layers") or ()
    named = [layer for row in trials.rows.values() for layer in row["layers"]]
    return {0, len(layers) - 1 if layers else max(named)}


def near_pairs(
    trials: Trials, method: Method, published: Published, boundary: set[int]
) -> str | None:
    """Which pairs come near the paper's figure, and whether the outermost layers decide it."""
    found = {pair: trials.value(method, name) for pair, name in pair_sets(trials).items()}
    found = {pair: value for pair, value in found.items() if not math.isnan(value)}
    outer = [value for pair, value in found.items() if boundary & {*pair}]
    inner = [value for pair, value in found.items() if not boundary & {*pair}]
    if not outer or not inner:
        return None
    ends = " or ".join(map(str, sorted(boundary)))
    words = (
        f"{on(trials)}{method.label} of two layers costs {_span(outer)} with layer {ends}, "
        f"{_span(inner)} without."
    )
    paper = published.pairs.get(method.strategy)
    if paper is None:
        return words
    words += f" AH prints {signed(paper)} % for two layers; "
    near = [pair for pair, value in found.items() if is_near(value, paper)]
    if not near:
        return f"{words}no pair comes within a factor of {NEAR:.0f} of that perplexity."
    names = ", ".join(f"{first} with {second}" for first, second in near[:6])
    more = f" and {len(near) - 6} more" if len(near) > 6 else ""
    with_ends = sum(bool(boundary & {*pair}) for pair in near)
    return (
        f"{words}within a factor of {NEAR:.0f} of that perplexity: {names}{more}; {with_ends} of "
        f"these {len(near)} with layer {ends}."
    )


def enough(trials: Trials) -> str:
    """Up to how many of the least important layers each strategy survives."""
    sets, parts = least_sets(trials), []
    for method in typical(trials):
        kept = 0
        for k, name in sets.items():
            if not trials.value(method, name) < VIABLE_PERCENT:
                break
            kept = k
        parts.append(f"{method.label}: {kept}")
    return (
        f"{on(trials)}so many of the {max(sets)} least important layers can be changed before the "
        f"perplexity doubles: {'; '.join(parts)}."
    )


def better(trials: Trials) -> str:
    """How many variants improve on the baseline, and how many of these beyond doubt."""
    rows = [row for (method, _), row in trials.rows.items() if method.strategy != "perturb"]
    below = [row for row in rows if number(row, "degradation_percent") < 0]
    sure = sum(bool(row.get("ci95")) and row["ci95"][1] < 0 for row in below)
    return (
        f"{on(trials)}{len(below)} of {len(rows)} variants have a perplexity below the "
        f"baseline's; for {sure} of them the whole 95 % interval lies below it."
    )


def growth(alpha: str, entry: Mapping[str, Any]) -> str:
    """Whether noise in all layers does more than the sum of noise in each, by the interval."""
    ratio, ends = entry.get("ratio_all_to_sum"), entry.get("ratio_ci95")
    head = f"Noise of {percent(float(alpha))}: "
    if ratio is None or not ends:
        reason = entry.get("ratio_reason") or "not measured"
        return f"{head}whether errors compound cannot be told ({reason})."
    verdict = "that errors add up is not excluded"
    if ends[0] > 1:
        verdict = "errors compound"
    elif ends[1] < 1:
        verdict = "errors partly cancel"
    words = (
        f"{head}all layers at once change the loss by {ratio:.3f} times the sum of what each does "
        f"alone (95 % interval over {entry.get('seeds')} draws {ends[0]:.3f} to {ends[1]:.3f}); "
        f"independent errors, which add up, would give 1: {verdict}."
    )
    exponent, ends = entry.get("exponent"), entry.get("exponent_ci95")
    if exponent is not None and ends:
        words += (
            " The size of the change grows as the number of layers to the power "
            f"{exponent:.2f} ({ends[0]:.2f} to {ends[1]:.2f})."
        )
    return words


def redirected(component: str, doses: Mapping[str, Any]) -> str:
    """How far 1 % of noise moves attention, beside the full scale."""
    small, full = doses.get("0.01"), doses.get("matched_noise")
    if not small or not full:
        return ""
    values = small["total_variation"], small["argmax_changed"], full["total_variation"]
    moved, changed, most = (plain(100 * value) for value in values)
    return (
        f"{component}: noise of 1 % moves {moved} % of the attention and changes the most attended "
        f"token of {changed} % of the queries; nothing but noise moves {most} %."
    )


def _is_worse(row: Row, other: Row) -> bool:
    """By the interval of the difference; what is not finite is worse than anything that is."""
    if math.isinf(number(row, "ppl")):
        return math.isfinite(number(other, "ppl"))
    return paired_difference(row, other).low > 0


def _ratio(row: Row, other: Row) -> str:
    """A perplexity over another one, with its 95 % interval."""
    ratio = paired_difference(row, other).map(np.exp)
    if not math.isfinite(ratio.value):
        return ""
    ends = f", 95 % interval {ratio.low:.3g} to {ratio.high:.3g}" if ratio.ends else ""
    return f" (×{ratio.value:.3g}{ends})"


def _ppl(row: Row) -> str:
    return ppl_cell(row).text


def _span(values: Sequence[float]) -> str:
    ends = [signed(v) if math.isfinite(v) else "infinite" for v in (min(values), max(values))]
    return f"{ends[0]} to {ends[1]} %"

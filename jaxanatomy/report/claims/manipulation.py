"""AH section 4.4, Table 4: weights of several layers scaled, deleted, cloned, blended."""

import math
from collections.abc import Callable, Iterable

from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.report.cells import Row, interval, number
from jaxanatomy.report.claims.claim import (
    Claim,
    Finding,
    beyond,
    effect,
    every,
    mean_nll,
    negated,
    per_text,
    percent,
    reaches,
)
from jaxanatomy.report.reference import paper_table

VIABLE = THRESHOLDS_PERCENT[-1]  # a strategy is viable below the critical degradation
DESTROYED = 100_000.0  # percent; the least that Table 4 has for a replacement is 173,242
COLLAPSED = 1_000.0  # percent; Table 4 has 5,035 for scale 0.7
GENTLE = 0.9
ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7)  # the paper's others
REPLACEMENTS = ("zero", "clone", "clone_high", "blend_2", "blend_4", "low_rank")
FACTOR = 10.0  # two perplexities within it are of one size

_PPL, _PERCENT = paper_table("table4_ppl"), paper_table("table4_percent")
_GENTLE_PERCENT = (_PERCENT["scale_0.9"], paper_table("abstract")["scale_0.9_percent"])
_NOT_ABLATED = set(paper_table("table1")["not_ablated"])
_PAIRS = {
    "zero": "skip_2_layers",
    "clone": "clone_2_layers",
    "low_rank": "low_rank_blend_2_layers",
    "blend_2": "blend_2_layers",
}


def _on(rows: Iterable[Row], set_name: str) -> list[Row]:
    return [row for row in rows if row.get("set") == set_name]


def _scaled(rows: Iterable[Row], alpha: float) -> Row | None:
    """The row of all matrices scaled by alpha."""
    found = (
        row
        for row in rows
        if row.get("strategy") == "scale" and math.isclose(row["alpha"], alpha, abs_tol=1e-9)
    )
    return next(found, None)


def _replaced(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.get("strategy") in REPLACEMENTS]


def _name(row: Row) -> str:
    dose = row.get("alpha") if row.get("alpha") is not None else row.get("rank")
    return row["strategy"] if dose is None else f"{row['strategy']} {dose}"


def _only_scaling(set_name: str) -> Callable[[list[Row]], Finding | None]:
    """A test that scale 0.9 is viable on a set of layers and no other strategy of Table 4 is."""

    def test(rows: list[Row]) -> Finding | None:
        here = _on(rows, set_name)
        gentle = _scaled(here, GENTLE)
        others = _replaced(here) + [row for alpha in ALPHAS if (row := _scaled(here, alpha))]
        if gentle is None or not others:
            return None
        viable = [row for row in others if reaches(row, VIABLE) is False]
        best = min(others, key=mean_nll)
        return Finding.of(
            every([negated(reaches(gentle, VIABLE)), *(reaches(row, VIABLE) for row in others)]),
            f"scale {GENTLE} {effect(gentle)}; best other: {_name(best)} {effect(best)}",
            _beside(rows, set_name),
            f"viable beside it: {', '.join(map(_name, viable)) or 'none settled'} "
            f"of {len(others)} strategies",
        )

    return test


def _beside(rows: list[Row], set_name: str) -> str:
    """Scale 0.9 and deletion of the set with and without the boundary layers."""
    other = "paper_inner" if set_name == "paper" else "paper"
    found = [
        f"{name} {effect(row)}"
        for name, row in (
            (f"scale {GENTLE}", _scaled(_on(rows, other), GENTLE)),
            ("zero", _strategy(_on(rows, other), "zero")),
        )
        if row
    ]
    return f"on the set {other}: {', '.join(found)}" if found else ""


def _strategy(rows: Iterable[Row], strategy: str) -> Row | None:
    return next((row for row in rows if row.get("strategy") == strategy), None)


def _gentle_cost(rows: list[Row]) -> Finding | None:
    row = _scaled(_on(rows, "paper"), GENTLE)
    if row is None:
        return None
    low, high = _GENTLE_PERCENT
    value, ends = number(row, "degradation_percent"), interval(row)
    answer = None
    if low <= value <= high:
        answer = True
    elif ends and (ends[1] < low or ends[0] > high):
        answer = False
    return Finding.of(
        answer,
        effect(row),
        _beside(rows, "paper"),
        "the interval meets the range, the value lies outside" if answer is None else "",
    )


def _scaling_collapses(rows: list[Row]) -> Finding | None:
    inner, whole = _on(rows, "paper_inner"), _on(rows, "paper")
    scaled = [row for alpha in ALPHAS if (row := _scaled(inner, alpha))]
    if not scaled:
        return None
    answers = [reaches(row, COLLAPSED) for row in scaled]
    below = [f"{row['alpha']}" for row, answer in zip(scaled, answers, strict=True) if not answer]
    with_ends = [row for alpha in ALPHAS if (row := _scaled(whole, alpha))]
    return Finding.of(
        every(answers),
        "without layers 0 and 29: " + _doses(scaled),
        "with them: " + _doses(with_ends) if with_ends else "",
        f"not settled above {COLLAPSED:,.0f} %: alpha {', '.join(below) or 'none'}; "
        f"{'monotone' if _is_monotone(scaled) else 'not monotone'} in alpha",
    )


def _doses(rows: Iterable[Row]) -> str:
    ordered = sorted(rows, key=lambda row: -row["alpha"])
    return ", ".join(
        f"×{row['alpha']} {percent(number(row, 'degradation_percent'))}" for row in ordered
    )


def _is_monotone(rows: Iterable[Row]) -> bool:
    losses = [mean_nll(row) for row in sorted(rows, key=lambda row: -row["alpha"])]
    return losses == sorted(losses)


def _replacement_destroys(set_name: str) -> Callable[[list[Row]], Finding | None]:
    def test(rows: list[Row]) -> Finding | None:
        replaced = _replaced(_on(rows, set_name))
        if not replaced:
            return None
        ordered = sorted(replaced, key=mean_nll)
        answers = [reaches(row, DESTROYED) for row in replaced]
        return Finding.of(
            every(answers),
            " to ".join(f"{_name(row)} {effect(row)}" for row in (ordered[0], ordered[-1])),
            _beside(rows, set_name),
            f"at or above {DESTROYED:,.0f} %: {answers.count(True)} of {len(answers)} variants",
        )

    return test


def _pairs(rows: list[Row]) -> Finding | None:
    """Whether any two of the paper's layers give the figures of the rows marked '2 layers'."""
    pairs = [row for row in rows if str(row.get("set") or "").startswith("pair_")]
    by_strategy = {name: [row for row in pairs if row["strategy"] == name] for name in _PAIRS}
    by_strategy = {name: found for name, found in by_strategy.items() if found}
    if not by_strategy:
        return None
    answers, worst, inner = {}, [], []
    for name, found in by_strategy.items():
        printed = _PPL[_PAIRS[name]]
        answers[name] = any(_same_size(row.get("ppl"), printed) for row in found)
        worst.append(_worst(name, found))
        others = [row for row in found if not _NOT_ABLATED & set(row["layers"])]
        inner += [_worst(name, others)] if others else []
    missing = [name for name, answer in answers.items() if not answer]
    return Finding.of(
        every(answers.values()),
        "worst pairs: " + ", ".join(worst),
        "worst without layers 0 and 29: " + ", ".join(inner) if inner else "",
        f"no pair comes near for: {', '.join(missing) or 'none'}",
    )


def _worst(name: str, rows: list[Row]) -> str:
    row = max(rows, key=mean_nll)
    ppl = "not finite" if row.get("ppl") is None else f"perplexity {row['ppl']:,.0f}"
    return f"{name} of L{' and L'.join(map(str, row['layers']))} {ppl}"


def _same_size(value: float | None, printed: float) -> bool:
    return value is not None and printed / FACTOR <= value <= printed * FACTOR


def _prune_anti(rows: list[Row]) -> Finding | None:
    row = _strategy(_on(rows, "pair_14_17"), "zero")
    if row is None:
        return None
    scaled = _scaled(_on(rows, "pair_14_17"), GENTLE)
    ends = interval(row)
    return Finding.of(
        negated(beyond(ends, 0.0)) if ends else None,
        f"L14 and L17 deleted: {effect(row)}",
        f"scaled by {GENTLE} instead: {effect(scaled)}" if scaled else "",
    )


def _claim(id: str, source: str, statement: str, paper: str, rule: str, test, **more) -> Claim:
    test = per_text("manipulation", test)
    return Claim(id, source, statement, paper, rule, test, needs=("manipulation",), **more)


_VIABLE_RULE = (
    f"The whole interval of scale {GENTLE} lies below {VIABLE:g} %, and that of every other "
    f"strategy of Table 4 (zero, clones, blends, low rank, scale {ALPHAS[-1]} and less) at "
    "or above, on "
)
_DESTROY_RULE = (
    f"The whole interval of every zero, clone, blend and low-rank variant lies at or above "
    f"{DESTROYED:,.0f} %, on "
)
_SETS = {
    "paper": "the paper's nine layers",
    "paper_inner": "the paper's set without the two layers that it never ablated",
    "measured": "the layers that are redundant on this model",
}
_TABLE4 = f"scale 0.9 {percent(_PERCENT['scale_0.9'])}, next {percent(_PERCENT['scale_0.7'])}"
_REPLACED = (
    f"{percent(_PERCENT['blend_2_layers'])} (blend) to {percent(_PERCENT['skip_2_layers'])} (zero)"
)

CLAIMS = (
    *(
        _claim(
            f"only_scaling_viable_{name}",
            "AH abstract, section 4.4, Table 4",
            f"Only scaling by 0.9 is viable: on {words}.",
            _TABLE4,
            f"{_VIABLE_RULE}{words}.",
            _only_scaling(name),
            papers_model=name != "measured",
        )
        for name, words in _SETS.items()
    ),
    _claim(
        "gentle_scaling_cost",
        "AH Table 4, abstract",
        "Scaling the nine layers by 0.9 costs 19 (Table 4) or 49 % (abstract).",
        " or ".join(map(percent, _GENTLE_PERCENT)),
        f"The degradation lies from {_GENTLE_PERCENT[0]} to {_GENTLE_PERCENT[1]} %; it fails if "
        "its whole interval lies outside.",
        _gentle_cost,
        papers_model=True,
    ),
    _claim(
        "scaling_collapses",
        "AH section 4.4, Table 4",
        "Scaling redundant layers by 0.7 or less destroys the model.",
        f"×0.7 {percent(_PERCENT['scale_0.7'])}, ×0.5 {percent(_PERCENT['scale_0.5'])}, "
        f"×0 {percent(_PERCENT['scale_0.0'])}",
        f"Also without layers 0 and 29, which were never shown to be redundant, the whole interval "
        f"of every alpha up to {ALPHAS[-1]} lies at or above {COLLAPSED:,.0f} %.",
        _scaling_collapses,
        papers_model=True,
    ),
    *(
        _claim(
            f"replacement_destroys_{name}",
            "AH abstract, section 4.4, Table 4",
            f"Zeroing, cloning and blending destroy the model: on {words}.",
            _REPLACED,
            f"{_DESTROY_RULE}{words}.",
            _replacement_destroys(name),
            papers_model=name != "measured",
        )
        for name, words in _SETS.items()
    ),
    _claim(
        "pairs_destroy",
        "AH Table 4, rows marked '2 layers'",
        "Replacing two of the nine layers is enough to destroy the model.",
        ", ".join(f"{name} {_PPL[row]:,}" for name, row in _PAIRS.items()),
        f"For each such strategy some pair's perplexity is within a factor of {FACTOR:g} of the "
        "printed one.",
        _pairs,
        papers_model=True,
    ),
    _claim(
        "prune_anti_layers",
        "AH section 5.4, Table 10",
        "Layers 14 and 17 can be pruned: they harm performance.",
        "budget 0.00",
        "With both deleted the whole interval lies below 0; it fails if it lies above.",
        _prune_anti,
        papers_model=True,
    ),
)

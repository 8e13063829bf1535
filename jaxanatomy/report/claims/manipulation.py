"""AH section 4.4, Table 4: weights of several layers scaled, deleted, cloned, blended."""

import math
from collections.abc import Callable, Iterable, Sequence

from jaxanatomy.interventions.sets import PAPER, pairs
from jaxanatomy.interventions.strategies import STRATEGIES
from jaxanatomy.measures.manipulation import VIABLE_PERCENT
from jaxanatomy.papers import NEAR, is_near, paper_table
from jaxanatomy.report.cells import Row, interval, number
from jaxanatomy.report.claims.claim import (
    Answer,
    Claim,
    Finding,
    effect,
    every,
    mean_nll,
    negated,
    padded,
    per_text_of_depth,
    percent,
    reaches,
    some,
)

DESTROYED = 100_000.0  # percent; the least that Table 4 has for a replacement is 173,242
COLLAPSED = 1_000.0  # percent; Table 4 has 5,035 for scale 0.7
GENTLE = 0.9
ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7)  # the paper's others
# What Table 4 has beside scaling, in each reading of the text; of low rank the paper's full one.
REPLACEMENTS = ("zero", "clone", "clone_high", "blend_2", "blend_4", "low_rank")
RANK = "full"

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


def absent_strategies(
    here: Sequence[Row], depth: int, replacements: bool = True, alphas: Iterable[float] = ()
) -> list[str]:
    """The strategies of Table 4 that exist on a set of layers and were not measured, in words.

    Args:
      here: The rows of the set.
      depth: The number of layers of the model; 0 if no run says.
      replacements: Whether those of `REPLACEMENTS` are wanted.
      alphas: The factors of scaling that are wanted.
    """
    outside = depth - len(here[0]["layers"]) if depth and here else math.inf
    found = {row["strategy"] for row in here if row.get("rank") in (None, RANK)}
    wanted = [name for name in REPLACEMENTS if STRATEGIES[name].outside <= outside]
    absent = [name for name in wanted if name not in found] if replacements else []
    return absent + [f"scale {alpha}" for alpha in alphas if not _scaled(here, alpha)]


def _name(row: Row) -> str:
    dose = row.get("alpha") if row.get("alpha") is not None else row.get("rank")
    return row["strategy"] if dose is None else f"{row['strategy']} {dose}"


def _only_scaling(set_name: str) -> Callable[[list[Row], int], Finding | None]:
    """A test that scale 0.9 is viable on a set of layers and no other strategy of Table 4 is."""

    def test(rows: list[Row], depth: int) -> Finding | None:
        here = _on(rows, set_name)
        gentle = _scaled(here, GENTLE)
        others = _replaced(here) + [row for alpha in ALPHAS if (row := _scaled(here, alpha))]
        if not here or not (gentle or others):
            return None
        answers = [reaches(row, VIABLE_PERCENT) for row in others]
        answers += [negated(reaches(gentle, VIABLE_PERCENT))] if gentle else []
        absent = absent_strategies(here, depth, alphas=(GENTLE, *ALPHAS))
        viable = [row for row in others if reaches(row, VIABLE_PERCENT) is False]
        measured = [f"scale {GENTLE} {effect(gentle)}"] if gentle else []
        if others:
            best = min(others, key=mean_nll)
            measured.append(f"best other: {_name(best)} {effect(best)}")
        return Finding.of(
            every(padded(answers, absent)),
            "; ".join(measured),
            _beside(rows, set_name),
            f"viable beside it: {', '.join(map(_name, viable)) or 'none settled'} "
            f"of {len(others)} strategies",
            absent,
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


def _gentle_cost(rows: list[Row], _: int) -> Finding | None:
    row = _scaled(_on(rows, "paper"), GENTLE)
    if row is None:
        return None
    low, high = _GENTLE_PERCENT
    return Finding.of(_lies_within(row, low, high), effect(row), _beside(rows, "paper"))


def _lies_within(row: Row, low: float, high: float) -> Answer:
    """Whether the whole interval lies in a range; False if it lies outside."""
    if math.isinf(number(row, "degradation_percent")):
        return False
    ends = interval(row)
    if ends is None:
        return None
    if ends[1] < low or ends[0] > high:
        return False
    return True if low <= ends[0] and ends[1] <= high else None


def _scaling_collapses(rows: list[Row], depth: int) -> Finding | None:
    inner, whole = _on(rows, "paper_inner"), _on(rows, "paper")
    scaled = [row for alpha in ALPHAS if (row := _scaled(inner, alpha))]
    if not scaled:
        return None
    answers = [reaches(row, COLLAPSED) for row in scaled]
    below = [f"{row['alpha']}" for row, answer in zip(scaled, answers, strict=True) if not answer]
    with_ends = [row for alpha in ALPHAS if (row := _scaled(whole, alpha))]
    absent = absent_strategies(inner, depth, replacements=False, alphas=ALPHAS)
    return Finding.of(
        every(padded(answers, absent)),
        "without layers 0 and 29: " + _doses(scaled),
        "with them: " + _doses(with_ends) if with_ends else "",
        f"not settled above {COLLAPSED:,.0f} %: alpha {', '.join(below) or 'none'}; "
        f"{'monotone' if _is_monotone(scaled) else 'not monotone'} in alpha",
        absent,
    )


def _doses(rows: Iterable[Row]) -> str:
    ordered = sorted(rows, key=lambda row: -row["alpha"])
    return ", ".join(
        f"×{row['alpha']} {percent(number(row, 'degradation_percent'))}" for row in ordered
    )


def _is_monotone(rows: Iterable[Row]) -> bool:
    losses = [mean_nll(row) for row in sorted(rows, key=lambda row: -row["alpha"])]
    return losses == sorted(losses)


def _replacement_destroys(set_name: str) -> Callable[[list[Row], int], Finding | None]:
    def test(rows: list[Row], depth: int) -> Finding | None:
        here = _on(rows, set_name)
        replaced = _replaced(here)
        if not replaced:
            return None
        ordered = sorted(replaced, key=mean_nll)
        answers = [reaches(row, DESTROYED) for row in replaced]
        absent = absent_strategies(here, depth)
        return Finding.of(
            every(padded(answers, absent)),
            " to ".join(f"{_name(row)} {effect(row)}" for row in (ordered[0], ordered[-1])),
            _beside(rows, set_name),
            f"at or above {DESTROYED:,.0f} %: {answers.count(True)} of {len(answers)} variants",
            absent,
        )

    return test


def _pairs(rows: list[Row], _: int) -> Finding | None:
    """Whether any two of the paper's layers give the figures of the rows marked '2 layers'."""
    wanted = [layer_set.name for layer_set in pairs(PAPER)]
    here = [row for row in rows if row.get("set") in wanted and row.get("rank") in (None, RANK)]
    if not any(row["strategy"] in _PAIRS for row in here):
        return None
    answers, absent, worst, inner = {}, [], [], []
    for name in _PAIRS:
        found = [row for row in here if row["strategy"] == name]
        lacking = {*wanted} - {row["set"] for row in found}
        near = [is_near(number(row, "degradation_percent"), _printed(name)) for row in found]
        answers[name] = some(padded(near, lacking))
        if answers[name] is None:
            absent.append(f"{name} of {len(lacking)} pair{'s' if len(lacking) > 1 else ''}")
        others = [row for row in found if not _NOT_ABLATED & set(row["layers"])]
        worst += [_worst(name, found)] if found else []
        inner += [_worst(name, others)] if others else []
    missing = [name for name, answer in answers.items() if answer is False]
    return Finding.of(
        every(answers.values()),
        "worst pairs: " + ", ".join(worst),
        "worst without layers 0 and 29: " + ", ".join(inner) if inner else "",
        f"no pair comes near for: {', '.join(missing) or 'none'}",
        absent,
    )


def _printed(strategy: str) -> float:
    """What Table 4 prints for two layers, in percent of its printed baseline."""
    return 100 * (_PPL[_PAIRS[strategy]] / _PPL["baseline"] - 1)


def _worst(name: str, rows: list[Row]) -> str:
    row = max(rows, key=mean_nll)
    ppl = "not finite" if row.get("ppl") is None else f"perplexity {row['ppl']:,.0f}"
    return f"{name} of L{' and L'.join(map(str, row['layers']))} {ppl}"


def _prune_anti(rows: list[Row], _: int) -> Finding | None:
    row = _strategy(_on(rows, "pair_14_17"), "zero")
    if row is None:
        return None
    scaled = _scaled(_on(rows, "pair_14_17"), GENTLE)
    return Finding.of(
        negated(reaches(row, 0.0)),
        f"L14 and L17 deleted: {effect(row)}",
        f"scaled by {GENTLE} instead: {effect(scaled)}" if scaled else "",
    )


def _claim(id: str, source: str, statement: str, paper: str, rule: str, test, **more) -> Claim:
    test = per_text_of_depth("manipulation", test)
    return Claim(id, source, statement, paper, rule, test, needs=("manipulation",), **more)


_VIABLE_RULE = (
    f"The whole interval of scale {GENTLE} lies below {VIABLE_PERCENT:g} %, and that of every "
    f"other strategy of Table 4 (zero, clones, blends, low rank, scale {ALPHAS[-1]} and less) at "
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
        f"The whole interval of the degradation lies from {_GENTLE_PERCENT[0]} to "
        f"{_GENTLE_PERCENT[1]} %; it fails if it lies wholly outside.",
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
        "For each such strategy some pair's perplexity, over the baseline's, is within a factor "
        f"of {NEAR:g} of the printed one over its own.",
        _pairs,
        papers_model=True,
    ),
    _claim(
        "prune_anti_layers",
        "AH section 5.4, Table 10",
        "Layers 14 and 17 can be pruned: they harm performance.",
        "budget 0.00",
        "With both deleted the whole interval lies below 0; it fails if it lies at or above 0.",
        _prune_anti,
        papers_model=True,
    ),
)

"""Whether DG's Tables 1 and 8 say what its text says: arithmetic, no model."""

import functools
from collections.abc import Iterable, Mapping, Sequence

from jaxanatomy.claims.core import Check, Claim, enter_figures
from jaxanatomy.papers import paper_table

_TABLE1, _TABLE8 = paper_table("dg_table1"), paper_table("dg_table8")
_COLUMNS = _TABLE1["columns"]
_REASONING = [name for name in _COLUMNS if name.startswith(("mathworld", "primitives"))]
_NAMES = {"smollm_360m": "360M", "smollm_1p7b": "1.7B"}

CLAIMS: list[Claim] = []
_claim = functools.partial(enter_figures, CLAIMS)

# A figure that is to be better than another: model, its table, the two arms, the column.
Comparison = tuple[str, Mapping[str, Sequence[float]], str, str, str]


def _are_higher(comparisons: Iterable[Comparison]) -> Check:
    comparisons, wrong = list(comparisons), []
    for model, table, arm, other, column in comparisons:
        own, its = (table[name][_COLUMNS.index(column)] for name in (arm, other))
        if own <= its:
            wrong.append(f"{_NAMES[model]} {column}: {arm} {own:g}, {other} {its:g}")
    reason = f"{len(wrong)} of {len(comparisons)} figures do not"
    return not wrong, "; ".join(wrong) or "none that does not", reason


def _reasoning_against(other: str) -> Check:
    """MIDAS and LIDAS against an arm, on what the paper calls reasoning."""
    return _are_higher(
        (model, _TABLE1[model], arm, other, column)
        for model in _NAMES
        for arm in ("midas", "lidas")
        for column in _REASONING
    )


@_claim(
    "DG section 3.2, Table 1",
    "Both grown models outperform the baseline on reasoning-heavy tasks.",
    "'both MIDAS and LIDAS'",
    "Every figure for MathWorld and primitives, with either cooldown, is higher than the "
    "baseline's.",
)
def _table1_growth_beats_baseline() -> Check:
    return _reasoning_against("baseline")


@_claim(
    "DG section 3.2, Table 1",
    "LN-scaling trails the grown variants on reasoning.",
    "'while trailing the grown variants on reasoning'",
    "Every figure of the grown models for MathWorld and primitives, with either cooldown, is "
    "higher than LN-scaling's.",
)
def _table1_ln_scaling_trails() -> Check:
    return _reasoning_against("ln_scaling")


@_claim(
    "DG appendix E, Table 8",
    "LIDAS improves LN-scaling in all categories but closed-book questions at 360M, and in "
    "reasoning at 1.7B.",
    "'consistent improvements'",
    "Every such figure is higher with LIDAS; loss, which is equal, is left out.",
)
def _table8_growth_helps_ln_scaling() -> Check:
    most = [name for name in _COLUMNS if name not in ("nll", "closed_book")]
    return _are_higher(
        (model, _TABLE8[model], "ln_scaling_lidas", "ln_scaling", column)
        for model, columns in (("smollm_360m", most), ("smollm_1p7b", _REASONING))
        for column in columns
    )

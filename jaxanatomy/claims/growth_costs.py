"""DG: what growth costs (Table 7), how it starts, and whether its tables say what its text says."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from jaxanatomy.claims.core import Check, Claim, Criterion, Figures
from jaxanatomy.claims.quantities import degradation
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.measures.flops import BASELINE, FLOOR, GROWN, REMAINDER
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.papers import paper_table
from jaxanatomy.words import exponent, plain

CLOSE = 2e-5  # relative, of a figure that agrees with Table 7
_TABLE1, _TABLE7, _TABLE8 = (paper_table(f"dg_table{number}") for number in (1, 7, 8))
_HALF_DIGIT = _TABLE7["digit"] / 2
_COLUMNS = _TABLE1["columns"]
_REASONING = tuple(name for name in _COLUMNS if name.startswith(("mathworld", "primitives")))
_NAMES = {"smollm_360m": "360M", "smollm_1p7b": "1.7B"}

# A figure that is to be better than another: model, its table, the two arms, the column.
Comparison = tuple[str, Mapping[str, Sequence[float]], str, str, str]


def _table7(rows: Sequence[Row], rounding: str, *arms: str) -> dict[str, Row]:
    """Our rows beside the paper's, named."""
    found = {
        (row["model"], row["arm"]): row
        for row in rows
        if row.get("paper_petaflops") and row["rounding"] in (None, rounding)
    }
    wanted = {(model, arm): f"{_NAMES[model]} {arm}" for model in _TABLE7["models"] for arm in arms}
    if not found.keys() >= wanted.keys():
        raise MissingError("the run lacks the rows")
    return {name: found[each] for each, name in wanted.items()}


def _petaflops(rows: Sequence[Row]) -> Check:
    found, floor = (_table7(rows, each, BASELINE, GROWN) for each in (REMAINDER, FLOOR))
    off = max(abs(row["deviation"]) for row in floor.values())
    return (
        all(abs(row["deviation"]) <= CLOSE for row in found.values()),
        _each(found, lambda row: f"{row['petaflops']:,.3f} ({exponent(row['deviation'], 1, '+')})"),
        f"with steps rounded down all within {exponent(off)}",
    )


def _ratio(rows: Sequence[Row]) -> Check:
    found = _table7(rows, REMAINDER, GROWN)
    saved = ", ".join(f"{100 * (1 - 1 / row['ratio']):.1f} %" for row in found.values())
    return (
        all(round(row["ratio"], 3) == row["paper_ratio"] for row in found.values()),
        _each(found, lambda row: plain(row["ratio"], 4)),
        f"saved: {saved}, where the text has 23 %",
    )


def _rounding(rows: Sequence[Row]) -> Check:
    found, floor = (_table7(rows, each, GROWN) for each in (REMAINDER, FLOOR))
    off, down = (_each(each, lambda row: plain(_off(row), 3, "+")) for each in (found, floor))
    return (
        all(abs(_off(row)) <= _HALF_DIGIT for row in found.values()),
        f"PFLOP less the table's: {off}",
        f"with steps rounded down, the rest to the last stage: {down}",
    )


def _each(found: Mapping[str, Row], words: Callable[[Row], str]) -> str:
    return ", ".join(f"{name} {words(row)}" for name, row in found.items())


def _off(row: Row) -> float:
    return row["petaflops"] - row["paper_petaflops"]


def _printed(comparisons: Iterable[Comparison]) -> Callable[[Sequence[Row]], Check]:
    """Whether each figure is better than another, by the paper's own table."""
    comparisons = list(comparisons)

    def check(rows: Sequence[Row]) -> Check:
        del rows
        wrong = []
        for model, table, arm, other, column in comparisons:
            own, its = (table[name][_COLUMNS.index(column)] for name in (arm, other))
            if own <= its:
                wrong.append(f"{_NAMES[model]} {column}: {arm} {own:g}, {other} {its:g}")
        reason = f"{len(wrong)} of {len(comparisons)} figures do not"
        return not wrong, "; ".join(wrong) or "none that does not", reason

    return check


def _against(other: str) -> Iterable[Comparison]:
    """MIDAS and LIDAS against an arm, on what the paper calls reasoning."""
    return (
        (model, _TABLE1[model], arm, other, column)
        for model in _NAMES
        for arm in ("midas", "lidas")
        for column in _REASONING
    )


def _with_ln_scaling() -> Iterable[Comparison]:
    named = {
        "smollm_360m": [name for name in _COLUMNS if name not in ("nll", "closed_book")],
        "smollm_1p7b": _REASONING,
    }
    return (
        (model, _TABLE8[model], "ln_scaling_lidas", "ln_scaling", column)
        for model, columns in named.items()
        for column in columns
    )


GROWN_ROWS = Rows("grow_checkpoint").where(draw=None)
_ELSEWHERE = Rows("grow_checkpoint").where(operator="random_place")
_OVER_LIDAS = degradation(GROWN_ROWS.where(operator="lidas"), "LIDAS")


def _draws(table: Table) -> list[int]:
    return [row["draw"] for row in table.find(_ELSEWHERE.fields)]


def _midas_over_lidas(part: Part, level: float) -> Estimate:
    lidas = part.table.find({"operator": "lidas", "draw": None})
    if lidas and lidas[0]["layers"] == part.rows[0]["layers"]:
        raise MissingError("both insert the same layers")
    return _OVER_LIDAS.of(part, level)


CLAIMS = (
    Claim(
        "table7_petaflops",
        "DG Table 7",
        "Training costs the PFLOP that the paper prints, with and without growth.",
        ", ".join(
            f"{_NAMES[name]} {each[BASELINE]:,} and {each[GROWN]:,}"
            for name, each in _TABLE7["models"].items()
        ),
        Figures(
            f"Matrix products of all steps are within {exponent(CLOSE)} of each of the four "
            "figures.",
            _petaflops,
            "flops",
        ),
    ),
    Claim(
        "table7_ratio",
        "DG section 1, Table 7",
        "Training at full depth costs 1.29 times as much as growing.",
        ", ".join(f"{_NAMES[name]} {each['ratio']}" for name, each in _TABLE7["models"].items()),
        Figures(
            "The ratio of the FLOPs, rounded to three digits, is the printed one for both models.",
            _ratio,
            "flops",
        ),
    ),
    Claim(
        "table7_largest_remainder",
        "DG appendix A, Table 7",
        "The steps of the stages in Table 7 are rounded by largest remainder.",
        "'largest-remainder to keep the sum'",
        Figures(
            "With largest remainder the grown figures agree to half of the last digit, "
            f"{_HALF_DIGIT} PFLOP.",
            _rounding,
            "flops",
        ),
    ),
    Claim(
        "lidas_starts_better",
        "DG section 3",
        "LIDAS initialises new layers better than MIDAS: of a finished model, before any training "
        "of what is new, MIDAS loses more. (The paper grows models in training.)",
        "'to provide a stronger initialisation'",
        Criterion(
            GROWN_ROWS.at(operator=("midas",)),
            dataclasses.replace(_OVER_LIDAS, of=_midas_over_lidas),
            ALL.above(0.0),
            control=_ELSEWHERE.at(draw=_draws),
            by=_OVER_LIDAS,
            beside="the control: blocks copied elsewhere, against LIDAS",
        ),
    ),
    Claim(
        "table1_growth_beats_baseline",
        "DG section 3.2, Table 1",
        "Both grown models outperform the baseline on reasoning-heavy tasks.",
        "'both MIDAS and LIDAS'",
        Figures(
            "Every figure for MathWorld and primitives, with either cooldown, is higher than the "
            "baseline's.",
            _printed(_against("baseline")),
        ),
    ),
    Claim(
        "table1_ln_scaling_trails",
        "DG section 3.2, Table 1",
        "LN-scaling trails the grown variants on reasoning.",
        "'while trailing the grown variants on reasoning'",
        Figures(
            "Every figure of the grown models for MathWorld and primitives, with either cooldown, "
            "is higher than LN-scaling's.",
            _printed(_against("ln_scaling")),
        ),
    ),
    Claim(
        "table8_growth_helps_ln_scaling",
        "DG appendix E, Table 8",
        "LIDAS improves LN-scaling in all categories but closed-book questions at 360M, and in "
        "reasoning at 1.7B.",
        "'consistent improvements'",
        Figures(
            "Every such figure is higher with LIDAS; loss, which is equal, is left out.",
            _printed(_with_ln_scaling()),
        ),
    ),
)

"""DG Table 7: what training costs with and without growth."""

from collections.abc import Callable, Mapping, Sequence

from jaxanatomy.claims.core import Check, Claim, Figures
from jaxanatomy.claims.rows import MissingError, Row
from jaxanatomy.measures.flops import BASELINE, FLOOR, GROWN, REMAINDER
from jaxanatomy.papers import paper_table
from jaxanatomy.words import exponent, plain

CLOSE = 2e-5  # relative, of a figure that agrees with Table 7
_TABLE7 = paper_table("dg_table7")
_HALF_DIGIT = _TABLE7["digit"] / 2
_NAMES = {"smollm_360m": "360M", "smollm_1p7b": "1.7B"}


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
)

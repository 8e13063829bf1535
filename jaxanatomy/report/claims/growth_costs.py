"""DG: what growth costs (Table 7), how it starts, and whether its tables say what its text says."""

from collections.abc import Callable, Mapping, Sequence

from jaxanatomy.measures.flops import BASELINE, FLOOR, GROWN, REMAINDER
from jaxanatomy.papers import paper_table
from jaxanatomy.report.cells import Row
from jaxanatomy.report.claims.claim import (
    Claim,
    Evidence,
    Finding,
    effect,
    every,
    harms_more,
    per_text,
)

CLOSE = 2e-5  # relative, of a figure that agrees with Table 7
_TABLE1, _TABLE7, _TABLE8 = (paper_table(f"dg_table{number}") for number in (1, 7, 8))
_HALF_DIGIT = _TABLE7["digit"] / 2
_COLUMNS = _TABLE1["columns"]
_REASONING = tuple(name for name in _COLUMNS if name.startswith(("mathworld", "primitives")))
_NAMES = {"smollm_360m": "360M", "smollm_1p7b": "1.7B"}

Comparison = tuple[Mapping[str, Sequence], str, str, str]


def _table7(evidence: Evidence, rounding: str) -> dict[tuple[str, str], Row]:
    """Rows that have a figure of the paper, by model and arm."""
    return {
        (row["model"], row["arm"]): row
        for row in evidence.rows("flops")
        if row.get("paper_petaflops") and row["rounding"] in (None, rounding)
    }


def _missing(found: Mapping[tuple[str, str], Row], arms: Sequence[str]) -> list[str]:
    return [
        f"{_NAMES[model]} {arm}"
        for model in _TABLE7["models"]
        for arm in arms
        if (model, arm) not in found
    ]


def _petaflops(evidence: Evidence) -> Finding | None:
    found = _table7(evidence, REMAINDER)
    if not found:
        return None
    absent = _missing(found, (BASELINE, GROWN))
    answers = [abs(row["deviation"]) <= CLOSE for row in found.values()]
    floors = [abs(row["deviation"]) for row in _table7(evidence, FLOOR).values()]
    return Finding.of(
        None if absent else every(answers),
        ", ".join(
            f"{_NAMES[model]} {arm} {row['petaflops']:,.3f} ({row['deviation']:+.1e})".replace(
                "-", "−"
            )
            for (model, arm), row in found.items()
        ),
        f"with steps rounded down all within {max(floors):.0e}".replace("-", "−") if floors else "",
        absent=absent,
    )


def _ratio(evidence: Evidence) -> Finding | None:
    found = {key: row for key, row in _table7(evidence, REMAINDER).items() if key[1] == GROWN}
    if not found:
        return None
    absent = _missing(found, (GROWN,))
    answers = [round(row["ratio"], 3) == row["paper_ratio"] for row in found.values()]
    words = {_NAMES[model]: row["ratio"] for (model, _), row in found.items()}
    saved = ", ".join(f"{name} {100 * (1 - 1 / ratio):.1f} %" for name, ratio in words.items())
    return Finding.of(
        None if absent else every(answers),
        ", ".join(f"{name} {ratio:.4f}" for name, ratio in words.items()),
        f"1 without growth; saved: {saved}, where the text has 23 %",
        absent=absent,
    )


def _rounding(evidence: Evidence) -> Finding | None:
    said = {name: _table7(evidence, name) for name in (REMAINDER, FLOOR)}
    off = {
        name: {
            _NAMES[model]: row["petaflops"] - row["paper_petaflops"]
            for (model, arm), row in found.items()
            if arm == GROWN
        }
        for name, found in said.items()
    }
    if not off[REMAINDER]:
        return None
    absent = _missing(said[REMAINDER], (GROWN,))
    answers = [abs(each) <= _HALF_DIGIT for each in off[REMAINDER].values()]
    words = {
        name: ", ".join(f"{model} {each:+.3f}" for model, each in own.items()).replace("-", "−")
        for name, own in off.items()
    }
    return Finding.of(
        None if absent else every(answers),
        f"PFLOP less the table's: {words[REMAINDER]}",
        f"with steps rounded down, the rest to the last stage: {words[FLOOR]}",
        absent=absent,
    )


def _starts_better(rows: list[Row]) -> Finding | None:
    maps = {row["operator"]: row for row in rows if row.get("draw") is None}
    if not {"lidas", "midas"} <= maps.keys():
        return None
    drawn = [row for row in rows if row["operator"] == "random_place"]
    better = sum(harms_more(row, maps["lidas"]) is True for row in drawn)
    alike = maps["lidas"]["layers"] == maps["midas"]["layers"]
    return Finding.of(
        None if alike else harms_more(maps["midas"], maps["lidas"]),
        ", ".join(f"{name} {effect(maps[name])}" for name in ("lidas", "midas")),
        f"lidas better than {better} of {len(drawn)} draws of blocks copied elsewhere",
        "both insert the same layers" if alike else "",
    )


def _is_better(comparison: Comparison) -> bool:
    table, arm, other, column = comparison
    at = _COLUMNS.index(column)
    less = table[arm][at] - table[other][at]
    return less < 0 if column == "nll" else less > 0


def _printed(comparisons: Mapping[str, Sequence[Comparison]]) -> Callable[[Evidence], Finding]:
    """Whether each figure is better than another, by the paper's own table."""

    def test(_: Evidence) -> Finding:
        wrong, count = [], 0
        for model, own in comparisons.items():
            count += len(own)
            for table, arm, other, column in own:
                if not _is_better((table, arm, other, column)):
                    values = [f"{table[name][_COLUMNS.index(column)]:g}" for name in (arm, other)]
                    wrong.append(
                        f"{_NAMES[model]} {column}: {arm} {values[0]}, {other} {values[1]}"
                    )
        return Finding.of(
            not wrong, "; ".join(wrong) or "none", reason=f"{len(wrong)} of {count} figures do not"
        )

    return test


def _against(other: str) -> dict[str, list[Comparison]]:
    """MIDAS and LIDAS against an arm, on what the paper calls reasoning."""
    return {
        model: [
            (_TABLE1[model], arm, other, name) for arm in ("midas", "lidas") for name in _REASONING
        ]
        for model in _NAMES
    }


def _with_ln_scaling() -> dict[str, list[Comparison]]:
    named = {
        "smollm_360m": [name for name in _COLUMNS if name not in ("nll", "closed_book")],
        "smollm_1p7b": _REASONING,
    }
    return {
        model: [(_TABLE8[model], "ln_scaling_lidas", "ln_scaling", name) for name in names]
        for model, names in named.items()
    }


def _claim(
    id: str, source: str, statement: str, paper: str, rule: str, test: Callable, *needs: str
) -> Claim:
    return Claim(id, source, statement, paper, rule, test, needs=needs)


_FIGURES = ", ".join(
    f"{_NAMES[name]} {each[BASELINE]:,} and {each[GROWN]:,}"
    for name, each in _TABLE7["models"].items()
)
_RATIOS = ", ".join(f"{_NAMES[name]} {each['ratio']}" for name, each in _TABLE7["models"].items())

CLAIMS = (
    _claim(
        "table7_petaflops",
        "DG Table 7",
        "Training costs the PFLOP that the paper prints, with and without growth.",
        _FIGURES,
        f"Matrix products of all steps are within {CLOSE:.0e} of each of the four figures; it "
        "fails if one is not.".replace("-", "−"),
        _petaflops,
        "flops",
    ),
    _claim(
        "table7_ratio",
        "DG section 1, Table 7",
        "Training at full depth costs 1.29 times as much as growing.",
        _RATIOS,
        "The ratio of the FLOPs, rounded to three digits, is the printed one for both models.",
        _ratio,
        "flops",
    ),
    _claim(
        "table7_largest_remainder",
        "DG appendix A, Table 7",
        "The steps of the stages in Table 7 are rounded by largest remainder.",
        "'largest-remainder to keep the sum'",
        f"With largest remainder the grown figures agree to half of the last digit, {_HALF_DIGIT} "
        "PFLOP; it fails if one does not.",
        _rounding,
        "flops",
    ),
    _claim(
        "lidas_starts_better",
        "DG section 3",
        "LIDAS initialises new layers better than MIDAS.",
        "'to provide a stronger initialisation'",
        "Of a trained model, before any training of what is new, midas loses more than lidas: the "
        "paired 95 % interval over documents of the difference lies above 0; it fails if it lies "
        "below. The paper grows models in training, this is a finished one.",
        per_text("grow_checkpoint", _starts_better),
        "grow_checkpoint",
    ),
    _claim(
        "table1_growth_beats_baseline",
        "DG section 3.2, Table 1",
        "Both grown models outperform the baseline on reasoning-heavy tasks.",
        "'both MIDAS and LIDAS'",
        "Every figure for MathWorld and primitives, with either cooldown, is higher than the "
        "baseline's.",
        _printed(_against("baseline")),
    ),
    _claim(
        "table1_ln_scaling_trails",
        "DG section 3.2, Table 1",
        "LN-scaling trails the grown variants on reasoning.",
        "'while trailing the grown variants on reasoning'",
        "Every figure of the grown models for MathWorld and primitives, with either cooldown, is "
        "higher than LN-scaling's.",
        _printed(_against("ln_scaling")),
    ),
    _claim(
        "table8_growth_helps_ln_scaling",
        "DG appendix E, Table 8",
        "LIDAS improves LN-scaling in all categories but closed-book questions at 360M, and in "
        "reasoning at 1.7B.",
        "'consistent improvements'",
        "Every such figure is higher with LIDAS; loss, which is equal, is left out.",
        _printed(_with_ln_scaling()),
    ),
)

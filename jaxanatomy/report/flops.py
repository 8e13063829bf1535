"""The report of what growth costs (DG Table 7), and its table for the terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.growth.depth_arms import EQUAL_FLOPS
from jaxanatomy.measures.flops import ARMS, GROWN, REMAINDER, ROUNDINGS
from jaxanatomy.report.claims import of_run
from jaxanatomy.report.document import Cell, Report, Section, Table

Row = Mapping[str, Any]
_HOW = (
    "Matrix products alone are counted: three times those of the forward, attention at full "
    "length. A model that grows by b layers at a time is shallow at first; the ratio is what its "
    "run at full depth costs over what it costs. It depends on the shape, the length and the "
    "stages, not on the batch or the operator: MIDAS and LIDAS cost the same."
)
_ROUNDING = (
    "The paper divides 170,000 steps among the stages by largest remainder, says its text; its "
    "Table 7 comes out to the last digit when steps are rounded down and the last stage takes "
    "the rest. Both stand here. In 200,000 steps they differ by 1e-5, which no printed ratio shows."
)


def flops_report(record: Any) -> Report | None:
    """The report of a `RunRecord` of this experiment; None if it is of another."""
    rows = [row for row in record.rows if "petaflops" in row]
    if not rows:
        return None
    names = list(dict.fromkeys(row["model"] for row in rows))
    tables = (
        *(_costs(rows, name) for name in names),
        _meaning(),
        *(_stages(rows, name) for name in names),
    )
    claims = _claims(record) if any(row["paper_petaflops"] for row in rows) else None
    sections = (Section("What growth saves", (_HOW, _ROUNDING, *_said(rows)), tables),)
    return Report(
        kind="FLOPs of growth",
        title=", ".join(names),
        lead=f"{len(names)} {'model' if len(names) == 1 else 'models'}, {len(rows)} rows.",
        sections=(*sections, *filter(None, [claims])),
    )


def _claims(record: Any) -> Section:
    header = ("claim", "verdict", "ours", "the paper's", "rule: it holds if")
    fields = ("statement", "verdict", "measured", "paper", "rule")
    rows = tuple(tuple(Cell(row[field]) for field in fields) for row in of_run(record))
    return Section("Claims of the paper", (), (Table("Claims and verdicts", header, rows),))


def flops_table(rows: Iterable[Row]) -> str:
    """A line for each row, plain text: PFLOP and ratio beside the paper's."""
    lines = [
        f"{'model':20}{'arm':18}{'steps':>8}{'PFLOP':>14}{'paper':>14}{'off by':>10}{'ratio':>8}"
        f"{'paper':>7}"
    ]
    for row in rows:
        name = row["model"] if len(row["model"]) < 20 else f"...{row['model'][-16:]}"
        arm = row["arm"] + (" *" if row["rounding"] not in (None, REMAINDER) else "")
        lines.append(
            f"{name:20}{arm:18}{row['steps']:8,}{_petaflops(row['petaflops']):>14}"
            f"{_petaflops(row['paper_petaflops']):>14}{_deviation(row['deviation']):>10}"
            f"{row['ratio']:8.4f}{_ratio(row['paper_ratio']):>7}"
        )
    lines += ["* steps of a stage rounded down, the rest to the last: how Table 7 was made;"]
    lines += ["  the others by largest remainder, as the paper's text says"]
    return "\n".join(lines)


def _said(rows: Sequence[Row]) -> list[str]:
    """What growth saves on each model, and what the saved FLOPs buy."""
    said = []
    for row in rows:
        if (row["arm"], row["rounding"]) != (GROWN, REMAINDER):
            continue
        (equal,) = (
            each["steps"]
            for each in rows
            if each["model"] == row["model"] and each["arm"] == GROWN + EQUAL_FLOPS
        )
        said.append(
            f"{row['model']}: a run at full depth costs {row['ratio']:.3f} times as much; growing "
            f"saves {100 * (1 - 1 / row['ratio']):.1f} %, or for the same FLOPs takes {equal:,} "
            f"steps instead of {row['steps']:,}."
        )
    return said


def _costs(rows: Sequence[Row], name: str) -> Table:
    own = [row for row in rows if row["model"] == name]
    lines = tuple(
        (
            Cell(row["arm"]),
            Cell((row["rounding"] or "").replace("_", " ")),
            Cell(f"{row['steps']:,}", row["steps"]),
            Cell(_petaflops(row["petaflops"]), row["petaflops"]),
            _cell(row["paper_petaflops"], _petaflops),
            _cell(row["deviation"], _deviation),
            Cell(f"{row['ratio']:.4f}", row["ratio"]),
            _cell(row["paper_ratio"], _ratio),
        )
        for row in own
    )
    header = ("arm", "rounding", "steps", "PFLOP", "the paper", "off by", "ratio", "the paper")
    reason = own[0]["reason"]  # of the baseline, which the paper's table has
    return Table(
        f"{name}: PFLOP of a run, and how many times as much a run at full depth costs",
        header,
        lines,
        sortable=True,
        note=f"No figures of the paper: {reason}." if reason else "",
    )


def _cell(value: float | None, words: Callable[[float], str]) -> Cell:
    """Empty where the paper has no figure."""
    return Cell() if value is None else Cell(words(value).replace("-", "−"), value)


def _stages(rows: Sequence[Row], name: str) -> Table:
    """The steps at each depth: a row for each arm that grows."""
    grown = [row for row in rows if row["model"] == name and row["rounding"]]
    depths = [str(depth) for depth, _ in grown[0]["stages"]]
    lines = tuple(
        (
            Cell(row["arm"]),
            Cell(row["rounding"].replace("_", " ")),
            *(Cell(f"{steps:,}", steps) for _, steps in row["stages"]),
        )
        for row in grown
    )
    caption = f"{name}: steps with so many layers"
    return Table(caption, ("arm", "rounding", *depths), lines, folded=True)


def _meaning() -> Table:
    rows = tuple((Cell(name), Cell(words)) for name, words in (ARMS | ROUNDINGS).items())
    return Table("What the words mean", ("word", "what"), rows, folded=True)


def _petaflops(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.3f}" if value < 1e9 else f"{value:.6e}"


def _deviation(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1e}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

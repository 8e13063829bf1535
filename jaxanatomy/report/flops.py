"""The page of what growth costs: FLOPs beside those of the paper (DG Table 7)."""

from jaxanatomy.growth.depth_arms import EQUAL_FLOPS
from jaxanatomy.measures.flops import ARMS, FLOOR, GROWN, REMAINDER, ROUNDINGS
from jaxanatomy.records import RunRecord
from jaxanatomy.report.claims import CLAIM, PRINTED, VERDICT, of_run
from jaxanatomy.report.common import known
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.report.views import Column, Row, Table
from jaxanatomy.words import petaflops

EQUAL = GROWN + EQUAL_FLOPS


def costs(record: RunRecord) -> list[Row]:
    """The rows of a run, without the fields for which the paper has no figure."""
    return [known(row) for row in record.rows]


def stages(record: RunRecord) -> list[Row]:
    """The steps at each depth of a model, a field for each arm that grows and its rounding."""
    found: dict[tuple, dict] = {}
    for row in costs(record):
        for layers, steps in row["stages"] if "rounding" in row else ():
            wide = found.setdefault(
                (row["model"], layers), {"model": row["model"], "layers": layers}
            )
            wide[f"{row['arm']}/{row['rounding']}"] = steps
    return list(found.values())


def words(record: RunRecord) -> list[Row]:
    """What arms and roundings mean."""
    del record
    return [{"word": name, "what": what} for name, what in (ARMS | ROUNDINGS).items()]


def claims(record: RunRecord) -> list[Row]:
    """The paper's claims, where the run has a model and settings of the paper."""
    papers = any(row["paper_petaflops"] for row in record.rows)
    return of_run(record) if papers else []


def saved(record: RunRecord) -> str:
    """What growth saves on each model, and what the saved FLOPs buy."""
    rows = {(row["model"], row["arm"], row["rounding"]): row for row in record.rows}
    return " ".join(
        f"{model}: a run at full depth costs {row['ratio']:.3f} times as much; growing saves "
        f"{100 * (1 - 1 / row['ratio']):.1f} %, or for the same FLOPs takes "
        f"{rows[model, EQUAL, REMAINDER]['steps']:,} steps instead of {row['steps']:,}."
        for (model, arm, rounding), row in rows.items()
        if (arm, rounding) == (GROWN, REMAINDER)
    )


def unpublished(record: RunRecord) -> str:
    """Why some models have no figures of the paper."""
    rows = [row for row in record.rows if row["arm"] == GROWN and row["rounding"] == REMAINDER]
    reasons = [f"{row['model']} ({row['reason']})" for row in rows if row["reason"]]
    return f"No figures of the paper: {', '.join(reasons)}." if reasons else ""


def lead(record: RunRecord) -> str:
    """The models."""
    return f"{', '.join(dict.fromkeys(row['model'] for row in record.rows))}."


PAGE = Page(
    kind="FLOPs of growth",
    title="What growing saves",
    lead=lead,
    sections=(
        Section(
            "Cost of a run",
            (
                saved,
                "Matrix products alone are counted: three times those of the forward, attention at "
                "full length. A model that grows by b layers at a time is shallow at first; the "
                "ratio is what a run at full depth costs over what its run costs. It depends on "
                "the shape, the length and the stages, not on the batch or the operator: MIDAS and "
                "LIDAS cost the same.",
                unpublished,
            ),
            (
                Table(
                    name="costs",
                    rows=costs,
                    title="PFLOP of a run, and a run at full depth as a multiple of it",
                    facet="model",
                    cells=(
                        Column("arm", "arm"),
                        Column("rounding", "rounding"),
                        Column("steps", "steps", ","),
                        Column("PFLOP", "petaflops", petaflops),
                        Column("paper", "paper_petaflops", petaflops),
                        Column("off by", "deviation", "+.1e"),
                        Column("ratio", "ratio", ".4f"),
                        Column("paper", "paper_ratio", ".3f"),
                    ),
                    note=(
                        "The paper says that it divides its steps among the stages by largest "
                        "remainder; its Table 7 comes out to the last digit when they are rounded "
                        "down and the last stage takes the rest (floor). In 200,000 steps the two "
                        "differ by 1e-5, which no printed ratio shows."
                    ),
                    printed=True,
                ),
                Table(
                    name="stages",
                    rows=stages,
                    title="Steps with so many layers",
                    facet="model",
                    cells=(
                        Column("layers", "layers"),
                        Column("grown, largest remainder", f"{GROWN}/{REMAINDER}", ","),
                        Column("grown, floor", f"{GROWN}/{FLOOR}", ","),
                        Column("grown, equal FLOPs", f"{EQUAL}/{REMAINDER}", ","),
                    ),
                    folded=True,
                ),
                Table(
                    name="words",
                    rows=words,
                    title="What the words mean",
                    facet="",
                    cells=(Column("word", "word"), Column("what", "what")),
                    folded=True,
                    prose=True,
                ),
            ),
        ),
        Section(
            "Claims of the paper",
            (),
            (
                Table(
                    name="claims",
                    rows=claims,
                    title="Claims and verdicts",
                    facet="",
                    cells=(
                        CLAIM,
                        VERDICT,
                        Column("ours", "measured"),
                        PRINTED,
                        Column("rule: it holds if", "rule"),
                    ),
                    prose=True,
                ),
            ),
        ),
    ),
)

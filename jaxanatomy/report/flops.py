"""The page of what growth costs: FLOPs beside those of the paper (DG Table 7)."""

from jaxanatomy.growth.depth_arms import EQUAL_FLOPS
from jaxanatomy.measures.flops import ARMS, FLOOR, GROWN, REMAINDER, ROUNDINGS
from jaxanatomy.records import RunRecord
from jaxanatomy.report import views as v
from jaxanatomy.report.claims import CLAIM, PRINTED, VERDICT, of_run
from jaxanatomy.report.common import ARM, known, merged
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import petaflops

EQUAL = GROWN + EQUAL_FLOPS


def costs(record: RunRecord) -> list[v.Row]:
    """The rows of a run, without the fields for which the paper has no figure."""
    return [{"panel": row["model"], **known(row)} for row in record.rows]


def stages(record: RunRecord) -> list[v.Row]:
    """The steps at each depth of a model, a field for each arm that grows and its rounding."""
    rows = [
        {"panel": row["model"], "layers": layers, f"{row['arm']}/{row['rounding']}": steps}
        for row in costs(record)
        if "rounding" in row
        for layers, steps in row["stages"]
    ]
    return merged(rows, "panel", "layers")


def words(record: RunRecord) -> list[v.Row]:
    """What arms and roundings mean."""
    del record
    return [{"word": name, "what": what} for name, what in (ARMS | ROUNDINGS).items()]


def claims(record: RunRecord) -> list[v.Row]:
    """The paper's claims, where the run has a model and settings of the paper."""
    papers = any(row["paper_petaflops"] for row in record.rows)
    return of_run(record) if papers else []


def saved(record: RunRecord) -> str:
    """What growing saves on each model, and what the saved FLOPs buy."""
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


COSTS = v.Table(
    "costs",
    costs,
    "PFLOP of a run, and a run at full depth as a multiple of it",
    cells=(
        ARM,
        v.Column("rounding", "rounding"),
        v.Column("steps", "steps", ","),
        v.Column("PFLOP", "petaflops", petaflops),
        v.Column("paper", "paper_petaflops", petaflops),
        v.Column("off by", "deviation", "+.1e"),
        v.Column("ratio", "ratio", ".4f"),
        v.Column("paper", "paper_ratio", ".3f"),
    ),
    note=(
        "The paper says that it divides its steps among the stages by largest remainder; its Table "
        "7 comes out to the last digit when they are rounded down and the last stage takes the "
        "rest (floor). In 200,000 steps the two differ by 1e-5, which no printed ratio shows."
    ),
    printed=True,
)
STAGES = v.Table(
    "stages",
    stages,
    "Steps with so many layers",
    cells=(
        v.Column("layers", "layers"),
        v.Column("grown, largest remainder", f"{GROWN}/{REMAINDER}", ","),
        v.Column("grown, floor", f"{GROWN}/{FLOOR}", ","),
        v.Column("grown, equal FLOPs", f"{EQUAL}/{REMAINDER}", ","),
    ),
    folded=True,
)
WORDS = v.Table(
    "words",
    words,
    "What the words mean",
    cells=(v.Column("word", "word"), v.Column("what", "what")),
    folded=True,
    prose=True,
)
CLAIMS = v.Table(
    "claims",
    claims,
    "Claims and verdicts",
    cells=(
        CLAIM,
        VERDICT,
        v.Column("ours", "measured"),
        PRINTED,
        v.Column("rule: it holds if", "rule"),
    ),
    prose=True,
)

PAGE = Page(
    "FLOPs of growth",
    lambda record: f"{', '.join(dict.fromkeys(row['model'] for row in record.rows))}.",
    Section(
        "Cost of a run",
        saved,
        "Matrix products alone are counted: three times those of the forward, attention at full "
        "length. A model that grows by b layers at a time is shallow at first; the ratio is what a "
        "run at full depth costs over what its run costs. It depends on the shape, the length and "
        "the stages, not on the batch or the operator: MIDAS and LIDAS cost the same.",
        unpublished,
        COSTS,
        STAGES,
        WORDS,
    ),
    Section("Claims of the paper", CLAIMS),
    title="What growing saves",
)

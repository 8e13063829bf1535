"""LR section 8: whether weights tell of a run that fails before its loss does.

The paper has one run whose late layers grew; ours put large late layers into runs of twenty seeds.
A check after every step is the most that either kind of alarm can do; levels are those that ship.
"""

from jaxanatomy.claims.arms import SEEDS, seeds_of
from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.measures.arms.alarms import OF_LOSS, SCORE, Levels, scores
from jaxanatomy.measures.statistics.estimates import Estimate, wilson_interval
from jaxanatomy.words import PLAIN

LATE = "late_layers"
SPECTRAL = ("spectral",)
HALF = 0.5  # of the runs: by most alarms are of use


def _late(table: Table) -> list[Row]:
    """Runs with late layers whose loss doubles: whether alarms came before, by their kinds."""
    runs = [row for row in table.rows if row.get("purpose") == SCORE]
    there = {(row["fault"], row["seed"]) for row in runs}
    faulty = [row for row in runs if row["fault"] == LATE and (row["twin"], row["seed"]) in there]
    twins = {(row["twin"], row["seed"]) for row in faulty}
    scored = [*faulty, *(row for row in runs if (row["fault"], row["seed"]) in twins)]
    shipped = table.record.config.get("shipped") or {}
    found: dict[int, Row] = {}
    for kinds in (SPECTRAL, OF_LOSS):
        levels: Levels = {kind: shipped[kind][0] for kind in kinds if shipped.get(kind)}
        for row in scores(scored, {"": levels}, interval=1):
            if row["doubled"] is not None:
                own = found.setdefault(row["seed"], {"fault": LATE, "seed": row["seed"]})
                own[kinds] = row["lead"] is not None and row["lead"] >= 0 if levels else None
    return list(found.values())


def _before(kinds: tuple[str, ...], words: str) -> Quantity:
    """The share of runs in which these alarms come before the loss doubles, by Wilson."""

    def read(part: Part, level: float) -> Estimate:
        seeds = len(seeds_of(part.table))
        if len(part.rows) < SEEDS:
            raise MissingError(f"the loss doubles in {len(part.rows)} of {seeds} runs, no {SEEDS}")
        found = [row[kinds] for row in part.rows]
        if None in found:
            raise MissingError(f"alarms {', '.join(kinds)} are off")
        return wilson_interval(sum(found) / len(found), len(found), level)

    return Quantity(
        f"the share of runs in which {words} comes before the loss doubles", PLAIN, read
    )


_BY_WEIGHTS = _before(SPECTRAL, "an alarm of spectral norms")
_BY_LOSS = _before(OF_LOSS, "an alarm of the loss or of the gradient's norm")
RUNS = Rows("alarms", _late).at(fault=(LATE,))

CLAIMS = (
    Claim(
        "spectral_norms_tell_of_late_layers",
        "LR section 8",
        "Late layers that are too large show in spectral norms before the loss is lost, in most "
        "runs.",
        "10 to 20 times the peers at step 3,000, NaN at 4,400; one run",
        Criterion(RUNS, _BY_WEIGHTS, ALL.above(HALF), control=RUNS, by=_BY_LOSS),
    ),
    Claim(
        "losses_do_not_tell_of_late_layers",
        "LR section 8",
        "They are invisible to the loss until it is lost: its jumps, and those of the gradient's "
        "norm, come before in less than half of the runs.",
        "'invisible to the loss curve until it hits'; one run",
        Criterion(RUNS, _BY_LOSS, ALL.below(HALF), control=RUNS, by=_BY_WEIGHTS),
    ),
)

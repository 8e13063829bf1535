"""Arms of training: what is read of their final rows, by seeds and held-out text together.

Losses decide nothing where a learning rate was not tuned, or lies at the edge of those that were
tried.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxanatomy.claims.core import Criterion
from jaxanatomy.claims.quantities import Quantity, certain
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table, Values
from jaxanatomy.claims.rules import Rule
from jaxanatomy.measures.arms.finals import Losses
from jaxanatomy.measures.arms.tuning import FINAL, losses_by_rate, of_purpose, rate_at_edge
from jaxanatomy.measures.statistics.estimates import Estimate, draws_interval, seeds_interval
from jaxanatomy.words import COUNT, NATS, PERCENT, PLAIN, POINTS

SEEDS = 3  # fewer cannot tell


def finals(table: Table, measure: str = "") -> list[Row]:
    """The final rows of results; those of seeds that only tune a learning rate are left out.

    Args:
      table: Rows of a run.
      measure: Field of a loss: rows have the `losses` of all arms then, and why those of their own
        are `untuned`.
    """
    found = [{**row, "kind": None} for row in of_purpose(table.rows, FINAL)]
    if not measure:
        return found
    rows = table.record.rows
    losses, rates = Losses.of(rows, measure), losses_by_rate(rows, measure)
    why = {arm: _untuned(rows, arm, len(rates.get(arm, ())), measure) for arm in losses.by_arm}
    return [{**row, "losses": losses, "untuned": why[row["arm"]]} for row in found]


def _untuned(rows: Sequence[Row], arm: str, rates: int, measure: str) -> str:
    if rates < 2:
        return f"no learning rate was tuned for {arm}"
    edge = rate_at_edge(rows, arm, measure)
    return f"the learning rate of {arm} is at the edge of those that were tried" if edge else ""


def require_tuned(*arms: Sequence[Row]) -> None:
    """Raises `MissingError` where an arm's learning rate leaves open how good it is."""
    why = next((rows[0]["untuned"] for rows in arms if rows[0]["untuned"]), "")
    if why:
        raise MissingError(why)


def seeds_of(table: Table) -> list[int]:
    """The seeds of a run, also those that diverged or are still to come."""
    return list(table.record.config.get("seeds") or sorted({row["seed"] for row in table.rows}))


def compared(
    finals: Rows,
    arms: Values,
    quantity: Quantity,
    rule: Rule,
    control: Sequence[str] = (),
    beside: str = "",
    by: Quantity | None = None,
) -> Criterion:
    """A rule on arms, with what other arms have beside; `by` says of what, if not the quantity."""
    shown = finals.at(arm=control) if control else None
    return Criterion(finals.at(arm=arms), quantity, rule, control=shown, by=by, beside=beside)


def against(
    other: str,
    words: str,
    unit: str,
    of: Callable[[Sequence[Row], Sequence[Row], float], Estimate],
    field: str = "unit_nll",
) -> Quantity:
    """What is read of an arm's rows and another's, seed by seed.

    Args:
      other: The other arm.
      words: What it is; {other} stands for the other arm.
      unit: Of it.
      of: Reads it of the rows of both, at a level.
      field: All rows must have it.
    """

    def read(part: Part, level: float) -> Estimate:
        own = rows_by_seed(part, field)
        its = dataclasses.replace(part, key={"arm": other}, rows=part.table.find({"arm": other}))
        return of(own, rows_by_seed(its, field), level)

    return Quantity(words.format(other=other), unit, read)


def rows_by_seed(part: Part, field: str = "unit_nll") -> list[Row]:
    """The rows of an arm in the order of the seeds; `MissingError` where they decide nothing."""
    arm, seeds = part.key["arm"], seeds_of(part.table)
    if len(seeds) < SEEDS:
        raise MissingError(f"{len(seeds)} seeds where the rule needs {SEEDS}")
    if not part.rows:
        raise MissingError(f"no {arm}")
    found = {row["seed"]: row for row in part.rows}
    for state, lost in (
        ("is not finished", [seed for seed in seeds if seed not in found]),
        ("diverged", [seed for seed, row in found.items() if row["nll"] is None]),
        (f"has no {field}", [seed for seed, row in found.items() if row.get(field) is None]),
    ):
        if lost:
            raise MissingError(f"{arm} {state} for seeds {', '.join(map(str, lost))}")
    return [found[seed] for seed in seeds]


def array_of(rows: Sequence[Row], field: str) -> np.ndarray:
    """A field of each seed."""
    return np.array([row[field] for row in rows], np.float64)


def loss_less(other: str) -> Quantity:
    """Final held-out loss of an arm less another's, nats per token, on the same seeds."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        require_tuned(own, its)
        found, _ = own[0]["losses"].difference((own[0]["arm"], its[0]["arm"]), level)
        return found

    return against(other, "the final held-out loss less that of {other}", NATS, of)


def loss_ratio(other: str) -> Quantity:
    """How many times an arm's final held-out loss another arm's is."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        require_tuned(own, its)
        found, _ = own[0]["losses"].log_ratio((its[0]["arm"], own[0]["arm"]), level)
        return found.map(np.exp)

    return against(other, "the final held-out loss of {other} over the arm's", COUNT, of)


def loss_above(other: str, require: Callable[..., None] = lambda own, its: None) -> Quantity:
    """By how much of another arm's held-out loss that of an arm lies above it.

    Args:
      other: The other arm.
      require: Raises `MissingError` where the rows of the two decide nothing.
    """

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        require(own, its)
        found, _ = own[0]["losses"].log_ratio((own[0]["arm"], its[0]["arm"]), level)
        return found.degradation_percent()

    return against(other, "the change of held-out loss against {other}", PERCENT, of)


def accuracy_less(other: str) -> Quantity:
    """Accuracy on the paper's primitives less another arm's, over seeds and questions."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        size_U, guessed = own[0]["questions_U"], own[0]["guessed"]
        own_SU, its_SU = array_of(own, "right_U"), array_of(its, "right_U")
        if not any(draws_interval(each, size_U).low > guessed for each in (own_SU, its_SU)):
            raise MissingError(f"no arm leaves the level of guessing, {100 * guessed:.1f} %")
        return draws_interval(100 * (own_SU - its_SU), size_U, level)

    words = "the accuracy on the five primitives less that of {other}"
    return against(other, words, POINTS, of, "right_U")


def completions_less(other: str) -> Quantity:
    """Prompts completed as taught, less another arm's, on the same seeds."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        less_S = array_of(own, "exact_completions") - array_of(its, "exact_completions")
        return seeds_interval(less_S.tolist(), level)

    return against(other, "the completions less those of {other}", PLAIN, of)


def saved(field: str, other: str) -> Quantity:
    """How much less of something an arm takes, in percent: one timing on one machine, or FLOPs."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        return certain(100 * (1 - float(array_of(own, field).mean() / array_of(its, field).mean())))

    return against(other, f"the {field} saved against {{other}}", PERCENT, of)

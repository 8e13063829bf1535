"""Arms of training: what is read of their final rows, by seeds and held-out text together."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxanatomy.claims.core import Criterion
from jaxanatomy.claims.quantities import Quantity, certain
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table, Values
from jaxanatomy.claims.rules import Rule
from jaxanatomy.measures.arms import log_ratio_sums
from jaxanatomy.measures.statistics import Estimate, draws_interval, seeds_interval
from jaxanatomy.measures.tuning import of_purpose
from jaxanatomy.words import COUNT, NATS, PERCENT, PLAIN, POINTS

SEEDS = 3  # fewer cannot tell


def finals(table: Table) -> list[Row]:
    """The final rows of results; those of seeds that only tune a learning rate are left out."""
    return [{**row, "kind": None} for row in of_purpose(table.rows, "final")]


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
        less_SU = array_of(own, "unit_nll") - array_of(its, "unit_nll")
        return draws_interval(less_SU, own[0]["unit_tokens"], level)

    return against(other, "the final held-out loss less that of {other}", NATS, of)


def loss_ratio(other: str) -> Quantity:
    """How many times an arm's final held-out loss another arm's is; linearised in its logarithm."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        tokens_U = np.asarray(own[0]["unit_tokens"])
        sums_SU = log_ratio_sums(array_of(its, "unit_nll"), array_of(own, "unit_nll"), tokens_U)
        return draws_interval(sums_SU, tokens_U, level).map(np.exp)

    return against(other, "the final held-out loss of {other} over the arm's", COUNT, of)


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

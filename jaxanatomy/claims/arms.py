"""Arms of training: what is read of their final rows, by seeds and held-out text together."""

from collections.abc import Sequence

import numpy as np

from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import Part, Row
from jaxanatomy.claims.words import COUNT, NATS, PERCENT, PLAIN
from jaxanatomy.measures.statistics import (
    Estimate,
    draws_interval,
    seeds_interval,
)
from jaxanatomy.records import RunRecord

SEEDS = 3  # fewer cannot tell

Pair = tuple[Sequence[Row], Sequence[Row]]


def finals(record: RunRecord) -> list[Row]:
    """The final rows of results; those of seeds that only tune a learning rate are left out."""
    return [
        {**row, "kind": None}
        for row in record.rows
        if row.get("kind") == "final" and row.get("purpose", "main") == "main"
    ]


def loss_less(other: str) -> Quantity:
    """Final held-out loss of an arm less another's, nats per token, on the same seeds."""

    def read(part: Part, level: float) -> Estimate | str:
        pair = _pair(part, other)
        if isinstance(pair, str):
            return pair
        own_SU, other_SU = map(_losses, pair)
        return draws_interval(own_SU - other_SU, pair[0][0]["unit_tokens"], level)

    return Quantity(f"the final held-out loss less that of {other}", NATS, read)


def loss_ratio(other: str) -> Quantity:
    """How many times an arm's final held-out loss another arm's is; linearised in its logarithm."""

    def read(part: Part, level: float) -> Estimate | str:
        pair = _pair(part, other)
        if isinstance(pair, str):
            return pair
        tokens_U = np.asarray(pair[0][0]["unit_tokens"])
        own_SU, other_SU = map(_losses, pair)
        own_S, other_S = (
            each.sum(axis=1, keepdims=True) / tokens_U.sum() for each in (own_SU, other_SU)
        )
        sums_SU = other_SU / other_S - own_SU / own_S + np.log(other_S / own_S) * tokens_U
        return draws_interval(sums_SU, tokens_U, level).map(np.exp)

    return Quantity(f"the final held-out loss of {other} over the arm's", COUNT, read)


def accuracy_less(other: str) -> Quantity:
    """Accuracy on the paper's primitives less another arm's, over seeds and questions."""

    def read(part: Part, level: float) -> Estimate | str:
        pair = _pair(part, other, "right_U")
        if isinstance(pair, str):
            return pair
        size_U, guessed = pair[0][0]["questions_U"], pair[0][0]["guessed"]
        own_SU, other_SU = (np.array([row["right_U"] for row in rows]) for rows in pair)
        if not any(draws_interval(each, size_U).low > guessed for each in (own_SU, other_SU)):
            return f"no arm leaves the level of guessing, {100 * guessed:.1f} %"
        return draws_interval(100 * (own_SU - other_SU), size_U, level)

    return Quantity(f"the accuracy on the five primitives less that of {other}", "points", read)


def completions_less(other: str) -> Quantity:
    """Prompts completed as taught, less another arm's, on the same seeds."""

    def read(part: Part, level: float) -> Estimate | str:
        pair = _pair(part, other)
        if isinstance(pair, str):
            return pair
        less = [
            one["exact_completions"] - two["exact_completions"]
            for one, two in zip(*pair, strict=True)
        ]
        return seeds_interval(less, level)

    return Quantity(f"the completions less those of {other}", PLAIN, read)


def saved(field: str, other: str) -> Quantity:
    """How much less of something an arm takes, in percent: one timing on one machine, or FLOPs."""

    def read(part: Part, level: float) -> Estimate | str:
        pair = _pair(part, other)
        if isinstance(pair, str):
            return pair
        own, its = (float(np.mean([row[field] for row in rows])) for rows in pair)
        return Estimate(*(3 * [100 * (1 - own / its)]))

    return Quantity(f"the {field} saved against {other}", PERCENT, read)


def _pair(part: Part, other: str, field: str = "unit_nll") -> Pair | str:
    """The rows of an arm and another on the run's seeds, or why they decide nothing."""
    named = {str(part.key["arm"]): part.rows, other: part.table.find({"arm": other})}
    planned = part.table.record.config.get("seeds") or sorted(row["seed"] for row in part.rows)
    if len(planned) < SEEDS:
        return f"{len(planned)} seeds where the rule needs {SEEDS}"
    found = []
    for arm, rows in named.items():
        by_seed = {row["seed"]: row for row in rows}
        for state, seeds in (
            ("is not finished", [seed for seed in planned if seed not in by_seed]),
            ("diverged", [seed for seed, row in by_seed.items() if row["nll"] is None]),
            (f"has no {field}", [seed for seed, row in by_seed.items() if row.get(field) is None]),
        ):
            if seeds:
                return (
                    f"{arm} {state} for seeds {', '.join(map(str, seeds))}" if rows else f"no {arm}"
                )
        found.append([by_seed[seed] for seed in planned])
    return found[0], found[1]


def _losses(rows: Sequence[Row]) -> np.ndarray:
    return np.array([row["unit_nll"] for row in rows], np.float64)

"""LR sections 7 and 8: layers while a model trains, by the looks of `--config.roles_every`.

Read of k-hop growth, whose models use their depth. What is said of plain training is read of the
baseline; whether roles change where the loss falls, of all arms together.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxanatomy.claims.arms import SEEDS, compared, finals, rows_by_seed, seeds_of
from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.growth.depth_arms import BASELINE
from jaxanatomy.measures.arms.role_courses import (
    changes_and_falls,
    commitment,
    courses_of,
    fall_interval,
)
from jaxanatomy.measures.statistics.estimates import Estimate, seeds_interval
from jaxanatomy.measures.statistics.shares import clustered_share
from jaxanatomy.words import COUNT, PERCENT, PLAIN

EARLY = 0.3  # of the steps: LR's 30,000 of 100,000
BALANCE = "attention_imbalance"
_LOOKS = "set roles_every"


def _finals(table: Table) -> list[Row]:
    """Final rows with the looks at the model."""
    courses = courses_of(table.record.rows)
    return [
        {**row, "nll": row["eval_nll"], "looks": courses.get((row["arm"], row["seed"]))}
        for row in finals(table)
    ]


def _together(table: Table) -> list[Row]:
    """A row for each seed: layers that change, and falls of the loss, between two looks."""
    rows = table.record.rows
    found = changes_and_falls(rows, courses_of(rows))
    names = ("seed", "change_I", "fall_I")
    return [dict(zip(names, row, strict=True)) for row in zip(*found, strict=True)] if found else []


LOOKED, TOGETHER = Rows("khop_growth", _finals), Rows("khop_growth", _together)


def _of_looks(words: str, of: Callable[[Sequence[Row]], float]) -> Quantity:
    """What is read of the looks at a model, over seeds."""

    def read(part: Part, level: float) -> Estimate:
        return seeds_interval([of(row["looks"]) for row in rows_by_seed(part, "looks")], level)

    return Quantity(words, PLAIN, read)


def _commitment(looks: Sequence[Row]) -> tuple[float, float]:
    found = commitment(looks, EARLY)
    if found is None:
        why = f"fewer than two intervals between looks before or after {EARLY:.0%} of the steps"
        raise MissingError(f"{why}; {_LOOKS} lower")
    return found


def _stay(part: Part, level: float) -> Estimate:
    """The share of layers; those of one seed are not independent."""
    looks_S = [row["looks"] for row in rows_by_seed(part, "looks")]
    layers_S = np.array([len(looks[-1]["roles"]) for looks in looks_S])
    stay_S = np.array([_commitment(looks)[0] for looks in looks_S])
    return clustered_share(stay_S * layers_S, layers_S, level)


def _log_spread(looks: Sequence[Row]) -> float:
    """The log of how many times as far layers differ at the last look as at the first."""
    ends = [np.std(look["features"].get(BALANCE, (math.nan,))) for look in (looks[0], looks[-1])]
    if not all(each > 0 for each in ends):
        raise MissingError(f"layers do not differ in {BALANCE}, or it is undefined")
    return math.log(ends[1] / ends[0])


def _falls(part: Part, level: float) -> Estimate:
    """How much further the loss falls for each more layer that changes, over seeds."""
    rows, seeds = part.rows, seeds_of(part.table)
    if len(rows) < max(SEEDS, len(seeds)):
        why = f"{len(rows)} of {len(seeds)} seeds have looks, where the rule needs {SEEDS}"
        raise MissingError(f"{why}; {_LOOKS}")
    change_SI, fall_SI = (np.array([row[name] for row in rows]) for name in ("change_I", "fall_I"))
    found = fall_interval(change_SI, fall_SI, level)
    if math.isnan(found.value):
        raise MissingError("no seed changes more roles than another")
    return found


_SPREAD = _of_looks(
    "how many times as far layers differ in attention's imbalance (|share of energy - 1/2|, "
    "standard deviation) at the end as at the beginning",
    _log_spread,
)
_ALIKE = Quantity(_SPREAD.words, COUNT, lambda part, level: _SPREAD.of(part, level).map(np.exp))

COURSE_CLAIMS = (
    Claim(
        "plain_training_makes_layers_alike",
        "LR section 7",
        "Uniformity is the default attractor: plain training draws layers together, so that "
        "attention's share of energy differs less between layers at its end than at its beginning.",
        "0.43 to 0.48 at the end, standard deviation 0.014; at the beginning not measured",
        compared(LOOKED, (BASELINE,), _ALIKE, ALL.below(1.0)),
    ),
    Claim(
        "roles_settle_early",
        "LR section 8",
        f"After {EARLY:.0%} of the steps most layers have the role of the end and keep it, and "
        "fewer layers change from look to look than before.",
        "'by step 20K-30K' of 100K 'most layers have committed to their eventual role'",
        (
            compared(
                LOOKED,
                (BASELINE,),
                Quantity(f"the share of layers whose role stays from {EARLY:.0%} on", PLAIN, _stay),
                ALL.above(0.5),
            ),
            compared(
                LOOKED,
                (BASELINE,),
                _of_looks(
                    f"the share of layers that change between two looks before {EARLY:.0%}, less "
                    "that after,",
                    lambda looks: _commitment(looks)[1],
                ),
                ALL.above(0.0),
            ),
        ),
    ),
    Claim(
        "losses_fall_where_roles_change",
        "LR section 8",
        "Falls of the loss coincide with changes of roles: where more layers change than at the "
        "same look of other seeds, the loss falls further.",
        "'coincide with role transitions', without a figure; no other run beside",
        Criterion(
            TOGETHER,
            Quantity(
                "how much further the loss falls for each more layer that changes its role",
                PERCENT,
                _falls,
            ),
            ALL.above(0.0),
        ),
    ),
)

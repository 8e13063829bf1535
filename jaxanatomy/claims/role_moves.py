"""LR section 5: whether learned weight decay moves the roles of layers, and lowers the loss.

The paper compares one pair of runs. Ours are a thousand times smaller, with several seeds of each
arm, and the baseline with its text in another order as the null.
"""

from collections.abc import Sequence

import numpy as np

from jaxanatomy.claims.arms import against, compared, finals
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.role_shape import SHAPE_CLAIMS
from jaxanatomy.claims.rows import Row, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.measures.arms import finals_by_arm, log_ratio, loss_spread
from jaxanatomy.measures.role_moves import AGAIN, UNIFORM, beyond_null, distances, peers
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.words import PERCENT, PLAIN

LEARNED, RANDOM = "learned_policy", "random_policy"


def _finals(table: Table) -> list[Row]:
    """Final rows, with how far each is from the baseline of its seed, and the spread of losses."""
    by_arm = finals_by_arm(table.record.rows)
    far, spread = distances(by_arm), loss_spread(peers(by_arm, LEARNED))
    return [
        {**row, "nll": row["eval_nll"], "far": far, "losses": spread}
        | {"distance": far.get(row["arm"], {}).get(row["seed"])}
        for row in finals(table)
    ]


FINALS = Rows("role_moves", _finals)


def moved_beyond() -> Quantity:
    """How much further than another order of the text an arm moves the roles."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        del its
        found, _ = beyond_null(own[0]["far"], own[0]["arm"], level)
        return found

    words = "the distance of roles from the baseline's less that of {other}"
    return against(AGAIN, words, PLAIN, of, "distance")


def loss_above(other: str) -> Quantity:
    """By how much of another arm's held-out loss that of an arm lies above it."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        by_arm = {rows[0]["arm"]: {row["seed"]: row for row in rows} for rows in (own, its)}
        found, _ = log_ratio(by_arm, tuple(by_arm), own[0]["losses"], level)
        return found.map(lambda log: 100 * np.expm1(log))

    return against(other, "the change of held-out loss against {other}", PERCENT, of)


CLAIMS = (
    Claim(
        "learned_decay_moves_roles",
        "LR section 5",
        "Weight decay learned for each matrix of each layer moves the roles of layers.",
        "three specialists of 11 layers flattened, two others risen; one pair of runs",
        compared(FINALS, (LEARNED,), moved_beyond(), ALL.above(0.0), (RANDOM,)),
    ),
    Claim(
        "learned_decay_lowers_loss",
        "LR section 5",
        "It lowers the held-out loss.",
        "'Run B improved held-out perplexity', without a figure",
        compared(FINALS, (LEARNED,), loss_above(UNIFORM), ALL.below(0.0), (RANDOM, "none")),
    ),
    Claim(
        "learned_decay_beats_random_decay",
        "LR section 5 (our reading)",
        "What lowers it is what the policy learns: decays drawn at random do less.",
        "no such control",
        compared(FINALS, (LEARNED,), loss_above(RANDOM), ALL.below(0.0), (UNIFORM,)),
    ),
    *SHAPE_CLAIMS,
)

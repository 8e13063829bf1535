"""LR sections 5 and 7: what learned decay does to the roles of layers, what it keeps, and the loss.

The paper compares one pair of runs. Ours are a thousand times smaller, with several seeds of each
arm, and the baseline with its text in another order as the null. What changes nothing keeps
everything: so what is said to be kept counts where more is moved than another order moves.
"""

from collections.abc import Sequence

import numpy as np

from jaxanatomy.claims.arms import against, compared, finals, loss_above, rows_by_seed
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.role_shape import SHAPE_CLAIMS
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.measures.arms.finals import Losses, finals_by_arm
from jaxanatomy.measures.arms.role_moves import (
    AGAIN,
    UNIFORM,
    WITHIN,
    beyond_null,
    distances,
    lost_positions,
    peers,
    positions,
    rank_changes,
)
from jaxanatomy.measures.statistics import ratio
from jaxanatomy.measures.statistics.estimates import Estimate, seeds_interval, student_quantile
from jaxanatomy.words import COUNT, PERCENT, PLAIN

LEARNED, RANDOM = "learned_policy", "random_policy"
BALANCE = "attention_share_energy"
KEPT = 25.0  # percent of the saturated positions by which their number may change


def _finals(table: Table) -> list[Row]:
    """Final rows, with how far each is from the baseline of its seed, and the spread of losses."""
    by_arm = finals_by_arm(table.record.rows)
    far = distances(by_arm)
    losses = Losses.of(table.record.rows, among=peers(by_arm, LEARNED))
    beside = {"far": far, "lost": lost_positions(by_arm), "rank_changes": rank_changes(by_arm)}
    return [
        {**row, "nll": row["eval_nll"], **beside, "losses": losses}
        | {"distance": far.get(row["arm"], {}).get(row["seed"])}
        for row in finals(table)
    ]


FINALS = Rows("role_moves", _finals)


def more_than_again(name: str, words: str) -> Quantity:
    """What an arm has more than another order of the text, both beside the baseline.

    Args:
      name: Field of `_finals`: of all arms and seeds.
      words: What it is.
    """

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        del its
        found, _ = beyond_null(own[0][name], own[0]["arm"], level)
        return found

    return against(AGAIN, f"{words} less that of {{other}}", PLAIN, of, "distance")


def saturated_change() -> Quantity:
    """By how much of the baseline's the number of saturated positions changes, all seeds together.

    A ratio of two means over seeds, with Student's interval of its linearisation.
    """

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        own_S, its_S = (np.array([len(positions(row)) for row in rows]) for rows in (own, its))
        if not its_S.sum():
            raise MissingError(f"no neuron of {UNIFORM} is saturated")
        (mean,), (error,), _ = ratio.linearise(100.0 * (own_S - its_S)[None], its_S)
        half = student_quantile(level, len(its_S) - 1) * error
        return Estimate(*map(float, (mean, mean - half, mean + half)))

    words = "the change of the number of saturated positions against {other}"
    return against(UNIFORM, words, PERCENT, of, "saturated")


def _rank_change(part: Part, level: float) -> Estimate:
    rows = rows_by_seed(part, "distance")
    return seeds_interval([row["rank_changes"][row["arm"]][row["seed"]] for row in rows], level)


def times_as_uneven() -> Quantity:
    """How many times as far layers differ in attention's share of energy as the baseline's."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        own_S, its_S = (
            np.array([row["features"][BALANCE] for row in rows], np.float64).std(axis=1)
            for rows in (own, its)
        )
        if not (own_S.all() and its_S.all()):
            raise MissingError("layers do not differ in attention's share")
        return seeds_interval(np.log(own_S / its_S), level).map(np.exp)

    words = "how many times as far (standard deviation) layers differ in the share as {other}'s"
    return against(UNIFORM, words, COUNT, of, "features")


MOVED = more_than_again("far", "the distance of roles from the baseline's")
LOST = more_than_again("lost", "the number of saturated positions of the baseline that are lost")
RANKS = "the largest change of an effective rank (o_proj, gate_proj, down_proj) of any layer"
RANK_CHANGE = Quantity(RANKS, PLAIN, _rank_change)
RANK_CHANGE_MORE = more_than_again("rank_changes", RANKS)


CLAIMS = (
    Claim(
        "learned_decay_moves_roles",
        "LR section 5",
        "Weight decay learned for each matrix of each layer moves the roles of layers.",
        "three specialists of 11 layers flattened, two others risen; one pair of runs",
        compared(FINALS, (LEARNED,), MOVED, ALL.above(0.0), (RANDOM,)),
    ),
    Claim(
        "saturated_positions_conserved",
        "LR section 5",
        "It moves saturated positions and keeps their number: more are lost than by another order "
        f"of the text, and the number changes by less than {KEPT:g} %.",
        "'approximately preserved': 18 before, 13 after in the six layers that it names (−28 %)",
        (
            compared(FINALS, (LEARNED,), LOST, ALL.above(0.0), (RANDOM,)),
            compared(FINALS, (LEARNED,), saturated_change(), ALL.within(-KEPT, KEPT), (AGAIN,)),
        ),
    ),
    Claim(
        "effective_ranks_stay",
        "LR section 5",
        "It moves roles and keeps effective ranks: those of every layer stay within "
        f"{WITHIN:g}, and change less than by another order of the text.",
        "'stayed within ±3 across the entire body'; no other run beside",
        (
            compared(FINALS, (LEARNED,), MOVED, ALL.above(0.0), (RANDOM,)),
            compared(FINALS, (LEARNED,), RANK_CHANGE, ALL.below(WITHIN), (AGAIN,)),
            compared(FINALS, (LEARNED,), RANK_CHANGE_MORE, ALL.below(0.0), (RANDOM,)),
        ),
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
    Claim(
        "learned_decay_sets_layers_apart",
        "LR section 7",
        "Pressure that may differ from layer to layer breaks their symmetry: layers differ more in "
        "attention's share of energy than under one decay for all.",
        "standard deviation 0.13 against 0.014, ten times; one run of each",
        compared(FINALS, (LEARNED,), times_as_uneven(), ALL.above(1.0), (RANDOM, AGAIN)),
    ),
    *SHAPE_CLAIMS,
)

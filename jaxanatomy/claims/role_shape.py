"""LR sections 6, 8 and 9: widths, registers and skip gates of small models trained for it.

Seeds are compared with the same seeds of equal layers.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxanatomy.claims.arms import against, compared, finals, rows_by_seed
from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.data.registers import LEARNED
from jaxanatomy.growth.widths import WIDE_LATE
from jaxanatomy.measures.arms.registers import FREQUENT, REGISTERS, last_moves, times_less
from jaxanatomy.measures.arms.role_moves import UNIFORM
from jaxanatomy.measures.arms.role_shape import CV, spread
from jaxanatomy.measures.arms.skips import BY_ROLE, placements
from jaxanatomy.measures.statistics.estimates import Estimate, seeds_interval
from jaxanatomy.words import COUNT, PLAIN

LESS = 2.0  # times less than what would be no finding: noise, and other tokens


def _finals(table: Table) -> list[Row]:
    """Final rows with the last point of their registers."""
    moves = last_moves(table.record.rows)
    return [
        {**row, "nll": row["eval_nll"], "moves": moves.get((row["arm"], row["seed"]))}
        for row in finals(table)
    ]


FINALS = Rows("role_moves", _finals)


def spread_above(other: str) -> Quantity:
    """Over how many layers the CV is spread, less that of another arm."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        pairs = zip(own, its, strict=True)
        less = [spread(a["features"][CV]) - spread(b["features"][CV]) for a, b in pairs]
        return seeds_interval(less, level)

    words = "the number of layers over which the CV is spread, less that of {other},"
    return against(other, words, PLAIN, of, "features")


def _moves(part: Part) -> list[Row]:
    moves = [row["moves"] for row in rows_by_seed(part, "moves")]
    if not all(row[name]["moved"] for row in moves for name in (REGISTERS, FREQUENT)):
        raise MissingError("registers or tokens have not moved at all: they did not train")
    return moves


def _less_than_straight(part: Part, level: float) -> Estimate:
    return times_less(_moves(part), REGISTERS, level)


def _rms_change(part: Part, level: float) -> Estimate:
    changes = [row["moves"][REGISTERS]["rms_change"] for row in rows_by_seed(part, "moves")]
    return seeds_interval(changes, level)


def _beaten(part: Part, level: float) -> Estimate:
    return placements(rows_by_seed(part, "skip_nll"), level)[BY_ROLE]["share"]


def _less_than(far: Callable[[Row], float], words: str, beside: Quantity) -> Criterion:
    """That registers have moved `LESS` times less than something has, or would have.

    Args:
      far: How far, of a row that follows registers.
      words: What it is.
      beside: What else is shown of them.
    """

    def times_less_than(part: Part, level: float) -> Estimate:
        logs = [math.log(far(row) / row[REGISTERS]["moved"]) for row in _moves(part)]
        return seeds_interval(logs, level).map(np.exp)

    words = f"how many times less registers have moved than {words}"
    quantity = Quantity(words, COUNT, times_less_than)
    return compared(FINALS, (LEARNED,), quantity, ALL.above(LESS), (LEARNED,), by=beside)


SHAPE_CLAIMS = (
    Claim(
        "variable_width_spreads_specialists",
        "LR section 6",
        "Widths that rise with depth spread specialist function over more layers than equal ones.",
        "equal widths: the last two layers (CV 0.512 and 1.085); rising: five layers (CV 0.276 to "
        "0.296)",
        compared(FINALS, (WIDE_LATE,), spread_above(UNIFORM), ALL.above(0.0)),
    ),
    Claim(
        "registers_hardly_move",
        "LR section 9",
        f"Embeddings of registers hardly move: {LESS:g} times less than noise at Adam's rates "
        f"would have moved them, and {LESS:g} times less than the most frequent tokens move.",
        "'roughly 30x smaller' than a gradient of one direction, which noise alone comes to in a "
        "long run; no other token beside",
        (
            _less_than(
                lambda row: row["walk"],
                "a random walk at Adam's rates",
                Quantity("how many times less than straight on", COUNT, _less_than_straight),
            ),
            _less_than(
                lambda row: row[FREQUENT]["moved"],
                "the most frequent tokens",
                Quantity("the change of their RMS", PLAIN, _rms_change),
            ),
        ),
    ),
    Claim(
        "skip_gates_belong_at_passthroughs",
        "LR section 8",
        "Layers that are left out by their role cost less than layers left out at random.",
        "'consistently outperformed those that placed new modules in arbitrary positions'",
        compared(
            FINALS,
            (UNIFORM,),
            Quantity(
                "the share of sets of as many layers that cost more than the passthroughs, less "
                "1/2,",
                PLAIN,
                _beaten,
            ),
            ALL.above(0.0),
        ),
    ),
)

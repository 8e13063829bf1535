"""LR sections 6, 8 and 9: widths, registers and skip gates of small models trained for it.

Seeds are compared with the same seeds of equal layers.
"""

from collections.abc import Sequence

from jaxanatomy.claims.arms import against, compared, finals, rows_by_seed
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.data.registers import LEARNED
from jaxanatomy.growth.widths import WIDE_LATE
from jaxanatomy.measures.registers import REGISTERS, last_moves, times_less
from jaxanatomy.measures.role_moves import UNIFORM
from jaxanatomy.measures.role_shape import CV, spread
from jaxanatomy.measures.skips import BY_ROLE, placements
from jaxanatomy.measures.statistics import Estimate, seeds_interval
from jaxanatomy.words import COUNT, PLAIN

LESS = 30.0  # times less than straight on


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


def _times_less(part: Part, level: float) -> Estimate:
    found = times_less([row["moves"] for row in rows_by_seed(part, "moves")], REGISTERS, level)
    if found is None:
        raise MissingError("the registers have not moved at all: they did not train")
    return found


def _rms_change(part: Part, level: float) -> Estimate:
    changes = [row["moves"][REGISTERS]["rms_change"] for row in rows_by_seed(part, "moves")]
    return seeds_interval(changes, level)


def _beaten(part: Part, level: float) -> Estimate:
    return placements(rows_by_seed(part, "skip_nll"), level)[BY_ROLE]["share"]


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
        f"Embeddings of registers move {LESS:g} times less than a gradient of one direction would "
        "have moved them.",
        "'roughly 30x smaller'; RMS 0.01807 to 0.01812, printed as a change of 5e-4, which is 5e-5",
        compared(
            FINALS,
            (LEARNED,),
            Quantity(
                "how many times less the registers have moved than Adam's rates add up to",
                COUNT,
                _times_less,
            ),
            ALL.above(LESS),
            (LEARNED,),
            by=Quantity("the change of their RMS", PLAIN, _rms_change),
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

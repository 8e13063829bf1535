"""DG section 3: how a model starts when layers are inserted."""

import dataclasses

from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import degradation
from jaxanatomy.claims.rows import MissingError, Part, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.measures.statistics.estimates import Estimate

GROWN_ROWS = Rows("grow_checkpoint").where(draw=None)
_ELSEWHERE = Rows("grow_checkpoint").where(operator="random_place")
_OVER_LIDAS = degradation(GROWN_ROWS.where(operator="lidas"), "LIDAS")


def _draws(table: Table) -> list[int]:
    return [row["draw"] for row in table.find(_ELSEWHERE.fields)]


def _midas_over_lidas(part: Part, level: float) -> Estimate:
    lidas = part.table.find({"operator": "lidas", "draw": None})
    if lidas and lidas[0]["layers"] == part.rows[0]["layers"]:
        raise MissingError("both insert the same layers")
    return _OVER_LIDAS.of(part, level)


CLAIMS = (
    Claim(
        "lidas_starts_better",
        "DG section 3",
        "LIDAS initialises new layers better than MIDAS: of a finished model, before any training "
        "of what is new, MIDAS loses more. (The paper grows models in training.)",
        "'to provide a stronger initialisation'",
        Criterion(
            GROWN_ROWS.at(operator=("midas",)),
            dataclasses.replace(_OVER_LIDAS, of=_midas_over_lidas),
            ALL.above(0.0),
            control=_ELSEWHERE.at(draw=_draws),
            by=_OVER_LIDAS,
            beside="the control: blocks copied elsewhere, against LIDAS",
        ),
    ),
)

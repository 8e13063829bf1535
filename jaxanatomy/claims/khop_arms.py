"""Arms on k-hop tasks: what claims read of their final rows, and when these decide nothing.

Losses are compared as ratios, seed by seed (`measures.arms.finals.Losses`). Nothing is decided
where fewer than three seeds were trained, where both arms answer nearly everything, and where a
learning rate was not tuned or lies at the edge of those that were tried.
"""

from collections.abc import Sequence

from jaxanatomy.claims import arms as trained
from jaxanatomy.claims.arms import against, finals, require_tuned, rows_by_seed
from jaxanatomy.claims.computed_depth import less_than, readings, with_values
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.growth.depth_edits import ONCE
from jaxanatomy.measures.arms.depth_edits import loop_changes
from jaxanatomy.measures.arms.finals import finals_by_arm, living
from jaxanatomy.measures.arms.khop_growth import (
    SATURATED,
    TUNED_BY,
    accuracies,
    is_flat,
    is_saturated,
)
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.measures.statistics.seed_spread import seed_spread
from jaxanatomy.words import PERCENT, POINTS

LOOPED = "looped"
DEPTHS = 3  # constant ones that a claim about each of them needs: two are one comparison


def _finals(table: Table) -> list[Row]:
    """Final rows with what seeds do to them, and why they decide nothing."""
    by_arm = finals_by_arm(table.record.rows)
    saturated = {arm: is_saturated(living(seeds).values()) for arm, seeds in by_arm.items()}
    looped = loop_changes(by_arm, ONCE)
    values = {"accuracy": accuracies(by_arm), LOOPED: looped, **readings(by_arm)}
    loops = seed_spread(looped, of_difference=False)
    return [
        {**row, "saturated": saturated[row["arm"]], "loops": loops, "nll": row["eval_nll"]}
        for row in with_values(finals(table, TUNED_BY), values)
    ]


FINALS = Rows("khop_growth", _finals)


def _require_room(*arms: Sequence[Row]) -> None:
    require_tuned(*arms)
    if all(rows[0]["saturated"] for rows in arms):
        names = " and ".join(rows[0]["arm"] for rows in arms)
        raise MissingError(f"{names} answer more than {100 * SATURATED:g} % at the last hop")


def loss_above(other: str) -> Quantity:
    """`claims.arms.loss_above`, of arms that are tuned and not both saturated."""
    return trained.loss_above(other, _require_room)


def loss_above_shallower() -> Quantity:
    """The same against the arm of the next smaller constant depth."""

    def read(part: Part, level: float) -> Estimate:
        arms = constant_depths(part.table)
        if len(arms) < DEPTHS:
            raise MissingError(f"{len(arms)} constant depths where the claim needs {DEPTHS}")
        return loss_above(arms[arms.index(str(part.key["arm"])) - 1]).of(part, level)

    return Quantity("the change of held-out loss against the next smaller depth", PERCENT, read)


def accuracy_above(other: str) -> Quantity:
    """Accuracy, the mean over hops, less another arm's."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        _require_room(own, its)
        return less_than(own, its, "accuracy", level).map(lambda each: 100 * each)

    words = "the accuracy over all hops less that of {other}"
    return against(other, words, POINTS, of, "accuracy")


def looped() -> Quantity:
    """What the loss of an arm does when its middle block is applied once more."""

    def read(part: Part, level: float) -> Estimate:
        rows = rows_by_seed(part, LOOPED)
        require_tuned(rows)
        changes = [row[LOOPED] for row in rows]
        spread = rows[0]["loops"]
        return spread.mean(changes, (rows[0]["arm"],), level).degradation_percent()

    words = "the change of held-out loss with the middle block applied once more"
    return Quantity(words, PERCENT, read)


def looped_above(other: str) -> Quantity:
    """The same against what it does to another arm."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        return less_than(own, its, LOOPED, level).degradation_percent()

    words = "the change of held-out loss with the middle block applied once more, over {other}'s"
    return against(other, words, PERCENT, of, LOOPED)


def constant_depths(table: Table) -> list[str]:
    """Arms of constant depth, one for each depth, the shallowest first."""
    depths: dict[int, str] = {}
    for row in table.rows:
        if is_flat(row["arm"]):
            depths.setdefault(row["layers"], row["arm"])
    return [depths[layers] for layers in sorted(depths)]

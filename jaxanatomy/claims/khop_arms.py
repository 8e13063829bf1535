"""Arms on k-hop tasks: what claims read of their final rows, and when these decide nothing.

That an arm matches another has a rule of its own (`NotAbove`).

Losses are compared as ratios, seed by seed (`measures.arms.Losses`). Nothing is decided where fewer
than three seeds were trained, where both arms answer nearly everything, and where a learning rate
was not tuned or lies at the edge of those that were tried.
"""

from collections.abc import Sequence

from jaxanatomy.claims import arms as trained
from jaxanatomy.claims.arms import against, finals, require_tuned, rows_by_seed
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import Count, Rule
from jaxanatomy.growth.edits import ONCE
from jaxanatomy.measures.arms import finals_by_arm, living
from jaxanatomy.measures.depth_arms import depth_readings
from jaxanatomy.measures.edited import (
    LATE,
    PAIRS,
    is_late_cut,
    is_swap_of_pairs,
    loop_changes,
    share_lost,
)
from jaxanatomy.measures.khop_growth import (
    SATURATED,
    TUNED_BY,
    accuracies,
    is_flat,
    is_saturated,
)
from jaxanatomy.measures.seed_spread import seed_spread
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.words import PERCENT, PLAIN, POINTS

DEPTHS = 3  # constant ones that a claim about each of them needs: two are one comparison


class NotAbove(Rule):
    """Parts lie below a margin above 0, and none is told to lie above 0, however little."""

    def meets(self, estimate: Estimate) -> bool:
        """Whether the interval ends below the margin, and reaches 0."""
        return super().meets(estimate) and estimate.low <= 0

    def misses(self, estimate: Estimate) -> bool:
        """Whether the whole interval lies above 0, inside the margin or beyond it."""
        return estimate.low > 0

    def words(self, unit: str) -> str:
        """As of `Rule`."""
        return f"{super().words(unit)} and reaches 0; it fails if it lies above 0"


def not_above(count: Count, margin: float) -> Rule:
    """So many parts are not higher than what they are compared with, to a margin."""
    return NotAbove(count, high=margin)


def _finals(table: Table) -> list[Row]:
    """Final rows with what seeds do to them, and why they decide nothing."""
    by_arm = finals_by_arm(table.record.rows)
    saturated = {arm: is_saturated(living(seeds).values()) for arm, seeds in by_arm.items()}
    changes = {
        "accuracy": accuracies(by_arm),
        "looped": loop_changes(by_arm, ONCE),
        LATE: share_lost(by_arm, is_late_cut),
        PAIRS: share_lost(by_arm, is_swap_of_pairs),
        **depth_readings(by_arm),
    }
    spreads = {
        "loops": seed_spread(changes["looped"], of_difference=False),
        **{name: seed_spread(own, of_difference=True) for name, own in changes.items()},
    }
    return [
        {**row, "saturated": saturated[row["arm"]], "spreads": spreads, "nll": row["eval_nll"]}
        | {name: own.get(row["arm"], {}).get(row["seed"]) for name, own in changes.items()}
        for row in finals(table, TUNED_BY)
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
        return _less_than(own, its, "accuracy", level).map(lambda each: 100 * each)

    words = "the accuracy over all hops less that of {other}"
    return against(other, words, POINTS, of, "accuracy")


def looped() -> Quantity:
    """What the loss of an arm does when its middle block is applied once more."""

    def read(part: Part, level: float) -> Estimate:
        rows = rows_by_seed(part, "looped")
        require_tuned(rows)
        changes = [row["looped"] for row in rows]
        spread = rows[0]["spreads"]["loops"]
        return spread.mean(changes, (rows[0]["arm"],), level).degradation_percent()

    words = "the change of held-out loss with the middle block applied once more"
    return Quantity(words, PERCENT, read)


def looped_above(other: str) -> Quantity:
    """The same against what it does to another arm."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        return _less_than(own, its, "looped", level).degradation_percent()

    words = "the change of held-out loss with the middle block applied once more, over {other}'s"
    return against(other, words, PERCENT, of, "looped")


def lost_above(other: str, edit: str) -> Quantity:
    """How much more of its knowledge than another an arm loses by an edit, `LATE` or `PAIRS`."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        return _less_than(own, its, edit, level).map(lambda each: 100 * each)

    words = f"the {edit}, of what is right beyond guessing, less that of {{other}}"
    return against(other, words, POINTS, of, edit)


def reads_above(other: str, reading: str) -> Quantity:
    """A reading of `measures.depth_arms` less that of another arm."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        return _less_than(own, its, reading, level)

    return against(other, f"the {reading} less that of {{other}}", PLAIN, of, reading)


def _less_than(own: Sequence[Row], its: Sequence[Row], field: str, level: float) -> Estimate:
    """A field of one arm less that of another, seed by seed."""
    require_tuned(own, its)
    less = [row[field] - paired[field] for row, paired in zip(own, its, strict=True)]
    arms = own[0]["arm"], its[0]["arm"]
    return own[0]["spreads"][field].mean(less, arms, level)


def constant_depths(table: Table) -> list[str]:
    """Arms of constant depth, one for each depth, the shallowest first."""
    depths: dict[int, str] = {}
    for row in table.rows:
        if is_flat(row["arm"]):
            depths.setdefault(row["layers"], row["arm"])
    return [depths[layers] for layers in sorted(depths)]

"""Growth in depth on a task that needs depth: what DG section 3 and its relatives claim.

The papers train on text, of which our models are too small to need many layers. On k-hop
induction they need them. Losses are compared as ratios, seed by seed (`measures.seed_spread`).
Nothing is decided where fewer than three seeds were trained, where both arms answer nearly
everything, and where a learning rate was not tuned or lies at the edge of those that were tried.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxanatomy.claims.arms import against, compared, finals, rows_by_seed, saved
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.depth_growth import GROWN, LIDAS, MIDAS, printed, unlike
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table
from jaxanatomy.claims.rules import ALL, ANY
from jaxanatomy.growth.depth_arms import (
    BASELINE,
    EQUAL_FLOPS,
    EXPAND,
    FRESH,
    LN_SCALING,
    RANDOM,
    SHALLOW,
    Arm,
)
from jaxanatomy.growth.edits import ONCE
from jaxanatomy.measures.arms import living, log_ratio
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
    finals_by_arm,
    is_flat,
    is_saturated,
    last_hops,
    loss_spread,
)
from jaxanatomy.measures.seed_spread import SeedSpread, seed_spread
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.measures.tuning import losses_by_rate, rate_at_edge
from jaxanatomy.words import PERCENT, POINTS

MARGIN = 25.0  # percent of the loss
# Percent of answers: intervals of accuracies are over seeds alone, and other held-out sequences
# than these would move them by about one.
LEAST = 3.0

_TEXT = "on text, in nats: {}"
_EQUAL = tuple(arm + EQUAL_FLOPS for arm in GROWN)


def _finals(table: Table) -> list[Row]:
    """Final rows with what seeds do to them, and why they decide nothing."""
    by_arm = finals_by_arm(table.record.rows)
    rates = losses_by_rate(table.record.rows, TUNED_BY)
    more = {
        arm: {
            "saturated": is_saturated(living(seeds).values()),
            "untuned": _untuned(table.record.rows, arm, len(rates.get(arm, ()))),
        }
        for arm, seeds in by_arm.items()
    }
    changes = {
        "last_hop": last_hops(by_arm),
        "looped": loop_changes(by_arm, ONCE),
        LATE: share_lost(by_arm, is_late_cut),
        PAIRS: share_lost(by_arm, is_swap_of_pairs),
    }
    spreads = {
        "losses": loss_spread(by_arm),
        "loops": seed_spread(changes["looped"], of_difference=False),
        **{name: seed_spread(own, of_difference=True) for name, own in changes.items()},
    }
    return [
        {**row, **more[row["arm"]], "spreads": spreads, "nll": row["eval_nll"]}
        | {name: own.get(row["arm"], {}).get(row["seed"]) for name, own in changes.items()}
        for row in finals(table)
    ]


def _untuned(rows: Iterable[Row], arm: str, rates: int) -> str:
    if rates < 2:
        return f"no learning rate was tuned for {arm}"
    edge = rate_at_edge(rows, arm, TUNED_BY)
    return f"the learning rate of {arm} is at the edge of those that were tried" if edge else ""


FINALS = Rows("khop_growth", _finals)


def _require_tuned(*arms: Sequence[Row]) -> None:
    why = next((rows[0]["untuned"] for rows in arms if rows[0]["untuned"]), "")
    if why:
        raise MissingError(why)


def _require_room(*arms: Sequence[Row]) -> None:
    _require_tuned(*arms)
    if all(rows[0]["saturated"] for rows in arms):
        names = " and ".join(rows[0]["arm"] for rows in arms)
        raise MissingError(f"{names} answer more than {100 * SATURATED:g} % at the last hop")


def loss_above(other: str) -> Quantity:
    """By how much of another arm's held-out loss that of an arm lies above it."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        _require_room(own, its)
        by_arm = {rows[0]["arm"]: {row["seed"]: row for row in rows} for rows in (own, its)}
        names = own[0]["arm"], its[0]["arm"]
        found, _ = log_ratio(by_arm, names, own[0]["spreads"]["losses"], level)
        return found.degradation_percent()

    return against(other, "the change of held-out loss against {other}", PERCENT, of)


def loss_above_shallower() -> Quantity:
    """The same against the arm of the next smaller constant depth."""

    def read(part: Part, level: float) -> Estimate:
        arms = _flat(part.table)
        return loss_above(arms[arms.index(str(part.key["arm"])) - 1]).of(part, level)

    return Quantity("the change of held-out loss against the next smaller depth", PERCENT, read)


def last_hop_above(other: str) -> Quantity:
    """Accuracy at the last hop less another arm's."""

    def of(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
        _require_room(own, its)
        return _less_than(own, its, "last_hop", level).map(lambda each: 100 * each)

    words = "the accuracy at the last hop less that of {other}"
    return against(other, words, POINTS, of, "last_hop")


def looped() -> Quantity:
    """What the loss of an arm does when its middle block is applied once more."""

    def read(part: Part, level: float) -> Estimate:
        rows = rows_by_seed(part, "looped")
        _require_tuned(rows)
        changes = [row["looped"] for row in rows]
        spread = rows[0]["spreads"]["loops"]
        return _mean(changes, (rows[0]["arm"],), spread, level).degradation_percent()

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


def _less_than(own: Sequence[Row], its: Sequence[Row], field: str, level: float) -> Estimate:
    """A field of one arm less that of another, seed by seed."""
    _require_tuned(own, its)
    less = [row[field] - paired[field] for row, paired in zip(own, its, strict=True)]
    return _mean(less, (own[0]["arm"], its[0]["arm"]), own[0]["spreads"][field], level)


def _mean(
    values: Sequence[float], arms: tuple[str, ...], spread: SeedSpread, level: float
) -> Estimate:
    mean, half = float(np.mean(values)), spread.half_width(arms, len(values), level)
    return Estimate(mean, mean - half, mean + half)


def _flat(table: Table) -> list[str]:
    """Arms of constant depth, one for each depth, the shallowest first."""
    depths: dict[int, str] = {}
    for row in table.rows:
        if is_flat(row["arm"]):
            depths.setdefault(row["layers"], row["arm"])
    return [depths[layers] for layers in sorted(depths)]


def _deeper(table: Table) -> list[str]:
    return _flat(table)[1:]


def _expanded(table: Table) -> list[str]:
    arms = dict.fromkeys(row["arm"] for row in table.rows)
    return [arm for arm in arms if Arm.parse(arm).base == EXPAND and not Arm.parse(arm).equal]


def _trained(*arms: str) -> Callable[[Table], Sequence[str]]:
    """Those of some arms that a run has; all where it has none."""
    return lambda table: [arm for arm in arms if table.find({"arm": arm})] or arms


def _matches(arm: str) -> Claim:
    return Claim(
        f"khop_{arm}_matches_loss",
        "DG section 3.2, Table 1",
        f"In as many steps {arm.upper()} matches the baseline's held-out loss, to "
        f"{MARGIN:g} % of it.",
        _TEXT.format(printed("nll", arm, BASELINE)),
        compared(
            FINALS,
            (arm,),
            loss_above(BASELINE),
            ALL.below(MARGIN),
            (arm,),
            by=saved("flops", BASELINE),
        ),
    )


def _less(
    id: str, arms: Sequence[str], other: str, source: str, statement: str, paper: str
) -> Claim:
    """That arms have less loss than another."""
    criterion = compared(FINALS, _trained(*arms), loss_above(other), ALL.below(0.0))
    return Claim(f"khop_{id}", source, statement, paper, criterion)


CLAIMS = (
    Claim(
        "khop_needs_depth",
        "LD (arXiv 2402.09268)",
        "The task needs depth: each constant depth has less held-out loss than the next smaller.",
        "proved for the depth that k hops need, about log2(k); losses not measured",
        compared(FINALS, _deeper, loss_above_shallower(), ALL.below(0.0)),
    ),
    _matches(MIDAS),
    _matches(LIDAS),
    Claim(
        "khop_lidas_less_loss_than_midas",
        "DG section 3.2, Table 1",
        "LIDAS has a lower held-out loss than MIDAS.",
        _TEXT.format(printed("nll", LIDAS, MIDAS)),
        compared(FINALS, (LIDAS,), unlike(loss_above(MIDAS)), ALL.below(0.0)),
    ),
    _less(
        "growth_wins_at_equal_flops",
        _EQUAL,
        BASELINE,
        "DG section 5, Table 7",
        "With as many FLOPs as the baseline grown models have a lower held-out loss.",
        "not measured; equal losses with 22 % fewer FLOPs suggest it",
    ),
    Claim(
        "khop_growth_raises_the_last_hop",
        "DG section 3.2, Table 1",
        "In as many steps grown models answer more at the last hop than the baseline, by "
        f"{LEAST:g} points or more, as they answer more reasoning primitives.",
        f"hops not measured; primitives: {printed('primitives', MIDAS, LIDAS, BASELINE)}",
        compared(FINALS, _trained(*GROWN), last_hop_above(BASELINE), ALL.above(LEAST)),
    ),
    Claim(
        "khop_growth_uses_depth",
        "DG section 4.1",
        "Grown models make use of their depth: they have less held-out loss than a model that "
        "stays shallow, in as many steps and with as many FLOPs.",
        "no shallow control; use of depth is read off lenses and depth scores",
        (
            compared(FINALS, _trained(*GROWN), loss_above(SHALLOW), ALL.below(0.0)),
            compared(FINALS, _trained(*_EQUAL), loss_above(SHALLOW + EQUAL_FLOPS), ALL.below(0.0)),
        ),
    ),
    _less(
        "copies_beat_fresh_layers",
        (LIDAS,),
        FRESH,
        "DG section 3.1",
        "New layers are better as copies than with initial weights.",
        "not measured: all its new layers are copies",
    ),
    _less(
        "copies_in_place_beat_random_ones",
        (LIDAS,),
        RANDOM,
        "DG section 3.1",
        "Copies of the middle layers are better than copies of any layers in their places.",
        "not measured",
    ),
    _less(
        "copied_moments_beat_zeroed",
        (LIDAS,),
        f"{LIDAS}_zero_moments",
        "DG appendix A",
        "Optimiser moments are better copied with the layers than zeroed.",
        "not measured: it copies them",
    ),
    Claim(
        "khop_growth_keeps_loss_under_ln_scaling",
        "DG appendix E, Table 8",
        "With LN-scaling, too, LIDAS matches the held-out loss of constant depth, to "
        f"{MARGIN:g} % of it.",
        _TEXT.format(printed("nll", f"{LN_SCALING}_{LIDAS}", LN_SCALING)),
        compared(FINALS, (f"{LN_SCALING}_{LIDAS}",), loss_above(LN_SCALING), ALL.below(MARGIN)),
    ),
    Claim(
        "khop_one_step_expansion_reaches_baseline",
        "ZO abstract (arXiv 2511.04981)",
        "A model of one or two layers that gets all others at once, late, comes to the "
        f"baseline's held-out loss, to {MARGIN:g} % of it, for some share of the steps.",
        "on text: almost the loss of constant depth with about 80 % less compute",
        compared(FINALS, _expanded, loss_above(BASELINE), ANY.below(MARGIN)),
    ),
    Claim(
        "khop_grown_models_need_late_layers",
        "DG section 4.1, Figures 1 and 8",
        "Leaving out a layer of the second half costs grown models more of what they answer than "
        f"it costs the baseline, by {LEAST:g} points or more.",
        "read off figures: baseline little, MIDAS and LIDAS substantially more",
        compared(FINALS, _trained(*GROWN), lost_above(BASELINE, LATE), ALL.above(LEAST)),
    ),
    Claim(
        "khop_grown_models_keep_swapped_blocks",
        "DG section 4.2, Figure 3",
        "Grown models lose less of what they answer than the baseline when two blocks of two "
        f"layers are exchanged, the first layer left in its place, by {LEAST:g} points or more.",
        "read off figures: 'the degradation in performance for MIDAS is much smaller'",
        compared(FINALS, _trained(*GROWN), lost_above(BASELINE, PAIRS), ALL.below(-LEAST)),
    ),
    Claim(
        "khop_looping_helps_grown_models",
        "GL abstract (arXiv 2602.16490)",
        "Grown models gain from their middle block applied once more, without training for it, "
        "and gain more than models of constant depth.",
        "up to twice the accuracy on some reasoning primitives; losses not measured",
        (
            compared(FINALS, _trained(*GROWN), looped(), ALL.below(0.0), (BASELINE, SHALLOW)),
            compared(FINALS, _trained(*GROWN), looped_above(BASELINE), ALL.below(0.0)),
        ),
    ),
)

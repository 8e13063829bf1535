"""Worlds of the claims about growth where depth matters: log losses of arms that train alike."""

import math

import khop_growth_run as run
from claims.worlds import WORLDS, Worlds, record
from claims.worlds_depth import SPREAD, enter_depth, noisy

from jaxanatomy.claims.computed_depth import LEAST
from jaxanatomy.claims.khop_growth import MARGIN, SETTING

SEEDS = 3
LOSS = math.log(0.1)  # of all arms that do nothing
# Intervals of these eight reach some four spreads.
OTHERS = ("baseline", "midas", "lidas", "shallow", "fresh_layers", "aligned", "stack_top", "flat_3")
FAR = 12 * SPREAD
LIMIT = math.log1p(MARGIN / 100)


def hops(logs, looped=lambda arm: 0.0, depth=(), spread=SPREAD, **lost):
    """Rows of a run in which the log losses of some arms lie so far from the others'.

    Args:
      logs: By arm.
      looped: What the middle block applied once more does to the log of an arm's loss.
      depth: Readings of how deep arms compute, each a name and a function of the arm: a number, or
        one for each layer.
      spread: Of the log losses over seeds; of sequences twice as much.
      lost: Functions of the arm: accuracy lost if a layer is `cut`, if blocks are `swapped`,
        and besides if layers are reversed `across` blocks.
    """

    def make(generator, reach):
        del reach
        arms = {arm: LOSS for arm in OTHERS} | {arm: LOSS + log for arm, log in logs.items()}
        rows = []
        for arm, loss_SU in run.losses(generator, arms, SEEDS, spread, together=2 * spread).items():
            rows += run.tuning_rows(arm)
            for seed, unit_U in enumerate(loss_SU):
                change = looped(arm) + SPREAD * generator.normal()
                less = {name: noisy(generator, of(arm)) for name, of in lost.items()}
                less["depth"] = {name: noisy(generator, of(arm)) for name, of in depth}
                rows.append(run.final_row(arm, seed, unit_U, (math.exp(change),), **less))
        return {"khop_growth": record(rows, seeds=[*range(SEEDS)], block=6)}

    return make


def add(id, true, nothing, is_false=False):
    """Two worlds by the log losses of their arms."""
    WORLDS[f"khop_{id}"] = Worlds(hops(true), hops(nothing), is_false)


def below(limit, *arms):
    """Arms far below a limit, and at it."""
    return {arm: limit - FAR for arm in arms}, dict.fromkeys(arms, limit)


DEPTHS = {"flat_2": 5 * FAR, "shallow": 5 * FAR, "flat_3": 4 * FAR, "flat_4": 2 * FAR}
add("needs_depth", DEPTHS, {"flat_4": 0.0})
# An arm at the margin is worse, so that "does not hold" is right where it is told to be.
add("midas_matches_loss", *below(LIMIT, "midas"), is_false=True)
add("lidas_matches_loss", *below(LIMIT, "lidas"), is_false=True)
add("lidas_less_loss_than_midas", *below(0.0, "lidas"))
add("growth_wins_at_equal_flops", *below(0.0, "midas_equal_flops", "lidas_equal_flops"))
# Mean accuracy rises from 0.76 to 0.94.
WORLDS["khop_growth_answers_more"] = Worlds(hops({"baseline": 1.5}), hops({}), is_false=True)
TWINS = ("lidas_equal_flops", "shallow_equal_flops")
add(
    "growth_uses_depth",
    {"shallow": 2 * FAR, "lidas_equal_flops": 0.0, "shallow_equal_flops": 2 * FAR},
    dict.fromkeys(TWINS, 0.0),
)
add("copies_beat_fresh_layers", *below(0.0, "lidas"))
for id_, other in (
    ("copies_in_place_beat_random_ones", "random_copies"),
    ("copied_moments_beat_zeroed", "lidas_zero_moments"),
):
    add(id_, {"lidas": -FAR, other: 0.0}, {other: 0.0})
add(
    "growth_keeps_loss_under_ln_scaling",
    *({"ln_scaling": 0.0, **logs} for logs in below(LIMIT, "ln_scaling_lidas")),
    is_false=True,
)
LATE = ("expand_1_at_50", "expand_1_at_70", "expand_1_at_90")
add(
    "one_step_expansion_reaches_baseline",
    dict(zip(LATE, (LIMIT - FAR, LIMIT, LIMIT + FAR), strict=True)),
    dict.fromkeys(LATE, LIMIT),
    is_false=True,
)
# Accuracy that is lost at the threshold, a share of what is right beyond guessing.
LEAST_LOST = LEAST / 100 * (sum(run.accuracies(math.exp(LOSS))) / run.HOPS - run.GUESSED)
WORLDS["khop_looping_helps_grown_models"] = Worlds(
    hops({}, lambda arm: -2 * FAR * (arm in ("midas", "lidas"))), hops({})
)
enter_depth(SETTING, lambda more, **read: hops(dict.fromkeys(more, 0.0), **read), LEAST_LOST, FAR)

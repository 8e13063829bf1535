"""Worlds of the claims about growth where depth matters: log losses of arms that train alike."""

import math

import khop_growth_run as run
import numpy as np
from claims.worlds import WORLDS, Worlds, record

from jaxanatomy.claims.khop_growth import DEEPER, LEAST, MARGIN

SEEDS, SPREAD = 3, 0.05
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
      lost: Functions of the arm: accuracy lost if a layer is `cut`, if blocks are `swapped`.
    """

    def make(generator, reach):
        del reach
        arms = {arm: LOSS for arm in OTHERS} | {arm: LOSS + log for arm, log in logs.items()}
        rows = []
        for arm, loss_SU in run.losses(generator, arms, SEEDS, spread, together=2 * spread).items():
            rows += run.tuning_rows(arm)
            for seed, unit_U in enumerate(loss_SU):
                change = looped(arm) + SPREAD * generator.normal()
                less = {name: of(arm) + SPREAD * generator.normal() for name, of in lost.items()}
                less["depth"] = {name: noisy(generator, of(arm)) for name, of in depth}
                rows.append(run.final_row(arm, seed, unit_U, (math.exp(change),), **less))
        return {"khop_growth": record(rows, seeds=[*range(SEEDS)], block=6)}

    return make


def noisy(generator, value):
    """A value, or one for each layer, with what a seed does to it."""
    return (value + SPREAD * generator.normal(size=np.shape(value))).tolist()


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


def lost(edit, amount):
    """Of grown arms, by an edit."""
    return hops({}, **{edit: lambda arm: amount * (arm in ("midas", "lidas"))})


for id_, edit, sign in (
    ("grown_models_need_late_layers", "cut", 1),
    ("grown_models_keep_swapped_blocks", "swapped", -1),
):
    WORLDS[f"khop_{id_}"] = Worlds(lost(edit, sign * FAR), lost(edit, sign * LEAST_LOST))
WORLDS["khop_looping_helps_grown_models"] = Worlds(
    hops({}, lambda arm: -2 * FAR * (arm in ("midas", "lidas"))), hops({})
)


def reads(names, true, nothing=0.0, arms=("midas", "lidas"), layers=1.0, more=(), is_false=False):
    """Worlds of readings of some arms, of which those of all others are 0.

    Args:
      names: Of the readings.
      true: What they are where the claim is.
      nothing: Where nothing happens.
      arms: Which have them.
      layers: How much of it each layer has, where a reading has a value of each.
      more: Arms that are not in every world.
      is_false: As of `Worlds`.
    """

    def world(value):
        of = [(name, lambda arm: value * (arm in arms) * layers) for name in names]
        return hops(dict.fromkeys(more, 0.0), depth=of)

    return Worlds(world(true), world(nothing), is_false)


IS_FIRST = np.arange(6) % 2 == 0  # of a block of two layers
SCALED = ("ln_scaling", "ln_scaling_lidas")


WORLDS |= {
    "khop_grown_models_have_higher_depth_scores": reads(["depth_score"], FAR),
    # A model whose score is higher by the margin has a higher one, as some draws tell.
    "khop_ln_scaling_no_deeper": reads(
        ["depth_score"], -FAR, DEEPER, SCALED[:1], more=SCALED, is_false=True
    ),
    "khop_growth_deepens_ln_scaling": reads(["depth_score"], FAR, arms=SCALED[1:], more=SCALED),
    "khop_blocks_of_grown_models_are_alike": reads(["block_similarity"], FAR),
    "khop_lidas_blocks_more_alike_than_midas": reads(["block_similarity"], FAR, arms=("lidas",)),
    "khop_lidas_blocks_more_symmetric_than_midas": reads(["block_symmetry"], FAR, arms=("lidas",)),
    "khop_first_attention_of_blocks_does_more_in_lidas": reads(
        ["first_attention"], FAR, arms=("lidas",)
    ),
    "khop_attention_repeats_in_grown_models": reads(
        ["attention_norm_periodicity", "attention_cosine_periodicity"], FAR
    ),
    # A difference of two layers, each with noise of its own.
    "khop_attention_rises_within_blocks": reads(["attention_norm"], 2 * FAR, layers=~IS_FIRST),
    "khop_first_attention_of_blocks_less_aligned_in_midas": reads(
        ["attention_cosine"], -FAR, arms=("midas",), layers=1.0 * IS_FIRST
    ),
    # An exit loses what a layer that is left out does.
    "khop_grown_models_finish_later": Worlds(lost("cut", FAR), lost("cut", LEAST / 100)),
}

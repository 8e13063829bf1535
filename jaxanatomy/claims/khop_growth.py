"""Growth in depth on a task that needs depth: what DG sections 3 and 4 and relatives claim.

The papers train on text, of which our models are too small to need many layers. On k-hop
induction they need them (`claims.khop_arms`).
"""

from collections.abc import Callable, Sequence

from jaxanatomy.claims.arms import compared, saved
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.depth_growth import GROWN, LIDAS, MIDAS, printed, unlike
from jaxanatomy.claims.khop_arms import (
    FINALS,
    accuracy_above,
    constant_depths,
    looped,
    looped_above,
    loss_above,
    loss_above_shallower,
    lost_above,
    reads_above,
)
from jaxanatomy.claims.rows import Table
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
from jaxanatomy.measures.depth_arms import (
    COSINE_PERIOD,
    EXITS,
    FIRST_ATTENTION,
    NORM_PERIOD,
    SCORE,
    SIMILARITY,
    SYMMETRY,
)
from jaxanatomy.measures.edited import LATE, PAIRS

MARGIN = 25.0  # percent of the loss
# Percent of answers: intervals of accuracies are over seeds alone, and other held-out sequences
# than these would move them by about one.
LEAST = 3.0

_TEXT = "on text, in nats: {}"
_EQUAL = tuple(arm + EQUAL_FLOPS for arm in GROWN)


def _deeper(table: Table) -> list[str]:
    return constant_depths(table)[1:]


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
        "khop_growth_answers_more",
        "DG section 3.2, Table 1",
        "In as many steps grown models answer more over all hops than the baseline, by "
        f"{LEAST:g} points or more, as they answer more reasoning primitives.",
        f"hops not measured; primitives: {printed('primitives', MIDAS, LIDAS, BASELINE)}",
        compared(FINALS, _trained(*GROWN), accuracy_above(BASELINE), ALL.above(LEAST)),
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
        "khop_grown_models_have_higher_depth_scores",
        "DG section 4.1, Figures 1A and 14A",
        "Grown models have a higher depth score than the baseline: later layers do more for later "
        "tokens.",
        "read off figures: higher for MIDAS and LIDAS in seven of eight",
        compared(FINALS, _trained(*GROWN), reads_above(BASELINE, SCORE), ALL.above(0.0)),
    ),
    Claim(
        "khop_grown_models_finish_later",
        "DG section 4.1, Figures 1B and 14B",
        "Left after a layer of the second half, grown models agree less than the baseline with "
        f"what they answer at the end, by {LEAST:g} points or more.",
        "read off figures of the five likeliest tokens, tuned lens; here the likeliest, logit lens",
        compared(FINALS, _trained(*GROWN), reads_above(BASELINE, EXITS), ALL.below(-LEAST / 100)),
    ),
    Claim(
        "khop_blocks_of_grown_models_are_alike",
        "DG section 4.4, Figures 7a and 22",
        "The FFN weights of grown models' blocks are more alike than those of the baseline's.",
        "read off figures; 'we omit the baseline as its weight similarities are all close to zero'",
        compared(FINALS, _trained(*GROWN), reads_above(BASELINE, SIMILARITY), ALL.above(0.0)),
    ),
    Claim(
        "khop_lidas_blocks_more_symmetric_than_midas",
        "DG section 4.4, Figures 7a and 22",
        "In LIDAS blocks are more symmetric about the model's centre than in MIDAS.",
        "read off figures",
        compared(FINALS, (LIDAS,), unlike(reads_above(MIDAS, SYMMETRY)), ALL.above(0.0)),
    ),
    Claim(
        "khop_attention_repeats_in_grown_models",
        "DG section 4.3, Figures 4, 23 and 24",
        "What attention adds, in norm and cosine, repeats itself from block to block in grown "
        "models, more than in the baseline.",
        "read off figures: 'a highly cyclical pattern in the middle'",
        tuple(
            compared(FINALS, _trained(*GROWN), reads_above(BASELINE, each), ALL.above(0.0))
            for each in (NORM_PERIOD, COSINE_PERIOD)
        ),
    ),
    Claim(
        "khop_first_attention_of_blocks_does_more_in_lidas",
        "DG section 4.4, Figures 7b and 21",
        "Without the attention of a central block's first layer later layers write something else, "
        "in LIDAS more than in MIDAS.",
        "read off figures: 'a lower effect on the following layers' current computations in MIDAS'",
        compared(FINALS, (LIDAS,), unlike(reads_above(MIDAS, FIRST_ATTENTION)), ALL.above(0.0)),
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

"""Growth in depth on a task that needs depth: what DG sections 3 and 4 and relatives claim.

The papers train on text, of which our models are too small to need many layers. On k-hop
induction they need them (`claims.khop_arms`).
"""

from collections.abc import Callable, Sequence

from jaxanatomy.claims.arms import compared, saved
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.depth_growth import GROWN, LIDAS, MIDAS, printed, unlike
from jaxanatomy.claims.khop_arms import (
    DEPTHS,
    FINALS,
    accuracy_above,
    constant_depths,
    looped,
    looped_above,
    loss_above,
    loss_above_shallower,
    lost_above,
    not_above,
    reads_above,
)
from jaxanatomy.claims.role_courses import COURSE_CLAIMS
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
    FIRST_COSINE,
    NORM_PERIOD,
    NORM_RISE,
    SCORE,
    SIMILARITY,
    SYMMETRY,
)
from jaxanatomy.measures.edited import LATE, PAIRS

MARGIN = 10.0  # percent of the loss: half of what the five default arms can show, which is 21
# Layers of depth score: of six what 0.4 are of the paper's 24. A choice, as the paper draws scores
# and prints none: lower by any amount is what it says, and a tie is no gain in depth either.
DEEPER = 0.1
_MATCHES = f"to {MARGIN:g} % of it, and is not told to be higher"
# Percent of answers: intervals of accuracies are over seeds alone, and other held-out sequences
# than these would move them by about one.
LEAST = 3.0

_TEXT = "on text, in nats: {}"
_EQUAL = tuple(arm + EQUAL_FLOPS for arm in GROWN)
_LN_LIDAS = f"{LN_SCALING}_{LIDAS}"


def _deeper(table: Table) -> list[str]:
    """All constant depths but the smallest; that one where it is alone."""
    depths = constant_depths(table)
    return depths[1:] or depths


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
        f"In as many steps {arm.upper()} matches the baseline's held-out loss, {_MATCHES}.",
        _TEXT.format(printed("nll", arm, BASELINE)),
        compared(
            FINALS,
            (arm,),
            loss_above(BASELINE),
            not_above(ALL, MARGIN),
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
        f"The task needs depth: of {DEPTHS} constant depths or more each has less held-out loss "
        "than the next smaller.",
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
        "Copies of the middle layers are better than copies of other layers in their places: of "
        "those of one draw, the same in all seeds; the interval has nothing of other draws.",
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
        f"With LN-scaling, too, LIDAS matches the held-out loss of constant depth, {_MATCHES}.",
        _TEXT.format(printed("nll", _LN_LIDAS, LN_SCALING)),
        compared(FINALS, (_LN_LIDAS,), loss_above(LN_SCALING), not_above(ALL, MARGIN)),
    ),
    Claim(
        "khop_one_step_expansion_reaches_baseline",
        "ZO abstract (arXiv 2511.04981)",
        "A model of one or two layers that gets all others at once, late, matches the baseline's "
        f"held-out loss, {_MATCHES}, for some share of the steps.",
        "on text: almost the loss of constant depth with about 80 % less compute",
        compared(FINALS, _expanded, loss_above(BASELINE), not_above(ANY, MARGIN)),
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
        "khop_ln_scaling_no_deeper",
        "DG section 4.1 and appendix E, Figures 1A and 14A",
        f"LN-scaling has no higher depth score than the baseline, to {DEEPER:g} layers, and is not "
        "told to have one.",
        "read off figures: 'LN-Scaling shows a lower depth score'",
        compared(FINALS, (LN_SCALING,), reads_above(BASELINE, SCORE), not_above(ALL, DEEPER)),
    ),
    Claim(
        "khop_growth_deepens_ln_scaling",
        "DG appendix E, Figures 27 and 28",
        "LN-scaling with LIDAS has a higher depth score than LN-scaling alone.",
        "read off figures: 'growing can also increase the depth usage of architectures using "
        "LN-Scaling'",
        compared(FINALS, (_LN_LIDAS,), reads_above(LN_SCALING, SCORE), ALL.above(0.0)),
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
        "khop_lidas_blocks_more_alike_than_midas",
        "DG section 4.4, Figures 7a and 22",
        "The FFN weights of LIDAS's blocks are more alike than those of MIDAS's.",
        "read off figures: 'in LIDAS, inter-block cosine similarities are higher'",
        compared(FINALS, (LIDAS,), unlike(reads_above(MIDAS, SIMILARITY)), ALL.above(0.0)),
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
        "khop_attention_rises_within_blocks",
        "DG section 4.3, Figures 4, 23 and 24",
        "From the first layer of a central block to its last, what attention adds grows against "
        "the stream, in grown models more than in the baseline.",
        "read off figures: 'always grows from its lowest point at the first layer of every block "
        "to its highest point at the last'",
        compared(FINALS, _trained(*GROWN), reads_above(BASELINE, NORM_RISE), ALL.above(0.0)),
    ),
    Claim(
        "khop_first_attention_of_blocks_less_aligned_in_midas",
        "DG section 4.3, Figure 4",
        "What the attention of a central block's first layer adds has a lower cosine to the stream "
        "in MIDAS than in LIDAS.",
        "read off figures: MIDAS 'very low'; in LIDAS it 'never drops as low'",
        compared(FINALS, (MIDAS,), unlike(reads_above(LIDAS, FIRST_COSINE)), ALL.below(0.0)),
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
    *COURSE_CLAIMS,
)

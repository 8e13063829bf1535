"""Growth in depth on a task that needs depth: what DG sections 3 and 4 and relatives claim.

The papers train on text, of which our models are too small to need many layers. On k-hop
induction they need them (`claims.khop_arms`).
"""

from collections.abc import Sequence

from jaxanatomy.claims.arms import compared, saved
from jaxanatomy.claims.computed_depth import (
    GROWN,
    LEAST,
    LIDAS,
    LN_LIDAS,
    MIDAS,
    Setting,
    depth_claims,
    those_trained,
    unlike,
)
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.depth_growth import printed
from jaxanatomy.claims.khop_arms import (
    DEPTHS,
    FINALS,
    accuracy_above,
    constant_depths,
    looped,
    looped_above,
    loss_above,
    loss_above_shallower,
)
from jaxanatomy.claims.role_courses import COURSE_CLAIMS
from jaxanatomy.claims.rows import Table
from jaxanatomy.claims.rules import ALL, ANY, not_above
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
from jaxanatomy.measures.arms.computed_depth import EXITS
from jaxanatomy.words import POINTS

MARGIN = 10.0  # percent of the loss: half of what the five default arms can show, which is 21
_MATCHES = f"to {MARGIN:g} % of it, and is not told to be higher"
_TEXT = "on text, in nats: {}"
_EQUAL = tuple(arm + EQUAL_FLOPS for arm in GROWN)
SETTING = Setting(
    FINALS,
    prefix="khop_",
    unit=POINTS,
    scale=100,
    lost="of what they answer",
    cost_of=", as a share of what is right beyond guessing",
    least=LEAST,
    deeper=0.1,  # of six layers what 0.4 are of the paper's 24
    exits=EXITS,
    finish_later=(
        "Left after a layer of the second half, grown models agree less than the baseline with "
        "what they answer at the end"
    ),
    exits_printed=(
        "read off figures of the five likeliest tokens, tuned lens; here the likeliest, logit lens"
    ),
)


def _deeper(table: Table) -> list[str]:
    """All constant depths but the smallest; that one where it is alone."""
    depths = constant_depths(table)
    return depths[1:] or depths


def _expanded(table: Table) -> list[str]:
    arms = dict.fromkeys(row["arm"] for row in table.rows)
    return [arm for arm in arms if Arm.parse(arm).base == EXPAND and not Arm.parse(arm).equal]


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
    criterion = compared(FINALS, those_trained(*arms), loss_above(other), ALL.below(0.0))
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
        compared(FINALS, those_trained(*GROWN), accuracy_above(BASELINE), ALL.above(LEAST)),
    ),
    Claim(
        "khop_growth_uses_depth",
        "DG section 4.1",
        "Grown models make use of their depth: they have less held-out loss than a model that "
        "stays shallow, in as many steps and with as many FLOPs.",
        "no shallow control; use of depth is read off lenses and depth scores",
        (
            compared(FINALS, those_trained(*GROWN), loss_above(SHALLOW), ALL.below(0.0)),
            compared(
                FINALS, those_trained(*_EQUAL), loss_above(SHALLOW + EQUAL_FLOPS), ALL.below(0.0)
            ),
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
        _TEXT.format(printed("nll", LN_LIDAS, LN_SCALING)),
        compared(FINALS, (LN_LIDAS,), loss_above(LN_SCALING), not_above(ALL, MARGIN)),
    ),
    Claim(
        "khop_one_step_expansion_reaches_baseline",
        "ZO abstract (arXiv 2511.04981)",
        "A model of one or two layers that gets all others at once, late, matches the baseline's "
        f"held-out loss, {_MATCHES}, for some share of the steps.",
        "on text: almost the loss of constant depth with about 80 % less compute",
        compared(FINALS, _expanded, loss_above(BASELINE), not_above(ANY, MARGIN)),
    ),
    *depth_claims(SETTING),
    Claim(
        "khop_looping_helps_grown_models",
        "GL abstract (arXiv 2602.16490)",
        "Grown models gain from their middle block applied once more, without training for it, "
        "and gain more than models of constant depth.",
        "up to twice the accuracy on some reasoning primitives; losses not measured",
        (
            compared(FINALS, those_trained(*GROWN), looped(), ALL.below(0.0), (BASELINE, SHALLOW)),
            compared(FINALS, those_trained(*GROWN), looped_above(BASELINE), ALL.below(0.0)),
        ),
    ),
    *COURSE_CLAIMS,
)

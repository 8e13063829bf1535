"""DG section 3.2, Tables 1, 7 and 8: whether models that grow in depth end better or cheaper.

How deep they compute, section 4, is `claims.computed_depth`.

The paper trains one model of each size and arm. Ours are a hundred times smaller, but there are
several of each: a verdict needs an interval over seeds and held-out text.
"""

import functools
from collections.abc import Sequence

import numpy as np

from jaxanatomy.claims.arms import accuracy_less, against, array_of, compared, finals, loss_less
from jaxanatomy.claims.computed_depth import (
    GROWN,
    LIDAS,
    LN_LIDAS,
    MIDAS,
    Setting,
    depth_claims,
    readings,
    unlike,
    with_values,
)
from jaxanatomy.claims.core import Claim
from jaxanatomy.claims.quantities import certain
from jaxanatomy.claims.rows import MissingError, Row, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.data.primitives import PAPER_PRIMITIVES
from jaxanatomy.growth.depth_arms import BASELINE, EQUAL_FLOPS, LN_SCALING, MEAN_DEPTH, SHALLOW
from jaxanatomy.measures.arms.computed_depth import OVERLAP
from jaxanatomy.measures.arms.depth_growth import TUNED_BY
from jaxanatomy.measures.arms.finals import finals_by_arm
from jaxanatomy.measures.guessing import guessing
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.papers import paper_table
from jaxanatomy.words import COUNT, NATS

MARGIN = 0.02  # nats: the largest difference from the baseline in Table 1
SPEEDUP, LAST_DIGIT = 1.29, 0.005
EXCESS = 1.15  # times what FLOPs explain; a larger gain in time is the machine's, not growth's

_TABLES = (paper_table("dg_table1"), paper_table("dg_table8"))
_MODELS = tuple(paper_table("dg_table7")["models"])
_LN_MIDAS = f"{LN_SCALING}_{MIDAS}"


def _finals(table: Table) -> list[Row]:
    """Final rows with answers to the paper's primitives; a seed that diverged has no loss."""
    rows = with_values(finals(table, TUNED_BY), readings(finals_by_arm(table.record.rows)))
    return [
        {**row, "nll": None if row["reason"] else row["eval_nll"], **_primitives(row)}
        for row in rows
    ]


def _primitives(row: Row) -> Row:
    """Answers to the questions of DG Table 6's primitives, task by task, and level of guessing.

    Questions stand task by task in the rows; their weights say whether they do.
    """
    tasks, right_U = row["accuracy_by_task"], row.get("unit_right")
    if right_U is None or not tasks.keys() >= set(PAPER_PRIMITIVES):
        return {}
    names = [name for name, each in tasks.items() for _ in range(each["questions"])]
    if row["unit_questions"] != [1 / tasks[name]["questions"] for name in names]:
        return {}
    kept = [at for at, name in enumerate(names) if name in PAPER_PRIMITIVES]
    guessed = [guessing(name, tasks[name]["chance"]) for name in PAPER_PRIMITIVES]
    return {
        "right_U": [right_U[at] for at in kept],
        "questions_U": [row["unit_questions"][at] for at in kept],
        "guessed": float(np.mean(guessed)),
    }


FINALS = Rows("depth_growth", _finals)
_compared = functools.partial(compared, FINALS)
SETTING = Setting(
    FINALS,
    prefix="",
    unit=NATS,
    scale=1,
    lost="loss",
    cost_of=", the rise of the loss per token",
    least=MARGIN / 10,  # edits of late layers cost a few hundredths of a nat at most
    deeper=0.2,  # of twelve layers what 0.4 are of the paper's 24
    exits=OVERLAP,
    finish_later=(
        "Left after a layer of the second half, the five likeliest tokens of grown models have "
        "less in common than the baseline's with those at the end"
    ),
    exits_printed="read off figures, with a tuned lens; here the logit lens",
)


def _speedup(own: Sequence[Row], its: Sequence[Row], level: float) -> Estimate:
    """How many times as fast an arm is as another: one timing on one machine, without interval."""
    seconds, flops = (
        float(array_of(its, field).mean() / array_of(own, field).mean())
        for field in ("seconds", "flops")
    )
    if seconds > EXCESS * flops:
        raise MissingError(
            f"{seconds:.2f} times as fast with {flops:.2f} times fewer FLOPs: the machine was not "
            "equally quiet for all arms"
        )
    if flops < SPEEDUP - LAST_DIGIT and seconds >= 1:
        raise MissingError(
            f"this shape saves a factor of {flops:.2f} in FLOPs: {SPEEDUP} cannot be asked of it"
        )
    return certain(seconds)


def printed(column: str, *arms: str) -> str:
    """What the paper prints of arms: at 360M and at 1.7B."""
    at = _TABLES[0]["columns"].index(column)
    words = []
    for arm in arms:
        rows = [
            next((table[model][arm] for table in _TABLES if arm in table[model]), None)
            for model in _MODELS
        ]
        words.append(f"{arm} {' and '.join(f'{row[at]:.2f}' if row else 'none' for row in rows)}")
    return f"{', '.join(words)} (360M and 1.7B)"


def _equal(*arms: str) -> tuple[str, ...]:
    return tuple(arm + EQUAL_FLOPS for arm in arms)


def _matches(arm: str) -> Claim:
    return Claim(
        f"{arm}_matches_loss",
        "DG section 3.2, Table 1",
        f"{arm.upper()} matches the baseline's held-out loss in as many steps: it is higher by "
        f"less than {MARGIN} nats.",
        printed("nll", arm, BASELINE),
        _compared(
            (arm,),
            loss_less(BASELINE),
            ALL.below(MARGIN),
            (*_equal(arm), SHALLOW, MEAN_DEPTH),
            "the control: at equal FLOPs, and what constant depths reach in as many steps",
        ),
    )


CLAIMS = (
    _matches(MIDAS),
    _matches(LIDAS),
    Claim(
        "lidas_less_loss_than_midas",
        "DG section 3.2, Table 1",
        "LIDAS has a slightly lower held-out loss than MIDAS.",
        printed("nll", LIDAS, MIDAS),
        _compared((LIDAS,), unlike(loss_less(MIDAS)), ALL.below(0.0), _equal(LIDAS)),
    ),
    Claim(
        "depth_growth_wins_at_equal_flops",
        "DG section 5, Table 7",
        "With as many FLOPs as the baseline, in more steps on more tokens, grown models have a "
        "lower held-out loss.",
        "not measured; equal losses with 22 % fewer FLOPs suggest it",
        _compared(
            _equal(*GROWN),
            loss_less(BASELINE),
            ALL.below(0.0),
            (*_equal(SHALLOW), *GROWN, SHALLOW, MEAN_DEPTH),
            "the control: two layers with as many FLOPs, at equal steps, and constant depths",
        ),
    ),
    Claim(
        "depth_growth_is_faster",
        "DG section 1, Table 7",
        f"Growth trains {SPEEDUP} times as fast for as many steps.",
        f"{SPEEDUP} times, from FLOPs",
        _compared(
            GROWN,
            against(BASELINE, "the {other}'s seconds over the arm's", COUNT, _speedup),
            ALL.above(SPEEDUP - LAST_DIGIT),
        ),
    ),
    Claim(
        "growth_raises_primitives",
        "DG section 3.2, Table 1",
        "Grown models are better at reasoning primitives than the baseline.",
        printed("primitives", MIDAS, LIDAS, BASELINE),
        _compared(GROWN, accuracy_less(BASELINE), ALL.above(0.0), _equal(*GROWN)),
    ),
    Claim(
        "lidas_raises_primitives_over_midas",
        "DG section 3.2, Table 1",
        "LIDAS is better at reasoning primitives than MIDAS.",
        printed("primitives", LIDAS, MIDAS),
        _compared((LIDAS,), unlike(accuracy_less(MIDAS)), ALL.above(0.0)),
    ),
    Claim(
        "ln_scaling_tracks_baseline",
        "DG section 3.2, Table 1",
        f"LN-scaling has the held-out loss of the baseline, to {MARGIN} nats.",
        printed("nll", LN_SCALING, BASELINE),
        _compared((LN_SCALING,), loss_less(BASELINE), ALL.within(-MARGIN, MARGIN)),
    ),
    Claim(
        "ln_scaling_trails_growth",
        "DG section 3.2",
        "LN-scaling is worse at reasoning primitives than grown models.",
        printed("primitives", LN_SCALING, MIDAS, LIDAS),
        _compared(GROWN, accuracy_less(LN_SCALING), ALL.above(0.0), (BASELINE,)),
    ),
    Claim(
        "growth_keeps_loss_under_ln_scaling",
        "DG appendix E, Table 8",
        "With LN-scaling, too, LIDAS matches the held-out loss of constant depth.",
        printed("nll", LN_LIDAS, LN_SCALING, _LN_MIDAS),
        _compared((LN_LIDAS,), loss_less(LN_SCALING), ALL.below(MARGIN), (_LN_MIDAS,)),
    ),
    Claim(
        "growth_raises_primitives_under_ln_scaling",
        "DG appendix E, Table 8",
        "With LN-scaling, too, LIDAS is better at reasoning primitives than constant depth.",
        printed("primitives", LN_LIDAS, LN_SCALING, _LN_MIDAS),
        _compared((LN_LIDAS,), accuracy_less(LN_SCALING), ALL.above(0.0), (_LN_MIDAS,)),
    ),
    *depth_claims(SETTING),
)

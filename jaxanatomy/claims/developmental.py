"""AH Tables 8 and 9: whether a model that grows learns better than one trained flat."""

import functools

from jaxanatomy.claims.arms import (
    SEEDS,
    compared,
    completions_less,
    finals,
    loss_less,
    loss_ratio,
    saved,
    seeds_of,
)
from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import exact
from jaxanatomy.claims.rows import Row, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.measures.arms.developmental import BASELINE, TUNED_BY
from jaxanatomy.papers import paper_table
from jaxanatomy.words import PERCENT

GROWTH, SHORT = "growth_100", "growth_50"
EQUAL_FLOPS, CORE = "equal_flops", "core_alone"
ORDERS = ("shuffled_phases", "reversed_phases", "core_third_phases")
# What explains a gain of growth if it does as well.
CONTROLS = ("clone_init_uniform", "uniform_restarts", CORE, *ORDERS)
RATIO, SHORT_RATIO = 4.7, 2.1
LAST_DIGIT = 0.05  # half of the last digit of a printed ratio
MARGIN = -1.0  # prompts: one fewer is alike

_TABLE8, _CLAIMS8 = paper_table("table8"), paper_table("table8_claims")
_FASTER = _CLAIMS8["growth_100_faster_percent"] - 0.5


def _finals(table: Table) -> list[Row]:
    """Final rows with the share of the prompts completed as taught; a seed that diverged has no
    loss."""
    return [
        {
            **row,
            "nll": row["final_nll"],
            "done": 100 * row["exact_completions"] / len(row["completions"]),
        }
        for row in finals(table, TUNED_BY)
    ]


def _seeds(table: Table) -> list[int]:
    """The seeds of the run; none where they are too few."""
    seeds = seeds_of(table)
    return seeds if len(seeds) >= SEEDS else []


FINALS = Rows("developmental", _finals)
_compared = functools.partial(compared, FINALS)


def _less(arm: str, other: str) -> Criterion:
    beside = "the control: equal FLOPs, and the core alone"
    return _compared((arm,), loss_less(other), ALL.below(0.0), (EQUAL_FLOPS, CORE), beside)


def _times(arm: str, ratio: float) -> Criterion:
    rule = ALL.above(ratio - LAST_DIGIT)
    return _compared((arm,), loss_ratio(BASELINE), rule, (EQUAL_FLOPS, CORE))


def _saved(field: str) -> Criterion:
    return _compared((GROWTH,), saved(field, BASELINE), ALL.above(_FASTER))


def _paper(*arms: str) -> str:
    return ", ".join(f"{arm} {_TABLE8[arm]['val_loss']}" for arm in arms)


CLAIMS = (
    Claim(
        "growth_wins",
        "AH section 4.6.3, Table 8",
        "Growing beats uniform training of the same number of steps.",
        _paper(GROWTH, BASELINE),
        _less(GROWTH, BASELINE),
    ),
    Claim(
        "growth_wins_by_far",
        "AH abstract, Table 8",
        "The validation loss of growth is 4.7 times lower.",
        f"{RATIO} times",
        _times(GROWTH, RATIO),
    ),
    Claim(
        "half_budget_wins",
        "AH section 4.6.3, Table 8",
        "Growth in 37 % fewer steps beats uniform training in all of them.",
        _paper(SHORT, BASELINE),
        _less(SHORT, BASELINE),
    ),
    Claim(
        "half_budget_wins_by_far",
        "AH section 4.6.3, Table 8",
        "The validation loss of growth in 37 % fewer steps is 2.1 times lower.",
        f"{SHORT_RATIO} times",
        _times(SHORT, SHORT_RATIO),
    ),
    Claim(
        "growth_is_faster",
        "AH Table 8",
        "Growth takes 13 % less time for the same number of steps.",
        f"{_TABLE8[GROWTH]['seconds']} against {_TABLE8[BASELINE]['seconds']} seconds",
        (_saved("seconds"), _saved("flops")),
    ),
    Claim(
        "phases_explain_growth",
        "AH section 4.6.4",
        "The gain comes from training the core first and growing the rest from it: clones, "
        "restarts, the core alone and other orders of the phases end with a higher loss.",
        "explained by the exposure of the core",
        _compared(
            CONTROLS,
            loss_less(GROWTH),
            ALL.above(0.0),
            ("core_first_phases", EQUAL_FLOPS),
            "the control: the core's phase first, the others reversed; equal FLOPs",
        ),
    ),
    Claim(
        "growth_completes_all",
        "AH Table 9",
        "Growth completes all twelve prompts as they were taught, whatever the seed.",
        "12 of 12, uniform 10 of 12",
        Criterion(
            FINALS.where(arm=GROWTH).at(seed=_seeds),
            exact("done", PERCENT, "the share of prompts completed word by word"),
            ALL.above(99.9),
            control=FINALS.where(arm=BASELINE).at(seed=_seeds),
            beside=f"the control: {BASELINE}",
        ),
    ),
    Claim(
        "half_budget_completes_alike",
        "AH section 4.6.3",
        "Growth in 37 % fewer steps completes prompts as well as uniform training in all of them: "
        "less than one fewer.",
        "matches it on all generation tests",
        _compared((SHORT,), completions_less(BASELINE), ALL.above(MARGIN)),
    ),
)

"""DG section 3.2, Tables 1, 7 and 8: whether models that grow in depth end better or cheaper.

The paper trains one model of each size and arm. Ours are a hundred times smaller, which every
reason says, but there are several of each: a verdict needs an interval over seeds.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxanatomy.growth.depth_arms import BASELINE, EQUAL_FLOPS, LN_SCALING, MEAN_DEPTH, SHALLOW
from jaxanatomy.papers import paper_table
from jaxanatomy.report.claims.arms import NLL, PRIMITIVES, SEEDS, Pair, Trained
from jaxanatomy.report.claims.claim import Answer, Claim, Evidence, Finding, every

MIDAS, LIDAS = "midas", "lidas"
GROWN = (MIDAS, LIDAS)
MARGIN = 0.02  # nats: the largest difference from the baseline in Table 1
SPEEDUP = 1.29
EXCESS = 1.15  # times what FLOPs explain; a larger gain in time is the machine's, not growth's
# Where a shallow model is as good, depth does not pay here, and growth is only not too deep.
_CONTROLS = ((SHALLOW, BASELINE), (MEAN_DEPTH, BASELINE))
_TABLES = (paper_table("dg_table1"), paper_table("dg_table8"))
_MODELS = tuple(paper_table("dg_table7")["models"])


def _lower(low: float, high: float) -> Answer:
    return True if high < 0 else False if low > 0 else None


def _higher(low: float, high: float) -> Answer:
    return True if low > 0 else False if high < 0 else None


def _not_worse(low: float, high: float) -> Answer:
    return True if high < MARGIN else False if low > MARGIN else None


def _alike(low: float, high: float) -> Answer:
    outside = low > MARGIN or high < -MARGIN
    return True if low > -MARGIN and high < MARGIN else False if outside else None


def _compared(
    rule: Callable[[float, float], Answer],
    pairs: Sequence[Pair],
    field: str = NLL,
    beside: Sequence[Pair] = (),
) -> Callable[[Evidence], Finding | None]:
    """Whether a rule holds of the interval of each pair, the first arm less the second.

    Pairs `beside` are only shown, if they were trained.
    """

    def test(evidence: Evidence) -> Finding | None:
        trained = Trained.of(evidence)
        arms = tuple(dict.fromkeys(arm for pair in pairs for arm in pair))
        there = [pair for pair in pairs if trained.finals.keys() >= set(pair)]
        if not there:
            return None
        absent = [arm for arm in arms if arm not in trained.finals]
        arms = tuple(dict.fromkeys(arm for pair in there for arm in pair))
        reason = trained.unfit(arms) or _void(trained, there)
        if not reason and field == PRIMITIVES and not trained.leaves_chance(arms):
            reason = "no arm leaves chance, and guessing has no order"
        found = [trained.difference(pair, field) for pair in there]
        answer = every(rule(low, high) for low, _, high in found)
        more = [pair for pair in beside if trained.finals.keys() >= set(pair)]
        null = [_control(trained, there[0], field), *(_said(trained, pair, field) for pair in more)]
        return _finding(
            trained,
            None if reason or absent else answer,
            "; ".join(_said(trained, pair, field) for pair in there),
            "; ".join(null),
            reason,
            absent,
        )

    return test


def _finding(trained: Trained, answer: Answer, measured: str, null: str, reason: str, absent=()):
    found = Finding.of(answer, measured, null, reason, absent)
    return dataclasses.replace(found, reason=f"{found.reason} ({trained.scale()})")


def _void(trained: Trained, pairs: Sequence[Pair]) -> str:
    """Why MIDAS and LIDAS of this run cannot differ; empty if they may, or are not compared."""
    if all(set(GROWN) != set(pair) for pair in pairs):
        return ""
    unlike = trained.unlike()
    return "" if unlike is None or unlike[0] else "both insert the same layers at every growth step"


def _control(trained: Trained, pair: Pair, field: str) -> str:
    """The level of guessing, how much seeds differ, what an arm saves against the other."""
    arm, other = pair
    values = [row[field] for row in trained.finals[other].values() if row[field] is not None]
    unit, factor = _unit(field)
    words = []
    if field == PRIMITIVES:
        words.append(f"guessing {100 * trained.guessed():.1f} %")
    if len(values) > 1:
        spread = factor * (max(values) - min(values))
        words.append(f"seeds of {other} differ by up to {spread:.3g} {unit}")
    if set(pair) == set(GROWN) and (unlike := trained.unlike()):
        words.append("they insert other layers at {} of {} growth steps".format(*unlike))
    saved = 100 * (1 - trained.mean(arm, "flops") / trained.mean(other, "flops"))
    if abs(saved) >= 0.5:
        more = "fewer" if saved > 0 else "more"
        words.append(f"{arm} takes {abs(saved):.0f} % {more} FLOPs")
    return "; ".join(words)


def _said(trained: Trained, pair: Pair, field: str) -> str:
    unit, factor = _unit(field)
    own, other = (f"{arm} {_figure(trained.mean(arm, field), field)}" for arm in pair)
    low, mean, high = (factor * each for each in trained.difference(pair, field))
    digits = 1 if field == PRIMITIVES else 3
    if np.isnan(low):
        return f"{own}, {other}, no interval"
    words = f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] {unit}"
    return f"{own}, {other}, {words.replace('-', '−')}"


def _figure(value: float, field: str) -> str:
    return f"{100 * value:.1f} %" if field == PRIMITIVES else f"{value:.3f}"


def _unit(field: str) -> tuple[str, float]:
    return ("points", 100.0) if field == PRIMITIVES else ("nats", 1.0)


def _faster(evidence: Evidence) -> Finding | None:
    """Whether growth takes 1.29 times less time for as many steps."""
    trained = Trained.of(evidence)
    there = [arm for arm in GROWN if arm in trained.finals]
    if BASELINE not in trained.finals or not there:
        return None
    ratios = {
        arm: [
            trained.mean(BASELINE, field) / trained.mean(arm, field)
            for field in ("seconds", "flops")
        ]
        for arm in there
    }
    reason = trained.unfit((BASELINE, *there))
    answers = {arm: _is_faster(*each) for arm, each in ratios.items()}
    answer = every(answers.values())
    small = [arm for arm in there if answers[arm] is None]
    if answer is None and not reason:
        reason = _why_not_told(*ratios[small[0]])
    absent = [arm for arm in GROWN if arm not in there]
    return _finding(
        trained,
        None if reason or absent else answer,
        ", ".join(f"{arm} {seconds:.2f} times as fast" for arm, (seconds, _) in ratios.items()),
        ", ".join(f"{arm} {flops:.2f} times fewer FLOPs" for arm, (_, flops) in ratios.items()),
        reason,
        absent,
    )


def _why_not_told(seconds: float, flops: float) -> str:
    """Of an arm of which `_is_faster` says nothing."""
    if seconds > EXCESS * flops:
        return (
            f"{seconds:.2f} times as fast with {flops:.2f} times fewer FLOPs: the machine was not "
            "equally quiet for all arms"
        )
    return (
        f"faster, but this shape saves a factor of {flops:.2f} in FLOPs only: {SPEEDUP} cannot be "
        "asked of it"
    )


def _is_faster(seconds: float, flops: float) -> Answer:
    if seconds > EXCESS * flops:
        return None
    if seconds >= SPEEDUP:
        return True
    return False if seconds < 1 or flops >= SPEEDUP else None


def _paper(column: str, *arms: str) -> str:
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


def _equal(*arms: str) -> tuple[Pair, ...]:
    """Arms of equal FLOPs beside those of equal steps."""
    return tuple((arm + EQUAL_FLOPS, BASELINE) for arm in arms)


def _claim(
    id: str, source: str, statement: str, paper: str, rule: str, test: Callable[..., Any]
) -> Claim:
    rule += (
        f" Fewer than {SEEDS} seeds, one that is not finished or diverged, or an arm that was not "
        "trained cannot tell."
    )
    return Claim(id, source, statement, paper, rule, test, needs=("depth_growth",))


_INTERVAL = "The 95 % interval over seeds of the difference of final held-out losses"
_POINTS = (
    "The 95 % interval over seeds of the difference of mean accuracies on the five primitives of "
    "Table 6 (data.shots examples before each question, where the paper has five)"
)
_CHANCE = (
    " Where no arm lies above guessing with its whole interval, it cannot tell (the copied word is "
    "in the second half and never repeated, so that guessing reaches 45.7 % there)."
)
_LN_LIDAS, _LN_MIDAS = f"{LN_SCALING}_{LIDAS}", f"{LN_SCALING}_{MIDAS}"
_accuracies = functools.partial(_compared, _higher, field=PRIMITIVES)


def _matches(arm: str) -> Claim:
    return _claim(
        f"{arm}_matches_loss",
        "DG section 3.2, Table 1",
        f"{arm.upper()} matches the baseline's held-out loss in as many steps.",
        _paper("nll", arm, BASELINE),
        f"{_INTERVAL}, {arm} less baseline, lies below {MARGIN} nats, the largest difference from "
        "the baseline in Table 1; it fails if it lies above.",
        _compared(_not_worse, [(arm, BASELINE)], beside=(*_equal(arm), *_CONTROLS)),
    )


CLAIMS = (
    _matches(MIDAS),
    _matches(LIDAS),
    _claim(
        "lidas_less_loss_than_midas",
        "DG section 3.2, Table 1",
        "LIDAS has a slightly lower held-out loss than MIDAS.",
        _paper("nll", LIDAS, MIDAS),
        f"{_INTERVAL}, lidas less midas, lies below 0; it fails if it lies above.",
        _compared(_lower, [(LIDAS, MIDAS)], beside=[(LIDAS + EQUAL_FLOPS, MIDAS + EQUAL_FLOPS)]),
    ),
    _claim(
        "depth_growth_wins_at_equal_flops",
        "DG section 5, Table 7",
        "With as many FLOPs as the baseline, grown models have a lower held-out loss.",
        "not measured; equal losses with 22 % fewer FLOPs suggest it",
        f"{_INTERVAL}, midas and lidas of equal FLOPs less baseline, lies below 0 for both; it "
        "fails if one lies above. They take more steps on more tokens.",
        _compared(
            _lower,
            _equal(*GROWN),
            beside=[*((arm, BASELINE) for arm in GROWN), *_CONTROLS],
        ),
    ),
    _claim(
        "depth_growth_is_faster",
        "DG section 1, Table 7",
        f"Growth trains {SPEEDUP} times as fast for as many steps.",
        f"{SPEEDUP} times, from FLOPs",
        "Seconds of training, without compilation and evaluation, of the baseline over those of "
        f"midas and lidas are at least {SPEEDUP}; it fails below 1, or below {SPEEDUP} where the "
        f"ratio of FLOPs is that large. More than {EXCESS} times the ratio of FLOPs cannot tell. "
        "One timing on one machine, without interval.",
        _faster,
    ),
    _claim(
        "growth_raises_primitives",
        "DG section 3.2, Table 1",
        "Grown models are better at reasoning primitives than the baseline.",
        _paper("primitives", MIDAS, LIDAS, BASELINE),
        f"{_POINTS}, midas and lidas less baseline, lies above 0 for both; it fails if one lies "
        f"below.{_CHANCE}",
        _accuracies([(arm, BASELINE) for arm in GROWN], beside=_equal(*GROWN)),
    ),
    _claim(
        "lidas_raises_primitives_over_midas",
        "DG section 3.2, Table 1",
        "LIDAS is better at reasoning primitives than MIDAS.",
        _paper("primitives", LIDAS, MIDAS),
        f"{_POINTS}, lidas less midas, lies above 0; it fails if it lies below.{_CHANCE}",
        _accuracies([(LIDAS, MIDAS)]),
    ),
    _claim(
        "ln_scaling_tracks_baseline",
        "DG section 3.2, Table 1",
        "LN-scaling has the held-out loss of the baseline.",
        _paper("nll", LN_SCALING, BASELINE),
        f"{_INTERVAL}, ln_scaling less baseline, lies within {MARGIN} nats of 0; it fails if it "
        "lies outside.",
        _compared(_alike, [(LN_SCALING, BASELINE)]),
    ),
    _claim(
        "ln_scaling_trails_growth",
        "DG section 3.2",
        "LN-scaling is worse at reasoning primitives than grown models.",
        _paper("primitives", LN_SCALING, MIDAS, LIDAS),
        f"{_POINTS}, midas and lidas less ln_scaling, lies above 0 for both; it fails if one lies "
        f"below.{_CHANCE}",
        _accuracies([(arm, LN_SCALING) for arm in GROWN], beside=[(LN_SCALING, BASELINE)]),
    ),
    _claim(
        "growth_keeps_loss_under_ln_scaling",
        "DG appendix E, Table 8",
        "With LN-scaling, too, LIDAS matches the held-out loss of constant depth.",
        _paper("nll", _LN_LIDAS, LN_SCALING, _LN_MIDAS),
        f"{_INTERVAL}, ln_scaling_lidas less ln_scaling, lies below {MARGIN} nats; it fails if it "
        "lies above.",
        _compared(_not_worse, [(_LN_LIDAS, LN_SCALING)], beside=[(_LN_MIDAS, LN_SCALING)]),
    ),
    _claim(
        "growth_raises_primitives_under_ln_scaling",
        "DG appendix E, Table 8",
        "With LN-scaling, too, LIDAS is better at reasoning primitives than constant depth.",
        _paper("primitives", _LN_LIDAS, LN_SCALING, _LN_MIDAS),
        f"{_POINTS}, ln_scaling_lidas less ln_scaling, lies above 0; it fails if it lies below."
        f"{_CHANCE}",
        _accuracies([(_LN_LIDAS, LN_SCALING)], beside=[(_LN_MIDAS, LN_SCALING)]),
    ),
)

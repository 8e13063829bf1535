"""AH Tables 8 and 9: whether a model that grows learns better than one trained flat."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxanatomy.measures.developmental import (
    BASELINE,
    FINAL,
    differences,
    of_purpose,
    paired_interval,
)
from jaxanatomy.report.claims.claim import (
    Answer,
    Claim,
    Evidence,
    Finding,
    beyond,
    every,
    padded,
)
from jaxanatomy.report.reference import paper_table

GROWTH, SHORT = "growth_100", "growth_50"
CONTROLS = ("clone_init_uniform", "shuffled_phases")
RATIO = 4.7
_TABLE8, _CLAIMS8 = paper_table("table8"), paper_table("table8_claims")
_RULE = (
    "The 95 % interval over seeds (those that diverged left out) of the difference of final "
    "validation losses is below 0"
)


def _finals(evidence: Evidence) -> dict[str, list[Mapping[str, Any]]]:
    """Final rows by arm of the seeds whose loss stayed finite; arms without such are left out."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in of_purpose(evidence.rows("developmental"), FINAL):
        if row["final_nll"] is not None:
            found.setdefault(row["arm"], []).append(row)
    return found


def _compared(arm: str, *others: str) -> Callable[[Evidence], Finding | None]:
    """Whether an arm ends lower than each of the others."""

    def test(evidence: Evidence) -> Finding | None:
        finals = _finals(evidence)
        present = [other for other in others if other in finals]
        if arm not in finals or not present:
            return None
        absent = [other for other in others if other not in finals]
        rows = [row for group in finals.values() for row in group]
        found = {other: differences(rows, arm, other) for other in present}
        measured = "; ".join(
            f"{_losses(finals, arm, other)}, {_words(each['final_nll'])}"
            for other, each in found.items()
        )
        lowest = "; ".join(
            f"at the lowest loss of each against {other} {_words(each['min_nll'])}"
            for other, each in found.items()
        )
        answers = [_below(each["final_nll"]) for each in found.values()]
        return Finding.of(every(padded(answers, absent)), measured, lowest, absent=absent)

    return test


def _ratio(evidence: Evidence) -> Finding | None:
    finals = _finals(evidence)
    if not {GROWTH, BASELINE} <= finals.keys():
        return None
    growth = {row["seed"]: row["final_nll"] for row in finals[GROWTH]}
    logs = [
        math.log(row["final_nll"] / growth[row["seed"]])
        for row in finals[BASELINE]
        if row["seed"] in growth
    ]
    if not logs:
        return None
    ends = [math.exp(end) for end in paired_interval(logs)]
    words = f"{math.exp(np.mean(logs)):.2f} times "
    words += f"[{ends[0]:.2f}, {ends[1]:.2f}]" if len(logs) > 1 else "(no interval from one seed)"
    lowest = _mean(finals[BASELINE], "min_nll") / _mean(finals[GROWTH], "min_nll")
    return Finding.of(beyond(ends, RATIO), words, f"of lowest losses {lowest:.2f} times")


def _faster(evidence: Evidence) -> Finding | None:
    finals = _finals(evidence)
    if not {GROWTH, BASELINE} <= finals.keys():
        return None
    seconds, flops = (
        1 - _mean(finals[GROWTH], field) / _mean(finals[BASELINE], field)
        for field in ("seconds", "flops")
    )
    stated = _CLAIMS8["growth_100_faster_percent"]
    return Finding.of(
        100 * seconds >= stated,
        f"{100 * seconds:.0f} % less time on this machine",
        f"{100 * flops:.0f} % fewer FLOPs of matrix products",
    )


def _completes(evidence: Evidence) -> Finding | None:
    finals: dict[str, list[Mapping[str, Any]]] = {}
    for row in of_purpose(evidence.rows("developmental"), FINAL):  # also of seeds that diverged
        finals.setdefault(row["arm"], []).append(row)
    if GROWTH not in finals:
        return None
    prompts = len(finals[GROWTH][0]["completions"])
    words = {arm: f"{_mean(rows, 'exact_completions'):.1f}" for arm, rows in finals.items()}
    null = ", ".join(f"{arm} {count}" for arm, count in words.items() if arm != GROWTH)
    complete = [row["exact_completions"] == prompts for row in finals[GROWTH]]
    return Finding.of(
        all(complete),
        f"{words[GROWTH]} of {prompts}, mean over {len(complete)} seeds",
        null,
        f"all of them in {complete.count(True)} of {len(complete)} seeds",
    )


def _below(difference: Mapping[str, Any]) -> Answer:
    if difference["low"] is None:
        return None
    return True if difference["high"] < 0 else False if difference["low"] > 0 else None


def _words(difference: Mapping[str, Any]) -> str:
    if difference["low"] is None:
        return "no interval from one seed"
    low, mean, high = (f"{difference[name]:+.3f}" for name in ("low", "mean", "high"))
    return f"{mean} [{low}, {high}] nats".replace("-", "−")


def _losses(finals: Mapping[str, list], arm: str, other: str) -> str:
    own, against = (_mean(finals[name], "final_nll") for name in (arm, other))
    return f"{arm} {own:.3f}, {other} {against:.3f}"


def _mean(rows: list, field: str) -> float:
    return float(np.mean([row[field] for row in rows]))


def _claim(id: str, source: str, statement: str, paper: str, rule: str, test: Callable) -> Claim:
    return Claim(id, source, statement, paper, rule, test, needs=("developmental",))


def _paper(*arms: str) -> str:
    return ", ".join(f"{arm} {_TABLE8[arm]['val_loss']}" for arm in arms)


CLAIMS = (
    _claim(
        "growth_wins",
        "AH section 4.6.3, Table 8",
        "Growing beats uniform training of the same number of steps.",
        _paper(GROWTH, BASELINE),
        f"{_RULE}, growth_100 less uniform_100; it fails if it is above 0.",
        _compared(GROWTH, BASELINE),
    ),
    _claim(
        "growth_wins_by_far",
        "AH abstract, Table 8",
        "The validation loss of growth is 4.7 times lower.",
        f"{RATIO} times",
        f"The 95 % interval over seeds of the ratio of final losses lies at or above {RATIO}; it "
        "fails if it lies below.",
        _ratio,
    ),
    _claim(
        "half_budget_wins",
        "AH section 4.6.3, Table 8",
        "Growth in 37 % fewer steps beats uniform training in all of them.",
        _paper(SHORT, BASELINE),
        f"{_RULE}, growth_50 less uniform_100; it fails if it is above 0.",
        _compared(SHORT, BASELINE),
    ),
    _claim(
        "growth_is_faster",
        "AH Table 8",
        "Growth takes 13 % less time for the same number of steps.",
        f"{_TABLE8[GROWTH]['seconds']} against {_TABLE8[BASELINE]['seconds']} seconds",
        "Seconds of training, without compilation and evaluation, are fewer by at least "
        f"{_CLAIMS8['growth_100_faster_percent']} %; one timing on one machine, without interval.",
        _faster,
    ),
    _claim(
        "phases_explain_growth",
        "AH section 4.6.4",
        "The gain comes from training the core first and growing the rest from it.",
        "explained by the exposure of the core",
        f"{_RULE}, for growth_100 less the arm that clones at the start and trains uniformly, and "
        "less the arm whose phases are in another order; it fails if one is above 0.",
        _compared(GROWTH, *CONTROLS),
    ),
    _claim(
        "growth_completes_all",
        "AH Table 9",
        "Growth completes all twelve prompts as they were taught.",
        "12 of 12, uniform 10 of 12",
        "Every seed of growth_100, also one that diverged, writes all twelve word by word.",
        _completes,
    ),
)

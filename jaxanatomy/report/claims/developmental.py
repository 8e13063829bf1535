"""AH Tables 8 and 9: whether a model that grows learns better than one trained flat."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.developmental import (
    BASELINE,
    TUNED_BY,
    differences,
)
from jaxanatomy.measures.statistics import seeds_interval
from jaxanatomy.measures.tuning import FINAL, of_purpose, rate_at_edge
from jaxanatomy.papers import paper_table
from jaxanatomy.report.claims.claim import (
    Answer,
    Claim,
    Evidence,
    Finding,
    agreed,
    beyond,
    every,
    padded,
)

GROWTH, SHORT = "growth_100", "growth_50"
EQUAL_FLOPS, CORE = "equal_flops", "core_alone"
# What explains a gain of growth if it does as well: clones, the steps of each layer, the core.
CONTROLS = ("clone_init_uniform", "shuffled_phases", CORE)
RATIO, SHORT_RATIO = 4.7, 2.1
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
        beside = [
            *(
                f"at the lowest loss of each against {other} {_words(each['min_nll'])}"
                for other, each in found.items()
            ),
            *(
                f"{arm} less {control} {_words(differences(rows, arm, control)['final_nll'])}"
                for control in (EQUAL_FLOPS, CORE)
                if arm == GROWTH and control in finals and control not in others
            ),
            _rates(evidence, (arm, *present)),
        ]
        answers = [_below(each["final_nll"]) for each in found.values()]
        answer = every(padded(answers, absent))
        return Finding.of(answer, measured, "; ".join(beside), absent=absent)

    return test


def _rates(evidence: Evidence, arms: Sequence[str]) -> str:
    """The learning rates that arms were tuned to, and whether a better one may be outside."""
    finals, rows = _finals(evidence), evidence.rows("developmental")
    words = [
        f"{arm} {finals[arm][0]['learning_rate']:.0e}"
        f"{' (at the edge of those tried)' if rate_at_edge(rows, arm, TUNED_BY) else ''}"
        for arm in arms
    ]
    return f"learning rates, each arm's own: {', '.join(words)}"


def _ratio(arm: str, least: float) -> Callable[[Evidence], Finding | None]:
    """Whether the baseline's final loss is at least so many times an arm's."""

    def test(evidence: Evidence) -> Finding | None:
        finals = _finals(evidence)
        if not {arm, BASELINE} <= finals.keys():
            return None
        own = {row["seed"]: row["final_nll"] for row in finals[arm]}
        logs = [
            math.log(row["final_nll"] / own[row["seed"]])
            for row in finals[BASELINE]
            if row["seed"] in own
        ]
        if not logs:
            return None
        ratio = seeds_interval(logs).map(np.exp)
        words = f"{ratio.value:.2f} times "
        few = "(no interval from one seed)"
        words += f"[{ratio.low:.2f}, {ratio.high:.2f}]" if len(logs) > 1 else few
        lowest = _mean(finals[BASELINE], "min_nll") / _mean(finals[arm], "min_nll")
        beside = [f"of lowest losses {lowest:.2f} times"]
        if arm == GROWTH and EQUAL_FLOPS in finals:
            equal = _mean(finals[EQUAL_FLOPS], "final_nll") / _mean(finals[arm], "final_nll")
            beside.append(f"against {EQUAL_FLOPS} {equal:.2f} times")
        rates = _rates(evidence, (arm, BASELINE))
        return Finding.of(beyond(ratio.ends, least), words, "; ".join([*beside, rates]))

    return test


def _faster(evidence: Evidence) -> Finding | None:
    finals = _finals(evidence)
    if not {GROWTH, BASELINE} <= finals.keys():
        return None
    seconds, flops = (
        1 - _mean(finals[GROWTH], field) / _mean(finals[BASELINE], field)
        for field in ("seconds", "flops")
    )
    stated = _CLAIMS8["growth_100_faster_percent"]
    answer = agreed(100 * less >= stated for less in (seconds, flops))
    return Finding.of(
        answer,
        f"{100 * seconds:.0f} % less time on this machine",
        f"{100 * flops:.0f} % fewer FLOPs of matrix products",
        "time and FLOPs disagree" if answer is None else "",
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


def _completes_alike(evidence: Evidence) -> Finding | None:
    finals = _finals(evidence)
    if not {SHORT, BASELINE} <= finals.keys():
        return None
    uniform = {row["seed"]: row["exact_completions"] for row in finals[BASELINE]}
    more = [
        row["exact_completions"] - uniform[row["seed"]]
        for row in finals[SHORT]
        if row["seed"] in uniform
    ]
    short, all_steps = (_mean(finals[arm], "exact_completions") for arm in (SHORT, BASELINE))
    measured = f"{short:.1f} against {all_steps:.1f}, means over seeds"
    words = f"difference of seeds {min(more, default=0):+d} to {max(more, default=0):+d}"
    return Finding.of(beyond(seeds_interval(more).ends, 0), measured, words.replace("-", "−"))


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
    own, against = (
        f"{name} {_mean(finals[name], 'final_nll'):.3f} in {finals[name][0]['step']} steps"
        for name in (arm, other)
    )
    return f"{own}, {against}"


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
        _ratio(GROWTH, RATIO),
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
        "half_budget_wins_by_far",
        "AH section 4.6.3, Table 8",
        "The validation loss of growth in 37 % fewer steps is 2.1 times lower.",
        f"{SHORT_RATIO} times",
        f"The 95 % interval over seeds of the ratio of final losses lies at or above {SHORT_RATIO};"
        " it fails if it lies below.",
        _ratio(SHORT, SHORT_RATIO),
    ),
    _claim(
        "growth_is_faster",
        "AH Table 8",
        "Growth takes 13 % less time for the same number of steps.",
        f"{_TABLE8[GROWTH]['seconds']} against {_TABLE8[BASELINE]['seconds']} seconds",
        "Seconds of training, without compilation and evaluation, and FLOPs are both fewer by at "
        f"least {_CLAIMS8['growth_100_faster_percent']} %; it fails if neither is. One timing on "
        "one machine, without interval.",
        _faster,
    ),
    _claim(
        "phases_explain_growth",
        "AH section 4.6.4",
        "The gain comes from training the core first and growing the rest from it.",
        "explained by the exposure of the core",
        f"{_RULE}, for growth_100 less the arm that clones at the start and trains uniformly, less "
        "the arm whose phases are in another order, and less the core with nothing grown on it; "
        "it fails if one is above 0.",
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
    _claim(
        "half_budget_completes_alike",
        "AH section 4.6.3",
        "Growth in 37 % fewer steps completes prompts as well as uniform training in all of them.",
        "matches it on all generation tests",
        "The 95 % interval over seeds of the difference of exact completions, growth_50 less "
        "uniform_100, lies at or above 0; it fails if it lies below.",
        _completes_alike,
    ),
)

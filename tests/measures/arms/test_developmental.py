"""Rows and summary of the developmental experiment, by literal numbers."""

import json
import math
import types

import numpy as np
import pytest
from scipy.stats import t

from jaxanatomy.measures.arms import developmental
from jaxanatomy.measures.statistics.estimates import seeds_interval
from jaxanatomy.train.points import Account, HeldOutRows


def points(losses, stopped=None):
    """Evaluations of one seed at four places."""
    return [
        types.SimpleNamespace(
            step=step,
            loss=[None if step == 0 else 2.0],
            eval_nll=[loss],
            units={"validation": HeldOutRows(1.0, [3, 2], [[3 * loss, 2 * loss]])},
            stopped=[stopped],
            account=Account(wall_seconds=9.0),
        )
        for step, loss in zip((0, 4, 8, 12), losses, strict=True)
    ]


def final(losses, stopped=None):
    memory = {}
    for point in (*points(losses, stopped), points(losses, stopped)[-1]):  # the last one twice
        developmental.note_lowest(point, memory)
    memory = json.loads(json.dumps(memory))  # as a checkpoint keeps it
    return developmental.final_fields(point, 0, memory, 0.25)


def test_a_final_row_has_the_last_and_the_lowest_loss():
    found = final([6.0, 1.5, 2.0, 3.0])
    assert (found["loss"], found["eval_nll"], found["final_nll"]) == (2.0, 3.0, 3.0)
    assert (found["min_nll"], found["min_step"], found["train_nll"]) == (1.5, 4, 0.25)
    assert (found["diverged_step"], found["reason"], found["wall_seconds"]) == (None, None, 9.0)
    assert (found["unit_nll"], found["min_unit_nll"]) == ([9.0, 6.0], [4.5, 3.0])
    assert found["unit_tokens"] == [3, 2]


def test_a_curve_row_has_losses_or_nothing():
    first, *_, last = points([6.0, 1.5, 2.0, math.nan])
    assert developmental.curve_fields(first, 0) == {"loss": None, "eval_nll": 6.0}
    assert developmental.curve_fields(last, 0) == {"loss": 2.0, "eval_nll": None}


def test_a_seed_that_stopped_has_no_losses_but_a_reason():
    found = final([6.0, 1.5, math.nan, math.nan], stopped=5)
    names = ("final_nll", "min_nll", "min_step", "train_nll", "unit_nll", "min_unit_nll")
    assert [found[name] for name in names] == [None] * 6
    assert found["reason"] == "the loss was not finite at step 5"


def test_a_seed_whose_last_validation_loss_is_not_finite_has_diverged():
    found = final([6.0, 1.5, 2.0, math.inf])
    assert (found["final_nll"], found["min_nll"], found["diverged_step"]) == (None, None, 12)
    found = final([6.0, math.inf, 2.0, 3.0])
    assert (found["final_nll"], found["min_nll"], found["diverged_step"]) == (3.0, 2.0, None)


def final_row(arm, seed, final, low=None, rate=1e-3, purpose="main", units=(1, 1)):
    """`units` are losses of two sentences of one token each, in shares of the mean."""
    low = final if low is None else low
    return {
        "unit_nll": None if final is None else [final * unit for unit in units],
        "min_unit_nll": None if low is None else [low * unit for unit in units],
        "unit_tokens": [1, 1],
        "core_steps": 541,
        "kind": "final",
        "purpose": purpose,
        "arm": arm,
        "seed": seed,
        "learning_rate": rate,
        "final_nll": final,
        "min_nll": low,
        "train_nll": 0.5,
        "step": 656,
        "flops": 7,
        "seconds": 3.0 + seed,
        "exact_completions": 12 - seed,
        "diverged_step": None if final is not None else 3,
        "reason": None if final is not None else "the loss was not finite at step 3",
        "wall_seconds": 40.0,
    }


def test_the_interval_is_student_s():
    # t quantile of 4 degrees of freedom at 97.5 %: 2.776445.
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    half = 2.776445 * math.sqrt(2.5 / 5)
    found = seeds_interval(values)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half), rel=1e-6)
    assert (seeds_interval([1.0]).value, seeds_interval([1.0]).ends) == (1.0, None)


def test_the_summary_pairs_seeds():
    rows = [
        *(final_row("uniform_100", seed, 2.0 + seed, 1.0) for seed in range(3)),
        *(final_row("growth_100", seed, 1.5 + seed, 1.25) for seed in range(2)),
        final_row("growth_100", 2, None),
        final_row("growth_100", 9, 3.0, rate=3e-3, purpose="tuning"),
    ]
    found = developmental.summarise(rows)
    uniform = found["arms"]["uniform_100"]
    assert (uniform["seeds"], uniform["seconds"], uniform["exact_completions"]) == (3, 4.0, 11.0)
    half = 4.302653 / math.sqrt(3)
    assert uniform["final_nll"] == pytest.approx({"mean": 3, "low": 3 - half, "high": 3 + half})
    assert found["arms"]["growth_100"]["diverged_seeds"] == [2]
    assert found["arms"]["growth_100"]["final_nll"]["mean"] == 2.0
    # One arm alone has all seeds, so nothing can be pooled: Student's interval of the pairs of
    # logs, times the mean loss of the two.
    logs = np.log([1.5 / 2.0, 2.5 / 3.0])
    half = 2.25 * t.ppf(0.975, 1) * np.std(logs, ddof=1) / math.sqrt(2)
    grown = found["differences"]["growth_100"]
    expected = {"mean": -0.5, "low": -0.5 - half, "high": -0.5 + half, "seeds": 2}
    assert grown["final_nll"] == pytest.approx(expected)
    assert grown["min_nll"] == {"seeds": 2, "mean": 0.25, "low": 0.25, "high": 0.25}
    assert found["differences_level"] == 0.95
    assert found["tuning"] == {"growth_100": [(3e-3, 3.0)]}
    assert found["wall_seconds"] == {"uniform_100": 40.0, "growth_100": 80.0}


def test_differences_are_over_sentences_too_and_hold_for_all_arms_at_once():
    """Seeds agree to the last digit; sentences do not."""
    rows = [
        *(final_row("uniform_100", seed, 2.0) for seed in range(3)),
        *(final_row("growth_100", seed, 1.0, units=(0.5, 1.5)) for seed in range(3)),
        *(final_row("equal_flops", seed, 2.0) for seed in range(3)),
    ]
    found = developmental.summarise(rows)
    assert found["differences_level"] == pytest.approx(0.975)
    grown = found["differences"]["growth_100"]["final_nll"]
    # Logs of ratios -0.5 and 0.5 about their mean, of two tokens: variance 2 * 0.5 / 4. The t
    # quantile of one degree of freedom at 98.75 % is 25.452; the mean loss of the two 1.5.
    half = 1.5 * 25.451700 * math.sqrt(2 * 0.5 / 4)
    assert grown == pytest.approx({"mean": -1, "low": -1 - half, "high": -1 + half, "seeds": 3})

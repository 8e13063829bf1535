"""Rows and summary of the developmental experiment, by literal numbers."""

import math
import types

import pytest

from jaxanatomy.measures import developmental
from jaxanatomy.measures.developmental import developmental_rows
from jaxanatomy.measures.statistics import seeds_interval

PROMPTS = (("a", "b c"), ("d", "e"))


def trained(losses, diverged=None):
    points = [
        types.SimpleNamespace(
            stage="one" if step < 8 else "two",
            step=step,
            tokens=[10 * step],
            seconds=0.5 * step,
            loss=[math.nan if step == 0 else 2.0],
            eval_nll=[loss],
            unit_nll=[[3 * loss, 2 * loss]],
        )
        for step, loss in zip((0, 4, 8, 8), losses, strict=True)
    ]
    return types.SimpleNamespace(
        points=points,
        unit_tokens=[3, 2],
        train_nll=[0.25],
        diverged=[diverged],
        wall_seconds=9.0,
    )


def test_rows_are_the_curve_and_a_final_row():
    *curve, final = developmental_rows(trained([6.0, 1.5, 2.0, 3.0]), 0, PROMPTS, ["b c", "x"])
    assert curve[0] == {
        "kind": "curve",
        "stage": "one",
        "step": 0,
        "tokens": 0,
        "seconds": 0.0,
        "loss": None,
        "eval_nll": 6.0,
    }
    assert [row["eval_nll"] for row in curve] == [6.0, 1.5, 2.0, 3.0]
    assert (final["kind"], final["stage"], final["step"]) == ("final", "two", 8)
    assert (final["final_nll"], final["min_nll"], final["min_step"]) == (3.0, 1.5, 4)
    assert (final["train_nll"], final["tokens"], final["seconds"]) == (0.25, 80, 4.0)
    assert (final["completions"], final["exact_completions"]) == (["b c", "x"], 1)
    assert (final["diverged_step"], final["reason"]) == (None, None)
    assert (final["unit_nll"], final["min_unit_nll"]) == ([9.0, 6.0], [4.5, 3.0])
    assert final["unit_tokens"] == [3, 2]


def test_a_replica_that_stopped_has_no_losses_but_a_reason():
    losses = [6.0, 1.5, math.nan, math.nan]
    *curve, final = developmental_rows(trained(losses, diverged=5), 0, PROMPTS, ["", ""])
    assert [row["eval_nll"] for row in curve] == [6.0, 1.5, None, None]
    names = ("final_nll", "min_nll", "min_step", "train_nll", "unit_nll", "min_unit_nll")
    assert [final[name] for name in names] == [None] * 6
    assert final["reason"] == "the loss was not finite at step 5"


def test_a_replica_whose_last_validation_loss_is_not_finite_has_diverged():
    *_, final = developmental_rows(trained([6.0, 1.5, 2.0, math.inf]), 0, PROMPTS, ["", ""])
    assert (final["final_nll"], final["min_nll"], final["diverged_step"]) == (None, None, 8)
    *_, final = developmental_rows(trained([6.0, math.inf, 2.0, 3.0]), 0, PROMPTS, ["", ""])
    assert (final["final_nll"], final["min_nll"], final["diverged_step"]) == (3.0, 2.0, None)


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
    assert found["differences"] == {
        "growth_100": {
            "final_nll": {"seeds": 2, "mean": -0.5, "low": -0.5, "high": -0.5},
            "min_nll": {"seeds": 2, "mean": 0.25, "low": 0.25, "high": 0.25},
        }
    }
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
    # Differences -1.5 and -0.5 of two tokens, mean -1, residuals 0.5: variance 2 * 0.5 / 4. The t
    # quantile of one degree of freedom at 98.75 % is 25.452.
    half = 25.451700 * math.sqrt(2 * 0.5 / 4)
    assert grown == pytest.approx({"mean": -1, "low": -1 - half, "high": -1 + half, "seeds": 3})

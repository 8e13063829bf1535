"""Summary of depth growth against literal numbers."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from jaxanatomy.measures.arms.depth_growth import (
    accuracies,
    answer_fields,
    final_fields,
    point_fields,
    summarise,
)
from jaxanatomy.measures.arms.finals import Losses, difference_fields, stopped
from jaxanatomy.train.points import Account, Evaluation, HeldOutRows


@dataclasses.dataclass
class Asked:
    task: str
    chance: float


def test_accuracy_is_the_mean_of_the_tasks_not_of_the_questions():
    asked = [Asked("copying", 0.1)] * 4 + [Asked("assignment", 0.2)] * 2
    found = accuracies(asked, np.array([1, 1, 1, 0, 0, 1], bool))
    assert found["accuracy_by_task"]["copying"] == {
        "accuracy": 0.75,
        "chance": pytest.approx(0.1),
        "questions": 4,
    }
    assert found["accuracy"] == 0.625
    assert found["chance"] == pytest.approx(0.15)


def asked(accuracy):
    return {"accuracy": accuracy, "chance": 0.1, "questions": 40}


def final(arm, seed, nll, accuracy, reason="", mfu=None, purpose="main", rate=0.1):
    labels = {"kind": "final", "arm": arm, "seed": seed, "step": 9, "tokens": 90, "flops": 900}
    labels |= {"purpose": purpose, "learning_rate": rate, "layers": 4}
    values = {"seconds": 1.0 + seed, "chance": 0.2, "eval_nll": nll, "accuracy": accuracy}
    values |= {"tokens_per_second": 90.0 / (1 + seed), "mfu": mfu}
    values |= {"accuracy_by_task": {"copying": asked(accuracy), "math": asked(0.5)}}
    # Three rows of text and two questions, all alike.
    values |= {"unit_nll": nll and [nll] * 3, "unit_tokens": [1] * 3}
    values |= {"unit_right": accuracy and [accuracy] * 2, "unit_questions": [1] * 2}
    return {**labels, **values, "reason": reason}


def test_arms_are_compared_with_the_baseline_of_the_same_seed():
    base, grown = [2.0, 2.5, 2.1], [1.8, 2.4, 1.7]
    rows = [final("baseline", seed, nll, 0.3) for seed, nll in enumerate(base)]
    rows += [final("midas", seed, nll, 0.4) for seed, nll in enumerate(grown)]
    rows.append({"kind": "curve", "purpose": "main", "arm": "midas", "seed": 0})
    rows.append(final("midas", 9, 1.0, 0.9, purpose="tuning"))
    arms = summarise(rows)["arms"]
    found = arms["midas"]["eval_nll"]
    # Of two arms the spread is that of their pairs; in nats by the mean loss of the two.
    logs = ttest_rel(np.log(grown), np.log(base)).confidence_interval()
    assert found["mean"] == pytest.approx(np.mean(grown))
    mean, half = np.mean(grown) - np.mean(base), (logs.high - logs.low) / 2
    half *= np.mean([grown, base])
    less = {"mean": mean, "low": mean - half, "high": mean + half, "seeds": 3}
    assert found["less_baseline"] == pytest.approx(less)
    assert (found["less_shallow"], arms["baseline"]["eval_nll"]["less_baseline"]) == (None, None)
    assert arms["midas"]["accuracy"]["less_baseline"]["mean"] == pytest.approx(0.1)
    assert (arms["midas"]["seconds"], arms["midas"]["diverged"]) == (2.0, [])


def test_rows_of_text_are_a_source_of_spread_and_questions_are():
    """Seeds agree to the last digit; what they are scored on does not."""
    rows = [final("baseline", seed, 2.0, 0.5) for seed in range(3)]
    rows += [final("midas", seed, 1.0, 0.5) for seed in range(3)]
    for row in rows[3:]:
        row |= {"unit_nll": [0.5, 1.0, 1.5], "unit_right": [0.0, 1.0]}
    found = summarise(rows)["arms"]["midas"]
    # Residuals -0.5, 0, 0.5 of three tokens: variance 3 / 2 * 0.5 / 9; t of two degrees: 4.302653;
    # the mean loss of the two is 1.5.
    half = 1.5 * 4.302653 * np.sqrt(0.75 / 9)
    less = found["eval_nll"]["less_baseline"]
    assert less == pytest.approx({"mean": -1, "low": -1 - half, "high": -1 + half, "seeds": 3})
    less = found["accuracy"]["less_baseline"]
    assert (less["mean"], less["high"]) == (0, pytest.approx(12.706205 * 0.5))


def test_growing_arms_are_compared_with_the_shallow_one_at_equal_steps():
    ends = {"baseline": 3.0, "midas": 2.5, "shallow": 2.0}
    rows = [
        final(arm, seed, nll + 0.1 * seed * (arm == "midas"), 0.3)
        for arm, nll in ends.items()
        for seed in range(3)
    ]
    summary = summarise(rows)
    assert summary["level"] == pytest.approx(1 - 0.05 / 3)
    arms = summary["arms"]
    less = arms["midas"]["eval_nll"]["less_shallow"]
    expected = Losses.of(rows).difference(("midas", "shallow"), summary["level"])
    assert less == pytest.approx(difference_fields(expected))
    assert (less["mean"], less["seeds"]) == (pytest.approx(0.6), 3)
    # Narrower than the pair's alone: t of two degrees at 1 - 0.05 / 6 is 7.6488039.
    assert less["high"] - less["mean"] < 7.6488039 * 0.1 / np.sqrt(3)
    assert arms["shallow"]["eval_nll"]["less_shallow"] is None
    assert arms["shallow"]["eval_nll"]["less_baseline"]["mean"] == pytest.approx(-1.0)


def test_the_rates_that_were_tried_stand_beside_the_one_that_was_taken():
    rows = [
        final("midas", 9, nll, None, purpose="tuning", rate=rate)
        for rate, nll in ((0.2, 2.5), (0.1, 2.0), (0.4, None))
    ]
    summary = summarise([*rows, final("midas", 0, 2.1, 0.3)])
    assert summary["tuning"] == {"midas": [(0.1, 2.0), (0.2, 2.5), (0.4, None)]}
    arm = summary["arms"]["midas"]
    assert (arm["learning_rate"], arm["rate_at_edge"], arm["seeds"]) == (0.1, True, [0])


def test_throughput_is_a_mean_over_seeds_and_mfu_none_where_one_is():
    rows = [final("baseline", seed, 2.0, 0.3, mfu=0.1 * (1 + seed)) for seed in (0, 1, 2)]
    found = summarise(rows)["arms"]["baseline"]
    assert found["tokens_per_second"] == pytest.approx((90 + 45 + 30) / 3)
    assert found["mfu"] == pytest.approx(0.2)
    assert summarise([*rows, final("baseline", 3, 2.0, 0.3)])["arms"]["baseline"]["mfu"] is None


def test_a_seed_that_stopped_early_makes_its_arm_no_faster():
    rows = [final("midas", seed, 2.0, 0.3, mfu=0.1) | {"seconds": 100.0} for seed in (0, 1)]
    early = {"seconds": 1.0, "tokens_per_second": 1000.0}
    rows.append(final("midas", 2, None, None, "diverged") | early)
    found = summarise(rows)["arms"]["midas"]
    assert (found["seconds"], found["tokens_per_second"]) == (100.0, (90 + 45) / 2)
    assert found["mfu"] == pytest.approx(0.1)  # not None, as it is for the one that stopped
    rows = [row | {"reason": "diverged"} for row in rows]
    found = summarise(rows)["arms"]["midas"]
    assert (found["seconds"], found["mfu"]) == (67.0, None)


def test_a_primitive_has_wilsons_interval_for_the_questions_of_one_seed():
    rows = [final("midas", seed, 2.0, share) for seed, share in enumerate((0.2, 0.3, 0.4))]
    rows.append(final("midas", 3, None, None, "diverged"))
    found = summarise(rows)["arms"]["midas"]["accuracy_by_task"]
    assert list(found) == ["copying", "math"]
    expected = binomtest(12, 40).proportion_ci(method="wilson")
    assert found["copying"] == {
        "mean": pytest.approx(0.3),
        "ci95": pytest.approx([expected.low, expected.high]),
        "chance": 0.1,
        "questions": 40,
    }
    # As wide with one seed, and no narrower where all agree.
    alike = [final("midas", seed, 2.0, 0.3) for seed in (0, 1, 2)]
    for own in (alike, alike[:1]):
        assert summarise(own)["arms"]["midas"]["accuracy_by_task"]["copying"]["ci95"] == (
            pytest.approx([expected.low, expected.high])
        )
    lost = summarise(rows[3:])["arms"]["midas"]["accuracy_by_task"]["copying"]
    assert (lost["mean"], lost["ci95"], lost["questions"]) == (None, None, 40)


def test_who_stopped_is_known_before_its_arm_has_ended():
    rows = [
        {"kind": "curve", "purpose": "main", "arm": "midas", "seed": 1, "reason": reason}
        for reason in ("", "x")
    ]
    rows += [final("lidas", 0, None, None, "diverged"), final("lidas", 1, 2.0, 0.3)]
    assert stopped(rows) == {("midas", 1), ("lidas", 0)}
    assert stopped(rows[:1]) == set()
    assert stopped([final("midas", 9, None, None, "diverged", purpose="tuning")]) == set()


def test_one_seed_has_no_interval_and_a_diverged_one_no_mean():
    rows = [final("baseline", 0, 2.0, 0.3), final("lidas", 0, None, 0.2, "diverged")]
    arms = summarise(rows)["arms"]
    assert arms["baseline"]["eval_nll"]["ci95"] is None
    nothing = {"mean": None, "low": None, "high": None, "seeds": 0}
    assert arms["lidas"]["eval_nll"] == {
        **dict.fromkeys(("mean", "ci95", "less_shallow")),
        "less_baseline": nothing,
    }
    assert arms["lidas"]["diverged"] == [0]
    assert summarise(rows[1:])["arms"]["lidas"]["accuracy"]["less_baseline"] is None


def test_a_seed_that_has_diverged_counts_in_no_mean_of_its_arm():
    rows = [final("baseline", seed, 2.0 + 0.1 * seed, 0.3) for seed in (0, 1, 2)]
    rows += [final("midas", 0, 1.5, 0.5), final("midas", 1, None, None, "diverged")]
    rows += [{**final("midas", 2, 1.9, 0.5), "step": 20, "tokens": 200}]
    found = summarise(rows)["arms"]["midas"]
    assert (found["seeds"], found["diverged"], found["steps"]) == ([0, 1, 2], [1], 20)
    assert found["eval_nll"]["mean"] == pytest.approx(1.7)
    assert found["eval_nll"]["less_baseline"]["mean"] == pytest.approx((-0.5 - 0.3) / 2)
    without = [row for row in rows if row["seed"] != 1]
    assert found["eval_nll"]["ci95"] == summarise(without)["arms"]["midas"]["eval_nll"]["ci95"]
    # Nor does one of the baseline in a difference.
    rows[0] = final("baseline", 0, None, None, "diverged")
    found = summarise(rows)["arms"]["midas"]["eval_nll"]
    assert found["mean"] == pytest.approx(1.7)
    assert found["less_baseline"] == pytest.approx(
        {"mean": -0.3, "low": None, "high": None, "seeds": 1}
    )


def point(**changes):
    values = {"stage": 1, "step": 9, "stopped": [None, 4]}
    values["account"] = Account(90, 900, 4.5, 9.0, 3600.0)
    values |= {"loss": [2.0, None], "eval_nll": [1.5, np.nan], "reason": ["", "diverged"]}
    units = {
        "code": HeldOutRows(0.25, [1, 3], [[2.0, 2.0], [1.0, 1.0]]),
        "web": HeldOutRows(0.75, [10], [[20.0], [1.0]]),
    }
    return Evaluation(**{**values, "by_source": {"code": [1.0, np.inf]}, "units": units, **changes})


def test_what_a_row_has_of_one_seed():
    shared = {"tokens": 90, "flops": 900, "seconds": 4.5}
    assert point_fields(point(), 0) == {
        **shared,
        "loss": 2.0,
        "eval_nll": 1.5,
        "eval_nll_by_source": {"code": 1.0},
        "reason": "",
    }
    lost = {"loss": None, "eval_nll": None, "eval_nll_by_source": {"code": None}}
    assert point_fields(point(), 1) == {**shared, **lost, "reason": "diverged"}
    found = final_fields(point(), 0)
    assert (found["tokens_per_second"], found["mfu"]) == (20.0, 0.25)
    assert "loss" not in found
    # A quarter of 4 nats over 4 tokens, three quarters of 20 over 10.
    assert found["unit_tokens"] == pytest.approx([1 / 16, 3 / 16, 0.75])
    assert found["unit_nll"] == pytest.approx([2 / 16, 2 / 16, 1.5])
    mean = sum(found["unit_nll"]) / sum(found["unit_tokens"])
    assert mean == pytest.approx(0.25 * 1.0 + 0.75 * 2.0)
    # What was measured before a seed diverged says nothing about its end.
    stopped = point(eval_nll=[1.5, 7.0], by_source={"code": [1.0, 7.0]})
    found = final_fields(stopped, 1)
    assert (found["eval_nll"], found["eval_nll_by_source"]) == (None, {"code": None})
    assert (found["unit_nll"], found["reason"]) == (None, "diverged")


def test_answers_count_by_task_and_those_of_a_seed_that_diverged_do_not():
    asked = [Asked("copying", 0.1), Asked("copying", 0.1), Asked("math", 0.2)]
    right_Q = np.array([True, False, True])
    found = answer_fields(asked, right_Q, alive=True)
    assert found["accuracy"] == 0.75
    assert (found["unit_right"], found["unit_questions"]) == ([0.5, 0.0, 1.0], [0.5, 0.5, 1.0])
    assert sum(found["unit_right"]) / sum(found["unit_questions"]) == 0.75
    found = answer_fields(asked, right_Q, alive=False)
    assert (found["accuracy"], found["accuracy_by_task"]["copying"]["accuracy"]) == (None, None)
    assert (found["chance"], found["unit_right"]) == (pytest.approx(0.15), None)

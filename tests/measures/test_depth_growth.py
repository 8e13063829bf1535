"""Summary of depth growth against literal numbers."""

import dataclasses
import random

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from jaxanatomy.data.primitives import PRIMITIVES, REPEATED, SEQUENCE
from jaxanatomy.measures.depth_growth import (
    accuracies,
    final_fields,
    guessing,
    point_fields,
    stopped,
    summarise,
)
from jaxanatomy.train.points import Point


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


def final(arm, seed, nll, accuracy, reason="", mfu=None):
    labels = {"kind": "final", "arm": arm, "seed": seed, "step": 9, "tokens": 90, "flops": 900}
    values = {"seconds": 1.0 + seed, "chance": 0.2, "eval_nll": nll, "accuracy": accuracy}
    values |= {"tokens_per_second": 90.0 / (1 + seed), "mfu": mfu}
    values |= {"accuracy_by_task": {"copying": asked(accuracy), "math": asked(0.5)}}
    return {**labels, **values, "reason": reason}


def test_arms_are_compared_with_the_baseline_of_the_same_seed():
    base, grown = [2.0, 2.5, 2.1], [1.8, 2.4, 1.7]
    rows = [final("baseline", seed, nll, 0.3) for seed, nll in enumerate(base)]
    rows += [final("midas", seed, nll, 0.4) for seed, nll in enumerate(grown)]
    rows.append({"kind": "curve", "arm": "midas", "seed": 0})
    arms = summarise(rows)["arms"]
    found = arms["midas"]["eval_nll"]
    expected = ttest_rel(grown, base).confidence_interval()
    assert found["mean"] == pytest.approx(np.mean(grown))
    assert found["against_baseline"] == pytest.approx(np.mean(grown) - np.mean(base))
    assert found["against_ci95"] == pytest.approx([expected.low, expected.high])
    assert arms["baseline"]["eval_nll"]["against_ci95"] == [0, 0]
    assert arms["midas"]["accuracy"]["against_baseline"] == pytest.approx(0.1)
    assert (arms["midas"]["seconds"], arms["midas"]["diverged"]) == (2.0, [])


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
    rows = [{"kind": "curve", "arm": "midas", "seed": 1, "reason": reason} for reason in ("", "x")]
    rows += [final("lidas", 0, None, None, "diverged"), final("lidas", 1, 2.0, 0.3)]
    assert stopped(rows) == {("midas", 1), ("lidas", 0)}
    assert stopped(rows[:1]) == set()


@pytest.mark.parametrize("task", ["copying_random", "copying_real"])
def test_guessing_copies_nothing_and_is_right_where_one_word_is_left(task):
    """A guesser that reads prompts: words of the second half that are not among those repeated."""
    rng = random.Random(0)
    found = []
    for _ in range(4000):
        question = PRIMITIVES[task](rng)
        words = question.prompt.removeprefix("Fill in the blank:\n").split(" ____")[0].split()
        second, repeated = words[REPEATED:SEQUENCE], words[SEQUENCE:]
        left = [word for word in second if word not in repeated]
        right = question.choices[question.answer].strip()
        found.append((right in left) / len(left))
    assert guessing(task, 0.1) == pytest.approx(np.mean(found), abs=0.02)
    assert guessing(task, 0.1) == pytest.approx((1 / 5 + 1 / 4 + 1 / 3 + 1 / 2 + 1) / 5)


def test_guessing_reaches_chance_in_assignments():
    assert guessing("assignment_basic_0", 0.2) == 0.2


def test_one_seed_has_no_interval_and_a_diverged_one_no_mean():
    rows = [final("baseline", 0, 2.0, 0.3), final("lidas", 0, None, 0.2, "diverged")]
    arms = summarise(rows)["arms"]
    assert arms["baseline"]["eval_nll"]["ci95"] is None
    assert arms["lidas"]["eval_nll"] == dict.fromkeys(
        ("mean", "ci95", "against_baseline", "against_ci95")
    )
    assert arms["lidas"]["diverged"] == [0]
    assert summarise(rows[1:])["arms"]["lidas"]["accuracy"]["against_baseline"] is None


def test_a_seed_that_has_diverged_counts_in_no_mean_of_its_arm():
    rows = [final("baseline", seed, 2.0 + 0.1 * seed, 0.3) for seed in (0, 1, 2)]
    rows += [final("midas", 0, 1.5, 0.5), final("midas", 1, None, None, "diverged")]
    rows += [{**final("midas", 2, 1.9, 0.5), "step": 20, "tokens": 200}]
    found = summarise(rows)["arms"]["midas"]
    assert (found["seeds"], found["diverged"], found["steps"]) == ([0, 1, 2], [1], 20)
    assert found["eval_nll"]["mean"] == pytest.approx(1.7)
    assert found["eval_nll"]["against_baseline"] == pytest.approx((-0.5 - 0.3) / 2)
    without = [row for row in rows if row["seed"] != 1]
    assert found["eval_nll"] == summarise(without)["arms"]["midas"]["eval_nll"]
    # Nor does one of the baseline in a difference.
    rows[0] = final("baseline", 0, None, None, "diverged")
    found = summarise(rows)["arms"]["midas"]["eval_nll"]
    assert found["against_baseline"] == pytest.approx(-0.3)
    assert (found["mean"], found["against_ci95"]) == (pytest.approx(1.7), None)


def point(**changes):
    values = {"stage": 1, "step": 9, "tokens": 90, "flops": 900, "seconds": 4.5, "mfu": 0.25}
    values |= {"loss": [2.0, None], "eval_nll": [1.5, np.nan], "reason": ["", "diverged"]}
    return Point(**{**values, "by_source": {"code": [1.0, np.inf]}, **changes})


def test_what_a_row_has_of_one_seed():
    shared = {"tokens": 90, "flops": 900, "seconds": 4.5}
    asked, right_Q = [Asked("copying", 0.1)] * 2, np.array([True, False])
    assert point_fields(point(), 0) == {
        **shared,
        **{"loss": 2.0, "eval_nll": 1.5, "eval_nll_by_source": {"code": 1.0}, "reason": ""},
    }
    lost = {"loss": None, "eval_nll": None, "eval_nll_by_source": {"code": None}}
    assert point_fields(point(), 1) == {**shared, **lost, "reason": "diverged"}
    found = final_fields(point(), 0, asked, right_Q)
    assert (found["accuracy"], found["tokens_per_second"], found["mfu"]) == (0.5, 20.0, 0.25)
    assert "loss" not in found
    # What was measured before a seed diverged says nothing about its end.
    stopped = point(eval_nll=[1.5, 7.0], by_source={"code": [1.0, 7.0]})
    found = final_fields(stopped, 1, asked, right_Q)
    assert (found["eval_nll"], found["eval_nll_by_source"]) == (None, {"code": None})
    assert (found["accuracy"], found["accuracy_by_task"]["copying"]["accuracy"]) == (None, None)
    assert (found["chance"], found["reason"]) == (pytest.approx(0.1), "diverged")

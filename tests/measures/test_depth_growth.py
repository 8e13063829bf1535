"""Summary of depth growth against literal numbers."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import ttest_rel

from jaxanatomy.measures.depth_growth import accuracies, summarise


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


def final(arm, seed, nll, accuracy, reason=""):
    labels = {"kind": "final", "arm": arm, "seed": seed, "step": 9, "tokens": 90, "flops": 900}
    values = {"seconds": 1.0 + seed, "chance": 0.2, "eval_nll": nll, "accuracy": accuracy}
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


def test_one_seed_has_no_interval_and_a_diverged_one_no_mean():
    rows = [final("baseline", 0, 2.0, 0.3), final("lidas", 0, None, 0.2, "diverged")]
    arms = summarise(rows)["arms"]
    assert arms["baseline"]["eval_nll"]["ci95"] is None
    assert arms["lidas"]["eval_nll"] == dict.fromkeys(
        ("mean", "ci95", "against_baseline", "against_ci95")
    )
    assert arms["lidas"]["diverged"] == [0]
    assert summarise(rows[1:])["arms"]["lidas"]["accuracy"]["against_baseline"] is None

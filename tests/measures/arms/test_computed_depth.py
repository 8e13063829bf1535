"""How deep arms compute: differences seed by seed, against literal numbers."""

import khop_growth_run as run
import numpy as np
import pytest
from scipy.stats import t

from jaxanatomy.measures.arms import computed_depth
from jaxanatomy.measures.arms.finals import finals_by_arm
from jaxanatomy.measures.arms.khop_growth import summarise

SCORES = {"baseline": (2.0, 2.2, 1.9), "lidas": (2.5, 2.9, 2.4), "midas": (2.1, 2.0, 2.3)}


def finals(loss=0.1, scores=SCORES, **more):
    """Final rows of arms whose losses are `loss`."""
    return [
        run.final_row(arm, seed, np.full(4, loss), (1.0,) * 3, depth={"depth_score": value, **more})
        for arm, own in scores.items()
        for seed, value in enumerate(own)
    ]


def found(rows, reading, arm):
    (row,) = (
        row for row in summarise(rows)["depth"] if (row["reading"], row["arm"]) == (reading, arm)
    )
    return row


def test_readings_are_compared_with_the_baseline_seed_by_seed():
    row = found(finals(), computed_depth.SCORE, "lidas")
    assert row["value"] == {"mean": pytest.approx(2.6), "low": 2.4, "high": 2.9}
    assert row["difference"]["mean"] == pytest.approx(np.mean([0.5, 0.7, 0.5]))
    # Residuals of a two-way layout have 4 degrees of freedom; two arms are compared at once.
    score_AS = np.array([SCORES[arm] for arm in SCORES])
    rest_AS = score_AS - score_AS.mean(1, keepdims=True) - score_AS.mean(0) + score_AS.mean()
    own_A = (rest_AS**2).sum(axis=1) / 2 * 3 / 2
    pooled, level = own_A.mean(), 1 - 0.05 / 2
    variance = sum(max(each, pooled) for each in own_A[:2])
    half = t.ppf((1 + level) / 2, 4) * np.sqrt(variance / 3)
    width = row["difference"]["high"] - row["difference"]["mean"]
    assert width >= half * (1 - 1e-9)
    assert row["difference"]["seeds"] == 3
    assert "difference" not in found(finals(), computed_depth.SCORE, "baseline")


def test_late_exits_are_those_of_the_second_half_but_the_last():
    rows = finals()
    for row in rows:
        for edit in row["edited"]:
            edit["agreement"] = edit["layers"][0] / 10
    # Six layers: the exits after layers 3 and 4.
    assert found(rows, computed_depth.EXITS, "lidas")["value"]["mean"] == pytest.approx(0.35)


def test_attention_is_read_in_blocks_that_are_neither_the_first_nor_the_last():
    ramp = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0]
    rows = finals(attention_cosine=ramp, attention_norm=ramp)
    # Six layers in blocks of two: of the inner block, layers 2 and 3.
    assert found(rows, computed_depth.FIRST_COSINE, "lidas")["value"]["mean"] == 2.0
    assert found(rows, computed_depth.NORM_RISE, "lidas")["value"]["mean"] == 2.0
    for row in rows:  # in blocks of three none is inside; blocks of one have no first layer
        row["depth"]["similarity"] = np.eye(4 if row["arm"] == "midas" else 6).tolist()
    read = {row["reading"] for row in summarise(rows)["depth"]}
    assert not read & {computed_depth.FIRST_COSINE, computed_depth.NORM_RISE}


def test_of_models_that_know_little_only_the_weights_are_compared():
    readings = computed_depth.depth_readings(finals_by_arm(finals(loss=3.0)))
    weights = {computed_depth.SIMILARITY, computed_depth.SYMMETRY, computed_depth.PERIOD}
    assert {name for name, own in readings.items() if own} == weights
    assert {*computed_depth.depth_readings(finals_by_arm(finals())).keys()} == {
        *computed_depth.READINGS
    }


def test_arms_of_another_depth_are_not_compared():
    rows = finals(scores=SCORES | {"shallow": (0.0, 0.0, 0.0)})
    assert summarise(rows)["depth"] == summarise(finals())["depth"]


def test_what_a_run_lacks_is_left_out():
    rows = finals(block_symmetry=None)
    for row in rows:
        if row["arm"] == "midas":
            row["depth"] = None
        if (row["arm"], row["seed"]) == ("lidas", 1):
            del row["depth"]
    summary = summarise(rows)["depth"]
    assert all(row["reading"] != computed_depth.SYMMETRY for row in summary)
    assert found(rows, computed_depth.SCORE, "lidas")["difference"]["seeds"] == 2
    assert computed_depth.EXITS in {row["reading"] for row in summary if row["arm"] == "midas"}
    alone = [row for row in finals() if row["arm"] != "baseline"]
    assert found(alone, computed_depth.SCORE, "lidas")["difference"]["mean"] is None

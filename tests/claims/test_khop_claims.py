"""Where claims about growth on k-hop tasks decide nothing, and what stands beside them."""

import dataclasses

import khop_growth_run as run
import numpy as np
import pytest
from claims.worlds import BY_ID, evidence
from claims.worlds_khop import DEPTHS, FAR, LIMIT, hops

from jaxanatomy.claims.core import FAILS, HOLDS, UNDECIDED, UNMEASURED
from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.claims.khop_arms import FINALS
from jaxanatomy.claims.rules import ALL, not_above
from jaxanatomy.measures.arms.depth_edits import LATE
from jaxanatomy.measures.statistics.estimates import Estimate

ID = "khop_lidas_matches_loss"


def made(logs, id=ID):
    return evidence(BY_ID[id], hops(logs), 0).records["khop_growth"]


def finding(record, id=ID):
    return BY_ID[id].finding(Evidence({"khop_growth": record}), 0.005)


@pytest.fixture(scope="module")
def record():
    """LIDAS has far less loss than the baseline."""
    return made({"lidas": -FAR})


def without(record, drop, **config):
    rows = [row for row in record.rows if not drop(row)]
    return dataclasses.replace(record, rows=rows, config=record.config | config)


def of(arm, **fields):
    return lambda row: row["arm"] == arm and all(row[name] == fields[name] for name in fields)


def test_a_claim_has_the_flops_that_growth_saves_beside_it(record):
    found = finding(record)
    assert found.verdict == HOLDS
    # 2, 4 and 6 layers for a third of the steps each, against 6.
    assert found.null == "lidas +33.3 %"
    assert found.measured.startswith("lidas −")


def test_a_rate_at_the_edge_or_not_tuned_decides_nothing(record):
    for arm in ("lidas", "baseline"):
        low = without(record, of(arm, purpose="tuning", learning_rate=run.RATES[0]))
        found = finding(low)
        assert (found.verdict, found.reason) == (
            UNMEASURED,
            f"the learning rate of {arm} is at the edge of those that were tried",
        )
        found = finding(without(record, of(arm, purpose="tuning")))
        assert (found.verdict, found.reason) == (
            UNMEASURED,
            f"no learning rate was tuned for {arm}",
        )


def test_fewer_than_three_seeds_decide_nothing(record):
    two = without(record, lambda row: row["seed"] == 2, seeds=[0, 1])
    assert finding(two).reason == "2 seeds where the rule needs 3"
    late = finding(without(record, of("lidas", seed=2)))
    assert (late.verdict, late.reason) == (UNMEASURED, "lidas is not finished for seeds 2")


def test_two_saturated_arms_decide_nothing_and_one_does():
    far = made({"lidas": -4.0, "baseline": -3.5})
    assert finding(far).reason == "lidas and baseline answer more than 99 % at the last hop"
    assert finding(made({"lidas": -4.0})).verdict == HOLDS


@pytest.mark.parametrize(
    ("id", "arms", "other"),
    [
        (ID, ("lidas",), "baseline"),
        ("khop_growth_keeps_loss_under_ln_scaling", ("ln_scaling_lidas",), "ln_scaling"),
        (
            "khop_one_step_expansion_reaches_baseline",
            ("expand_1_at_50", "expand_2_at_90"),
            "baseline",
        ),
    ],
)
@pytest.mark.parametrize(
    ("log", "right", "wrong"),
    [(0.0, HOLDS, FAILS), (LIMIT / 2, FAILS, HOLDS), (LIMIT, FAILS, HOLDS)],
    ids=["alike", "worse inside the margin", "at the margin"],
)
def test_an_arm_that_is_told_worse_matches_nothing_inside_the_margin(
    id, arms, other, log, right, wrong
):
    """Seeds that differ so little that a run tells 5 %."""
    make = hops(dict.fromkeys(arms, log) | {other: 0.0}, spread=0.005)
    draws = 40
    found = [
        finding(evidence(BY_ID[id], make, seed).records["khop_growth"], id).verdict
        for seed in range(draws)
    ]
    assert found.count(right) >= 0.9 * draws, found
    assert found.count(wrong) <= 0.05 * draws, found


@pytest.mark.parametrize(
    ("ends", "answer"),
    [((-1, 9), True), ((-9, -1), True), ((-1, 11), None), ((1, 9), False), ((11, 12), False)],
)
def test_not_above_needs_an_interval_that_reaches_0_and_ends_below_the_margin(ends, answer):
    rule = not_above(ALL, 10.0)
    assert rule.answer(Estimate(sum(ends) / 2, *ends)) is answer
    assert rule.words("%").startswith("lies below 10 % in each and reaches 0; it fails if")


def test_depths_are_compared_with_the_next_smaller_one():
    id = "khop_needs_depth"
    found = finding(made(DEPTHS, id), id)
    assert found.verdict == HOLDS
    # Of the two arms of two layers the first, which is the shallowest: shallow.
    assert found.reason == "settled so: flat 3, flat 4, baseline; intervals at 99.5 %"
    turned = finding(made(DEPTHS | {"flat_4": 4 * FAR}, id), id)
    assert turned.verdict == UNDECIDED
    assert "open: flat 4" in turned.reason


def test_two_depths_do_not_show_that_each_counts():
    id = "khop_needs_depth"
    two = without(made(DEPTHS, id), lambda row: row["arm"] not in ("shallow", "baseline"))
    found = finding(two, id)
    assert (found.verdict, found.reason) == (
        UNMEASURED,
        "2 constant depths where the claim needs 3",
    )
    one = without(two, of("shallow"))
    assert finding(one, id).reason == "1 constant depths where the claim needs 3"
    three = without(made(DEPTHS, id), of("flat_3"))
    assert finding(three, id).verdict == HOLDS


def test_a_run_without_an_arm_says_which(record):
    found = finding(record, "khop_copied_moments_beat_zeroed")
    assert (found.verdict, found.reason) == (UNMEASURED, "no lidas_zero_moments")
    depths = without(record, lambda row: row["arm"] != "baseline")
    assert finding(depths, "khop_needs_depth").verdict == UNMEASURED


def test_one_grown_arm_is_enough_where_a_run_has_one(record):
    alone = without(record, of("midas"))
    id = "khop_growth_wins_at_equal_flops"
    assert finding(alone, id).reason == "no rows"
    twin = made({"lidas_equal_flops": -FAR})
    found = finding(twin, id)
    assert found.verdict == HOLDS
    assert "midas" not in found.measured


def test_loops_need_models_with_a_block_to_repeat(record):
    id = "khop_looping_helps_grown_models"
    rows = [row | {"edited": []} if "edited" in row else row for row in record.rows]
    found = finding(dataclasses.replace(record, rows=rows), id)
    assert found.verdict == UNMEASURED
    assert "has no looped" in found.reason


def test_accuracies_make_the_claim_of_answers():
    """Losses of grown arms are lower; what they answer is not."""
    id = "khop_growth_answers_more"
    record = made({"midas": -1.5, "lidas": -1.5}, id)
    assert finding(record, id).verdict == HOLDS
    generator = np.random.default_rng(0)
    rows = [
        row | {"accuracy": 0.9 + 0.01 * generator.normal()} if row["kind"] == "final" else row
        for row in record.rows
    ]
    assert finding(dataclasses.replace(record, rows=rows), id).verdict == FAILS


@pytest.mark.parametrize(
    ("id", "logs", "lost"),
    [
        # Grown models that know little lose nothing, and one that knows much loses something.
        (
            "khop_grown_models_keep_swapped_blocks",
            {"midas": 3.0, "lidas": 3.0},
            {"swapped": lambda arm: 0.3 * (arm == "baseline")},
        ),
        (
            "khop_grown_models_need_late_layers",
            {"baseline": 3.0},
            {"cut": lambda arm: 0.3 * (arm != "baseline")},
        ),
    ],
)
def test_what_an_arm_does_not_know_it_cannot_lose(id, logs, lost):
    record = evidence(BY_ID[id], hops(logs, **lost), 0).records["khop_growth"]
    found = finding(record, id)
    assert found.verdict == UNMEASURED
    assert "has no cost of" in found.reason


def test_the_share_is_of_what_is_right_beyond_guessing():
    """An arm that is half as far above guessing and loses half as many answers loses as much."""
    id = "khop_grown_models_need_late_layers"
    logs = {"midas": 1.2, "lidas": 1.2}
    known = {
        arm: sum(run.accuracies(0.1 * np.exp(log))) / run.HOPS - run.GUESSED
        for arm, log in {"baseline": 0.0, **logs}.items()
    }
    record = evidence(
        BY_ID[id], hops(logs, cut=lambda arm: 0.5 * known.get(arm, known["baseline"])), 0
    ).records["khop_growth"]
    found = finding(record, id)
    assert found.verdict in (UNDECIDED, FAILS)
    shares = [row[LATE] for row in FINALS.tables(record)[0].rows if row["arm"] != "shallow"]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)

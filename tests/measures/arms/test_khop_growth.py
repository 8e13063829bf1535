"""Summary of growth where depth matters against literal numbers, and where nothing happens."""

import math

import khop_growth_run as run
import numpy as np
import pytest
from scipy.stats import t

from jaxanatomy.growth.depth_arms import comparisons
from jaxanatomy.measures.arms.depth_edits import is_late_cut, is_swap_of_pairs
from jaxanatomy.measures.arms.finals import Losses
from jaxanatomy.measures.arms.khop_growth import is_flat, summarise

DRAWS = 200


def alike(losses):
    """Rows of arms whose held-out sequences are all alike, from the loss of each seed."""
    return list(run.run_rows({arm: np.outer(own, np.ones(4)) for arm, own in losses.items()}))


def pair(found, arm, other):
    (row,) = (row for row in found["comparisons"] if (row["arm"], row["other"]) == (arm, other))
    return row


LOSSES = {
    "baseline": [0.10, 0.11, 0.09],
    "lidas": [0.20, 0.23, 0.19],
    "shallow": [0.80, 0.80, 0.79],
}


def test_losses_are_compared_as_ratios_by_seed():
    rows = alike(LOSSES)
    found = summarise(rows)
    logs = np.log([LOSSES["lidas"], LOSSES["baseline"]])
    row = pair(found, "lidas", "baseline")
    assert row["mean"] == pytest.approx(math.exp(logs[0].mean() - logs[1].mean()))
    assert (row["at"], row["seeds"], row["saturated"]) == ("equal steps", 3, False)
    assert found["level"] == pytest.approx(1 - 0.05 / 3)
    half = Losses.of(rows).spread.half_width(("lidas", "baseline"), 3, found["level"])
    ends = [row["mean"] * math.exp(side * half) for side in (-1, 1)]
    assert [row["low"], row["high"]] == pytest.approx(ends)


def test_the_smallest_difference_is_half_the_median_interval_of_what_is_not_saturated():
    rows = alike(LOSSES)
    found = summarise(rows)
    halves = [math.log(row["high"] / row["low"]) / 2 for row in found["comparisons"]]
    expected = 100 * (math.exp(np.median(halves)) - 1)
    assert found["smallest_difference_percent"] == pytest.approx(expected)
    low = {arm: [each / 100 for each in own] for arm, own in LOSSES.items() if arm != "shallow"}
    saturated = summarise(alike(low))
    assert saturated["comparisons"][0]["saturated"]
    assert saturated["smallest_difference_percent"] is None


def test_sequences_are_a_source_of_spread_beside_seeds():
    """Seeds agree to the last digit; what the arm makes of sequences does not."""
    times_U = np.array([1.0, 1.5, 2.0, 1.2, 2.3])
    one_SU = np.ones((3, 5)) * 0.3
    row = pair(
        summarise(run.run_rows({"baseline": one_SU, "midas": one_SU * times_U})),
        "midas",
        "baseline",
    )
    # Linearised: the log of a mean has the spread of its terms over it.
    error = np.std(times_U / times_U.mean(), ddof=1) / math.sqrt(5)
    half = t.ppf(0.975, 4) * error
    assert math.log(row["high"] / row["mean"]) == pytest.approx(half)


@pytest.mark.parametrize(
    ("of_seed", "of_unit", "together"), [(0.1, 0.0, 0.5), (0.1, 0.4, 0.3), (0.01, 0.4, 0.1)]
)
def test_where_nothing_happens_one_run_in_twenty_tells_arms_apart_at_most(
    of_seed, of_unit, together
):
    generator = np.random.default_rng(0)
    arms = dict.fromkeys(
        ("baseline", "midas", "lidas", "shallow", "flat_3", "flat_4"), math.log(0.1)
    )
    wrong = 0
    for _ in range(DRAWS):
        losses = run.losses(generator, arms, 3, of_seed, of_unit, together)
        pairs = summarise(run.run_rows(losses, curves=False))["comparisons"]
        wrong += any(not row["low"] <= 1 <= row["high"] for row in pairs)
    assert wrong <= 0.05 * DRAWS + 2 * math.sqrt(0.05 * 0.95 * DRAWS)


def test_arms_are_compared_with_the_baseline_and_grown_ones_with_the_shallow_of_their_budget():
    arms = ("baseline", "lidas", "lidas_equal_flops", "lidas_equal_seconds", "shallow", "flat_3")
    with_baseline = [(arm, "baseline") for arm in arms[1:]]
    assert comparisons(arms) == [*with_baseline, ("lidas", "shallow")]
    more = (*arms, "shallow_equal_flops")
    assert comparisons(more)[-1] == ("lidas_equal_flops", "shallow_equal_flops")
    assert comparisons(("midas", "shallow")) == [("midas", "shallow")]
    flat = ("baseline", "shallow", "flat_3", "mean_depth")
    others = ("shallow_equal_flops", "ln_scaling", "expand_1_at_50", "lidas_b1")
    assert [is_flat(arm) for arm in (*flat, *others)] == [True] * 4 + [False] * 4


def test_an_arm_has_what_its_seeds_come_to():
    found = summarise(alike(LOSSES))["arms"]["lidas"]
    assert found["eval_nll"] == pytest.approx({"mean": 0.62 / 3, "low": 0.19, "high": 0.23})
    assert (found["layers"], found["learning_rate"], found["rate_at_edge"]) == (6, 0.004, False)
    assert (found["seeds"], found["diverged"], found["saturated"]) == ([0, 1, 2], [], False)
    last = found["accuracy_by_hop"][-1]
    right = [round(400 * math.exp(-loss)) / 400 for loss in LOSSES["lidas"]]
    assert last == pytest.approx({"mean": np.mean(right), "low": min(right), "high": max(right)})


def test_loops_are_ratios_of_losses_with_and_without():
    rows = alike(LOSSES)
    finals = [row for row in rows if row.get("edited")]
    for row, times in zip(finals[:3], (1.2, 1.1, 1.3), strict=True):
        row["edited"][0]["eval_nll"] = times * row["eval_nll"]
    for row in finals[-3:]:  # of two layers, and not finite twice more
        row["edited"] = [each | {"layers": [0, 1]} for each in row["edited"][:3]]
        row["edited"][1]["eval_nll"] = None
    found = summarise(rows)["arms"]
    once, twice = (found["baseline"]["loops"][name] for name in ("once", "twice"))
    shallow = found["shallow"]["loops"]
    assert (shallow["once"]["layers"], shallow["twice"]["change"]["mean"]) == ([0, 1], None)
    assert once["change"]["mean"] == pytest.approx((1.2 * 1.1 * 1.3) ** (1 / 3))
    assert once["change"]["low"] < once["change"]["mean"] < once["change"]["high"]
    assert twice == {
        "layers": [2, 3],
        "change": pytest.approx({"mean": 1.5, "low": 1.5, "high": 1.5, "seeds": 3}),
    }


def test_edits_are_means_over_seeds_with_their_range():
    rows = [
        row
        | {"edited": [*run.edits_of("lidas", row["eval_nll"], (), 0.1 * (1 + row["seed"]), 0.3)]}
        if row.get("edited") and row["arm"] == "lidas"
        else row
        for row in alike(LOSSES)
    ]
    edits = summarise(rows)["arms"]["lidas"]["edits"]
    names = [(edit["kind"], edit["name"]) for edit in edits]
    assert names[:2] == [("cut", "layer/0"), ("cut", "layer/1")]
    assert len(names) == 6 + 5 + 5 + 3 + 3
    clean_SK = np.array([run.accuracies(loss) for loss in LOSSES["lidas"]])
    lost_S = np.array([0.1, 0.2, 0.3])
    right_S = clean_SK.mean(axis=1) - lost_S
    expected = {"mean": right_S.mean(), "low": right_S.min(), "high": right_S.max()}
    assert edits[3]["accuracy"] == pytest.approx(expected)
    mean_K = (clean_SK - lost_S[:, None]).mean(axis=0)
    assert edits[3]["accuracy_by_hop"] == pytest.approx(mean_K.tolist())


def test_late_layers_are_those_of_the_second_half_and_swaps_spare_the_first():
    row = run.final_row("lidas", 0, [0.2])
    chosen = {
        of: [edit["layers"] for edit in row["edited"] if of(edit, row["layers"])]
        for of in (is_late_cut, is_swap_of_pairs)
    }
    assert chosen == {
        is_late_cut: [[3], [4], [5]],
        is_swap_of_pairs: [[1, 2, 3, 4], [2, 3, 4, 5]],
    }
    odd = [edit for edit in row["edited"] if is_late_cut(edit, 5)]
    assert [edit["layers"] for edit in odd] == [[3], [4], [5]]


def test_a_seed_that_diverged_counts_nowhere():
    rows = alike(LOSSES)
    at = next(at for at, row in enumerate(rows) if row["hash"] == "lidas 2 main 0.004")
    rows[at] = run.final_row("lidas", 2, [1.0], reason="diverged")
    found = summarise(rows)
    assert found["arms"]["lidas"]["diverged"] == [2]
    assert found["arms"]["lidas"]["eval_nll"]["high"] == 0.23
    row = pair(found, "lidas", "baseline")
    assert row["seeds"] == 2
    assert row["mean"] == pytest.approx(math.sqrt(0.2 * 0.23 / 0.1 / 0.11))
    assert row["low"] < row["mean"] < row["high"]
    assert found["arms"]["lidas"]["loops"]["once"]["change"]["seeds"] == 2


def test_an_arm_of_which_all_seeds_diverged_has_no_figures():
    rows = alike(LOSSES) + [run.final_row("midas", s, [1.0], reason="x") for s in range(3)]
    found = summarise(rows)
    assert found["arms"]["midas"]["eval_nll"] == dict.fromkeys(("mean", "low", "high"))
    assert (found["arms"]["midas"]["accuracy_by_hop"], found["arms"]["midas"]["loops"]) == ([], {})
    row = pair(found, "midas", "baseline")
    assert (row["mean"], row["low"], row["seeds"], row["saturated"]) == (None, None, 0, False)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_that_has_just_begun_has_a_summary(seeds):
    rows = alike({arm: own[:seeds] for arm, own in LOSSES.items() if arm != "shallow"})
    row = pair(summarise(rows), "lidas", "baseline")
    assert (row["low"] is None) == (seeds == 1)
    assert summarise([])["comparisons"] == []
    tuning = [row for row in rows if row.get("purpose") == "tuning"]
    assert summarise(tuning)["arms"] == {}

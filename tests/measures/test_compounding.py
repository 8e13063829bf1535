"""Exponents and ratios of made-up effects of which both are known."""

import json
import math

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.compounding import _fieller, compounding

TOKENS, BASE_NLL, LAYERS, COUNTS, SEEDS = 200, 640.0, 8, (1, 2, 4, 8), (0, 1, 2, 3, 4)


def row(name, delta, **labels):
    """A sweep row whose mean NLL is `delta` nats above the baseline's."""
    nll = None if delta is None else BASE_NLL + TOKENS * delta
    return {"variant": name, "text": "sentences", "nll": nll, "tokens": TOKENS, **labels}


def rows_of(of_set, of_layer=None, alpha=0.01, seeds=SEEDS):
    """Rows of `of_set(count, seed)` and `of_layer(layer, seed)` nats, baseline not among them."""
    rows = []
    for seed in seeds:
        labels = {"strategy": "perturb", "alpha": alpha, "seed": seed}
        for count in COUNTS:
            name = f"random_{count}_s{seed}"
            layers = list(range(count))
            rows.append(
                row(name, of_set(count, seed), set=name, layers=layers, count=count, **labels)
            )
        for layer in range(LAYERS if of_layer else 0):
            name = f"{layer}"
            delta = of_layer(layer, seed)
            rows.append(row(f"{name}_s{seed}", delta, set=name, layers=[layer], count=1, **labels))
    return rows


BASELINE = row("baseline", 0.0, strategy="none")


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7])
def test_exponent_and_ratio_of_a_power_law(power):
    (result,) = compounding([BASELINE, *rows_of(lambda k, s: 0.01 * k**power, lambda n, s: 0.01)])
    for name in ("delta_nll", "absolute_delta_nll"):
        fitted = result["exponents"][name]
        assert fitted["value"] == pytest.approx(power, abs=1e-9)
        assert fitted["ci95"] == pytest.approx([power, power], abs=1e-9)
        assert fitted["counts"] == list(COUNTS)
    ratio = result["all_to_singles"]
    assert ratio["all"] == pytest.approx(0.01 * 8**power, abs=1e-9)
    assert ratio["sum"] == pytest.approx(0.08, abs=1e-9)
    assert ratio["ratio"] == pytest.approx(8 ** (power - 1), rel=1e-9)
    assert ratio["ci95"] == pytest.approx([8 ** (power - 1)] * 2, rel=1e-9)
    percent = np.polyfit(
        np.log(COUNTS), np.log([100 * math.expm1(0.01 * k**power) for k in COUNTS]), 1
    )
    assert result["exponents"]["degradation_percent"]["value"] == pytest.approx(percent[0])


def test_means_over_seeds_and_what_signs_do():
    sign = {0: 1, 1: -1, 2: 1, 3: -1, 4: 1}
    rows = rows_of(lambda k, s: 0.3 * sign[s] * k**0.5)
    (result,) = compounding([BASELINE, *rows])
    for found, k in zip(result["counts"], COUNTS, strict=True):
        delta = 0.3 * k**0.5
        assert found["count"] == k
        assert found["delta_nll"] == pytest.approx(delta / 5)
        assert found["absolute_delta_nll"] == pytest.approx(delta)
        expected = 100 * (3 * math.expm1(delta) + 2 * math.expm1(-delta)) / 5
        assert found["degradation_percent"] == pytest.approx(expected)
        # Student's: mean 0.2, variance 1.2, t of 4 degrees of freedom from a printed table.
        half = 2.7764451 * math.sqrt(1.2 / 5)
        assert found["ci95"] == pytest.approx([(0.2 - half) * delta, (0.2 + half) * delta])
    assert result["exponents"]["absolute_delta_nll"]["value"] == pytest.approx(0.5)


def test_exponents_have_the_jackknifes_interval():
    generator = np.random.default_rng(5)
    delta = {(k, s): 0.02 * k * generator.uniform(0.5, 1.5) for k in COUNTS for s in range(6)}
    (result,) = compounding([BASELINE, *rows_of(lambda k, s: delta[k, s], seeds=range(6))])

    def slope(seeds):
        means = [np.mean([delta[k, s] for s in seeds]) for k in COUNTS]
        return np.polyfit(np.log(COUNTS), np.log(means), 1)[0]

    whole = slope(range(6))
    pseudo = [6 * whole - 5 * slope([s for s in range(6) if s != out]) for out in range(6)]
    half = 2.570581835636314 * np.std(pseudo, ddof=1) / math.sqrt(6)
    found = result["exponents"]["delta_nll"]["ci95"]
    assert found == pytest.approx([np.mean(pseudo) - half, np.mean(pseudo) + half], rel=1e-6)


def test_the_exponents_interval_holds_the_truth_as_often_as_it_says():
    """Eight seeds of effects that add up; percentiles of resamples hold 1 in 87 % of them."""
    generator, hits, trials = np.random.default_rng(9), 0, 300
    for _ in range(trials):
        delta = {k: 0.01 * k * generator.normal(1, 0.3, 8) for k in COUNTS}
        (result,) = compounding([BASELINE, *rows_of(lambda k, s, d=delta: d[k][s], seeds=range(8))])
        low, high = result["exponents"]["delta_nll"]["ci95"]
        hits += low <= 1 <= high
    assert 0.95 - 3 * 0.0126 < hits / trials < 0.95 + 3 * 0.0126


def test_the_ends_of_the_ratio_are_where_students_t_rejects():
    """At an end r the mean of all - r sum is 2.5706 (t of 5 degrees) standard errors from 0."""
    generator = np.random.default_rng(7)
    whole = generator.normal(0.3, 0.04, 6)
    single = generator.normal(0.03, 0.01, (LAYERS, 6))
    rows = rows_of(lambda k, s: whole[s], lambda n, s: single[n, s], seeds=range(6))
    ratio = compounding([BASELINE, *rows])[0]["all_to_singles"]
    low, high = ratio["ci95"]
    assert low < whole.sum() / single.sum() < high
    for end, sign in ((low, 1), (high, -1)):
        rest = whole - end * single.sum(axis=0)
        error = np.sqrt(np.square(rest - rest.mean()).sum() / 5 / 6)
        assert rest.mean() / error == pytest.approx(sign * 2.570582, abs=1e-5)


def test_the_ratios_interval_holds_the_truth_as_often_as_it_says():
    """Eight seeds of effects that add up; percentiles of resamples hold 1 in 88 % of them."""
    generator, hits, trials = np.random.default_rng(8), 0, 400
    for _ in range(trials):
        sum_W = generator.normal(0.02, 0.016, 8)
        ends = _fieller(sum_W + generator.normal(0, 0.002, 8), sum_W, 0.95)
        hits += ends is None or ends[0] <= 1 <= ends[1]
    assert 0.95 - 3 * 0.011 < hits / trials < 0.95 + 3 * 0.011


def test_few_seeds_have_no_interval():
    few = rows_of(lambda k, s: 0.01 * k * (1 + s), lambda n, s: 0.01 * (1 + s), seeds=range(4))
    (result,) = compounding([BASELINE, *few])
    ratio, reason = result["all_to_singles"], "an interval over seeds needs 5 of them"
    assert (ratio["ratio"], ratio["ci95"]) == (pytest.approx(1), None)
    for found in (ratio, *result["counts"], *result["exponents"].values()):
        assert (found["ci95"], found["reason"]) == (None, reason)
    assert result["exponents"]["delta_nll"]["value"] == pytest.approx(1)


def test_counts_without_a_positive_mean_are_left_out():
    (result,) = compounding([BASELINE, *rows_of(lambda k, s: -0.01 if k == 2 else 0.01 * k)])
    assert result["exponents"]["delta_nll"]["counts"] == [1, 4, 8]
    assert result["exponents"]["delta_nll"]["value"] == pytest.approx(1)
    (result,) = compounding([BASELINE, *rows_of(lambda k, s: 0.01 if k == 2 else -0.01 * k)])
    fitted = result["exponents"]["delta_nll"]
    assert (fitted["value"], fitted["ci95"]) == (None, None)
    assert fitted["reason"] == "fewer than two counts have a positive mean"


def test_no_ratio_without_a_sum_above_zero():
    sign = {0: 1, 1: -1, 2: 1, 3: -1, 4: 1}
    rows = rows_of(lambda k, s: 0.01 * k, lambda n, s: 0.01 * sign[s])
    ratio = compounding([BASELINE, *rows])[0]["all_to_singles"]
    assert (ratio["ratio"], ratio["ci95"]) == (None, None)
    assert ratio["sum"] == pytest.approx(0.08 / 5)
    assert ratio["reason"].startswith("the sum of single effects is not above 0")


def test_what_was_not_measured_is_null_with_a_reason():
    (result,) = compounding([BASELINE, *rows_of(lambda k, s: 0.01 * k)])
    assert result["all_to_singles"]["reason"].startswith("needs every layer alone")
    rows = rows_of(lambda k, s: None if (k, s) == (8, 1) else 0.01 * k, lambda n, s: 0.01)
    (result,) = compounding([BASELINE, *rows])
    assert result["counts"][3]["delta_nll"] is None
    assert result["counts"][3]["ci95"] is None
    assert result["counts"][3]["reason"] == "not measured for every seed, or not finite"
    assert result["exponents"]["delta_nll"]["counts"] == [1, 2, 4]
    assert result["all_to_singles"]["reason"] == "not measured for every seed, or not finite"
    json.dumps(result, allow_nan=False)


def test_each_alpha_by_itself_and_other_strategies_not_at_all():
    rows = [
        *rows_of(lambda k, s: 0.1 * k, alpha=0.3),
        BASELINE,
        *rows_of(lambda k, s: 0.01 * k**2),
        row("zero/layer/1", 9.0, strategy="zero", set="1", layers=[1]),
    ]
    small, large = compounding(rows)
    assert (small["alpha"], large["alpha"]) == (0.01, 0.3)
    assert (small["seeds"], small["text"]) == ([*SEEDS], "sentences")
    assert small["exponents"]["delta_nll"]["value"] == pytest.approx(2)
    assert large["exponents"]["delta_nll"]["value"] == pytest.approx(1)


def test_rows_that_do_not_belong_together_are_refused():
    rows = rows_of(lambda k, s: 0.01)
    with pytest.raises(
        InputError, match=r"got texts \['sentences'\], 0 baselines and 20 perturbed"
    ):
        compounding(rows)
    with pytest.raises(InputError, match=r"got texts \['other', 'sentences'\], 1 baselines"):
        compounding([{**BASELINE, "text": "other"}, *rows])
    with pytest.raises(InputError, match="1 baselines and 0 perturbed variants"):
        compounding([BASELINE])

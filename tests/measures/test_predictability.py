"""Rows of the predictability experiment against readings taken one at a time."""

import numpy as np
import pytest
from scipy import stats

from jaxanatomy.errors import InputError
from jaxanatomy.forensics.prediction import READINGS, gaussian_like
from jaxanatomy.measures.predictability import summarise, weight_rows

L, N, DRAWS = 7, 300, 30


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(5)
    return 0.1 + rng.normal(size=N) + rng.normal(0, 0.7, (L, N)) * np.linspace(1, 2, L)[:, None]


@pytest.fixture(scope="module")
def rows(values):
    return weight_rows("k_proj", values, null_draws=DRAWS, seed=3)


def test_there_is_a_row_for_each_target_and_one_for_their_mean(rows):
    keys = [(row["component"], row["reading"], row["target"]) for row in rows]
    assert keys == [("k_proj", name, t) for name in READINGS for t in (None, *range(2, L))]


@pytest.mark.parametrize("name", READINGS)
def test_rows_hold_the_reading_and_its_null(rows, values, name):
    mean, *each = [row for row in rows if row["reading"] == name]
    own = READINGS[name](values)
    assert [row["r2"] for row in each] == pytest.approx(own.r2_T.tolist(), abs=1e-12)
    assert [row["cosine"] for row in each] == pytest.approx(own.cosine_T.tolist(), abs=1e-12)
    assert mean["r2"] == pytest.approx(own.r2_T.mean())
    assert mean["best"] == pytest.approx(own.r2_T.max())
    assert mean["cosine"] == pytest.approx(own.cosine_T.mean())
    noise = np.random.default_rng([3, 1, 1])  # seed, place among the matrices, kind
    null = [READINGS[name](gaussian_like(values, noise)) for _ in range(DRAWS)]
    null_ST = np.stack([scores.r2_T for scores in null])
    for row, drawn in [(mean, null_ST.mean(1)), *zip(each, null_ST.T, strict=True)]:
        assert row["null_r2"] == pytest.approx(np.mean(drawn))
        assert row["null_low"] == pytest.approx(np.percentile(drawn, 2.5))
        assert row["null_high"] == pytest.approx(np.percentile(drawn, 97.5))
        assert row["z"] == pytest.approx((row["r2"] - np.mean(drawn)) / np.std(drawn, ddof=1))
    assert mean["null_best"] == pytest.approx(null_ST.max(1).mean())
    cosines = np.stack([scores.cosine_T for scores in null])
    assert mean["null_cosine"] == pytest.approx(cosines.mean(), abs=1e-12)
    order = np.random.default_rng([3, 1, 2])
    shuffled = [READINGS[name](values[order.permutation(L)]).r2_T.mean() for _ in range(DRAWS)]
    assert mean["shuffled_r2"] == pytest.approx(np.mean(shuffled))
    assert mean["shuffled_low"] == pytest.approx(np.percentile(shuffled, 2.5))


def test_what_layers_share_is_above_noise_but_not_above_random_order():
    rng = np.random.default_rng(6)
    values = rng.normal(size=500) + rng.normal(0, 0.7, (8, 500))
    rows = weight_rows("k_proj", values, null_draws=40, seed=0)
    by_reading = {row["reading"]: row for row in rows if row["target"] is None}
    for name in ("extrapolate", "in_sample", "target_included"):
        row = by_reading[name]
        assert row["r2"] > row["null_high"], name
        assert row["z"] > 5, name
        assert row["shuffled_low"] <= row["r2"] <= row["shuffled_high"], name


def test_a_trend_over_depth_is_above_random_order():
    rng = np.random.default_rng(7)
    depth = np.linspace(-1, 1, 8)[:, None]
    values = depth * rng.normal(size=500) + rng.normal(0, 0.1, (8, 500))
    rows = weight_rows("k_proj", values, null_draws=40, seed=0)
    by_reading = {row["reading"]: row for row in rows if row["target"] is None}
    for name in ("extrapolate", "in_sample"):
        row = by_reading[name]
        assert row["r2"] > max(row["null_high"], row["shuffled_high"]), name


def test_independent_layers_are_inside_the_band_of_noise():
    values = np.random.default_rng(8).normal(0, 0.3, (10, 2_000))
    for row in weight_rows("up_proj", values, null_draws=40, seed=0):
        if row["target"] is None:
            assert abs(row["z"]) < 3.5, row["reading"]


def test_a_constant_layer_gives_null_with_a_reason(values):
    flat = values.copy()
    flat[5] = 0
    rows = weight_rows("q_proj", flat, null_draws=2, seed=0)
    by_key = {(row["reading"], row["target"]): row for row in rows}
    for target in (None, 5):
        row = by_key["extrapolate", target]
        assert (row["r2"], row["cosine"], row["z"]) == (None, None, None)
        assert row["reason"] == "a target layer does not vary, so it has no R2"
    assert by_key["extrapolate", 4]["r2"] < 1
    assert "reason" not in by_key["extrapolate", 4]


def test_one_draw_is_no_null(values):
    with pytest.raises(InputError, match="null_draws must be a whole number, 2 or above; got 1"):
        weight_rows("q_proj", values, null_draws=1, seed=0)


def function_row(strategy, name, layers, unit_nll, text="a"):
    total = sum(unit_nll) if None not in unit_nll else None
    return {
        "reading": "function",
        "strategy": strategy,
        "set": name,
        "layers": layers,
        "variant": f"{strategy}/{name}",
        "text": text,
        "nll": total,
        "tokens": 60,
        "ppl": None if total is None else float(np.exp(total / 60)),
        "degradation_percent": total,
        "unit_nll": unit_nll,
        "unit_tokens": [10] * 6,
    }


def test_the_summary_compares_predicted_with_deleted(rows):
    base = [20.0, 21, 22, 23, 24, 25]
    tested = [function_row("none", None, [], base)]
    # Measured in any order, listed by size.
    shifts = {"3": -4.0, "even_2": 9.0, "2": 5.0, "4": None}
    for name, shift in shifts.items():
        layers = [2, 4] if name == "even_2" else [int(name[-1])]
        deleted = [value + 1 for value in base]
        predicted = [v + shift if shift else None for v in deleted]
        tested.append(function_row("predicted", name, layers, predicted))
        tested.append(function_row("zero", name, layers, deleted))
        if name != "even_2":
            for draw in (1, 2, 6):  # a mean of 3, a median of 2
                noised = [value + draw for value in base]
                tested.append(function_row("predicted_noise", name, layers, noised))
    summary = summarise([*rows, *tested])
    assert list(summary["weights"]) == ["k_proj"]
    assert list(summary["weights"]["k_proj"]) == list(READINGS)
    mean = next(row for row in rows if row["reading"] == "sorted" and row["target"] is None)
    found = summary["weights"]["k_proj"]["sorted"]
    assert found["null_best"] == mean["null_best"]
    assert found == {name: mean[name] for name in found}
    function = summary["function"]["a"]
    assert function["baseline_ppl"] == pytest.approx(np.exp(135 / 60))
    sets = function["sets"]
    assert list(sets) == ["2", "3", "4", "even_2"]
    assert sets["even_2"]["layers"] == [2, 4]
    assert sets["2"]["difference"] == pytest.approx(0.5)
    assert sets["2"]["ci95"] == pytest.approx([0.5, 0.5])
    assert sets["3"]["difference"] == pytest.approx(-0.4)
    assert (sets["4"]["difference"], sets["4"]["ci95"]) == (None, None)
    assert sets["4"]["predicted_ppl"] is None
    assert sets["2"]["noise_ppl"] == pytest.approx(np.exp(147 / 60))
    assert sets["2"]["noise_draws"] == 3
    assert sets["2"]["noise_difference"] == pytest.approx(0.3)
    # No spread over documents; over draws that of 1, 2 and 6 in ten tokens.
    half = stats.t.ppf(0.975, 2) * np.std([0.1, 0.2, 0.6], ddof=1) / np.sqrt(3)
    assert sets["3"]["noise_ci95"] == pytest.approx([-0.6 - half, -0.6 + half])
    assert (sets["4"]["noise_difference"], sets["4"]["noise_ci95"]) == (None, None)
    assert "noise_ppl" not in sets["even_2"]
    assert function["single_layers"] == {
        "compared": 3,
        "predicted_worse": 1,
        "predicted_better": 1,
    }

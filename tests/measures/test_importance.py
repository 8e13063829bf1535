"""Rows of the importance experiment against sums by hand."""

import json
import math

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import Variant, baseline
from jaxanatomy.measures.importance import categorise, importance_rows

DOCUMENT_P = np.repeat(np.arange(6), 3)
FIRST_P = np.tile([True, False, False], 6)
BASELINE_P = np.linspace(1.0, 4.0, 18, dtype=np.float32)


def ablation(name, layer=1, boundary=False, intervention="neighbour_mean"):
    labels = {
        "intervention": intervention,
        "scope": "layer",
        "positions": "all",
        "layer": layer,
        "boundary": boundary,
    }
    return Variant(name, (), labels=labels)


def rows_of(results, **kwargs):
    variants = [baseline(3) if name == "baseline" else ablation(name) for name in results]
    return importance_rows(
        results,
        variants,
        baseline_P=BASELINE_P,
        document_P=DOCUMENT_P,
        first_P=FIRST_P,
        text="sentences",
        **kwargs,
    )


@pytest.mark.parametrize(
    ("degradation", "category"),
    [
        (-5.0, "redundant"),
        (9.99, "redundant"),
        (10.0, "minor"),
        (29.99, "minor"),
        (30.0, "important"),
        (99.99, "important"),
        (100.0, "critical"),
        (math.inf, "critical"),
        (math.nan, None),
        (None, None),
    ],
)
def test_categories(degradation, category):
    assert categorise(degradation) == category


def test_row_of_a_variant_has_the_fields_of_the_contract():
    nll_P = BASELINE_P + np.where(np.arange(18) % 2, 0.5, 0.1).astype(np.float32)
    (row,) = rows_of({"neighbour_mean/layer/1": nll_P})
    total, base = math.fsum(map(float, nll_P)), math.fsum(map(float, BASELINE_P))
    kept = [p for p in range(18) if p % 3]
    kept_mean = math.fsum(float(nll_P[p]) for p in kept) / 12
    kept_base = math.fsum(float(BASELINE_P[p]) for p in kept) / 12
    low, high = row.pop("ci95")
    assert row == {
        "variant": "neighbour_mean/layer/1",
        "intervention": "neighbour_mean",
        "scope": "layer",
        "positions": "all",
        "layer": 1,
        "draw": None,
        "nll": pytest.approx(total, rel=1e-12),
        "tokens": 18,
        "ppl": pytest.approx(math.exp(total / 18), rel=1e-12),
        "degradation_percent": pytest.approx(100 * math.expm1((total - base) / 18), rel=1e-12),
        "category": "important",
        "anti_layer": False,
        "boundary": False,
        "unit_nll": [
            pytest.approx(math.fsum(map(float, nll_P[start : start + 3])), rel=1e-12)
            for start in range(0, 18, 3)
        ],
        "unit_tokens": [3] * 6,
        "ppl_without_first": pytest.approx(math.exp(kept_mean), rel=1e-12),
        "degradation_percent_without_first": pytest.approx(
            100 * math.expm1(kept_mean - kept_base), rel=1e-9
        ),
        "text": "sentences",
    }
    assert 0 < low < row["degradation_percent"] < high
    json.dumps(row, allow_nan=False)


def test_interval_is_students_over_documents_or_wider():
    nll_P = BASELINE_P + np.random.default_rng(0).normal(0.2, 1, 18).astype(np.float32)
    (row,) = rows_of({"x": nll_P})
    difference_P = [float(own) - float(base) for own, base in zip(nll_P, BASELINE_P, strict=True)]
    means = [sum(difference_P[start : start + 3]) / 3 for start in range(0, 18, 3)]
    mean = sum(means) / 6
    error = math.sqrt(sum((each - mean) ** 2 for each in means) / 5 / 6)
    # Upper 2.5 % of Student's t with 5 degrees of freedom, from a printed table.
    student = [mean + sign * 2.570581835636314 * error for sign in (-1, 1)]
    # One end is Student's; that on the side of the longer tail lies further out.
    low, high = (math.log1p(end / 100) for end in row["ci95"])
    skewness = sum((each - mean) ** 3 for each in means)
    assert skewness < 0
    assert high == pytest.approx(student[1], rel=1e-9)
    assert low < student[0]


def test_baseline_row_has_no_interval_and_no_category():
    (row,) = rows_of({"baseline": BASELINE_P})
    assert row["intervention"] == "none"
    assert (row["degradation_percent"], row["ci95"], row["category"]) == (0.0, None, None)
    assert (row["layer"], row["scope"], row["positions"]) == (None, None, None)
    assert (row["anti_layer"], row["boundary"]) == (False, False)


def test_anti_layer_needs_the_whole_interval_below_zero():
    better = BASELINE_P - np.float32(0.1)
    noisy = BASELINE_P + np.repeat([-2.0, 1.9, -2.0, 1.9, -2.0, 1.9], 3).astype(np.float32)
    sure, unsure = rows_of({"better": better, "noisy": noisy})
    assert sure["anti_layer"]
    assert sure["ci95"][1] < 0
    assert unsure["degradation_percent"] < 0 < unsure["ci95"][1]
    assert not unsure["anti_layer"]


def test_figures_that_are_not_finite_are_null_with_a_reason():
    overflowing, infinite, unknown = BASELINE_P + 800, BASELINE_P.copy(), BASELINE_P.copy()
    infinite[3], unknown[3] = np.inf, np.nan
    over, inf, nan = rows_of({"over": overflowing, "inf": infinite, "nan": unknown})
    assert over["reason"] == "a mean NLL of 802.5 nats overflows float64"
    assert over["nll"] == pytest.approx(18 * 802.5, rel=1e-6)
    assert inf["reason"] == "the summed NLL is inf"
    assert nan["reason"] == "the summed NLL is nan"
    for row in (over, inf, nan):
        assert (row["ppl"], row["degradation_percent"], row["ci95"]) == (None, None, None)
        assert not row["anti_layer"]
        json.dumps(row, allow_nan=False)
    assert [row["category"] for row in (over, inf, nan)] == ["critical", "critical", None]
    assert inf["nll"] is None


def test_rows_do_not_depend_on_their_company():
    results = {
        f"x{i}": BASELINE_P + np.random.default_rng(i).normal(size=18).astype(np.float32)
        for i in range(4)
    }
    together = rows_of(results)
    for index, name in enumerate(results):
        (alone,) = rows_of({name: results[name]})
        assert alone == together[index]


def test_one_prediction_a_document_leaves_no_second_reading():
    (row,) = importance_rows(
        {"x": BASELINE_P},
        [ablation("x", boundary=True)],
        baseline_P=BASELINE_P,
        document_P=np.arange(18),
        first_P=np.ones(18, bool),
        text="words",
    )
    assert (row["ppl_without_first"], row["degradation_percent_without_first"]) == (None, None)
    assert row["boundary"]


def test_missing_and_misshapen_results_are_refused():
    with pytest.raises(InputError, match="variant 'x' has no result"):
        importance_rows({}, [ablation("x")], baseline_P=BASELINE_P, document_P=DOCUMENT_P,
                        first_P=FIRST_P, text="t")  # fmt: skip
    with pytest.raises(InputError, match=r"each of the 18 predicted .* got shape \(17,\)"):
        rows_of({"x": BASELINE_P[:17]})

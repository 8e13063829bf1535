"""Fitted temperatures against known factors and brute force, and what they explain."""

import json
import math

import jax
import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.calibration import calibrated, fit_temperature, nll_at
from jaxanatomy.measures.statistics.estimates import ratio_intervals

DOCUMENTS, TOKENS, V = 20, 40, 12
TEMPERATURES = tuple(2 ** (step / 4) for step in range(-4, 13))  # 0.5 to 8
UNIT_P = np.repeat(np.arange(DOCUMENTS), TOKENS)


def scores_and_targets(seed, strength=2.0):
    """Scores of a calibrated model: targets are drawn from their softmax."""
    generator = np.random.default_rng(seed)
    score_PV = strength * generator.standard_normal((len(UNIT_P), V))
    target_P = (score_PV + generator.gumbel(size=score_PV.shape)).argmax(axis=1)
    return score_PV, target_P


def nll_of(score_PV, target_P, temperature=1.0):
    scaled_PV = score_PV / temperature
    log_PV = scaled_PV - np.log(np.exp(scaled_PV).sum(axis=1, keepdims=True))
    return -log_PV[np.arange(len(target_P)), target_P]


def row_of(score_PV, target_P, variant="v", text="paragraphs", temperatures=TEMPERATURES):
    unit_nll = [
        np.bincount(UNIT_P, nll_of(score_PV, target_P, tau)).tolist() for tau in temperatures
    ]
    return {
        "variant": variant,
        "text": text,
        "temperatures": list(temperatures),
        "unit_tokens": [TOKENS] * DOCUMENTS,
        "unit_nll": unit_nll,
    }


def brute_force(score_PV, target_P):
    grid = np.exp(np.linspace(np.log(0.5), np.log(8), 4001))
    return grid[np.argmin([nll_of(score_PV, target_P, tau).sum() for tau in grid])]


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3, 2.2, 4.0])
def test_scores_times_a_factor_want_that_temperature(factor):
    score_PV, target_P = scores_and_targets(0)
    unscaled, _ = fit_temperature(row_of(score_PV, target_P))
    fitted, at_edge = fit_temperature(row_of(factor * score_PV, target_P))
    assert not at_edge
    assert unscaled == pytest.approx(1, abs=0.1)  # the model is calibrated, up to its sample
    assert fitted == pytest.approx(factor * unscaled, rel=1e-3)
    assert fitted == pytest.approx(brute_force(factor * score_PV, target_P), rel=1e-3)


@pytest.mark.parametrize(("factor", "edge"), [(20.0, 8.0), (0.05, 0.5)])
def test_a_minimum_beyond_the_grid_is_its_edge_and_flagged(factor, edge):
    score_PV, target_P = scores_and_targets(0)
    assert fit_temperature(row_of(factor * score_PV, target_P)) == (edge, True)


def test_losses_that_no_temperature_changes_fit_any_and_do_not_fail():
    row = row_of(np.zeros((len(UNIT_P), V)), np.zeros(len(UNIT_P), int))
    row["unit_nll"] = [[1.0] * DOCUMENTS] * len(TEMPERATURES)
    row["unit_nll"][0] = [2.0] * DOCUMENTS
    assert fit_temperature(row).temperature > 0


@pytest.mark.parametrize("temperature", [0.5, 0.55, 1.0, 1.1, 2.9, 7.5, 8.0])
def test_between_grid_points_the_loss_is_interpolated(temperature):
    score_PV, target_P = scores_and_targets(1)
    expected_U = np.bincount(UNIT_P, nll_of(score_PV, target_P, temperature))
    rtol = 1e-12 if temperature in TEMPERATURES else 5e-4
    np.testing.assert_allclose(
        nll_at(row_of(score_PV, target_P), temperature), expected_U, rtol=rtol
    )


def test_no_temperature_outside_the_grid():
    with pytest.raises(InputError, match=r"temperatures 0.5 to 8; got 9; read it on a wider grid"):
        nll_at(row_of(*scores_and_targets(1)), 9.0)


def both_texts(variant_scores, baseline_scores):
    """Rows (fit variant, fit baseline, eval variant, eval baseline); scores by seed."""
    rows = []
    for text, seed in (("paragraphs", 3), ("sentences", 4)):
        score_PV, target_P = scores_and_targets(seed)
        rows.append(row_of(variant_scores(score_PV), target_P, "v", text))
        rows.append(row_of(baseline_scores(score_PV), target_P, "baseline", text))
    return rows


def test_figures_before_and_after_against_brute_force():
    rows = both_texts(lambda score: 0.9 * score, lambda score: 1.5 * score)
    result = calibrated(*rows)
    score_PV, target_P = scores_and_targets(4)
    fit_PV, fit_target_P = scores_and_targets(3)
    for name, factor in (("", 0.9), ("baseline_", 1.5)):
        tau = result[f"{name}temperature"]
        assert tau == pytest.approx(brute_force(factor * fit_PV, fit_target_P), rel=1e-3)
        for suffix, at in (("", 1.0), ("_calibrated", tau)):
            ppl = math.exp(nll_of(factor * score_PV, target_P, at).mean())
            assert result[f"{name}ppl{suffix}"] == pytest.approx(ppl, rel=1e-4)
    for suffix, taus in (
        ("", (1.0, 1.0)),
        ("_calibrated", (result["temperature"], result["baseline_temperature"])),
    ):
        own_P, base_P = (
            nll_of(factor * score_PV, target_P, tau)
            for factor, tau in zip((0.9, 1.5), taus, strict=True)
        )
        expected = 100 * np.expm1((own_P - base_P).mean())
        sums_U = np.bincount(UNIT_P, own_P - base_P)
        ends = ratio_intervals(sums_U[None], np.bincount(UNIT_P))[0, 1:]
        assert result[f"degradation_percent{suffix}"] == pytest.approx(expected, rel=1e-3, abs=1e-2)
        assert result[f"ci95{suffix}"] == pytest.approx(100 * np.expm1(ends), rel=1e-3, abs=1e-2)
    assert (result["variant"], result["fit_text"], result["text"]) == (
        "v",
        "paragraphs",
        "sentences",
    )
    json.dumps(result, allow_nan=False)


def test_a_gain_that_is_only_a_temperature_is_explained():
    result = calibrated(*both_texts(lambda score: score, lambda score: 3 * score))
    assert result["ci95"][1] < 0
    assert abs(result["degradation_percent_calibrated"]) < 0.1
    assert result["gain_remains"] is False
    assert result["explained_by_calibration"] is True


def test_a_gain_in_what_is_known_is_not_explained():
    noise = 3 * np.random.default_rng(9).standard_normal((len(UNIT_P), V))
    result = calibrated(*both_texts(lambda score: score, lambda score: score + noise))
    assert result["ci95_calibrated"][1] < 0
    assert result["baseline_ppl_calibrated"] > result["ppl"]
    assert result["gain_remains"] is True
    assert result["explained_by_calibration"] is False


def test_a_gain_that_the_calibrated_baseline_reaches_is_explained():
    """The variant knows more than the baseline, but is so unsure that it uses none of it."""
    noise = 0.5 * np.random.default_rng(9).standard_normal((len(UNIT_P), V))
    rows = both_texts(lambda score: 0.55 * score, lambda score: 3 * (score + noise))
    result = calibrated(*rows)
    assert result["degradation_percent"] < 0
    assert result["ci95_calibrated"][1] < 0
    assert result["baseline_ppl_calibrated"] <= result["ppl"]
    assert result["gain_remains"] is True
    assert result["explained_by_calibration"] is True


def test_where_nothing_is_gained_there_is_nothing_to_explain():
    result = calibrated(*both_texts(lambda score: 3 * score, lambda score: score))
    assert result["degradation_percent"] > 0
    assert result["explained_by_calibration"] is None


def test_rows_that_do_not_belong_together_are_refused():
    fit_v, fit_b, eval_v, eval_b = both_texts(lambda score: score, lambda score: score)
    with pytest.raises(InputError, match=r"fitted on another text .*got 'sentences' twice"):
        calibrated(eval_v, eval_b, eval_v, eval_b)
    with pytest.raises(InputError, match=r"to judge on must be of one text; got 'sentences' and"):
        calibrated(fit_v, fit_b, eval_v, fit_b)
    with pytest.raises(InputError, match=r"must be of one variant; got 'v' and 'baseline'"):
        calibrated(fit_v, fit_b, eval_b, eval_b)


def test_losses_that_are_not_finite_are_refused_by_name():
    row = row_of(*scores_and_targets(1))
    row["unit_nll"][3][2] = None
    with pytest.raises(InputError, match=r"finite losses; 'v' on 'paragraphs' has others"):
        fit_temperature(row)


def test_the_loss_at_a_temperature_is_that_of_jax():
    """The oracle of this file against jax.nn.log_softmax."""
    score_PV, target_P = scores_and_targets(2)
    log_PV = jax.nn.log_softmax(score_PV.astype(np.float32) / 1.7)
    np.testing.assert_allclose(
        nll_of(score_PV, target_P, 1.7), -log_PV[np.arange(len(target_P)), target_P], atol=1e-5
    )

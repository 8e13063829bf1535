"""The papers' own figures against each other: each verdict, and the arithmetic behind it."""

import pytest
from report.claim_rows import finding

from jaxanatomy.report.claims import CLAIMS, budgets, contradictions
from jaxanatomy.report.claims.contradictions import implied_baselines

VERDICTS = {
    "one_baseline": ("does not hold", "scale_0.7 18.08"),
    "gentle_scaling_stated_twice": ("does not hold", "Table 4: +19.0 %"),
    "recovery_thresholds": ("does not hold", "with 22.60: L0, L3, L5, L27, with 18.08: none"),
    "noise_improves": ("does not hold", "L14 19.4, L17 18.5"),
    "categories_follow_thresholds": ("does not hold", "L3 +13.4 % is minor"),
    "distribution": ("does not hold", "9 redundant, 11 minor, 1 important, 9 critical"),
    "thirty_layers_ablated": ("does not hold", "28 layers"),
    "range_printed": ("does not hold", "63419.2 / 0.6 = 1.1e+05"),
    "layer_11_over_layer_17": ("does not hold", "1.1e+05"),
    "anti_layer_sign": ("does not hold", "L14 +5.0 %, L17 −0.6 %"),
    "layer_23_critical": ("does not hold", "L23 +66.6 %"),
    "nine_layers_at_once": ("does not hold", "a factor of 16"),
    "function_test_percentages": ("holds", "+16.0 %, +442,378 %"),
    "budget_total": ("cannot tell", "low ends 2,560, midpoints 2,895, high ends 3,230"),
    "budget_saved": ("holds", "54.0 %"),
    "growth_gains": ("holds", "4.72 times, 12.8 % faster"),
    "half_budget": ("does not hold", "416 steps are 63 %"),
    "core_epochs": ("does not hold", "the phases named add up to 85; by Table 7's layers to 45"),
    "steps_of_an_epoch": ("does not hold", "growth 6.4 steps an epoch (103 epochs), uniform 59.6"),
    "table1_growth_beats_baseline": ("does not hold", "midas 28.18, baseline 30.06"),
    "table1_ln_scaling_trails": ("does not hold", "lidas 31.2, ln_scaling 31.38"),
    "table8_growth_helps_ln_scaling": ("does not hold", "ln_scaling_lidas 43.32, ln_scaling 44.38"),
}


def test_all_arithmetic_claims_are_here():
    assert set(VERDICTS) == {claim.id for claim in CLAIMS if not claim.needs}


@pytest.mark.parametrize("claim", VERDICTS)
def test_the_papers_figures_decide(claim):
    verdict, words = VERDICTS[claim]
    found = finding(claim)
    assert found.verdict == verdict
    assert words in found.measured


def test_all_rows_of_table_4_but_one_imply_the_second_baseline():
    implied = implied_baselines()
    assert implied.pop("scale_0.9") == pytest.approx(22.647, abs=1e-3)
    assert all(value == pytest.approx(18.076, abs=2e-3) for value in implied.values())


CONSISTENT = {
    "one_baseline": (contradictions, "_PERCENT4", {"scale_0.7": 100 * (928.22 / 22.6 - 1)}),
    "categories_follow_thresholds": (contradictions, "_TABLE1", {"categories": {"minor": [3]}}),
    "range_printed": (contradictions, "_TABLE1", {"range_factor": 1e5}),
    "layer_11_over_layer_17": (contradictions, "_TABLE1", {"layer_11_over_layer_17": 3e5}),
    "anti_layer_sign": (contradictions, "_TABLE1", {"anti_layers": [17]}),
    "half_budget": (budgets, "_CLAIMS8", {"growth_50_budget_percent": 63}),
    "steps_of_an_epoch": (budgets, "_CLAIMS8", {"uniform_epochs": 103}),
}


@pytest.mark.parametrize("claim", CONSISTENT)
def test_figures_that_agree_hold(claim, monkeypatch):
    module, name, values = CONSISTENT[claim]
    table = values if name == "_PERCENT4" else getattr(module, name) | values
    monkeypatch.setattr(module, name, table)
    assert finding(claim).verdict == "holds"

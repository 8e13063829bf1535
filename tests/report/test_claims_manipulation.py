"""Rules about whole sets of layers, small errors and attention, by literal figures."""

import pytest
from report.claim_rows import finding, row

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"


def trial(strategy, low, value, high, name="paper_inner", layers=(3, 5), text="sentences", **dose):
    labels = {"strategy": strategy, "alpha": None, "rank": None, "set": name, "layers": [*layers]}
    return row(low, value, high, text, **(labels | dose))


def scale(alpha, low, value, high, name="paper_inner", **more):
    return trial("scale", low, value, high, name, alpha=alpha, **more)


@pytest.mark.parametrize("name", ["paper", "paper_inner", "measured"])
@pytest.mark.parametrize(
    ("gentle", "other", "verdict"),
    [
        ((20.0, 30.0, 99.9), (100.0, 200.0, 300.0), HOLDS),
        ((20.0, 30.0, 100.0), (100.0, 200.0, 300.0), UNDECIDED),
        ((100.0, 130.0, 150.0), (100.0, 200.0, 300.0), FAILS),
        ((20.0, 30.0, 99.9), (10.0, 60.0, 99.9), FAILS),
        ((20.0, 30.0, 99.9), (99.0, 200.0, 300.0), UNDECIDED),
    ],
)
def test_gentle_scaling_alone_is_viable(name, gentle, other, verdict):
    rows = [scale(0.9, *gentle, name), trial("clone", *other, name)]
    rows += [scale(0.7, 500.0, 600.0, 700.0, name), trial("zero", None, None, None, name)]
    # Not among the paper's strategies, so they may be viable.
    rows += [scale(0.95, 1.0, 2.0, 3.0, name), trial("own_svd", 1.0, 2.0, 3.0, name, rank=64)]
    assert finding(f"only_scaling_viable_{name}", rows).verdict == verdict


def test_the_measured_set_is_there_on_every_model_and_the_papers_is_not():
    rows = [scale(0.9, 1.0, 2.0, 3.0, "measured"), trial("zero", 1.0, 2.0, 3.0, "measured")]
    found = finding("only_scaling_viable_measured", rows, papers_model=False)
    assert (found.verdict, found.reason) == (FAILS, "viable beside it: zero of 1 strategies")
    found = finding("only_scaling_viable_paper", rows, papers_model=False)
    assert found.reason.startswith("another architecture")


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((10.0, 19.0, 90.0), HOLDS),
        ((10.0, 49.0, 90.0), HOLDS),
        ((10.0, 18.0, 20.0), UNDECIDED),
        ((10.0, 15.0, 18.9), FAILS),
        ((49.1, 60.0, 70.0), FAILS),
    ],
)
def test_the_cost_of_gentle_scaling(ends, verdict):
    assert finding("gentle_scaling_cost", [scale(0.9, *ends, "paper")]).verdict == verdict


@pytest.mark.parametrize(
    ("mild", "verdict"),
    [
        ((1_000.0, 1_500.0, 2_000.0), HOLDS),
        ((999.0, 1_500.0, 2_000.0), UNDECIDED),
        ((50.0, 60.0, 999.0), FAILS),
    ],
)
def test_scaling_must_destroy_without_the_boundary_layers_too(mild, verdict):
    rows = [scale(0.7, *mild), scale(0.0, 5e3, 6e3, 7e3), scale(0.7, 9e9, 9e9, 9e9, "paper")]
    found = finding("scaling_collapses", rows)
    assert found.verdict == verdict
    assert found.reason.endswith("monotone in alpha")
    assert found.null == "with them: ×0.7 +9.0e9 %"


def test_a_curve_that_is_not_monotone_is_called_so():
    rows = [scale(0.7, 5e3, 6e3, 7e3), scale(0.0, 1e3, 2e3, 3e3)]
    assert finding("scaling_collapses", rows).reason.endswith("not monotone in alpha")


@pytest.mark.parametrize("name", ["paper", "paper_inner", "measured"])
@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((1e5, 2e5, 3e5), HOLDS),
        ((99_999.0, 2e5, 3e5), UNDECIDED),
        ((50.0, 60.0, 99_999.0), FAILS),
    ],
)
def test_every_replacement_must_destroy(name, ends, verdict):
    rows = [trial("blend_4", *ends, name), trial("zero", None, None, None, name)]
    rows.append(scale(0.5, 1.0, 2.0, 3.0, name))
    assert finding(f"replacement_destroys_{name}", rows).verdict == verdict


def pair(strategy, ppl, layers):
    found = trial(strategy, 1.0, 50.0, 99.0, f"pair_{layers[0]}_{layers[1]}", layers)
    return found | {"ppl": ppl, "nll": 80.0 * len(str(ppl))}


@pytest.mark.parametrize(
    ("ppl", "verdict"), [(96_920.0, HOLDS), (9_691_980.0, HOLDS), (96_919.0, FAILS), (1e8, FAILS)]
)
def test_some_pair_must_come_within_a_factor_of_ten(ppl, verdict):
    rows = [pair("zero", ppl, (0, 29)), pair("zero", 30.0, (14, 17)), pair("own_svd", 1.0, (3, 5))]
    found = finding("pairs_destroy", rows)
    assert found.verdict == verdict
    assert found.null == "worst without layers 0 and 29: zero of L14 and L17 perplexity 30"


def test_each_strategy_needs_its_pair():
    rows = [pair("zero", 969_198.0, (0, 29)), pair("blend_2", 100.0, (0, 29))]
    assert finding("pairs_destroy", rows).reason == "no pair comes near for: blend_2"


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((-9.0, -5.0, -0.1), HOLDS), ((0.0, 5.0, 9.0), FAILS), ((-9.0, 1.0, 9.0), UNDECIDED)],
)
def test_pruning_both_anti_layers(ends, verdict):
    assert finding("prune_anti_layers", [trial("zero", *ends, "pair_14_17")]).verdict == verdict


TEXTS = [trial("zero", 1.0, 2.0, 3.0, text=text) for text in ("a", "b")]


@pytest.mark.parametrize(
    ("entries", "verdict"),
    [
        ([("v", "a", False), ("v", "b", False)], HOLDS),
        ([("v", "a", False), ("v", "b", True)], UNDECIDED),
        ([("v", "a", False), ("w", "b", False)], UNDECIDED),
        ([("v", "a", True), ("v", "b", True), ("w", "a", None)], FAILS),
        ([], FAILS),
    ],
)
def test_an_improvement_must_survive_a_temperature_on_every_text(entries, verdict):
    names = ("variant", "text", "explained_by_calibration")
    summary = {"calibration": [dict(zip(names, entry, strict=True)) for entry in entries]}
    found = finding("improvement_beyond_temperature", TEXTS, summary, papers_model=False)
    assert (found.verdict, found.text) == (verdict, "a, b")


def test_one_text_cannot_be_calibrated():
    found = finding("improvement_beyond_temperature", TEXTS[:1], {"calibration": []})
    assert found.reason.startswith("not measured")


@pytest.mark.parametrize(
    ("damage", "ends", "verdict"),
    [
        (10.0, [1.01, 1.5], HOLDS),
        (10.0, [1.0, 1.5], UNDECIDED),
        (10.0, [0.5, 1.0], FAILS),
        (9.9, [1.01, 1.5], FAILS),
        (50.0, None, UNDECIDED),
        (None, [1.01, 1.5], UNDECIDED),
    ],
)
def test_errors_compound_if_the_damage_is_large_and_grows_faster_than_a_sum(damage, ends, verdict):
    dose = {"exponent": 1.2, "exponent_ci95": ends, "ratio_all_to_sum": 1.5}
    other = dose | {"degradation_all_percent": 1e6, "exponent_ci95": [2.0, 3.0]}
    summary = {"compounding": {"0.01": dose | {"degradation_all_percent": damage}, "0.1": other}}
    assert finding("errors_compound", (), summary, papers_model=False).verdict == verdict
    only = {"compounding": {"0.1": other}}
    assert finding("errors_compound", (), only).reason.startswith("not measured")


def shift(layer, alpha, seed, argmax, component="q_proj", spread="local"):
    row = {"kind": "attention", "component": component, "layer": layer, "alpha": alpha}
    figures = {"argmax_changed": argmax, "total_variation": argmax / 2}
    return row | {"seed": seed, "spread": spread, "text": "a", **figures}


@pytest.mark.parametrize(("last", "verdict"), [(0.7, HOLDS), (0.68, FAILS)])
def test_attention_is_redirected_if_most_queries_of_a_layer_look_elsewhere(last, verdict):
    rows = [shift(0, 0.01, 0, 0.1), shift(7, 0.01, 0, 0.3, "k_proj", "propagated")]
    rows += [shift(7, 0.01, 1, last, "k_proj", "propagated"), shift(3, None, 0, 0.9)]
    rows += [shift(3, 0.5, 0, 0.8)]
    found = finding("attention_redirected", rows, papers_model=False)
    assert found.verdict == verdict
    assert found.measured.startswith("largest effect, k_proj of L7 (propagated)")
    assert found.null == "nothing but noise instead: 90.0% of the queries"
    assert finding("attention_redirected", rows[3:]).reason.startswith("not measured")

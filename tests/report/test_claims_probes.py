"""Rules about improvements, small errors and attention, by literal figures."""

import pytest
from report.claim_rows import SHARES, TOKENS, finding, scale, table4, trial

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"

GRID = [0.5, 1.0, 1.5, 2.0]
TEXTS = [
    each
    for text in ("a", "b")
    for each in (
        scale(0.9, 1.0, 2.0, 3.0, "measured", text=text),
        *table4((100.0, 200.0, 300.0), "measured", text=text),
    )
]
V, W = (row["variant"] for row in TEXTS[:2])
KEPT = {"gain_remains": True}
GONE = {"gain_remains": False, "explained_by_calibration": True}
EDGE = KEPT | {"temperature_at_edge": True}
BASE_EDGE = {"gain_remains": False, "baseline_temperature_at_edge": True}


def gain(variant, text, said=KEPT):
    """An entry of the summary's calibration; temperatures of 1 are points of the grid."""
    found = {"variant": variant, "text": text, "temperature": 1.0, "baseline_temperature": 1.0}
    found |= {"temperature_at_edge": False, "baseline_temperature_at_edge": False}
    return found | {"explained_by_calibration": False} | said


def curve(variant, text, percent=0.0, shares=SHARES):
    """A row of kind temperature; each document gains about so many percent."""
    nll = [10 * (3.0 - percent / 100 * share) for share in shares]
    row = {"kind": "temperature", "variant": variant, "text": text, "temperatures": GRID}
    return row | {"unit_tokens": TOKENS, "unit_nll": [nll] * len(GRID), "strategy": "zero"}


CURVES = [
    curve(variant, text, percent)
    for variant, percent in (("baseline", 0.0), (V, 1.0), (W, 1.0))
    for text in ("a", "b")
]


def improvement(entries, rows=(*TEXTS, *CURVES), **more):
    summary = {"calibration": entries}
    more = {"papers_model": False} | more
    return finding("improvement_beyond_temperature", rows, summary, **more)


@pytest.mark.parametrize(
    ("entries", "verdict"),
    [
        ([gain(V, "a"), gain(V, "b")], HOLDS),
        ([gain(V, "a", KEPT | {"explained_by_calibration": True}), gain(V, "b")], HOLDS),
        ([gain(V, "a"), gain(V, "b", GONE)], UNDECIDED),
        ([gain(V, "a"), gain(W, "b")], UNDECIDED),
        ([gain(V, "a"), gain(V, "b", EDGE)], UNDECIDED),
        ([gain(V, "a", BASE_EDGE)], UNDECIDED),
        ([gain(V, "a", GONE), gain(V, "b", GONE)], FAILS),
        ([], FAILS),
    ],
)
def test_an_improvement_must_survive_a_temperature_on_every_text(entries, verdict):
    found = improvement(entries)
    assert (found.verdict, found.text) == (verdict, "a, b")


# Of eight documents the mean is five standard errors below 0: beyond Student's quantile for one
# variant, and for the best of twelve, which is 4.2, and not of forty, which is 5.2.
LUCKY = (0.47, 1.53) * 4


@pytest.mark.parametrize(("more", "verdict"), [(0, HOLDS), (28, UNDECIDED)])
def test_the_best_of_many_variants_is_better_by_chance(more, verdict):
    others = [
        trial("zero", 1.0, 2.0, 3.0, f"pair_0_{number}", text=text)
        for number in range(more)
        for text in ("a", "b")
    ]
    curves = [curve(V, text, 1.0, LUCKY) for text in ("a", "b")]
    rows = [*TEXTS, *others, *curves, *(row for row in CURVES if row["variant"] == "baseline")]
    found = improvement([gain(V, "a"), gain(V, "b")], rows)
    assert found.verdict == verdict
    assert f"of the {12 + more} variants tried on every text" in found.null


def test_noise_and_the_baseline_are_not_tried_to_improve():
    others = [
        trial(strategy, 1.0, 2.0, 3.0, f"random_1_s{number}", text=text)
        for number in range(40)
        for text in ("a", "b")
        for strategy in ("perturb", "none")
    ]
    found = improvement([gain(V, "a"), gain(V, "b")], [*TEXTS, *CURVES, *others])
    assert "of the 12 variants" in found.null


def test_nothing_fails_before_table_4_was_tried():
    rows = [row for row in TEXTS if row["strategy"] != "clone"]
    found = improvement([], rows)
    assert found.verdict == UNDECIDED
    assert found.reason.endswith("; clone was not measured")


def test_one_text_cannot_be_calibrated():
    found = improvement([], TEXTS[:1])
    assert found.reason.startswith("not measured")


def noise(*ends, seed=0, count=8):
    labels = {"seed": seed, "count": count, "alpha": 0.01, "layers": [*range(count)]}
    name = f"random_{count}_s{seed}"
    return trial("perturb", ends[0], sum(ends) / 2, ends[1], name, text="a", **labels)


MUCH, LITTLE, OPEN = (100.0, 130.0), (1.0, 99.9), (99.9, 130.0)


@pytest.mark.parametrize(
    ("damage", "ends", "verdict"),
    [
        ([MUCH, MUCH], [1.01, 1.5], HOLDS),
        ([MUCH, MUCH], [1.0, 1.5], UNDECIDED),
        ([MUCH, MUCH], [0.5, 1.0], FAILS),
        ([LITTLE, LITTLE], [1.01, 1.5], FAILS),
        ([MUCH, LITTLE], [1.01, 1.5], UNDECIDED),
        ([MUCH, OPEN], [1.01, 1.5], UNDECIDED),
        ([MUCH, MUCH], None, UNDECIDED),
        ([LITTLE, LITTLE], None, FAILS),
        ([], [1.01, 1.5], UNDECIDED),
    ],
)
@pytest.mark.parametrize("depth", [0, 8])
def test_errors_compound_if_the_damage_is_large_and_grows_faster_than_a_sum(
    damage, ends, verdict, depth
):
    dose = {"exponent": 1.2, "ratio_all_to_sum": 1.5, "ratio_ci95": ends}
    summary = {"compounding": {"0.01": dose, "0.1": dose | {"ratio_ci95": [2.0, 3.0]}}}
    rows = [noise(*each, seed=seed) for seed, each in enumerate(damage)]
    rows += [noise(1e3, 1e4, count=4)] if damage or depth else []
    found = finding("errors_compound", rows, summary, papers_model=False, depth=depth)
    assert found.verdict == verdict
    assert found.text == ("a" if rows else "")
    if depth:
        assert found.reason.endswith("noise in all 8 layers was not measured") == (not damage)
    only = {"compounding": {"0.1": dose}}
    assert finding("errors_compound", rows, only).reason.startswith("not measured")


def shift(layer, alpha, seed, argmax, component="q_proj", spread="local"):
    row = {"kind": "attention", "component": component, "layer": layer, "alpha": alpha}
    figures = {"argmax_changed": argmax, "total_variation": argmax / 2}
    return row | {"seed": seed, "spread": spread, "text": "a", **figures}


def shifts(largest):
    """Two seeds of every cell of two layers; those of one cell as given."""
    cells = [
        (c, s, n) for c in ("q_proj", "k_proj") for s in ("local", "propagated") for n in (0, 1)
    ]
    rows = [
        shift(layer, 0.01, seed, 0.1, component, spread)
        for component, spread, layer in cells[:-1]
        for seed in (0, 1)
    ]
    rows += [
        shift(1, 0.01, seed, each, "k_proj", "propagated") for seed, each in enumerate(largest)
    ]
    return [*rows, shift(1, None, 0, 0.9), shift(1, 0.5, 0, 0.8)]


@pytest.mark.parametrize(
    ("largest", "verdict"),
    [
        ((0.5, 0.7), HOLDS),
        ((0.49, 0.9), UNDECIDED),
        ((0.49, 0.3), FAILS),
        ((0.7,), UNDECIDED),
        ((0.3,), UNDECIDED),
    ],
)
def test_attention_is_redirected_if_most_queries_of_a_layer_look_elsewhere(largest, verdict):
    found = finding("attention_redirected", shifts(largest), papers_model=False, depth=2)
    assert found.verdict == verdict
    assert found.measured.startswith("largest effect, k_proj of L1 (propagated)")
    assert found.null == "nothing but noise instead: 90.0% of the queries"
    assert found.reason.endswith("; one seed has no spread") == (len(largest) == 1)


def test_attention_may_move_in_layers_that_were_not_measured():
    moved, not_moved = (
        finding("attention_redirected", shifts(largest), papers_model=False, depth=3)
        for largest in ((0.5, 0.7), (0.3, 0.4))
    )
    assert (moved.verdict, not_moved.verdict) == (HOLDS, UNDECIDED)
    assert "; q_proj of L2 (local), q_proj of L2 (propagated), k_proj of" in not_moved.reason
    only = [row for row in shifts((0.5, 0.7)) if row["alpha"] != 0.01]
    assert finding("attention_redirected", only).reason.startswith("not measured")

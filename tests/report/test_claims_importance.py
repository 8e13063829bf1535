"""Rules about the importance map, by literal degradations and intervals."""

import pytest
from report.claim_rows import baseline, cell, finding

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"


def two(least, top, **more):
    """A map of four layers, of which the inner two have these intervals."""
    ends = [cell(layer, 50.0, 60.0, 70.0, boundary=True, **more) for layer in (0, 3)]
    return [ends[0], cell(1, *least, **more), cell(2, *top, **more), ends[1]]


@pytest.mark.parametrize(
    ("least", "top", "verdict"),
    [
        ((5.0, 8.0, 10.0), (100.0, 150.0, 200.0), HOLDS),
        ((5.0, 8.0, 10.0), (99.0, 150.0, 200.0), UNDECIDED),
        ((-3.0, 1.0, 10.0), (99.0, 150.0, 200.0), UNDECIDED),
        ((-3.0, -2.0, -1.0), (20.0, 150.0, 200.0), HOLDS),
        ((20.0, 25.0, 30.0), (100.0, 150.0, 199.0), FAILS),
        ((20.0, 25.0, 30.0), (-1.0, 50.0, 199.0), UNDECIDED),
    ],
)
def test_layers_differ_radically_by_a_factor_of_ten(least, top, verdict):
    rows = two(least, top)
    assert finding("non_equivalence", rows, papers_model=False, depth=4).verdict == verdict


@pytest.mark.parametrize(
    ("least", "top", "verdict"),
    [
        ((0.001, 0.002, 0.003), (30_000.0, 63_419.0, 9e4), HOLDS),
        ((0.001, 0.002, 0.003), (29_000.0, 29_500.0, 3e4), UNDECIDED),
        ((1.0, 2.0, 3.0), (30_000.0, 63_419.0, 9e6), FAILS),
        ((-1.0, 0.5, 3.0), (30_000.0, 63_419.0, 9e4), UNDECIDED),
    ],
)
def test_the_range_of_ten_million_holds_for_all_values_of_the_intervals(least, top, verdict):
    found = finding("importance_range", two(least, top), papers_model=False)
    assert found.verdict == verdict
    assert ("no upper bound" in found.reason) == (least[0] <= 0)


def test_the_boundary_is_not_in_the_range():
    rows = two((5.0, 8.0, 9.0), (20.0, 21.0, 22.0))
    rows[0] = cell(0, 9e4, 9e4, 9e4, boundary=True)
    assert finding("non_equivalence", rows, papers_model=False, depth=4).verdict == FAILS


def test_layers_that_were_not_measured_may_differ_more_but_not_less():
    alike, apart = two((20.0, 25.0, 30.0), (50.0, 60.0, 70.0)), two((1.0, 2, 3), (100, 150, 200))
    found = finding("non_equivalence", alike, papers_model=False, depth=6)
    assert found.verdict == UNDECIDED
    assert found.reason.endswith("; L4 was not measured")
    assert finding("non_equivalence", apart, papers_model=False, depth=6).verdict == HOLDS


@pytest.mark.parametrize(
    ("least", "top", "verdict"),
    [
        ((5.0, 8.0, 10.0), (None, None, None), HOLDS),
        ((-5.0, 8.0, 10.0), (None, None, None), HOLDS),
        ((None, None, None), (None, None, None), UNDECIDED),
    ],
)
def test_a_perplexity_that_is_not_finite_is_any_number_of_times_larger(least, top, verdict):
    found = finding("importance_range", two(least, top), papers_model=False)
    assert found.verdict == verdict


def ranked(order, name="neighbour_mean"):
    """Degradations of layers 1 to 28 in the order of Table 1, or another."""
    return [cell(layer, 1.0, 10.0 + place, 99.0, name) for place, layer in enumerate(order)]


TABLE1_ORDER = (
    *(17, 19, 14, 12, 5, 6, 15, 3, 18, 26, 7, 16, 4, 25, 21, 13, 20, 22, 23, 24, 27, 2, 28, 9),
    *(8, 1, 10, 11),
)


@pytest.mark.parametrize(
    ("order", "verdict"),
    [(TABLE1_ORDER, HOLDS), (TABLE1_ORDER[::-1], FAILS), (TABLE1_ORDER[:3], UNDECIDED)],
)
def test_the_ranking_is_compared_with_table_1(order, verdict):
    assert finding("table1_ranking", ranked(order)).verdict == verdict


@pytest.mark.parametrize("order", [TABLE1_ORDER[1:], TABLE1_ORDER[:0:-1]])
def test_a_ranking_needs_all_layers(order):
    found = finding("table1_ranking", ranked(order))
    assert (found.verdict, found.reason) == (UNDECIDED, "L17 was not measured")
    rows = ranked(TABLE1_ORDER) + ranked(order, "zero")
    found = finding("map_is_importance", rows, papers_model=False, depth=30)
    assert (found.verdict, found.reason) == (UNDECIDED, "L17 skipped was not measured")


def test_a_ranking_that_may_agree_cannot_tell():
    mixed = (*TABLE1_ORDER[17::-1], *TABLE1_ORDER[18:])
    found = finding("table1_ranking", ranked(mixed))
    assert found.verdict == UNDECIDED
    assert found.measured.startswith("rank correlation 0.")


def test_another_model_has_no_table_1():
    found = finding("table1_ranking", ranked(TABLE1_ORDER), papers_model=False)
    assert found.verdict == UNDECIDED
    assert found.reason.startswith("another architecture")


@pytest.mark.parametrize(("order", "verdict"), [(TABLE1_ORDER, HOLDS), (TABLE1_ORDER[::-1], FAILS)])
def test_the_map_is_compared_with_skipping(order, verdict):
    rows = (
        ranked(TABLE1_ORDER) + ranked(order, "zero") + ranked(TABLE1_ORDER[::-1], "matched_noise")
    )
    found = finding("map_is_importance", rows, papers_model=False)
    assert (found.verdict, found.null) == (verdict, "with matched noise: -1.00")


def parts(first, others):
    rows = two((1.0, 2.0, 3.0), (500.0, 900.0, 1200.0))
    return [*rows, cell(2, *first, positions="first"), cell(2, *others, positions="others")]


@pytest.mark.parametrize(
    ("first", "others", "verdict"),
    [
        ((500.0, 800.0, 900.0), (100.0, 120.0, 150.0), HOLDS),
        ((500.0, 800.0, 900.0), (30.0, 40.0, 99.0), FAILS),
        ((500.0, 800.0, 900.0), (30.0, 90.0, 101.0), UNDECIDED),
        ((50.0, 60.0, 70.0), (30.0, 40.0, 50.0), UNDECIDED),
    ],
)
def test_the_most_important_layer_must_work_on_the_text(first, others, verdict):
    rows = parts(first, others)
    found = finding("most_important_layer_reasons", rows, papers_model=False, depth=4)
    assert found.verdict == verdict
    found = finding("most_important_layer_reasons", rows, papers_model=False, depth=6)
    assert found.verdict == UNDECIDED
    assert found.reason.endswith("L4 was not measured")


@pytest.mark.parametrize(
    ("low", "high", "zero", "verdict"),
    [
        (1.0, 9.99, (1.0, 2.0, 3.0), HOLDS),
        (1.0, 10.0, (1.0, 2.0, 3.0), UNDECIDED),
        (1.0, 9.99, (10.0, 20.0, 30.0), FAILS),
        (1.0, 9.99, (None, None, None), FAILS),
        (10.0, 12.0, None, FAILS),
        (1.0, 9.0, None, UNDECIDED),
    ],
)
@pytest.mark.parametrize("depth", [0, 3])
def test_boundary_layers_are_measured_with_the_neighbour_copied_and_skipped(
    low, high, zero, verdict, depth
):
    rows = [cell(0, low, 5.0, high, boundary=True), cell(1, 1.0, 2.0, 3.0)]
    rows += [cell(2, 1.0, 2.0, 3.0, boundary=True), cell(0, 1.0, 2.0, 3.0, "zero")]
    rows += [cell(2, *zero, "zero")] if zero else []
    found = finding("boundary_layers_redundant", rows, papers_model=False, depth=depth)
    assert found.verdict == verdict
    assert found.reason.endswith("L2 skipped was not measured") == (zero is None)


@pytest.mark.parametrize(
    ("rescaled", "verdict"),
    [((10.0, 10.0, 40.0), HOLDS), ((40.0, 40.0, 10.0), FAILS), ((10.0, 20.0, 40.0), UNDECIDED)],
)
def test_cancellation_means_that_restored_norms_do_less_damage(rescaled, verdict):
    rows = [cell(layer, 15.0, 20.0, 25.0) for layer in (1, 2, 3)]
    rows += [
        cell(layer, value - 1, value, value + 1, "rescaled_mean")
        for layer, value in enumerate(rescaled, start=1)
    ]
    assert finding("averaging_cancels", rows, papers_model=False, depth=5).verdict == verdict
    found = finding("averaging_cancels", rows, papers_model=False, depth=8)
    assert found.verdict == UNDECIDED
    assert "L4, L5, L6, L4 with the norms restored" in found.reason


def named(layers, *interval, intervention="neighbour_mean", text="sentences"):
    return [cell(layer, *interval, intervention, text=text) for layer in layers]


@pytest.mark.parametrize(
    ("claim", "layers", "good", "bad", "threshold"),
    [
        ("critical_layers", (1, 2, 8, 9, 10, 11, 24, 27, 28), (100.0, 200.0), (80.0, 99.9), 100.0),
        ("critical_core", (8, 9, 10, 11), (100.0, 200.0), (80.0, 99.9), 100.0),
        ("redundant_layers", (3, 5, 6, 12, 14, 17, 19), (1.0, 9.99), (10.0, 20.0), 10.0),
        ("anti_layers_named", (14, 17), (-5.0, -0.1), (0.0, 3.0), 0.0),
    ],
)
def test_every_named_layer_must_lie_on_its_side(claim, layers, good, bad, threshold):
    def rows(*last):
        others = [cell(layer, good[0], sum(good) / 2, good[1]) for layer in layers[:-1]]
        return [*others, cell(layers[-1], last[0], sum(last) / 2, last[1])]

    assert finding(claim, rows(*good)).verdict == HOLDS
    found = finding(claim, rows(*bad))
    assert found.verdict == FAILS
    assert f"settled otherwise: L{layers[-1]}" in found.reason
    assert finding(claim, rows(threshold - 1, threshold + 1)).verdict == UNDECIDED
    found = finding(claim, rows(*good)[1:])
    assert found.verdict == UNDECIDED
    assert found.reason.endswith(f"; L{layers[0]} was not measured")
    assert finding(claim, rows(*bad)[1:]).verdict == FAILS
    assert finding(claim, [cell(4, 1.0, 2.0, 3.0)]).reason.startswith("not measured")
    assert finding(claim, rows(*good), papers_model=False).verdict == UNDECIDED


def test_an_anti_layer_must_be_one_on_every_text():
    better, open_ = (-5.0, -3.0, -1.0), (-5.0, -1.0, 1.0)
    rows = named((14, 17), *better) + named((14, 17), *open_, text="paragraphs")
    assert finding("anti_layers_named", rows).verdict == UNDECIDED
    rows = named((14, 17), *open_) + named((14, 17), 1.0, 2.0, 3.0, text="paragraphs")
    assert finding("anti_layers_named", rows).verdict == FAILS


@pytest.mark.parametrize(
    ("on_a", "on_b", "verdict"),
    [
        (((-3, -2, -1), (5, 6, 7)), ((-3, -2, -1), (5, 6, 7)), HOLDS),
        (((-3, -2, -1), (5, 6, 7)), ((5, 6, 7), (-3, -2, -1)), FAILS),
        (((-3, -2, -1), (5, 6, 7)), ((-3, 0.1, 1), (5, 6, 7)), UNDECIDED),
        (((1, 2, 3), (5, 6, 7)), ((0, 2, 3), (5, 6, 7)), FAILS),
        (((-3, -2, -1), (5, 6, 7)), None, UNDECIDED),
    ],
)
def test_the_same_layer_must_harm_every_text_of_at_least_two(on_a, on_b, verdict):
    def rows(text, ends):
        return [baseline(text), *two(*ends, text=text)]

    both = rows("a", on_a) + (rows("b", on_b) if on_b else [])
    assert finding("anti_layers_exist", both, papers_model=False, depth=4).verdict == verdict
    found = finding("anti_layers_exist", both, papers_model=False, depth=6)
    assert found.verdict == (UNDECIDED if verdict == FAILS else verdict)
    assert found.reason.endswith("L4 was not measured")


def test_one_of_many_layers_is_better_by_chance():
    def rows(text, count):
        lucky = cell(1, -3.0, -2.0, -0.01, text=text)
        # Its mean is four standard errors below 0: with eight documents that is beyond Student's
        # quantile at 1 - 0.05 / 2, which is 2.8, and not at 1 - 0.05 / 50, which is 5.4.
        shares = (0.34, 1.66) * 4
        lucky["unit_nll"] = [10 * (3.0 - 0.02 * share) for share in shares]
        lucky["nll"] = sum(lucky["unit_nll"])
        others = [cell(layer, 5.0, 6.0, 7.0, text=text) for layer in range(2, count + 1)]
        return [baseline(text), lucky, *others]

    for count, verdict in ((2, HOLDS), (50, UNDECIDED)):
        both = rows("a", count) + rows("b", count)
        found = finding("anti_layers_exist", both, papers_model=False, depth=count + 2)
        assert found.verdict == verdict


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((-9.0, -5.0, -1.0), HOLDS),
        ((561.0, 600.0, 700.0), FAILS),
        ((-1.0, 0.0, 1.0), UNDECIDED),
        ((None, None, None), FAILS),
    ],
)
def test_random_weights_are_the_matched_noise(interval, verdict):
    rows = named((14, 17), *interval, intervention="matched_noise") + named((14, 17), 1.0, 2.0, 3.0)
    found = finding("random_weights_better", rows)
    assert found.verdict == verdict
    assert found.null.startswith("neighbour mean instead: L14 +2.0 %")


@pytest.mark.parametrize(
    ("own", "rival", "verdict"),
    [(900.0, 800.0, HOLDS), (800.0, 900.0, FAILS), (850.0, 850.0, UNDECIDED)],
)
def test_the_most_important_layer_is_compared_with_the_next_by_pairs(own, rival, verdict):
    rows = [cell(layer, 1.0, 2.0, 3.0) for layer in range(1, 29) if layer not in (10, 11)]
    rows += [cell(10, 1.0, rival, 9e3), cell(11, 1.0, own, 9e3)]
    found = finding("most_important_layer", rows)
    assert found.verdict == verdict
    assert "next L10" in found.measured
    found = finding("most_important_layer", rows[1:])
    assert found.verdict == (UNDECIDED if verdict == HOLDS else verdict)
    assert found.reason.endswith("L1 was not measured")

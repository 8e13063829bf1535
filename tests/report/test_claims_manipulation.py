"""Rules about whole sets of layers, by literal figures."""

import itertools
import math

import pytest
from report.claim_rows import ALPHAS, REPLACED, finding, scale, table4, trial

from jaxanatomy.papers import is_near
from jaxanatomy.report.claims import manipulation
from jaxanatomy.report.manipulation import words

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"


NINE = (0, 3, 5, 6, 12, 14, 17, 19, 29)


def without(rows, strategy, alpha=None):
    return [row for row in rows if (row["strategy"], row["alpha"]) != (strategy, alpha)]


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
    rows = without(table4((500.0, 600.0, 700.0), name), "clone")
    rows += [scale(0.9, *gentle, name), trial("clone", *other, name)]
    rows += [trial("low_rank", None, None, None, name, rank=16)]
    # Not among the paper's strategies, so they may be viable.
    rows += [scale(0.95, 1.0, 2.0, 3.0, name), trial("own_svd", 1.0, 2.0, 3.0, name, rank=64)]
    assert finding(f"only_scaling_viable_{name}", rows).verdict == verdict


@pytest.mark.parametrize(
    ("strategy", "alpha", "words"),
    [
        *((name, None, name) for name in (*REPLACED, "low_rank")),
        *(("scale", alpha, f"scale {alpha}") for alpha in (*ALPHAS, 0.9)),
    ],
)
def test_each_strategy_of_table_4_must_be_there(strategy, alpha, words):
    rows = [scale(0.9, 20.0, 30.0, 99.9, "measured"), *table4((1e5, 2e5, 3e5), "measured")]
    # Another rank does not stand for the paper's.
    some = [*without(rows, strategy, alpha), trial("low_rank", 1e5, 2e5, 3e5, "measured", rank=16)]
    found = finding("only_scaling_viable_measured", some, papers_model=False)
    assert found.verdict == UNDECIDED
    assert found.reason.endswith(f"; {words} was not measured")
    viable = trial("zero", 1.0, 2.0, 3.0, "measured")
    found = finding("only_scaling_viable_measured", [*some, viable], papers_model=False)
    assert found.verdict == FAILS
    found = finding("replacement_destroys_measured", some, papers_model=False)
    assert found.verdict == (HOLDS if strategy == "scale" else UNDECIDED)


def test_a_strategy_that_cannot_be_made_is_not_missed():
    rows = without(table4((1e5, 2e5, 3e5), "measured"), "blend_4")
    for depth, verdict in ((5, HOLDS), (6, UNDECIDED), (0, UNDECIDED)):
        found = finding("replacement_destroys_measured", rows, papers_model=False, depth=depth)
        assert found.verdict == verdict


def test_gentle_scaling_that_destroys_settles_it_alone():
    rows = [scale(0.9, 100.0, 130.0, 150.0, "measured")]
    found = finding("only_scaling_viable_measured", rows, papers_model=False)
    assert (found.verdict, found.measured) == (FAILS, "scale 0.9 +130.0 % [+100.0, +150.0]")


def test_the_measured_set_is_there_on_every_model_and_the_papers_is_not():
    rows = [scale(0.9, 1.0, 2.0, 3.0, "measured"), trial("zero", 1.0, 2.0, 3.0, "measured")]
    found = finding("only_scaling_viable_measured", rows, papers_model=False)
    assert found.verdict == FAILS
    assert found.reason.startswith("viable beside it: zero of 1 strategies; clone, clone_high, ")
    found = finding("only_scaling_viable_paper", rows, papers_model=False)
    assert found.reason.startswith("another architecture")


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((19.0, 30.0, 49.0), HOLDS),
        ((18.9, 30.0, 49.0), UNDECIDED),
        ((19.0, 30.0, 49.1), UNDECIDED),
        ((10.0, 15.0, 18.9), FAILS),
        ((49.1, 60.0, 70.0), FAILS),
        ((None, None, None), FAILS),
        ((None, 30.0, None), UNDECIDED),
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
    rows = [scale(alpha, 5e3, 6e3, 7e3) for alpha in ALPHAS[:-1]]
    rows += [scale(0.7, *mild), scale(0.7, 9e9, 9e9, 9e9, "paper")]
    found = finding("scaling_collapses", rows)
    assert found.verdict == verdict
    assert found.reason.endswith("monotone in alpha")
    assert found.null == "with them: ×0.7 +9.0e9 %"
    found = finding("scaling_collapses", rows[1:])
    assert found.verdict == (UNDECIDED if verdict == HOLDS else verdict)
    assert found.reason.endswith("; scale 0.0 was not measured")


def test_a_curve_that_is_not_monotone_is_called_so():
    rows = [scale(0.7, 5e3, 6e3, 7e3), scale(0.0, 1e3, 2e3, 3e3)]
    assert "not monotone in alpha" in finding("scaling_collapses", rows).reason


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
    rows = without(table4((1e5, 2e5, 3e5), name), "blend_4")
    rows += [trial("blend_4", *ends, name), trial("zero", None, None, None, name)]
    rows.append(scale(0.95, 1.0, 2.0, 3.0, name))
    assert finding(f"replacement_destroys_{name}", rows).verdict == verdict


def pair(strategy, ratio, layers):
    """The perplexity is so many times the baseline's."""
    name, value = f"pair_{layers[0]}_{layers[1]}", ratio and 100 * (ratio - 1)
    dose = {"rank": "full"} if strategy == "low_rank" else {}
    return trial(strategy, value and value - 1, value, value and value + 1, name, layers, **dose)


PRINTED = {"zero": 969_198, "clone": 545_654, "low_rank": 891_155, "blend_2": 31_333}
RATIOS = {strategy: ppl / 22.6 for strategy, ppl in PRINTED.items()}
PAIRS = list(itertools.combinations(NINE, 2))


def other_pairs(strategy, ratio=1.5):
    return [pair(strategy, ratio, layers) for layers in PAIRS if layers != (0, 29)]


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.101, HOLDS), (9.99, HOLDS), (0.099, FAILS), (10.1, FAILS)]
)
@pytest.mark.parametrize("strategy", PRINTED)
def test_some_pair_must_come_within_a_factor_of_ten(strategy, factor, verdict):
    rows = [pair(name, ratio, (0, 29)) for name, ratio in RATIOS.items() if name != strategy]
    rows += [pair(strategy, factor * RATIOS[strategy], (0, 29)), *other_pairs(strategy)]
    rows.append(pair("own_svd", 1.0, (3, 5)))
    found = finding("pairs_destroy", rows)
    assert found.verdict == verdict
    missed = "none" if verdict == HOLDS else strategy
    assert found.reason == f"no pair comes near for: {missed}"
    assert found.null.startswith(f"worst without layers 0 and 29: {strategy} of L3 and L5")


def test_a_pair_that_is_not_finite_is_near_to_nothing():
    rows = [pair(name, ratio, (0, 29)) for name, ratio in RATIOS.items()]
    rows[0] = pair("zero", None, (0, 29))
    assert finding("pairs_destroy", rows + other_pairs("zero")).verdict == FAILS


def test_a_pair_that_was_not_measured_may_come_near():
    rows = [pair(name, ratio, (0, 29)) for name, ratio in RATIOS.items()]
    found = finding("pairs_destroy", [*rows[1:], *other_pairs("zero")])
    assert found.verdict == UNDECIDED
    assert found.reason == "no pair comes near for: none; zero of 1 pair was not measured"
    found = finding("pairs_destroy", [*rows[1:], pair("zero", 1.5, (3, 5))])
    assert found.reason.endswith("; zero of 35 pairs was not measured")
    assert finding("pairs_destroy", [scale(0.9, 1, 2, 3)]).reason.startswith("not measured")


def test_the_report_of_the_run_calls_the_same_pairs_near():
    assert words.is_near is manipulation.is_near
    # Ten times the baseline is near to what is once to a hundred times its own.
    near = [is_near(value, 900.0) for value in (0.1, -0.1, 9_899.0, 9_901.0, math.inf)]
    assert near == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((-9.0, -5.0, -0.1), HOLDS),
        ((0.0, 5.0, 9.0), FAILS),
        ((-9.0, 1.0, 9.0), UNDECIDED),
        ((None, None, None), FAILS),
    ],
)
def test_pruning_both_anti_layers(ends, verdict):
    assert finding("prune_anti_layers", [trial("zero", *ends, "pair_14_17")]).verdict == verdict

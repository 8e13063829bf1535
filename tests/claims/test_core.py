"""Claims on rows: parts and texts, what is missing and why, and the four verdicts."""

import math

import numpy as np
import pytest
from claims.worlds import Maker, record

from jaxanatomy.claims.core import (
    FAILS,
    HOLDS,
    UNDECIDED,
    UNMEASURED,
    Claim,
    Criterion,
    Finding,
    combine,
)
from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.claims.quantities import (
    degradation,
    largest_ratio,
    of_partners,
    printed,
    rank_correlation,
)
from jaxanatomy.claims.rows import MissingError, Part, Rows, inner_layers
from jaxanatomy.claims.rules import ALL, ANY
from jaxanatomy.measures.statistics.estimates import Estimate, paired_difference, spearman_interval
from jaxanatomy.records import RunRecord

ROWS = Rows("importance").where(intervention="zero")


def run(effects, text="a", noise=0.01, more=()):
    """A run of layers with these effects in nats, and its rows by layer."""
    maker = Maker(np.random.default_rng(0), text)
    rows = {layer: maker.row(effect, noise, layer=layer) for layer, effect in effects.items()}
    rows = {layer: row | {"intervention": "zero"} for layer, row in rows.items()}
    return record([maker.baseline(), *rows.values(), *more]), rows


def claim_of(*tests, **more):
    return Claim("c", "AH", "it is so", "1", tests, **more)


def find(claim, made=None):
    return claim.finding(Evidence({"importance": made} if made else {}), 0.05)


def test_a_degradation_is_the_paired_difference_to_the_baseline():
    made, rows = run({3: 0.2})
    table = ROWS.tables(made)[0]
    found = degradation().of(Part({"layer": 3}, [rows[3]], table), 0.9)
    assert found == paired_difference(rows[3], table.baseline, 0.9).degradation_percent()


def test_the_rows_to_compare_with_have_the_same_key_and_other_fields():
    made, rows = run({3: 0.2, 4: 0.7})
    made.rows.extend({**row, "intervention": "copy", "layer": 7 - at} for at, row in rows.items())
    table = ROWS.tables(made)[0]
    part = Part({"layer": 3}, [rows[3]], table)
    copied = ROWS.where(intervention="copy")
    expected = paired_difference(rows[3], rows[4], 0.9).degradation_percent()
    assert degradation(copied, "copies").of(part, 0.9) == expected
    other = paired_difference(rows[4], table.baseline, 0.9).degradation_percent()
    assert of_partners(copied, degradation()).of(part, 0.9) == other
    with pytest.raises(MissingError, match="none was not measured"):
        degradation(ROWS.where(intervention="none"), "none").of(part, 0.9)


def test_what_is_not_finite_is_worse_than_all_that_is():
    made, rows = run({3: 0.2, 4: 0.1})
    rows[4] |= {"nll": None, "unit_nll": [None] * len(rows[4]["unit_nll"])}
    made = record([made.rows[0], *rows.values()])
    assert find(
        claim_of(Criterion(ROWS.at(layer=(4,)), degradation(), ALL.above(1e9)))
    ).verdict == (UNMEASURED)
    found = find(claim_of(Criterion(ROWS.at(layer=(4,)), degradation(), ALL.above(1e9))), made)
    assert (found.verdict, found.measured) == (HOLDS, "L4 not finite")
    less = degradation(ROWS.where(layer=4), "layer 4")
    assert (
        find(claim_of(Criterion(ROWS.at(layer=(3,)), less, ALL.below(0.0))), made).verdict == HOLDS
    )


def test_draws_are_a_source_of_spread_and_too_few_are_named():
    made, rows = run({3: 0.2})
    again = [
        {**rows[3], "draw": at, "unit_nll": [n + 20 * s for n in rows[3]["unit_nll"]]}
        for at, s in enumerate((-0.3, 0.0, 0.3))
    ]
    test = Criterion(ROWS.at(layer=(3,)).drawn(2), degradation(), ALL.above(0.0))
    assert find(claim_of(test), made).reason.startswith("drawn fewer than 2 times")
    made = record([made.rows[0], *again])
    assert find(claim_of(test), made).verdict == UNDECIDED
    once = Criterion(ROWS.where(draw=1).at(layer=(3,)), degradation(), ALL.above(0.0))
    assert find(claim_of(once), made).verdict == HOLDS


@pytest.mark.parametrize(
    ("effects", "verdict", "words"),
    [
        ({1: 0.5, 2: 0.5}, HOLDS, "settled so: L1, L2; intervals at 95 %"),
        ({1: 0.5, 2: -0.5}, FAILS, "settled so: L1; settled otherwise: L2; intervals at 95 %"),
        ({1: 0.5}, UNDECIDED, "settled so: L1; not measured: L2 (no rows); intervals at 95 %"),
        ({2: -0.5}, FAILS, "settled otherwise: L2; not measured: L1 (no rows); intervals at 95 %"),
        ({5: 0.5}, UNMEASURED, "no rows"),
    ],
)
def test_what_is_missing_is_named_and_decides_nothing(effects, verdict, words):
    made, _ = run(effects)
    found = find(claim_of(Criterion(ROWS.at(layer=(1, 2)), degradation(), ALL.above(1.0))), made)
    assert (found.verdict, found.reason) == (verdict, words)


def test_a_claim_of_another_model_or_without_its_run_is_not_measured():
    made, _ = run({1: 0.5})
    test = Criterion(ROWS.at(layer=(1,)), degradation(), ALL.above(1.0))
    assert find(claim_of(test)).reason == "needs a run of importance"
    other = RunRecord("r", made.rows, {}, {"model": "m", "architecture": {"layers": [1]}}, {})
    found = find(claim_of(test, papers_model=True), other)
    assert (found.verdict, found.reason[:21]) == (UNMEASURED, "another architecture:")
    assert find(claim_of(test, papers_model=True), made).verdict == HOLDS


def test_both_halves_of_a_claim_must_hold():
    made, _ = run({1: 0.5, 2: 0.5})
    high = Criterion(ROWS.at(layer=(1,)), degradation(), ALL.above(1.0))
    low = Criterion(ROWS.at(layer=(2,)), degradation(), ALL.below(1.0))
    lacking = Criterion(ROWS.at(layer=(9,)), degradation(), ALL.above(1.0))
    assert find(claim_of(high, high), made).verdict == HOLDS
    assert find(claim_of(high, low), made).verdict == FAILS
    assert find(claim_of(high, lacking), made).verdict == UNDECIDED
    assert find(claim_of(lacking, lacking), made).verdict == UNMEASURED


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ((HOLDS,), HOLDS),
        ((HOLDS, HOLDS), HOLDS),
        ((HOLDS, UNDECIDED), HOLDS),
        ((FAILS, UNDECIDED), FAILS),
        ((HOLDS, FAILS), UNDECIDED),
        ((UNDECIDED, UNDECIDED), UNDECIDED),
    ],
)
def test_texts_must_not_contradict_each_other(verdicts, verdict):
    findings = {
        f"t{at}": Finding(each, "1", "", "why", f"t{at}") for at, each in enumerate(verdicts)
    }
    found = combine(findings)
    assert (found.verdict, found.text) == (verdict, ", ".join(findings))


def two_texts(first, second):
    return record([*run(first, "a")[0].rows, *run(second, "b")[0].rows])


def test_a_claim_about_every_text_needs_all_of_them():
    test = Criterion(ROWS.at(layer=(1, 2)), degradation(), ANY.below(0.0), everywhere=2)
    better, worse = {1: -0.5, 2: 0.5}, {1: 0.5, 2: -0.5}
    assert find(claim_of(test), two_texts(better, better)).verdict == HOLDS
    assert find(claim_of(test), two_texts(better, worse)).verdict == FAILS
    found = find(claim_of(test), run(better)[0])
    assert (found.verdict, found.reason) == (UNMEASURED, "needs 2 texts, 1 there")


@pytest.mark.parametrize(
    ("ends", "low", "high"),
    [
        ([(10, 20), (1, 2)], 5.0, 20.0),
        ([(10, 20), (-1, 2)], 5.0, math.inf),
        ([(-1, 20), (-1, 2)], -0.5, math.inf),
        ([(10, 20), (-4, -2)], 2.5, 10.0),
        ([(1, 2), (-4, -2)], 0.5, 2.0),
    ],
)
def test_bounds_of_a_ratio_whose_denominator_may_be_0(ends, low, high):
    estimates = [Estimate(sum(each) / 2, *each) for each in ends]
    found = largest_ratio(degradation()).of([None, None], lambda level: estimates, 0.95)
    assert (found.low, found.high) == (low, high)


def test_a_rank_correlation_is_that_of_the_values():
    made, _ = run({layer: 0.1 * layer**2 % 0.7 for layer in range(1, 29)})
    reference = {layer: (layer * 7) % 29 for layer in range(30)}
    ranked = rank_correlation(degradation(), printed(reference), "another")
    test = Criterion(ROWS.at(layer=inner_layers), ranked, ALL.above(0.5))
    found = find(claim_of(test), made)
    table = ROWS.tables(made)[0]
    values = [
        paired_difference(table.find({"layer": layer})[0], table.baseline).value
        for layer in range(1, 29)
    ]
    expected = spearman_interval(values, [reference[layer] for layer in range(1, 29)])
    words = f"[{expected.low:.2f}, {expected.high:.2f}]".replace("-", "−")
    assert found.measured.endswith(words)


def test_the_rule_is_said_in_words():
    test = Criterion(ROWS.at(layer=(1,)), degradation(), ANY.below(10.0), everywhere=2)
    assert test.words == (
        "The whole interval of the change of perplexity against the unedited model lies below 10 % "
        "in at least one, on every one of at least 2 texts."
    )


def test_an_order_beside_rows_that_are_missing_is_not_measured():
    """Also where noise has no order: the control decides nothing before it is there."""
    made, _ = run(dict.fromkeys(range(1, 29), 0.0))
    other = of_partners(ROWS.where(intervention="copy"), degradation())
    ranked = rank_correlation(degradation(), other, "another")
    test = Criterion(ROWS.at(layer=inner_layers), ranked, ALL.above(0.5))
    assert find(claim_of(test), made).verdict == UNMEASURED

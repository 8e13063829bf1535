"""The claim about depth scores where untrained draws are few, or far apart."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from claims.worlds import BY_ID, evidence
from claims.worlds_depth_use import trained

from jaxanatomy.claims.audit import error_of
from jaxanatomy.claims.core import FAILS, HOLDS, UNMEASURED
from jaxanatomy.claims.depth_use import MARGIN, SHOWN, _largest_deviation
from jaxanatomy.claims.evidence import Evidence

CLAIM = BY_ID["late_layers_do_less_for_later_tokens"]


def test_the_bound_of_a_deviation_holds_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [_largest_deviation(rng.normal(size=3)) for _ in range(2000)]
    assert np.mean(np.array(found) >= 1) == pytest.approx(SHOWN, abs=0.015)


@pytest.mark.parametrize("below", [4 * MARGIN, -4 * MARGIN])
def test_untrained_draws_that_differ_more_than_the_margin_decide_nothing(below):
    """Their standard deviation is 7 % of the depth: five of 100 runs decide at most."""
    runs = [evidence(CLAIM, trained(below, apart=1.0), seed) for seed in range(100)]
    found = Counter(CLAIM.finding(each, error_of(CLAIM)).verdict for each in runs)
    assert found[HOLDS] + found[FAILS] <= 5, found


def test_one_untrained_draw_does_not_say_how_far_draws_differ():
    made = evidence(CLAIM, trained(4 * MARGIN), 0)
    assert CLAIM.finding(made, 0.05).verdict == HOLDS
    (record,) = made.records.values()
    rows = [row for row in record.rows if "#" not in row["model"]]
    alone = Evidence({"depth_use": dataclasses.replace(record, rows=rows)})
    found = CLAIM.finding(alone, 0.05)
    assert found.verdict == UNMEASURED
    assert "1 untrained draws where the rule needs 2" in found.reason


def test_a_model_of_one_layer_has_no_depth_to_compare():
    made = evidence(CLAIM, trained(4 * MARGIN), 0)
    (record,) = made.records.values()
    shape = record.provenance["architecture"]
    one = {"architecture": {**shape, "layers": shape["layers"][:1]}}
    rows = [row for row in record.rows if row["source"] == 0]
    kept = dataclasses.replace(record, rows=rows, provenance=record.provenance | one)
    found = CLAIM.finding(Evidence({"depth_use": kept}), 0.05)
    assert found.verdict == UNMEASURED
    assert "1 layers where the rule needs 2" in found.reason

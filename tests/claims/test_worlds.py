"""Every rule tried on two worlds: one in which its claim is true, one in which nothing happens."""

import dataclasses
from collections import Counter

import pytest
from claims import (  # noqa: F401  enter worlds
    worlds_alarms,
    worlds_depth,
    worlds_depth_use,
    worlds_importance,
    worlds_khop,
    worlds_role_courses,
    worlds_role_moves,
    worlds_role_shape,
    worlds_roles,
    worlds_training,
    worlds_weights,
)
from claims.worlds import BY_ID, WORLDS, evidence

from jaxanatomy.claims.audit import error_of
from jaxanatomy.claims.core import FAILS, HOLDS, UNDECIDED, UNMEASURED, VERDICTS
from jaxanatomy.claims.evidence import Evidence

FEW, MANY = 4, 200


def verdicts(id, make, draws):
    claim = BY_ID[id]
    error = error_of(claim)
    return Counter(
        claim.finding(evidence(claim, make, seed), error).verdict for seed in range(draws)
    )


def check(id, draws):
    """Holds in 90 of 100 where it is true; where nothing happens noise decides 5 of 100 at most."""
    worlds = WORLDS[id]
    true, nothing = (verdicts(id, make, draws) for make in (worlds.true, worlds.nothing))
    few = draws < MANY  # one draw more or less than the rates allow
    assert true[HOLDS] >= 0.9 * draws - few, true
    assert nothing[HOLDS] <= 0.05 * draws + few, nothing
    assert worlds.is_false or nothing[FAILS] <= 0.05 * draws + few, nothing


def test_every_claim_has_two_worlds():
    assert WORLDS.keys() == BY_ID.keys()


@pytest.mark.parametrize("id", sorted(WORLDS))
def test_a_rule_holds_where_its_claim_is_true_and_not_where_nothing_happens(id):
    check(id, FEW)


LOST = {
    "the end": lambda rows: rows[: len(rows) // 2],
    "every other row": lambda rows: rows[1::2],
    "the baseline": lambda rows: [row for row in rows if row.get("variant") != "baseline"],
    "the first step": lambda rows: [row for row in rows if row.get("step") != 0],
    "finite losses": lambda rows: [
        _without_losses(row) if "unit_nll" in row and at % 3 == 1 else row
        for at, row in enumerate(rows)
    ],
}


def _without_losses(row):
    return {**row, "nll": None, "unit_nll": [None] * len(row["unit_nll"])}


@pytest.mark.parametrize("id", sorted(WORLDS))
def test_whatever_a_run_lacks_its_claims_have_verdicts(id):
    records = evidence(BY_ID[id], WORLDS[id].true, 0).records
    for name, record in records.items():
        for lost, keep in LOST.items():
            kept = {**records, name: dataclasses.replace(record, rows=keep(record.rows))}
            verdict = BY_ID[id].finding(Evidence(kept), 0.05).verdict
            assert verdict in VERDICTS, (name, lost)


@pytest.mark.worlds
@pytest.mark.parametrize("id", sorted(WORLDS))
def test_noise_meets_no_rule_in_many_draws(id):
    check(id, MANY)


def test_an_improvement_decides_nothing_before_its_temperature_is_fitted():
    claim = BY_ID["improvement_beyond_temperature"]
    made = evidence(claim, WORLDS[claim.id].true, 0)
    assert claim.finding(made, 0.05).verdict == HOLDS
    started = dataclasses.replace(made.records["manipulation"], summary={})
    found = claim.finding(Evidence({"manipulation": started}), 0.05)
    assert found.verdict == UNDECIDED
    assert "not measured: v0" in found.reason


def test_a_curve_without_its_start_says_nothing_about_noise_without_training():
    claim = BY_ID["noise_improves_anti_layers"]
    run = evidence(claim, WORLDS[claim.id].true, 0).records["recovery"]
    rows = [row for row in run.rows if row.get("step") != 0]
    kept = Evidence({"recovery": dataclasses.replace(run, rows=rows)})
    assert claim.finding(kept, 0.05).verdict == UNMEASURED

"""Claims on losses of trained arms decide nothing where a learning rate was not tuned."""

import dataclasses

import pytest
from claims.worlds import BY_ID, WORLDS, evidence
from claims.worlds_training import RATES

from jaxanatomy.claims.core import HOLDS, UNMEASURED
from jaxanatomy.claims.evidence import Evidence

ARMS = {
    "growth_wins": "growth_100",
    "half_budget_wins_by_far": "growth_50",
    "midas_matches_loss": "midas",
    "lidas_less_loss_than_midas": "lidas",
}


def finding(id, is_kept):
    """Of the world in which the claim is true, from the rows that are kept."""
    records = evidence(BY_ID[id], WORLDS[id].true, 0).records
    kept = {
        name: dataclasses.replace(record, rows=[row for row in record.rows if is_kept(row)])
        for name, record in records.items()
    }
    return BY_ID[id].finding(Evidence(kept), 0.05)


@pytest.mark.parametrize("id", ARMS)
def test_a_rate_at_the_edge_or_not_tuned_decides_nothing(id):
    assert finding(id, lambda row: True).verdict == HOLDS

    def of_arm(row):
        return row["purpose"] == "tuning" and row["arm"] == ARMS[id]

    found = finding(id, lambda row: not (of_arm(row) and row["learning_rate"] == RATES[0]))
    edge = f"the learning rate of {ARMS[id]} is at the edge of those that were tried"
    assert (found.verdict, found.reason) == (UNMEASURED, edge)
    found = finding(id, lambda row: not of_arm(row))
    untuned = f"no learning rate was tuned for {ARMS[id]}"
    assert (found.verdict, found.reason) == (UNMEASURED, untuned)

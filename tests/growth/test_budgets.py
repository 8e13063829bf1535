"""Budgets from recovery, in literal figures."""

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.growth.budgets import budget, recovery_shares
from jaxanatomy.papers import paper_table


def final(layer, step, noise=True):
    return {"layer": layer, "noise": noise, "steps_to_control": {"2": 0, "1.1": step}}


def test_a_share_is_the_step_over_all_steps_and_one_where_it_never_recovers():
    finals = [final(3, 50), final(3, None), final(1, 0), final(7, None), final(8, 10, False)]
    shares = recovery_shares(finals, "1.1", 200)
    assert shares == {1: 0.0, 3: 0.625, 7: 1.0}
    assert list(shares) == [1, 3, 7]
    alone = {"layer": 9, "noise": True, "steps_to_control": None}  # trained without a control
    assert recovery_shares([*finals, alone], "1.1", 200) == shares
    assert recovery_shares(finals, "2", 200) == {1: 0.0, 3: 0.0, 7: 0.0}


def test_bad_input():
    with pytest.raises(InputError, match=r"are 2, 1\.1; got '1\.2'"):
        recovery_shares([final(0, 1)], "1.2", 10)
    with pytest.raises(InputError, match="steps must be a whole number, 1 or above; got 0"):
        recovery_shares([], "1.1", 0)


def test_totals_beside_published_groups():
    groups = [
        {"group": "a", "layers": [0, 1], "low": 0.0, "high": 0.5},
        {"group": "b", "layers": [2, 9], "low": 1.0, "high": 1.0},
    ]
    found = budget({0: 0.25, 1: 0.75, 2: 0.5, 4: 1.0}, groups, 200)
    assert found == {
        "layers": 4,
        "uniform": 800,
        "ours": 500.0,
        "saved_percent": 37.5,
        "published_low": 200.0,
        "published_high": 400.0,
        "published_saved_percent": 50.0,
        "groups": [
            {"group": "a", "layers": [0, 1], "ours": 0.5, "low": 0.0, "high": 0.5},
            {"group": "b", "layers": [2], "ours": 0.5, "low": 1.0, "high": 1.0},
        ],
        "ungrouped": [4],
    }


def test_the_groups_of_the_paper_hold_every_layer_once():
    table = paper_table("table10_budget")
    layers = sorted(layer for group in table["groups"] for layer in group["layers"])
    assert layers == list(range(30))
    found = budget(dict.fromkeys(range(30), 1.0), table["groups"], table["steps_per_layer"])
    assert (found["uniform"], found["ours"], found["saved_percent"]) == (6000, 6000.0, 0.0)
    assert found["published_low"] <= table["total_growth"] <= found["published_high"]


def test_nothing_measured_saves_nothing():
    found = budget({}, paper_table("table10_budget")["groups"], 200)
    assert (found["layers"], found["saved_percent"]) == (0, None)

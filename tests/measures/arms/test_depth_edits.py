"""What edits cost, of literal rows: shares of what is known, nats on text, reversals by place."""

import math

import pytest

from jaxanatomy.measures.arms import computed_depth
from jaxanatomy.measures.arms.depth_edits import (
    ACROSS,
    COSTS,
    LATE,
    PAIRS,
    is_reversal,
    loop_changes,
    summarise_edits,
)
from jaxanatomy.measures.arms.finals import finals_by_arm


def edit(kind, layers, rise=0.0, name="", **more):
    """Of a text model whose loss on the rows of edits is 2."""
    scores = {"accuracy": 0.5, "agreement": 0.75, "overlap": 0.25, "whole_nll": 2.0}
    nll = None if rise is None else 2.0 + rise
    return {"kind": kind, "name": name, "layers": [*layers], "eval_nll": nll, **scores, **more}


def rows_of(*edited, layers=6):
    """A final row of each seed of the baseline, whose loss on all held-out text is 3."""
    return [
        {"kind": "final", "purpose": "main", "arm": "baseline", "seed": seed, "reason": ""}
        | {"layers": layers, "eval_nll": 3.0, "edited": own}
        for seed, own in enumerate(edited)
    ]


def cost(name, *edited, layers=6):
    return COSTS[name](finals_by_arm(rows_of(*edited, layers=layers))).get("baseline", {})


@pytest.mark.parametrize(
    ("block", "inside", "at_first"),
    [(2, [1, 3, 5], [2, 4]), (3, [1, 2, 4, 5], [3]), (1, [], [1, 2, 3, 4, 5])],
)
def test_reversals_begin_inside_a_block_or_at_its_first_layer_but_never_at_the_models(
    block, inside, at_first
):
    reversals = [edit("reverse", range(first, first + 2 * block)) for first in range(6)]
    swap = edit("swap", range(1, 1 + 2 * block))
    found = [
        [each["layers"][0] for each in (*reversals, swap) if is_reversal(each, 12, inside=side)]
        for side in (True, False)
    ]
    assert found == [inside, at_first]


def test_an_edit_of_a_text_model_costs_nats_on_average():
    cuts = [edit("cut", [layer], rise) for layer, rise in enumerate((9, 9, 9, 0.1, 0.2, 0.6))]
    swaps = [edit("swap", range(at, at + 4), rise) for at, rise in enumerate((9, 0.5, 1.5))]
    single = edit("swap", [3, 4], 9)
    assert cost(LATE, [*cuts, *swaps])[0] == pytest.approx(0.3)
    assert cost(PAIRS, [*cuts, *swaps, single])[0] == pytest.approx(1.0)


def test_reversals_inside_blocks_are_held_against_those_at_their_first_layers():
    rises = (9, 0.5, 0.25, 0.75, 0.125)  # of reversals from layers 0 to 4 on
    reversals = [edit("reverse", range(at, at + 4), rise) for at, rise in enumerate(rises)]
    assert cost(ACROSS, reversals, layers=8) == {0: pytest.approx(0.625 - 0.1875)}
    # Only where both are: of five layers the second reversal begins inside, and none later.
    assert cost(ACROSS, reversals[:2], layers=5) == {}


def test_a_seed_whose_loss_is_not_finite_has_no_cost():
    broken = [edit("cut", [4], None), edit("cut", [5], 0.5)]
    assert cost(LATE, broken, [edit("cut", [5], 0.5)]) == {1: 0.5}
    (own,) = summarise_edits(finals_by_arm(rows_of(broken[:1])))["baseline"]
    assert own["rise"]["mean"] is None


def test_loops_are_held_against_the_whole_model_on_the_same_rows():
    found = loop_changes(finals_by_arm(rows_of([edit("loop", [2, 3], 2.0, "once")])), "once")
    assert found == {"baseline": {0: pytest.approx(math.log(4 / 2))}}
    lost = edit("loop", [2, 3], 2.0, "once", whole_nll=None)
    assert loop_changes(finals_by_arm(rows_of([lost])), "once") == {}


def test_edits_of_text_are_means_over_seeds_with_their_range():
    first, second = (
        [edit("exit", [2], rise, overlap=share)] for rise, share in ((1, 0.5), (2, 0.75))
    )
    (own,) = summarise_edits(finals_by_arm(rows_of(first, second)))["baseline"]
    assert own["rise"] == {"mean": 1.5, "low": 1.0, "high": 2.0}
    assert own["overlap"] == {"mean": 0.625, "low": 0.5, "high": 0.75}
    assert own["accuracy"] == {"mean": 0.5, "low": 0.5, "high": 0.5}


def test_late_exits_have_agreement_and_on_text_overlap():
    exits = [edit("exit", [at], agreement=at / 10, overlap=at / 20) for at in range(5)]
    found = computed_depth.depth_readings(finals_by_arm(rows_of(exits)))
    assert found[computed_depth.EXITS] == {"baseline": {0: pytest.approx(0.35)}}
    assert found[computed_depth.OVERLAP] == {"baseline": {0: pytest.approx(0.175)}}

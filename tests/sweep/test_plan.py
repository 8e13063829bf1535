"""The plan interns steps: shared prefixes, equal gates, equal reads."""

import pytest
from naive import CONFIG, average, double, edited, replaced

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import (
    FIRST,
    Positions,
    Step,
    Tap,
    Variant,
    baseline,
    baseline_steps,
    up_to,
)
from jaxanatomy.sweep.plan import OPEN, Apply, Mix, Plan

L = CONFIG.num_layers
BASE = baseline_steps(L)


def plan(*variants: Variant) -> Plan:
    return Plan(CONFIG, variants, ["nll"])


def test_one_edit_per_layer_needs_a_triangle_of_applications():
    variants = [Variant(f"v/{i}", replaced(BASE, edited(i, double, ()))) for i in range(L)]
    # Edits share the clean prefix, L - 1 applications; each then runs L - l of its own.
    assert plan(*variants).applications == L * (L + 1) // 2 + L - 1
    assert plan(baseline(L), *variants).applications == L * (L + 1) // 2 + L


def test_equal_variants_share_everything_and_are_read_once():
    shared = plan(Variant("a", BASE), Variant("b", BASE))
    assert shared.applications == L
    assert len(shared.reads) == 1
    assert shared.outputs == {"a": {"nll": 0}, "b": {"nll": 0}}


def test_edit_at_some_positions_mixes_two_streams_of_the_same_input():
    nodes = plan(Variant("v", (Step(0), edited(1, positions=FIRST)))).nodes
    edit = edited(1).edit
    assert nodes == [
        None,
        Apply(0, 0, None, 0),
        Apply(1, 1, edit, 0),
        Apply(1, 1, None, 0),
        Mix(2, 3, 0),
    ]


def test_position_restricted_and_full_edits_share_the_edited_application():
    both = plan(
        Variant("all", replaced(BASE, edited(2))),
        Variant("first", replaced(BASE, edited(2, positions=FIRST))),
    )
    # clean prefix 2, edited 1 + 2 after it, clean at layer 2, and 2 after the mix
    assert both.applications == 2 + 3 + 1 + 2


def test_gates_are_data_and_equal_gates_are_one():
    attention = Variant("a", replaced(BASE, Step(1, closed=("attention",))))
    heads = Variant("b", replaced(BASE, Step(1, closed=("head_3", "head_1", "head_0", "head_2"))))
    both = plan(attention, heads)
    assert both.applications == L
    assert len(both.gates) == 2
    assert both.gates[0] == OPEN


def test_skipping_is_no_node_whether_dropped_or_closed():
    dropped = Variant("dropped", BASE[:2] + BASE[3:])
    closed = Variant("closed", replaced(BASE, Step(2, closed=("mlp", "attention"))))
    assert plan(dropped, closed).applications == L - 1


def test_taps_read_streams_inside_the_network_without_new_work():
    tap = Tap("contribution/1", "difference", (BASE[:1], BASE[:2]))
    tapped = plan(Variant("baseline", BASE, (tap,)))
    assert tapped.applications == L
    assert [(read.measure, read.nodes) for read in tapped.reads] == [
        ("nll", (5,)),
        ("difference", (1, 2)),
    ]


def test_a_measure_beside_the_clean_stream_shares_one_end():
    variants = [Variant(f"v/{i}", replaced(BASE, edited(i, double, ()))) for i in range(L)]
    alone, beside = (Plan(CONFIG, variants, ["nll"], names) for names in ([], ["nll"]))
    assert {read.shared for read in alone.reads} == {()}
    ((clean,),) = {read.shared for read in beside.reads}
    assert beside.nodes[clean].edit is None
    assert beside.nodes[clean].layer == L - 1
    assert beside.applications == alone.applications + 1  # the clean model's last layer


def test_flops_are_those_of_the_products_counted_by_hand():
    D, d, H, K, F, V = 16, 4, 4, 2, 24, 101
    matrices = D * H * d * 2 + D * K * d * 2 + 3 * D * F
    assert plan(baseline(L)).flops(tokens=7, predictions=3) == (
        2 * 7 * matrices * L + 2 * 3 * D * V
    )


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((Step(5),), "layers are 0 .. 4; got 5"),
        ((Step(-1),), "layers are 0 .. 4; got -1"),
        ((Step(0, closed=("head_4",)),), "'head_0' .. 'head_3'; got 'head_4'"),
        ((Step(0, closed=("atention",)),), "got 'atention'"),
    ],
)
def test_bad_steps_are_refused(steps, message):
    with pytest.raises(InputError, match=message):
        plan(Variant("v", steps))


def test_a_name_given_twice_is_refused():
    with pytest.raises(InputError, match="'v' came twice"):
        plan(Variant("v", BASE), Variant("v", replaced(BASE, edited(1, average))))


def test_positions_of_one_name_and_two_functions_are_two_masks():
    evens = Positions("mine", lambda position_RT: position_RT % 2 == 0)
    odds = Positions("mine", lambda position_RT: position_RT % 2 == 1)
    named_all = Positions("all", lambda position_RT: position_RT == 0)
    listed = [
        Variant(f"v{index}", replaced(BASE, edited(2, positions=positions)))
        for index, positions in enumerate((evens, odds, named_all, up_to(3), up_to(3)))
    ]
    both = plan(*listed)
    assert both.masks == [evens, odds, named_all, up_to(3)]
    assert len({variant.fingerprint() for variant in listed}) == 4

"""The plan interns steps: shared prefixes, equal gates, equal reads."""

import pytest
from naive import CONFIG, average, double, edited, probes, replaced

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import (
    ALL,
    FIRST,
    Combination,
    Positions,
    Step,
    Variant,
    baseline,
    baseline_steps,
    closed,
    damped,
    up_to,
)
from jaxanatomy.measures.readings.nll import LOSSES, nll
from jaxanatomy.sweep.plan import OPEN, Apply, Combine, Mixture, Plan

L = CONFIG.num_layers
BASE = baseline_steps(L)


def plan(*variants: Variant) -> Plan:
    return Plan(CONFIG, variants, probes(nll=nll))


def test_one_edit_per_layer_needs_a_triangle_of_applications():
    variants = [Variant(f"v/{i}", replaced(BASE, edited(i, double, ()))) for i in range(L)]
    # Edits share the clean prefix, L - 1 applications; each then runs L - l of its own.
    assert plan(*variants).applications == L * (L + 1) // 2 + L - 1
    assert plan(baseline(L), *variants).applications == L * (L + 1) // 2 + L


def test_equal_variants_share_everything_and_are_read_once():
    shared = plan(Variant("a", BASE), Variant("b", BASE))
    assert shared.applications == L
    assert len(shared.reads) == 1
    assert shared.outputs == {"a": [[0]], "b": [[0]]}


def test_edit_at_some_positions_mixes_two_streams_of_the_same_input():
    both = plan(Variant("v", (Step(0), edited(1, positions=FIRST))))
    edit = edited(1).edit
    assert both.mixtures == [Mixture((0.0, 1.0), FIRST)]
    assert both.nodes == [
        None,
        Apply(0, 0, None, 0),
        Apply(1, 1, edit, 0),
        Apply(1, 1, None, 0),
        Combine((3, 2), 0),
    ]


def test_position_restricted_and_full_edits_share_the_edited_application():
    both = plan(
        Variant("all", replaced(BASE, edited(2))),
        Variant("first", replaced(BASE, edited(2, positions=FIRST))),
    )
    # clean prefix 2, edited 1 + 2 after it, clean at layer 2, and 2 after the mix
    assert both.applications == 2 + 3 + 1 + 2


def test_gates_are_data_and_equal_gates_are_one():
    attention = Variant("a", replaced(BASE, Step(1, factors=closed("attention"))))
    heads = Variant(
        "b", replaced(BASE, Step(1, factors=closed("head_3", "head_1", "head_0", "head_2")))
    )
    both = plan(attention, heads)
    assert both.applications == L
    assert len(both.gates) == 2
    assert both.gates[0] == OPEN


def test_skipping_is_no_node_whether_dropped_or_closed():
    dropped = Variant("dropped", BASE[:2] + BASE[3:])
    shut = Variant("shut", replaced(BASE, Step(2, factors=closed("mlp", "attention"))))
    assert plan(dropped, shut).applications == L - 1


def test_factors_given_in_any_order_are_one_gate_and_heads_get_attentions_too():
    one = Variant("one", replaced(BASE, Step(1, factors={"mlp": 0.5, "head_1": 0.25})))
    two = Variant("two", replaced(BASE, Step(1, factors=(("head_1", 0.25), ("mlp", 0.5)))))
    both = plan(one, two)
    assert one.fingerprint() == two.fingerprint()
    assert both.applications == L
    assert [(gate.heads, gate.mlp) for gate in both.gates[1:]] == [(((1, 0.25),), 0.5)]
    damped_heads = Step(1, factors={"attention": 0.5, "head_1": 0.5})
    (_, gate) = plan(Variant("v", replaced(BASE, damped_heads))).gates
    assert gate.heads == ((0, 0.5), (1, 0.25), (2, 0.5), (3, 0.5))


def test_a_combination_adds_streams_that_are_computed_once():
    # The clean stream before layer 3, less what layer 1 wrote.
    erased = Combination(((1, BASE[:3]), (-1, BASE[:2]), (1, BASE[:1])), FIRST)
    both = plan(baseline(L), Variant("local", (erased, Step(3))))
    assert both.applications == L + 1
    assert both.nodes[-2:] == [Combine((3, 2, 1), 0), Apply(6, 3, None, 0)]
    assert both.mixtures == [Mixture((1.0, -1.0, 1.0), FIRST)]
    twice = plan(Variant("damped", (*BASE[:3], damped(BASE[1:3], 0.25), *BASE[3:])))
    assert twice.applications == L + 2
    assert twice.nodes[6] == Combine((3, 5), 0)
    assert twice.mixtures == [Mixture((0.75, 0.25), ALL)]


def test_combinations_are_part_of_the_fingerprint():
    variants = [
        Variant("v", (damped(BASE[1:2], 0.5),)),
        Variant("v", (damped(BASE[1:2], 0.25),)),
        Variant("v", (damped(BASE[2:3], 0.5),)),
        Variant("v", (Combination(damped(BASE[1:2], 0.5).terms, FIRST),)),
        Variant("v", (Combination(damped(BASE[1:2], 0.5).terms, FIRST, from_text=True),)),
        Variant("v", BASE[1:2]),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)


def test_a_measure_beside_the_clean_stream_shares_one_end():
    variants = [Variant(f"v/{i}", replaced(BASE, edited(i, double, ()))) for i in range(L)]
    alone, beside = (Plan(CONFIG, variants, probes(**each)) for each in ({"nll": nll}, LOSSES))
    assert alone.others == {}
    ((clean,),) = (nodes.values() for nodes in beside.others.values())
    assert beside.nodes[clean].edit is None
    assert beside.nodes[clean].layer == L - 1
    assert beside.applications == alone.applications + 1  # the clean model's last layer
    assert len(beside.reads) == L  # nll and kl are one evaluation


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
        (
            (Step(0, factors=closed("head_4")),),
            "'head_0' .. 'head_3'; got 'head_4' times 0.0 at layer 0",
        ),
        ((Step(0, factors=closed("atention")),), "got 'atention'"),
        ((Step(0, factors={"mlp": float("nan")}),), "finite factors .* got 'mlp' times nan"),
        ((Combination(()),), "at least one term"),
        ((damped(BASE[:1], float("inf")),), "finite coefficients; got .-inf, inf."),
    ],
)
def test_bad_steps_are_refused(steps, message):
    with pytest.raises(InputError, match=message):
        plan(Variant("v", steps))


def test_a_name_given_twice_is_refused():
    with pytest.raises(InputError, match="'v' came twice"):
        plan(Variant("v", BASE), Variant("v", replaced(BASE, edited(1, average))))


def test_positions_of_one_name_and_two_functions_are_two_masks():
    evens = Positions("mine", lambda text: text.position_RT % 2 == 0)
    odds = Positions("mine", lambda text: text.position_RT % 2 == 1)
    named_all = Positions("all", lambda text: text.position_RT == 0)
    listed = [
        Variant(f"v{index}", replaced(BASE, edited(2, positions=positions)))
        for index, positions in enumerate((evens, odds, named_all, up_to(3), up_to(3)))
    ]
    both = plan(*listed)
    assert [m.positions for m in both.mixtures] == [evens, odds, named_all, up_to(3)]
    assert len({variant.fingerprint() for variant in listed}) == 4

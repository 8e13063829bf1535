"""Schedules run every node once, never lose a live stream, and keep to the slots."""

import itertools
import random

import pytest
from naive import CONFIG, average, double, edited, probes, replaced

from jaxanatomy.interventions.variants import (
    FIRST,
    Combination,
    Step,
    Variant,
    baseline,
    baseline_steps,
    closed,
)
from jaxanatomy.measures.readings.nll import LOSSES, nll
from jaxanatomy.sweep import Beside, Reading
from jaxanatomy.sweep.options import SweepOptions
from jaxanatomy.sweep.plan import Apply, Combine, Plan, Read
from jaxanatomy.sweep.schedule import schedule, split

L = CONFIG.num_layers
BASE = baseline_steps(L)
WIDTHS = [(1,), (2, 1), (9, 2, 1), (4, 3, 1)]


def random_variants(count: int, seed: int) -> list[Variant]:
    """Edits, gates, positions, repeats, any order and any depth."""
    rng = random.Random(seed)
    variants = [baseline(L)]
    for index in range(count):
        steps = []
        for _ in range(rng.randint(1, L + 2)):
            layer = rng.randrange(L)
            positions = rng.choice([FIRST, *[edited(0).positions] * 3])
            function = rng.choice([None, None, double, average])
            factors = rng.choice([(), (), closed("mlp"), (("head_1", 0.5),)])
            step = Step(layer, factors=factors, positions=positions)
            if function:
                step = edited(layer, function, factors=factors, positions=positions)
            steps.append(step if rng.random() < 0.5 else Step(layer))
        if rng.random() < 0.3:
            third = (1 / 3, tuple(steps[:1]))
            terms = (third, (0.5, tuple(steps[1:])), (-1, ()))
            steps.append(Combination(terms, from_text=rng.random() < 0.5))
        variants.append(Variant(f"v{index}", tuple(steps)))
    return variants


def replay(plan: Plan, calls, lane: int) -> tuple[set[int], list[int]]:
    """Symbolically runs one lane: each slot holds a node; returns nodes and reads done."""
    pool, done, reads, summaries = {0: 0}, set(), [], {}
    for call in calls:
        work = call.lanes[lane]
        assert max(len(work.rows), len(work.nodes)) <= call.width
        inputs = [tuple(pool[s] for s in column) for column in zip(*work.sources, strict=True)]
        if call.kind == "summarise":
            assert call.variety not in summaries or not inputs, "a summary was made twice"
            for (node,) in inputs:
                summaries[call.variety] = node
            continue
        if call.kind == "read":
            for (node,), index in zip(inputs, work.rows, strict=True):
                assert plan.reads[index] == Read(call.variety, node)
                others = plan.others.get(call.variety, {})
                assert others.get(None) == summaries.get(call.variety)
                reads.append(index)
            continue
        for nodes, row, output in zip(inputs, work.rows, work.nodes, strict=True):
            applies = call.kind == "apply"
            node = Apply(*nodes, *work.weights, row) if applies else Combine(nodes, row)
            assert plan.nodes[output] == node
            expected = (CONFIG.layers[0], plan.points(node.layer)) if applies else len(nodes)
            assert call.variety == expected
        outputs = list(work.nodes)
        assert not done & set(outputs), "a node ran twice"
        done |= set(outputs)
        pool |= dict(zip(work.destinations, outputs, strict=True))
    return done, reads


def nothing(streams, context):
    """A measure that is never called."""


READINGS = {
    "ends": {"nll": nll},
    "beside": {"nll": nll, **LOSSES},
    "inside": {"inner": Reading(nothing, ("block_in", "mlp_out"), layers=(1, 3))},
    "beside inside": {
        **LOSSES,
        "same": Reading(Beside(nothing), "mlp_out"),
        "end": Reading(Beside(nothing, at="end"), "block_out", layers="0-2"),
    },
}


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("slots", [4, 8, 10**6])
@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("readings", READINGS)
def test_every_node_and_read_runs_exactly_once(widths, slots, lanes, readings):
    variants, computed = random_variants(24, seed=slots + lanes), probes(**READINGS[readings])
    plans = [Plan(CONFIG, variants[lane::lanes], computed) for lane in range(lanes)]
    result = schedule(plans, widths, slots)
    for lane, plan in enumerate(plans):
        done, reads = replay(plan, result.calls, lane)
        assert done == set(range(1, len(plan.nodes)))
        ends = [index for index, read in enumerate(plan.reads) if read.layer is None]
        assert sorted(reads) == ends
        assert set(plan.inside.values()) == set(range(len(plan.reads))) - set(ends)
    assert result.distinct == sum(plan.applications for plan in plans)
    applied = [call for call in result.calls if call.kind == "apply"]
    assert result.executed == sum(call.width * lanes for call in applied)
    assert all(call.width in widths for call in result.calls)


def test_what_others_are_read_beside_inside_layers_runs_first_and_alone():
    variants = [Variant(f"v{i}", replaced(BASE, edited(i, double, ()))) for i in range(L)]
    plan = Plan(CONFIG, variants, probes(end=READINGS["beside inside"]["end"]))
    calls = schedule([plan], (4, 1), 10**6).calls
    assert [call.kind for call in calls[: L + 1]] == ["apply"] * L + ["summarise"]
    assert [call.lanes[0].nodes for call in calls[:L]] == [(node,) for node in range(1, L + 1)]


def test_slots_do_not_grow_with_what_is_read_inside():
    variants = [
        Variant(f"v{i}{j}", replaced(BASE, edited(i, double, ()), edited(j)))
        for i, j in itertools.combinations(range(L), 2)
    ]

    def slots(**readings):
        return schedule([Plan(CONFIG, variants, probes(**readings))], (2, 1), 6).slots

    inner = {
        point: Reading(nothing, point)
        for point in ("block_in", "attention", "mlp_out", "block_out")
    }
    assert slots(nll=nll, **inner) == slots(nll=nll)
    assert slots(**inner) <= slots(nll=nll)


def test_few_slots_bound_the_memory_of_many_variants():
    variants = [
        Variant(f"v{i}{j}", replaced(BASE, edited(i, double, ()), edited(j)))
        for i, j in itertools.combinations(range(L), 2)
    ]
    plan = Plan(CONFIG, variants, probes(nll=nll))
    unbounded = schedule([plan], (2, 1), 10**6)
    bounded = schedule([plan], (2, 1), 6)
    assert unbounded.slots > 8
    assert bounded.slots <= 8
    assert bounded.distinct == unbounded.distinct


def test_few_slots_bound_the_memory_of_many_combinations():
    variants = [
        Variant(
            f"v{source}{target}{factor}",
            (
                Combination(((1, BASE[:target]), (factor, BASE[:source])), from_text=True),
                BASE[target],
            ),
        )
        for source, target in itertools.combinations(range(L), 2)
        for factor in range(9)
    ]
    plan = Plan(CONFIG, variants, probes(inner=Reading(Beside(nothing), "block_out")))
    assert schedule([plan], (2, 1), 10**6).slots > 50
    # The clean path is kept for what starts from it.
    assert schedule([plan], (2, 1), 6).slots <= 6 + 2 + L


def test_what_reads_wait_for_goes_ahead_when_slots_are_few():
    variants = [
        Variant(f"v{i}{k}", replaced(BASE, edited(i, double, (k,))))
        for i in range(L)
        for k in range(6)
    ]
    plan = Plan(CONFIG, variants, probes(**LOSSES))
    assert schedule([plan], (2, 1), 10**6).slots > 16
    # The clean path, L + 1 nodes, and what else there is room for.
    assert schedule([plan], (2, 1), 6).slots <= 6 + 2 + L


def test_streams_that_need_the_same_clean_layer_go_together():
    variants = [Variant(f"v{i}", replaced(BASE, edited(i, double, ()))) for i in range(L)]
    plan = Plan(CONFIG, [baseline(L), *variants], probes(nll=nll))
    calls = schedule([plan], (L + 1, 1), 10**6).calls
    last = [c for c in calls if c.kind == "apply" and c.lanes[0].weights == (L - 1, None)]
    assert [len(call.lanes[0].rows) for call in last] == [L]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (1,)), (3, (2, 1)), (7, (2, 2, 2, 1)), (8, (9,)), (11, (9, 2))]
)
def test_split_weighs_padding_against_calls(count, expected):
    assert split(count, (9, 2, 1)) == expected


def test_a_wide_layer_of_many_streams_is_scheduled_without_recursion():
    steps = [replaced(BASE, edited(0, double, (i,))) for i in range(1100)]
    plan = Plan(CONFIG, [Variant(f"v{i}", s) for i, s in enumerate(steps)], probes(nll=nll))
    result = schedule([plan], (1,), 10**6)
    assert result.distinct == result.executed == plan.applications == 1100 * L


@pytest.mark.parametrize("count", [999, 1999, 2000])
def test_a_thousand_streams_are_split_without_recursion(count):
    options = SweepOptions()
    widths = options.widths_for(8, 1000, "gpu")
    assert widths == (1000, 1)
    expected = (1000,) * -(-count // 1000)
    assert split(count, widths, options.overhead_for(8, "gpu")) == expected


def test_widths_without_one_are_refused():
    with pytest.raises(ValueError, match="must include 1"):
        schedule([Plan(CONFIG, [baseline(L)], probes(nll=nll))], (4, 2), 10)


@pytest.mark.parametrize(
    ("platform", "tokens", "streams", "expected"),
    [
        ("cpu", 95, 257, (11, 3, 1)),
        ("cpu", 95, 4, (4, 1)),
        ("cpu", 2000, 257, (1,)),
        # A third at a time while a call takes longer than its start.
        ("gpu", 95, 257, (172, 57, 1)),
        ("gpu", 95, 29, (29, 1)),
        ("gpu", 930, 257, (18, 6, 1)),
        ("tpu", 20_000, 257, (1,)),
        ("gpu", 8, 1, (1,)),
    ],
)
def test_widths_of_calls_follow_the_device(platform, tokens, streams, expected):
    assert SweepOptions().widths_for(tokens, streams, platform) == expected


def test_an_accelerator_would_rather_pad_than_start_another_call():
    options = SweepOptions()
    assert split(15, (18, 6, 2, 1), options.overhead_for(930, "gpu")) == (18,)
    assert split(15, (18, 6, 2, 1), options.overhead_for(930, "cpu")) == (6, 6, 2, 1)

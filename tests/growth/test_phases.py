"""The Growth Transformer's architecture, and phases as data."""

import jax
import pytest

from jaxanatomy import model
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.growth import phases, stages
from jaxanatomy.growth.phases import Phase
from jaxanatomy.model import layer_parameter_count, parameter_count

CONFIG = phases.growth_transformer()
ALL = tuple(range(12))
TINY = ModelConfig(
    vocab_size=11,
    hidden_size=8,
    head_dim=4,
    layers=(LayerShape(2, 2, 8), LayerShape(2, 1, 8), LayerShape(2, 2, 16)),
)


def test_table_6_parameters_are_exact():
    assert parameter_count(CONFIG) == 9_570_048
    one, two, four = 459_264, 655_872, 1_049_088
    counts = [layer_parameter_count(CONFIG, layer) for layer in ALL]
    assert counts == [one, four, four, one, four, four, one, two, four, four, two, one]
    assert (CONFIG.vocab_size, CONFIG.context_length, CONFIG.tie_embeddings) == (494, 32, True)
    abstract = jax.eval_shape(lambda: model.init(CONFIG, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract)) == 9_570_048


def test_table_7_is_literal():
    found = phases.developmental_phases()
    assert [(phase.name, phase.epochs, phase.train) for phase in found] == [
        ("gastrulation", 30, (4, 5)),
        ("neurulation", 20, (1, 2, 4, 5)),
        ("organogenesis", 20, (8, 9, 4, 5)),
        ("growth", 12, (7, 10)),
        ("connective", 6, (0, 3, 6, 11)),
        ("maturation", 15, ALL),
    ]
    assert [dict(phase.clone) for phase in found] == [
        {},
        {1: 4, 2: 5},
        {8: 4, 9: 5},
        {7: 5, 10: 9},
        {0: 1, 3: 2, 6: 5, 11: 10},  # the nearest trained ones, of two the lower
        {},
    ]
    assert [(phase.noise, phase.ffn_scale) for phase in found] == [(0, 1)] * 4 + [
        (0.01, 0.5),
        (0, 1),
    ]
    assert [phase.embedding for phase in found] == [True, True, True, False, False, True]


def test_the_table_reading_trains_the_core_in_the_first_and_last_phase_only():
    found = phases.developmental_phases("table")
    assert [phase.train for phase in found[:4]] == [(4, 5), (1, 2), (8, 9), (7, 10)]
    assert [phase.embedding for phase in found] == [True, False, False, False, False, True]


@pytest.mark.parametrize(
    ("total", "expected"),
    [(656, (191, 127, 127, 77, 38, 96)), (416, (121, 81, 81, 48, 24, 61)), (103, None)],
)
def test_steps_are_split_by_largest_remainder(total, expected):
    shares = (30, 20, 20, 12, 6, 15)
    assert stages.split_steps(total, shares) == (expected or shares)


def test_ties_of_remainders_go_to_the_earlier_and_shares_of_zero_get_none():
    assert stages.split_steps(3, (1, 1)) == (2, 1)
    assert stages.split_steps(5, (0, 1, 0, 1)) == (0, 3, 0, 2)


def test_stages_of_absent_layers_grow_the_model():
    found = phases.stages(CONFIG, phases.developmental_phases(), 656)
    assert [stage.layers for stage in found] == [
        (4, 5),
        (1, 2, 4, 5),
        (1, 2, 4, 5, 8, 9),
        (1, 2, 4, 5, 7, 8, 9, 10),
        ALL,
        ALL,
    ]
    assert [stage.steps for stage in found] == [191, 127, 127, 77, 38, 96]
    assert found[2].train == (4, 5, 8, 9)
    # Of the initial model its fourth and fifth layer; then clones of both before them.
    assert [stage.growth.sources for stage in found[:2]] == [(4, 5), (0, 1, 0, 1)]
    assert [stage.growth.inserted for stage in found[:2]] == [(), (0, 1)]
    frozen = phases.stages(CONFIG, phases.developmental_phases(), 656, "frozen")
    assert {stage.layers for stage in frozen} == {ALL}
    assert frozen[1].growth.sources == (0, 4, 5, *range(3, 12))
    assert frozen[1].growth.inserted == (1, 2)
    assert [stage.train for stage in frozen] == [stage.train for stage in found]


def test_controls_are_phases_too():
    (uniform,) = phases.stages(CONFIG, phases.uniform_phases(12), 656)
    assert (uniform.layers, uniform.train, uniform.steps) == (ALL, ALL, 656)
    cloned = phases.stages(CONFIG, phases.clone_init_phases(phases.developmental_phases()), 656)
    assert [stage.steps for stage in cloned] == [0, 0, 0, 0, 0, 656]
    before, growth = cloned[3].layers, cloned[4].growth
    sources = {layer: before[growth.sources[layer]] for layer in growth.inserted}
    assert sources == {0: 1, 3: 2, 6: 5, 11: 10}
    assert (cloned[4].noise, cloned[4].ffn_scale) == (0.01, 0.5)


def test_reordered_phases_clone_from_what_is_there():
    found = phases.reordered_phases(phases.developmental_phases(), (3, 1, 0, 4, 2))
    assert [phase.name for phase in found] == [
        "growth",
        "neurulation",
        "gastrulation",
        "connective",
        "organogenesis",
        "maturation",
    ]
    assert [phase.epochs for phase in found] == [12, 20, 30, 6, 20, 15]
    assert [phase.train for phase in found[:3]] == [(7, 10), (1, 2), (4, 5)]
    assert found[4].train == (8, 9, 4, 5)
    assert [dict(phase.clone) for phase in found] == [
        {},  # the first has nothing to be cloned from
        {1: 7, 2: 7},
        {4: 2, 5: 7},
        {0: 1, 3: 2, 6: 5, 11: 10},
        {8: 4, 9: 5},
        {},
    ]
    assert [phase.embedding for phase in found] == [True, False, True, False, True, True]
    phases.stages(CONFIG, found, 656)
    same = phases.reordered_phases(phases.developmental_phases(), range(5))
    assert same == phases.developmental_phases()


def bad(*given, **changes):
    return lambda: phases.stages(TINY, [Phase("one", 1, (0,)), Phase("two", 1, *given)], **changes)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (bad((1, 2), ((2, 1),), steps=4), "L1, which does not exist yet; grown so far: L0"),
        (bad((1, 2), ((1, 0),), steps=4), "another shape: 2 heads, 2 KV heads and FFN width"),
        (bad((1, 2, 0), ((0, 0),), steps=4), "L0, which is there already"),
        (bad((1, 3), steps=4), "names L3; the model has layers 0 to 2"),
        (bad((), steps=4), "must train at least one layer"),
        (bad((1, 1), steps=4), "each named once"),
        (bad((1,), steps=4), "L2 never enters"),
        (bad((1, 2), steps=1), "1 steps are too few for 2 phases"),
        (bad((1, 2), steps=4, not_yet_grown="frosen"), "did you mean 'frozen'"),
        (lambda: phases.developmental_phases("tabel"), "did you mean 'table'"),
        (lambda: phases.reordered_phases(phases.developmental_phases(), (0, 1)), "each of 0 .. 4"),
        (lambda: stages.split_steps(5, (0, 0)), "not all 0"),
    ],
)
def test_bad_phases_are_refused(call, words):
    with pytest.raises(InputError, match=None) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_layers_of_other_ffn_width_may_be_cloned():
    first = Phase("one", 1, (0, 1))
    (_, stage) = phases.stages(TINY, [first, Phase("two", 1, (2,), ((2, 0),))], 4)
    assert (stage.name, stage.steps, stage.layers, stage.train) == ("two", 2, (0, 1, 2), (2,))
    assert (stage.config, stage.train_ends) == (TINY, False)
    assert (stage.growth.sources, stage.growth.inserted) == ((0, 1, 0), (2,))


def test_a_layer_with_a_bias_is_no_clone_of_one_without():
    shapes = [LayerShape(2, 2, 8), LayerShape(2, 2, 16, ("o_proj",)), LayerShape(2, 2, 24)]
    given = [Phase("one", 1, (0,)), Phase("two", 1, (1, 2), ((2, 0), (1, 0)))]
    with pytest.raises(InputError, match=r"L1 from L0, .* not .*width 16, biases of o_proj;"):
        phases.stages(TINY.with_layers(shapes), given, steps=4)

"""What is read inside layers is what a plain loop over layers finds there."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from naive import (
    CONFIG,
    MIXED_SHAPES,
    average,
    double,
    edited,
    naive_stream,
    naive_trace,
    random_params,
    replaced,
    text,
)

from jaxanatomy import model, tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import (
    FIRST,
    OTHERS,
    Combination,
    Step,
    Variant,
    after,
    baseline_steps,
    closed,
    damped,
)
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep import (
    EVERYTHING,
    Beside,
    Measured,
    Reading,
    Reduction,
    Sweep,
    SweepOptions,
    maximum,
    mean,
)

L, D = CONFIG.num_layers, CONFIG.hidden_size
BASE = baseline_steps(L)
PARAMS = random_params(CONFIG)
BATCHES = [text(rows=2, seed=1), text(rows=2, seed=2, start=6)]
REAL = [batch.segment_RT >= 0 for batch in BATCHES]


def halve(own):
    """Streams stay small: beside entries of 30, 1e-5 of an entry of 0.1 is less than rounding."""
    return tree.replace(own, {name: tree.get(own, name) / 2 for name in tree.MATRICES})


VARIANTS = {
    "baseline": BASE,
    "edit": replaced(BASE, edited(2)),
    "edits": replaced(BASE, edited(1, halve, ()), edited(3)),
    "skip": BASE[:2] + BASE[3:],
    "skip all": (),
    "swap": (BASE[0], BASE[2], BASE[1], *BASE[3:]),
    "early exit": BASE[:3],
    "factors": replaced(BASE, Step(2, factors={"attention": 0.5, "head_1": 0, "mlp": -1})),
    "closed layer": replaced(BASE, Step(1, factors=closed("attention", "mlp"))),
    "no mlp at first": replaced(BASE, Step(2, factors=closed("mlp"), positions=FIRST)),
    "edit at first": replaced(BASE, edited(2, positions=FIRST)),
    "edit at others": replaced(BASE, edited(2, positions=OTHERS)),
    "two edits at first": replaced(
        BASE, edited(1, positions=FIRST), edited(3, double, (), positions=FIRST)
    ),
    "damped repeat": (*BASE[:4], damped(BASE[2:4], 0.5), *BASE[4:]),
    "read on several paths": (
        *BASE[:2],
        Combination(((1, BASE[:2]), (-1, BASE[:1]), (1, ())), FIRST, from_text=True),
        BASE[2],
        Combination(((1, BASE[:3]), (-1, BASE[:1]), (1, ())), FIRST, from_text=True),
        BASE[3],
    ),
    "less what a layer wrote": (
        Combination(((1, BASE[:3]), (-1, BASE[:2]), (1, BASE[:1])), OTHERS),
        BASE[3],
    ),
}


def same(streams, context):
    return streams[0]


def norms(streams, context):
    """The norm of every point, [C, R, T]."""
    return sum(jnp.linalg.norm(x_CRTD, axis=-1) for x_CRTD in streams)


def distance(streams, context):
    x_CRTD, other_1RTD = streams
    return jnp.linalg.norm(x_CRTD - other_1RTD, axis=-1)


def run(config, params, variants, readings, batches=BATCHES, **options):
    options = SweepOptions(**{"widths": (3, 1), **options})
    listed = [Variant(name, steps) for name, steps in variants.items()]
    sweep = Sweep(config, listed, batches, readings, options)
    sweep.place(params)
    parts = [sweep.run(chunk) for chunk in range(len(sweep.chunks))]
    return sweep, {name: Measured.joined([part[name] for part in parts]) for name in readings}


@functools.cache
def traces(name):
    """For each batch the layers and points of a variant, or of steps, by a plain loop."""
    return [naive_trace(CONFIG, PARAMS, VARIANTS.get(name, name), batch) for batch in BATCHES]


@functools.cache
def end(steps, index):
    return np.asarray(naive_stream(CONFIG, PARAMS, steps, BATCHES[index]))


def applied(name):
    """The layers of a variant that are applied: those that are closed altogether are not."""
    steps = [step for step in VARIANTS[name] if isinstance(step, Step)]
    return [step.layer for step in steps if step.factors != closed("attention", "mlp")]


def expected_point(name, layer, point):
    """What stands at a point in the order of the text, [tokens, ...]; NaN where not applied."""
    found = []
    for batch, trace in zip(BATCHES, traces(name), strict=True):
        value = np.asarray(dict(trace)[layer][point])
        value = value.swapaxes(1, 2) if point == "attention" else value  # [R, T, ...]
        found.append(value[batch.segment_RT >= 0])
    return np.concatenate(found)


def keys_first(streams, context):
    return streams[0].swapaxes(2, 3)


POINTS = {
    point: Reading(keys_first if point == "attention" else same, point) for point in model.POINTS
}


@pytest.fixture(scope="module")
def everything():
    return run(CONFIG, PARAMS, VARIANTS, {**POINTS, "nll": Reading(nll)})


@pytest.mark.parametrize("point", model.POINTS)
@pytest.mark.parametrize("name", VARIANTS)
def test_points_of_every_layer_equal_the_naive_loop(everything, name, point):
    measured = everything[1][point]
    tail = ("axis_0", "axis_1") if point == "attention" else ("feature",)
    assert measured.dims == ("variant", "layer", "position", *tail)
    assert measured.layers.tolist() == list(range(L))
    found = measured[name]
    layers = applied(name)
    for layer in range(L):
        if layer not in layers:
            assert np.isnan(found[layer]).all()
            continue
        expected = expected_point(name, layer, point)
        np.testing.assert_allclose(found[layer], expected, rtol=1e-5, atol=1e-5)


def test_positions_and_documents_are_those_of_the_tokens(everything):
    measured = everything[1]["block_out"]
    documents = np.concatenate([b.segment_RT[r] for b, r in zip(BATCHES, REAL, strict=True)])
    positions = np.concatenate([b.position_RT[r] for b, r in zip(BATCHES, REAL, strict=True)])
    np.testing.assert_array_equal(measured.documents, documents)
    np.testing.assert_array_equal(measured.positions, positions)
    predictions = everything[1]["nll"]
    assert predictions.dims == ("variant", "prediction")
    expected = np.concatenate([b.position_RT.ravel()[b.predict_P] for b in BATCHES])
    np.testing.assert_array_equal(predictions.positions, expected)


def test_no_application_is_computed_for_reading_alone(everything):
    sweep, _ = everything
    listed = [Variant(name, steps) for name, steps in VARIANTS.items()]
    plain = Sweep(CONFIG, listed, BATCHES, {"nll": nll}, SweepOptions(widths=(3, 1)))
    assert sweep.distinct_applications == plain.distinct_applications
    assert sweep.executed_applications == plain.executed_applications
    assert sweep.pool_bytes == plain.pool_bytes


def test_a_prefix_that_variants_share_is_read_once():
    variants = {f"v{i}": replaced(BASE, edited(i, double, ())) for i in range(L)}
    sweep, _ = run(CONFIG, PARAMS, variants, {"x": Reading(same, "block_out", mean())})
    (plan,) = sweep.plans[0]
    assert len(plan.reads) == plan.applications == L * (L + 1) // 2 + L - 1


GROUPS = {
    "all": lambda batch: batch.segment_RT >= 0,
    "first": lambda batch: (batch.segment_RT >= 0) & (batch.position_RT == 0),
    "others": lambda batch: (batch.segment_RT >= 0) & (batch.position_RT > 0),
    "predicted": lambda batch: np.isin(np.arange(batch.token_RT.size), batch.predict_P).reshape(
        batch.token_RT.shape
    ),
    "after_1": lambda batch: (batch.segment_RT >= 0) & (batch.position_RT >= 2),
}
ALL_REDUCTIONS = [
    Reduction(how, after(1) if where == "after_1" else where, per)
    for how, where, per in itertools.product(
        ("everything", "mean", "max"), GROUPS, ("text", "document")
    )
]
REDUCED = {
    f"{each.how} {each.place} {each.per}": Reading(norms, ("attention_out", "mlp_out"), each)
    for each in ALL_REDUCTIONS
}
AT_ENDS = {
    f"{each.how} {each.place} {each.per}": Reading(norms, reduction=each) for each in ALL_REDUCTIONS
}


def reduce(reduction, value_N, document_N):
    """The plain meaning of a reduction, of values in the order of the text."""
    how = {"mean": np.mean, "max": np.max}.get(reduction.how)
    if how is None:
        return value_N
    if reduction.per == "text":
        return how(value_N)
    documents = [value_N[document_N == m] for m in range(12)]
    return np.array([how(each) if len(each) else np.nan for each in documents])


@pytest.fixture(scope="module")
def reduced():
    names = ("baseline", "edit at first", "skip")
    variants = {name: VARIANTS[name] for name in names}
    readings = {**REDUCED, **{f"end {name}": each for name, each in AT_ENDS.items()}}
    return run(CONFIG, PARAMS, variants, readings)


@pytest.mark.parametrize("name", ["baseline", "edit at first", "skip"])
@pytest.mark.parametrize("key", REDUCED)
def test_every_reduction_is_its_plain_meaning(reduced, name, key):
    sweep, measured = reduced
    assert len(sweep.plans[0][0].probes) == 2  # however many readings keep parts of them
    reduction = REDUCED[key].reduction
    masks = [GROUPS[reduction.place](batch) for batch in BATCHES]
    document_N = np.concatenate(
        [batch.segment_RT[mask] for batch, mask in zip(BATCHES, masks, strict=True)]
    )
    for layer in applied(name):
        value_N = []
        for trace, mask in zip(traces(name), masks, strict=True):
            points = dict(trace)[layer]
            parts = [points["attention_out"], points["mlp_out"]]
            value_N.append(sum(np.linalg.norm(x, axis=-1) for x in parts)[mask])
        expected = reduce(reduction, np.concatenate(value_N), document_N)
        found = measured[key][name][layer]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    ends = [
        np.linalg.norm(end(VARIANTS[name], index), axis=-1)[mask]
        for index, mask in enumerate(masks)
    ]
    expected = reduce(reduction, np.concatenate(ends), document_N)
    np.testing.assert_allclose(measured[f"end {key}"][name], expected, rtol=1e-5, atol=1e-5)


OTHER = replaced(BASE, edited(1, positions=FIRST), Step(3, factors={"mlp": 0.5}))
BESIDE = {
    "same": Reading(Beside(distance), "mlp_out"),
    "end": Reading(Beside(distance, at="end"), "block_out", layers=[0, 2, 4]),
    "another": Reading(Beside(distance, steps=OTHER), "block_out", layers="1-3"),
    "end of another": Reading(Beside(distance, steps=OTHER, at="end"), "block_in"),
    "sink": Reading(
        Beside(lambda s, c: jnp.abs(s[0] - s[1]).max(axis=(2, 4))), "attention", layers=2
    ),
    "ends": Reading(Beside(distance, steps=OTHER)),
}


# Two chunks of calls of two widths.
@pytest.fixture(scope="module", params=[{"chunk_size": 8}], ids=str)
def beside(request):
    return run(CONFIG, PARAMS, VARIANTS, BESIDE, **request.param)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_read_beside_another_variant(beside, name):
    measured = beside[1]
    clean, other = traces("baseline"), traces(OTHER)

    references = {
        "same": ("mlp_out", lambda index, layer: clean[index][layer][1]["mlp_out"]),
        "end": ("block_out", lambda index, layer: end(BASE, index)),
        "another": ("block_out", lambda index, layer: other[index][layer][1]["block_out"]),
        "end of another": ("block_in", lambda index, layer: end(OTHER, index)),
    }
    for key, (point, reference) in references.items():
        found = measured[key]
        for place, layer in enumerate(found.layers.tolist()):
            if layer not in applied(name):
                assert np.isnan(found[name][place]).all()
                continue
            expected = [
                np.linalg.norm(dict(trace)[layer][point] - reference(index, layer), axis=-1)[real]
                for index, (trace, real) in enumerate(zip(traces(name), REAL, strict=True))
            ]
            np.testing.assert_allclose(
                found[name][place], np.concatenate(expected), rtol=1e-5, atol=1e-5, err_msg=key
            )
    expected = [
        np.linalg.norm(end(VARIANTS[name], index) - end(OTHER, index), axis=-1)[real]
        for index, real in enumerate(REAL)
    ]
    np.testing.assert_allclose(
        measured["ends"][name], np.concatenate(expected), rtol=1e-5, atol=1e-5
    )


def test_a_layer_that_is_applied_twice_is_read_by_step():
    variants = {"twice": (*BASE[:3], BASE[1], BASE[4]), "skip": BASE[1:3]}
    _, measured = run(CONFIG, PARAMS, variants, {"x": Reading(same, "block_out", by="step")})
    found = measured["x"]
    assert found.dims == ("variant", "step", "position", "feature")
    assert found.layers.tolist() == [[0, 1, 2, 1, 4], [1, 2, -1, -1, -1]]
    for name, steps in variants.items():
        for index in range(len(steps)):
            expected = [
                np.asarray(naive_stream(CONFIG, PARAMS, steps[: index + 1], batch))[real]
                for batch, real in zip(BATCHES, REAL, strict=True)
            ]
            np.testing.assert_allclose(
                found[name][index], np.concatenate(expected), rtol=1e-5, atol=1e-5
            )
    assert np.isnan(found["skip"][2:]).all()
    with pytest.raises(InputError, match=r"'x' has one place for each layer, .* 'twice' applies"):
        run(CONFIG, PARAMS, variants, {"x": Reading(same, "block_out")})


def test_layers_may_differ_in_heads():
    params, base = random_params(MIXED_SHAPES), baseline_steps(4)
    variants = {"baseline": base, "edit": replaced(base, edited(1, average, (0,), positions=FIRST))}
    readings = {
        "attention": Reading(keys_first, "attention", axes=("head", "key")),
        "out": Reading(Beside(distance), "attention_out"),
    }
    _, measured = run(MIXED_SHAPES, params, variants, readings)
    for name, steps in variants.items():
        traced = [naive_trace(MIXED_SHAPES, params, steps, batch) for batch in BATCHES]
        for layer in range(4):
            heads = MIXED_SHAPES.layers[layer].num_heads
            expected = np.concatenate(
                [
                    np.swapaxes(trace[layer][1]["attention"], 1, 2)[real]
                    for trace, real in zip(traced, REAL, strict=True)
                ]
            )
            found = measured["attention"][name][layer]
            np.testing.assert_allclose(found[:, :heads], expected, rtol=1e-5, atol=1e-5)
            assert np.isnan(found[:, heads:]).all()


def test_nothing_is_computed_beyond_the_last_layer_that_is_read():
    variants = {f"v{i}": replaced(BASE, edited(i, double, ())) for i in range(L)}
    readings = {"x": Reading(same, "mlp_out", mean(), layers=[0, 2])}
    sweep, measured = run(CONFIG, PARAMS, variants, readings)
    # Three layers of the clean path, and 3, 2 and 1 after an edit of 0, 1 or 2.
    assert sweep.distinct_applications == 3 + 3 + 2 + 1
    assert measured["x"].values.shape == (L, 2, D)
    np.testing.assert_array_equal(measured["x"]["v3"], measured["x"]["v4"])


def test_one_number_for_a_batch_is_weighted_by_its_predictions():
    def largest(streams, context):
        return jnp.abs(streams[0]).max(axis=(1, 2, 3))

    readings = {
        "every": Reading(largest),
        "mean": Reading(largest, reduction=mean()),
        "max": Reading(largest, "mlp_out", maximum(), layers=1),
    }
    _, measured = run(CONFIG, PARAMS, {"baseline": BASE}, readings)
    ends = [np.abs(naive_stream(CONFIG, PARAMS, BASE, batch)).max() for batch in BATCHES]
    assert measured["every"].dims == ("variant", "batch")
    np.testing.assert_allclose(measured["every"]["baseline"], ends, rtol=1e-5)
    np.testing.assert_allclose(measured["mean"]["baseline"], np.mean(ends), rtol=1e-5)
    inner = [
        np.abs(naive_trace(CONFIG, PARAMS, BASE, batch)[1][1]["mlp_out"]).max() for batch in BATCHES
    ]
    np.testing.assert_allclose(measured["max"]["baseline"], [max(inner)], rtol=1e-5)


def test_an_unknown_variant_of_what_was_read_is_named(everything):
    with pytest.raises(InputError, match="unknown variant 'skp'; did you mean 'skip'"):
        everything[1]["nll"]["skp"]
    assert repr(everything[1]["nll"]) == "Measured(variant=16, prediction=48)"
    assert Reduction() == EVERYTHING

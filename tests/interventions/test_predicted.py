"""Predicted layers against a regression of each parameter, alone and in the sweep."""

import naive as sweep_naive
import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.config import LayerShape
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.interventions.function_test import prediction_sets, prediction_variants
from jaxanatomy.interventions.materialise import materialise
from jaxanatomy.interventions.predicted import predicted, predicted_noise
from jaxanatomy.interventions.variants import Step, Variant, baseline_steps
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep import Sweep, SweepOptions

N = 5


def changed_step(config, layer, name="predicted"):
    (variant,) = parse_variants(config, [f"{name}/layer/{layer}"])
    return variant.steps[layer]


def regression(values, target):
    """Ridge with penalty 1 and a free intercept: the normal equations of centred features."""
    angle = np.arange(N) * np.pi / N
    X = np.stack([np.arange(N), np.arange(N) ** 2, np.sin(angle), np.cos(angle)], axis=1)
    centred = X[:target] - X[:target].mean(0)
    beta = np.linalg.solve(centred.T @ centred + np.eye(4), centred.T @ values)
    return values.mean(0) + (X[target] - X[:target].mean(0)) @ beta


@pytest.mark.parametrize("target", [2, 3, 4])
def test_every_parameter_is_what_its_regression_predicts(naive, target):
    own = naive.blocks[target]
    block = predicted(own, *naive.blocks[:target], num_layers=N)
    for name in tree.MATRICES:
        arrays = [tree.get(source, name).astype(np.float64) for source in naive.blocks[:target]]
        expected = regression(np.stack(arrays).reshape(target, -1), target)
        found = tree.get(block, name)
        np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5, atol=1e-6)
        assert (found.dtype, found.shape) == (np.float32, arrays[0].shape)
    for name in tree.NORMS:
        assert tree.get(block, name) is tree.get(own, name)


@pytest.mark.parametrize(("target", "seed"), [(2, 0), (4, 0), (4, 3)])
def test_the_control_has_noise_of_the_norm_of_the_error(naive, target, seed):
    own, earlier = naive.blocks[target], naive.blocks[:target]
    block = predicted_noise(own, *earlier, num_layers=N, seed=seed)
    foretold = predicted(own, *earlier, num_layers=N)
    for place, name in enumerate(tree.MATRICES):
        weight = tree.get(own, name).astype(np.float64)
        error = np.sqrt(np.square(tree.get(foretold, name) - weight).sum())
        noise = tree.get(block, name) - weight
        assert np.sqrt(np.square(noise).sum()) == pytest.approx(error, rel=1e-5)
        drawn = np.random.default_rng((seed, target, place)).standard_normal(
            weight.T.shape, np.float32
        )
        direction = drawn.T / np.sqrt(np.square(drawn, dtype=np.float64).sum())
        np.testing.assert_allclose(noise, error * direction, rtol=0, atol=1e-5)
        assert tree.get(block, name).dtype == np.float32
    for name in tree.NORMS:
        assert tree.get(block, name) is tree.get(own, name)


def test_equal_layers_predict_themselves(naive):
    own, same = naive.blocks[:2]
    block = predicted(own, same, same, same, num_layers=N)
    for name in tree.MATRICES:
        np.testing.assert_allclose(tree.get(block, name), tree.get(same, name), rtol=1e-6)


def test_a_step_reads_all_layers_before_and_replaces_the_matrices(naive):
    step = changed_step(naive.config, 3)
    assert (step.layer, step.edit.sources, step.edit.scope) == (3, (0, 1, 2), tree.MATRICES)
    fingerprints = {
        Variant("x", (changed_step(naive.config, layer),)).fingerprint() for layer in (2, 3, 4)
    }
    assert len(fingerprints) == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_sweep_runs_sets_of_them(dtype):
    config, batch = sweep_naive.CONFIG, sweep_naive.text()
    params = sweep_naive.random_params(config)
    sets = {f"set_{i}": layers for i, layers in enumerate([(2,), (4,), (2, 3), (2, 3, 4)])}
    variants = [
        Variant(
            name,
            sweep_naive.replaced(
                baseline_steps(config.num_layers), *(changed_step(config, t) for t in layers)
            ),
        )
        for name, layers in sets.items()
    ]
    sweep = Sweep(config, variants, [batch], {"nll": nll}, SweepOptions(dtype=dtype))
    sweep.place(params)
    readings = sweep.run(0)
    tolerance = 1e-5 if dtype == "float32" else 0.05  # bfloat16 has 8 bits
    for variant in variants:
        expected = sweep_naive.naive_nll(config, params, variant.steps, batch)
        found = np.asarray(readings["nll"][variant.name])
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_a_predicted_layer_can_be_written(naive):
    params = {"layers": tuple(naive.blocks)}
    steps = (*baseline_steps(4), changed_step(naive.config, 4))
    _, written = materialise(naive.config, params, steps)
    expected = predicted(naive.blocks[4], *naive.blocks[:4], num_layers=N)
    for name in tree.MATRICES:
        np.testing.assert_array_equal(
            tree.get(written["layers"][4], name), tree.get(expected, name)
        )


@pytest.mark.parametrize("layer", [0, 1])
def test_layers_without_two_before_are_refused(naive, layer):
    with pytest.raises(
        InputError, match=rf"the layers from 2 on of the 5; got layer/{layer}; name"
    ):
        changed_step(naive.config, layer)


def test_earlier_layers_of_another_shape_are_refused(naive):
    layers = [LayerShape(4, 2, 6), LayerShape(4, 2, 8), *[LayerShape(4, 2, 6)] * 2]
    with pytest.raises(InputError, match=r"layer 3 needs .*FFN width 6, layer 1 has .*width 8; "):
        changed_step(naive.config.with_layers(layers), 3)


def test_the_sets_are_written_down():
    sets = {where.name: where.layers for where in prediction_sets(30, (2, 4, 9))}
    single = {str(layer): (layer,) for layer in range(2, 30)}
    assert sets == single | {
        "even_2": (9, 23),
        "last_2": (28, 29),
        "even_4": (5, 12, 19, 26),
        "last_4": (26, 27, 28, 29),
        "even_9": (3, 6, 9, 12, 16, 19, 22, 25, 28),
        "last_9": tuple(range(21, 30)),
        "paper_inner": (3, 5, 6, 12, 14, 17, 19),
    }


def test_a_shallow_model_has_the_sets_that_fit():
    names = [where.name for where in prediction_sets(5, (2, 3, 4))]
    assert names == ["2", "3", "4", "even_2", "last_2", "even_3", "last_3"]
    assert prediction_sets(5, (2,))[3].layers == (2, 4)


def test_the_function_test_predicts_and_deletes_the_same_layers(naive):
    variants = {v.name: v for v in prediction_variants(naive.config, (2,), draws=2)}
    kinds = ("predicted", "zero", "predicted_noise", "predicted_noise#1")
    base = variants["baseline"]
    assert base.steps == baseline_steps(N)
    labels = {"reading": "function", "strategy": "none", "set": None, "layers": (), "draw": None}
    assert base.labels == labels
    sets = {where.name: list(where.layers) for where in prediction_sets(N, (2,))}
    assert list(variants) == [
        "baseline",
        *(f"{kind}/set/{name}" for name in sets for kind in kinds),
    ]
    for name, layers in sets.items():
        predicted_one, deleted = variants[f"predicted/set/{name}"], variants[f"zero/set/{name}"]
        assert [step.layer for step in deleted.steps] == [t for t in range(N) if t not in layers]
        assert all(step.edit is None for step in deleted.steps)
        assert predicted_one.steps == tuple(
            changed_step(naive.config, t) if t in layers else Step(t) for t in range(N)
        )
        assert deleted.labels == labels | {"strategy": "zero", "set": name, "layers": layers}
        assert predicted_one.labels["strategy"] == "predicted"
        for draw, kind in enumerate(kinds[2:]):
            noised = variants[f"{kind}/set/{name}"]
            assert noised.steps == tuple(
                changed_step(naive.config, t, kind) if t in layers else Step(t) for t in range(N)
            )
            mine = {"strategy": "predicted_noise", "set": name, "layers": layers, "draw": draw}
            assert noised.labels == labels | mine

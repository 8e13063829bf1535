"""Interventions on blocks with biases, a norm of queries and keys, and windows.

An edit of a matrix has its bias; norms and windows stay with the layer, unless they are asked for.
"""

import jax
import numpy as np
import pytest
from naive import CONFIG, naive_nll, random_params, text

from jaxanatomy import tree
from jaxanatomy.config import LayerShape
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.alignment import Alignment, apply_alignment
from jaxanatomy.interventions.cells import ablations
from jaxanatomy.interventions.materialise import materialise
from jaxanatomy.interventions.noise import noise_like, recovery_noise
from jaxanatomy.interventions.scopes import SCOPES, scope_components
from jaxanatomy.interventions.variants import Step, baseline_steps
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep import Sweep, SweepOptions

OTHER = CONFIG.with_layers(
    LayerShape(4, 2, 24, tree.MATRICES, qk_norm=True, window=window)
    for window in (None, 3, 3, None, 2)
)
PARAMS, LAYER = random_params(OTHER), 2
BLOCKS = PARAMS["layers"]
OWN, PREVIOUS, NEXT = BLOCKS[LAYER], BLOCKS[LAYER - 1], BLOCKS[LAYER + 1]
BASE = baseline_steps(OTHER.num_layers)
ZEROED = {"layer": tree.MATRICES, "attention": tree.ATTENTION, "mlp": tree.MLP}
ZEROED |= {name: (name,) for name in tree.MATRICES}


def variants():
    whole = ["neighbour_mean", "neighbour_mean_with_norms", "copy_previous", "rescaled_mean"]
    whole += ["aligned_mean", "matched_noise", "permuted_rows", "scale_0.9", "scale_output_0.5"]
    found = ablations(OTHER, whole, layers=[LAYER])
    found += ablations(OTHER, ["zero"], [*ZEROED, "head_1"], layers=[LAYER])[1:]
    found += ablations(OTHER, ["zero"], ["attention", "v_proj"], ["first"], [LAYER])[1:]
    return {variant.name: variant for variant in found}


VARIANTS = variants()


def edited(intervention, scope="layer"):
    """What an intervention puts into the layer, by name."""
    (step,) = (s for s in VARIANTS[f"{intervention}/{scope}/{LAYER}"].steps if s.layer == LAYER)
    sources = [BLOCKS[source] for source in step.edit.sources]
    block = step.edit.function(OWN, *sources, **dict(step.edit.arguments))
    return tree.components(block, step.edit.scope)


@pytest.fixture(scope="module")
def swept():
    sweep = Sweep(OTHER, list(VARIANTS.values()), [text()], {"nll": nll}, SweepOptions())
    sweep.place(PARAMS)
    return sweep.run(0)["nll"]


@pytest.mark.parametrize("name", VARIANTS)
def test_sweep_and_written_model_are_the_naive_loop(name, swept):
    expected = naive_nll(OTHER, PARAMS, VARIANTS[name].steps, text())
    np.testing.assert_allclose(swept[name], expected, rtol=1e-5, atol=1e-5)
    if "first" not in name:
        config, params = materialise(OTHER, PARAMS, VARIANTS[name].steps)
        found = naive_nll(config, params, baseline_steps(config.num_layers), text())
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    if name != "baseline":
        assert np.abs(swept[name] - swept["baseline"]).max() > 1e-3


@pytest.mark.parametrize("scope", ZEROED)
def test_zero_is_zero_weights_and_zero_biases(scope, swept):
    arrays = tree.components(OWN, ZEROED[scope])
    assert len(arrays) == 2 * len(ZEROED[scope])
    layers = list(BLOCKS)
    layers[LAYER] = tree.replace(OWN, {name: np.zeros_like(a) for name, a in arrays.items()})
    expected = naive_nll(OTHER, tree.with_layers(PARAMS, layers), BASE, text())
    found = swept[f"zero/{scope}/{LAYER}"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_what_becomes_of_biases():
    means = {n: (tree.get(PREVIOUS, n) + tree.get(NEXT, n)) / 2 for n in tree.components(OWN)}
    for name in (f"{matrix}.bias" for matrix in tree.MATRICES):
        own, mean = tree.get(OWN, name), means[name]
        np.testing.assert_array_equal(edited("neighbour_mean")[name], mean)
        np.testing.assert_array_equal(edited("copy_previous")[name], tree.get(PREVIOUS, name))
        np.testing.assert_array_equal(edited("scale_0.9")[name], own * 0.9)
        rescaled = mean / np.linalg.norm(mean) * np.linalg.norm(own)
        np.testing.assert_allclose(edited("rescaled_mean")[name], rescaled, rtol=1e-5)
        moved = edited("permuted_rows")[name]
        assert sorted(moved.tolist()) == sorted(own.tolist()) != moved.tolist()
        assert not np.isin(edited("matched_noise")[name], own).any()
    assert set(edited("scale_output_0.5")) == {
        "o_proj", "o_proj.bias", "down_proj", "down_proj.bias"
    }  # fmt: skip


def test_a_row_and_its_bias_go_together():
    new = edited("permuted_rows")
    order = [
        np.flatnonzero(tree.get(OWN, "k_proj.bias") == value)[0] for value in new["k_proj.bias"]
    ]
    np.testing.assert_array_equal(new["k_proj"], tree.get(OWN, "k_proj")[:, order])


def test_noise_of_matrices_is_what_it_is_without_biases():
    plain = tree.from_leaves(
        {path: leaf for path, leaf in tree.to_leaves(OWN).items() if not path.endswith("bias")}
    )
    (step,) = (s for s in VARIANTS[f"matched_noise/layer/{LAYER}"].steps if s.layer == LAYER)
    noised = (step.edit.function(block, **dict(step.edit.arguments)) for block in (OWN, plain))
    one, other = map(tree.components, noised)
    generator = np.random.default_rng((10_000 + LAYER, 0))
    for name in tree.MATRICES:
        np.testing.assert_array_equal(one[name], other[name])
        noise_like(tree.get(OWN, name), generator)
    bias = noise_like(tree.get(OWN, "q_proj.bias"), generator)
    np.testing.assert_array_equal(one["q_proj.bias"], bias)
    healed = tree.components(recovery_noise(OWN, sigma=0.5, seed=3))
    assert all(
        (healed[name] is array) == (name not in tree.MATRICES)
        for name, array in tree.components(OWN).items()
    )


def test_norms_and_windows_stay_unless_they_are_asked_for():
    norms = {"attention_norm", "mlp_norm", "q_norm", "k_norm"}
    with_norms = edited("neighbour_mean_with_norms")
    assert set(with_norms) == set(tree.components(OWN))
    assert not set(edited("neighbour_mean")) & norms
    expected = (tree.get(PREVIOUS, "q_norm") + tree.get(NEXT, "q_norm")) / 2
    np.testing.assert_array_equal(with_norms["q_norm"], expected)
    config, _ = materialise(OTHER, PARAMS, VARIANTS[f"copy_previous/layer/{LAYER}"].steps)
    assert config.layers == OTHER.layers
    # Layer 3 sees everything, its neighbours do not: their weights fit all the same.
    assert ablations(OTHER, ["neighbour_mean"], layers=[3])[1].name == "neighbour_mean/layer/3"


def test_components_of_scopes():
    found = {
        scope: scope_components(OTHER, LAYER, scope) for scope in ("layer", "attention", "mlp")
    }
    assert found["attention"] == (*tree.ATTENTION, "k_norm", "q_norm", "attention_norm")
    assert found["mlp"] == (*tree.MLP, "mlp_norm")
    assert {*found["layer"]} == {*found["attention"], *found["mlp"]}
    plain = {scope: scope_components(CONFIG, 0, scope) for scope in SCOPES}
    assert plain["layer"] == tree.MATRICES + tree.NORMS
    assert plain["attention"] == (*tree.ATTENTION, "attention_norm")
    assert {scope: (scope,) for scope in tree.MATRICES}.items() <= plain.items()


def test_layers_of_other_arrays_do_not_mix():
    shapes = [LayerShape(4, 2, 24), LayerShape(4, 2, 24, ("q_proj",)), LayerShape(4, 2, 24)]
    with pytest.raises(InputError, match=r"layer 1 has .* FFN width 24, biases of q_proj, layer 0"):
        ablations(CONFIG.with_layers(shapes), ["neighbour_mean"], layers=[1])


def test_a_reordered_block_with_biases_computes_the_same():
    rng = np.random.default_rng(0)
    order = Alignment(rng.permutation(24), np.array([1, 0]), np.array([3, 2, 0, 1]))
    block = apply_alignment(OWN, order, OTHER.head_dim)
    layers = list(BLOCKS)
    layers[LAYER] = block
    moved = {
        name
        for name, array in tree.components(block).items()
        if not np.array_equal(array, tree.get(OWN, name))
    }
    inner = [name for name in tree.MATRICES if name not in ("o_proj", "down_proj")]
    assert moved == {*tree.MATRICES, *(f"{name}.bias" for name in inner)}
    found = naive_nll(OTHER, tree.with_layers(PARAMS, layers), BASE, text())
    np.testing.assert_allclose(found, naive_nll(OTHER, PARAMS, BASE, text()), rtol=1e-5, atol=1e-5)


def test_a_factor_of_a_sublayer_is_one_of_its_bias_too():
    steps = (*BASE[:LAYER], Step(LAYER, factors={"attention": 0.5}), *BASE[LAYER + 1 :])
    found = naive_nll(OTHER, PARAMS, steps, text())
    halved = jax.tree.map(lambda array: array / 2, tree.components(OWN, ["o_proj"]))
    layers = list(BLOCKS)
    layers[LAYER] = tree.replace(OWN, halved)
    expected = naive_nll(OTHER, tree.with_layers(PARAMS, layers), BASE, text())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

"""Noise added to weights against its formula, and the variants that carry it."""

import jax
import numpy as np
import pytest

import configs.manipulation
from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.interventions.noise import (
    add_noise,
    generator_of,
    noise_like,
    perturb,
    recovery_noise,
)
from jaxanatomy.interventions.perturbations import perturbation_variants
from jaxanatomy.interventions.sets import layer_order
from jaxanatomy.interventions.variants import Step
from jaxanatomy.measures.compounding import FEWEST_SEEDS

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def test_noise_is_alpha_population_stds_drawn_for_each_matrix(naive):
    own = naive.blocks[2]
    perturbed = perturb(own, alpha=0.25, layer=2, seed=7)
    for index, name in enumerate(MATRICES):
        weight = tree.get(own, name).astype(np.float64).T  # (out, in)
        drawn = np.random.default_rng((7, 2, index)).standard_normal(weight.shape, np.float32)
        std = np.sqrt(((weight - weight.mean()) ** 2).sum() / weight.size)
        found = tree.get(perturbed, name)
        np.testing.assert_allclose(found, (weight + 0.25 * std * drawn).T, rtol=0, atol=1e-6)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
    for norm in tree.NORMS:
        assert tree.get(perturbed, norm) is tree.get(own, norm)


def test_noise_of_zero_changes_no_bit_and_larger_noise_points_the_same_way(naive):
    own = naive.blocks[0]
    before = jax.tree.map(np.copy, own)
    unchanged = perturb(own, alpha=0.0, layer=0, seed=1)
    small, large = (perturb(own, alpha=alpha, layer=0, seed=1) for alpha in (0.1, 0.3))
    other = perturb(own, alpha=0.1, layer=0, seed=2)
    deeper = perturb(own, alpha=0.1, layer=1, seed=1)
    for name in MATRICES:
        weight = tree.get(own, name)
        np.testing.assert_array_equal(weight, tree.get(before, name))
        np.testing.assert_array_equal(weight, tree.get(unchanged, name))
        np.testing.assert_allclose(
            3 * (tree.get(small, name) - weight), tree.get(large, name) - weight, atol=2e-6
        )
        for different in (other, deeper):
            assert not np.allclose(tree.get(small, name), tree.get(different, name), atol=1e-3)


def test_recovery_noise_draws_all_matrices_of_a_layer_from_one_generator(naive):
    own = naive.blocks[1]
    noised = recovery_noise(own, sigma=0.5, seed=3)
    generator = np.random.default_rng(3)
    for name in MATRICES:
        weight = tree.get(own, name).astype(np.float64).T  # (out, in)
        drawn = generator.standard_normal(weight.shape, dtype=np.float32)
        std = np.sqrt(((weight - weight.mean()) ** 2).sum() / weight.size)
        expected = (weight + 0.5 * std * drawn).T
        np.testing.assert_allclose(tree.get(noised, name), expected, rtol=0, atol=1e-6)
    for norm in tree.NORMS:
        assert tree.get(noised, norm) is tree.get(own, norm)


@pytest.mark.parametrize(("sigma", "seed"), [(-0.1, 0), (np.inf, 0), (np.nan, 0), (0.5, -1)])
def test_recovery_noise_refuses_what_is_no_size_or_seed(naive, sigma, seed):
    with pytest.raises(InputError, match="finite sigma and a seed of 0 or above; got"):
        recovery_noise(naive.blocks[0], sigma=sigma, seed=seed)


def test_noise_keeps_the_dtype():
    kernel = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4).astype(jax.numpy.bfloat16)
    assert add_noise(kernel, 0.1, generator_of(0, 0, "q_proj")).dtype == kernel.dtype
    assert noise_like(kernel, generator_of(0, 0, "q_proj")).dtype == kernel.dtype


def test_a_step_runs_as_its_formula(naive):
    (variant,) = parse_variants(naive.config, ["perturb_0.2#5/layer/3"])
    step = variant.steps[3]
    blocks = [*naive.blocks[:3], perturb(naive.blocks[3], alpha=0.2, layer=3, seed=5)]
    expected = naive.block(blocks[3], naive.x_TD)
    np.testing.assert_array_equal(naive.run([step], naive.blocks, naive.x_TD), expected)
    assert step.edit.on_host
    assert step.edit.scope == MATRICES


def test_variants_are_nested_random_sets_all_layers_and_single_ones(naive):
    L = naive.config.num_layers
    variants = perturbation_variants(naive.config, alphas=(0.01, 0.5), seeds=(3, 4))
    sets = [
        *(f"random_{count}_s{{}}" for count in (1, 2, 4, 5)),
        *map(str, range(L)),
    ]
    assert [variant.name for variant in variants] == [
        f"perturb_{alpha}#{seed}/set/{name.format(seed)}"
        for alpha in ("0.01", "0.5")
        for seed in (3, 4)
        for name in sets
    ]
    by_name = {variant.name: variant for variant in variants}
    order = np.random.default_rng(4).permutation(L).tolist()
    assert layer_order(L, 4) == order
    assert by_name["perturb_0.5#4/set/random_4_s4"].labels == {
        "strategy": "perturb",
        "alpha": 0.5,
        "rank": None,
        "set": "random_4_s4",
        "layers": sorted(order[:4]),
        "seed": 4,
        "count": 4,
    }
    single = by_name["perturb_0.01#3/set/2"].labels
    assert (single["set"], single["layers"], single["count"]) == ("2", [2], 1)
    for variant in variants:
        for layer, step in enumerate(variant.steps):
            own = layer in variant.labels["layers"]
            alpha, seed = variant.labels["alpha"], variant.labels["seed"]
            if own:
                arguments = {"alpha": alpha, "layer": layer, "seed": seed}
                assert (step.layer, step.edit.function) == (layer, perturb)
                assert dict(step.edit.arguments) == arguments
            else:
                assert step == Step(layer)
    assert len({variant.fingerprint() for variant in variants}) == len(variants) - 4  # random_1


def test_counts_may_be_chosen(naive):
    variants = perturbation_variants(naive.config, alphas=(0.1,), counts=(5, 3), seeds=(0,))
    names = ["random_5_s0", "random_3_s0", *map(str, range(5))]
    assert [variant.name for variant in variants] == [f"perturb_0.1/set/{name}" for name in names]


def test_seeds_are_enough_for_an_interval(naive):
    seeds = {variant.labels["seed"] for variant in perturbation_variants(naive.config)}
    assert seeds == set(configs.manipulation.get_config().perturbation.seeds) == set(range(8))
    assert len(seeds) >= FEWEST_SEEDS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"counts": (6,)}, "counts of perturbed layers are 1 to 5; got 6"),
        ({"counts": (0,)}, "counts of perturbed layers are 1 to 5; got 0"),
        ({"alphas": (-0.1,)}, r"noise needs alphas and seeds of 0 or above; got \[-0.1\]"),
        ({"alphas": (float("nan"),)}, "alpha must be a finite number, .*; got nan"),
        ({"seeds": (-1,)}, r"alphas and seeds of 0 or above; got \[0.01\] and \[-1\]"),
        ({"seeds": (1, 1)}, r"seeds must name each value once; got \[1, 1\]"),
    ],
)
def test_bad_arguments(naive, arguments, message):
    with pytest.raises(InputError, match=message):
        perturbation_variants(naive.config, **arguments)

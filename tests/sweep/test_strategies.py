"""Strategies in a sweep give what a plain forward of weights made by hand gives."""

import numpy as np
import pytest
from naive import CONFIG, naive_nll, random_params, text

from jaxanatomy import tree
from jaxanatomy.interventions.intervention import variant
from jaxanatomy.interventions.materialise import materialise
from jaxanatomy.interventions.registry import INTERVENTIONS
from jaxanatomy.interventions.variants import baseline, baseline_steps
from jaxanatomy.interventions.where import together
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep import Sweep, SweepOptions

L = 8
DEEP = CONFIG.with_layers(CONFIG.layers[:1] * L)
PARAMS = random_params(DEEP)
TEXT = text()
LAYERS = (2, 3, 6)
SETTINGS = {
    "zero": {},
    "neighbour_mean": {},
    "clone": {},
    "clone_high": {},
    "clone_with_norms": {},
    "blend_2": {},
    "blend_4": {},
    "scale": {"alpha": 0.9},
    "scale_output": {"alpha": 0.5},
    "low_rank": {"rank": "half"},
    "own_svd": {"rank": 3},
}


def variant_of(strategy, **settings):
    (setting,) = (settings or SETTINGS.get(strategy, {})).values() or [None]
    chosen = INTERVENTIONS[strategy].with_setting(setting)
    return variant(DEEP, chosen, together(L, LAYERS))


def outside_of(layer, higher=False):
    """(distance, layer) outside the set, nearest first, equally near ones by their index."""
    outside = [other for other in range(L) if other not in LAYERS]
    return sorted(((abs(o - layer), -o if higher else o), o) for o in outside)


def by_hand(strategy, layer):
    """The block that stands for a layer of the set, by the formulas of AH section 3.5."""
    blocks = PARAMS["layers"]
    own = blocks[layer]
    nearest = [other for _, other in outside_of(layer, strategy == "clone_high")]
    weight = {n: tree.components(blocks[n]) for n in range(L)}
    if strategy == "clone_with_norms":
        return blocks[nearest[0]]
    new = {}
    for name in tree.MATRICES:
        W = weight[layer][name].astype(np.float64)
        if strategy.startswith("clone"):
            new[name] = weight[nearest[0]][name]
        elif strategy == "neighbour_mean":
            new[name] = (weight[layer - 1][name] + weight[layer + 1][name]) / 2
        elif strategy.startswith("blend"):
            chosen = nearest[: int(strategy[-1])]
            total = sum(1 / abs(n - layer) for n in chosen)
            new[name] = sum(weight[n][name] / abs(n - layer) for n in chosen) / total
        elif strategy == "scale":
            new[name] = 0.9 * W
        elif strategy == "scale_output":
            new[name] = 0.5 * W if name in ("o_proj", "down_proj") else W
        else:
            U, S, Vt = np.linalg.svd(W, full_matrices=False)
            rank = 3
            if strategy == "low_rank":
                U, _, Vt = np.linalg.svd(weight[nearest[0]][name], full_matrices=False)
                rank = len(S) // 2
            new[name] = U[:, :rank] @ np.diag(S[:rank]) @ Vt[:rank]
    return tree.replace(own, {name: np.float32(matrix) for name, matrix in new.items()})


def expected_nll(strategy):
    blocks = [
        by_hand(strategy, layer) if layer in LAYERS else block
        for layer, block in enumerate(PARAMS["layers"])
        if not (strategy == "zero" and layer in LAYERS)
    ]
    config = DEEP.with_layers(DEEP.layers[: len(blocks)])
    params = tree.with_layers(PARAMS, blocks)
    return naive_nll(config, params, baseline_steps(len(blocks)), TEXT)


@pytest.fixture(scope="module")
def swept():
    """Losses by strategy, all from one sweep, with neutral settings beside them."""
    variants = [variant_of(strategy) for strategy in SETTINGS]
    variants += [
        variant_of("scale", alpha=1.0),
        variant_of("scale_output", alpha=1.0),
        variant_of("scale", alpha=0.0),
        variant_of("own_svd", rank="full"),
        variant_of("predicted"),
    ]
    sweep = Sweep(DEEP, [baseline(L), *variants], [TEXT], {"nll": nll}, SweepOptions(widths=(1,)))
    sweep.place(PARAMS)
    found = sweep.run(0)["nll"]
    return {name.split("/")[0]: found[name] for name in found.variants}


@pytest.mark.parametrize("strategy", SETTINGS)
def test_sweep_equals_weights_made_by_hand(swept, strategy):
    name = variant_of(strategy).name.split("/")[0]
    np.testing.assert_allclose(swept[name], expected_nll(strategy), rtol=1e-5, atol=1e-5)


def test_no_two_strategies_agree_by_accident(swept):
    totals = {name: round(float(values.sum()), 4) for name, values in swept.items()}
    neutral = ("scale_1", "scale_output_1", "own_svd_full", "scale_0")
    others = [total for name, total in totals.items() if name not in neutral]
    assert len(set(others)) == len(others)


def test_neutral_settings_are_the_baseline(swept):
    assert np.array_equal(swept["scale_1"], swept["baseline"])
    assert np.array_equal(swept["scale_output_1"], swept["baseline"])
    np.testing.assert_allclose(swept["own_svd_full"], swept["baseline"], rtol=1e-5, atol=1e-5)


def test_a_factor_of_zero_is_the_layers_skipped(swept):
    assert np.array_equal(swept["scale_0"], swept["zero"])


@pytest.mark.parametrize("strategy", [*SETTINGS, "predicted"])
def test_strategies_become_models_that_can_be_kept(swept, strategy):
    variant = variant_of(strategy)
    config, params = materialise(DEEP, PARAMS, variant.steps)
    found = naive_nll(config, params, baseline_steps(config.num_layers), TEXT)
    np.testing.assert_allclose(found, swept[variant.name.split("/")[0]], rtol=1e-5, atol=1e-5)

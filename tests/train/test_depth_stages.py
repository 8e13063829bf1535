"""Where a stage of depth growth begins: new layers that are more than copies."""

import jax
import numpy as np
import pytest

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.forensics.alignment import align, apply_alignment
from jaxanatomy.growth.depth_arms import DepthArmSettings, depth_arm
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import Setup, TrainOptions

CONFIG = ModelConfig.uniform(4, 4, 2, 24, vocab_size=13, hidden_size=16, head_dim=4)
SETTINGS = DepthArmSettings(steps=20, block=2)
SEEDS = (3, 4)


def entered(name, scan_layers=False):
    """Blocks of each seed before and after the first growth step, and the moments after it."""
    stages = depth_arm(name, CONFIG, SETTINGS)
    schedule, options = WarmupStableDecay(0.1, 0.1, 0.1), TrainOptions(scan_layers=scan_layers)
    setup = Setup(stages, Optimiser(), schedule, SEEDS, options=options, initial=CONFIG)
    params, moments = setup.begin(setup.seed_array)
    moments = jax.tree.map(lambda leaf: leaf + 1, moments)
    after, moments = jax.jit(setup.entering(1))(params, moments, setup.seed_array)

    def blocks(params):
        whole = jax.tree.map(np.asarray, params)
        return [tree.unstack(setup.model_of(whole, at)["layers"]) for at in range(len(SEEDS))]

    return blocks(params), blocks(after), moments


def assert_same(block, expected):
    for found, own in zip(*map(jax.tree.leaves, (block, expected)), strict=True):
        np.testing.assert_allclose(found, own, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scan_layers", [False, True])
def test_an_aligned_layer_is_the_mean_of_its_source_and_what_follows(scan_layers):
    before, after, _ = entered("aligned", scan_layers)
    for old, new in zip(before, after, strict=True):
        # LIDAS from 2 layers: 0 1 [0 1]; behind the copy of 0 stands that of 1, behind it nothing.
        matched = apply_alignment(old[1], align(old[1], old[0], 4), 4)
        mean = jax.tree.map(lambda a, b: (a + b) / 2, old[0], matched)
        for found, own in zip(new, (old[0], old[1], mean, old[1]), strict=True):
            assert_same(found, own)
        assert any(
            (a != b).any() for a, b in zip(*map(jax.tree.leaves, (new[2], old[0])), strict=True)
        )


@pytest.mark.slow
def test_fresh_layers_are_those_of_the_whole_initial_model():
    before, after, moments = entered("fresh_layers")
    for seed, old, new in zip(SEEDS, before, after, strict=True):
        whole = model.init(CONFIG, jax.random.key(seed))["layers"]
        for found, own in zip(new, (old[0], old[1], whole[2], whole[3]), strict=True):
            assert_same(found, own)
    for name in ("mu", "nu"):
        stacks = [leaf for leaf in jax.tree.leaves(_moment(moments, name)["layers"])]
        per_layer = len(stacks) // 4
        for at, leaf in enumerate(stacks):
            assert (np.asarray(leaf) == (0 if at // per_layer > 1 else 1)).all()


def _moment(moments, name):
    (found,) = (
        getattr(part, name) for part in jax.tree.leaves(moments, is_leaf=_is_adam) if _is_adam(part)
    )
    return found


def _is_adam(node):
    return hasattr(node, "mu")

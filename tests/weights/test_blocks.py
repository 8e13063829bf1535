"""Layers read one after the other are those that are read together."""

import dataclasses
import tracemalloc

import jax
import numpy as np
import pytest

from jaxanatomy import tree, weights
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights.random_init import random_params

DEEP = ModelConfig.uniform(12, 4, 2, 256, vocab_size=64, hidden_size=64)


@pytest.fixture(params=["folder", "gguf", "random", "orbax", "scaled"])
def source(request, checkpoint, write_gguf, tmp_path):
    if request.param == "gguf":
        return weights.open_model(f"file:{write_gguf(checkpoint)}")
    if request.param in ("orbax", "scaled"):
        scaled = request.param == "scaled"
        config = dataclasses.replace(checkpoint.config, ln_scaling=scaled)
        weights.save_orbax(dataclasses.replace(checkpoint, config=config), tmp_path / "saved")
        return weights.open_model(f"orbax:{tmp_path / 'saved'}")
    weights.export_hf(checkpoint, tmp_path / "saved")
    model = f"file:{tmp_path / 'saved'}"
    return weights.open_model(model if request.param == "folder" else f"random:{model}")


def test_they_are_equal_to_the_bit_and_scaled_as_they_act(source):
    _, params = tree.fold_norms(source.config, source.load().params)
    found = list(source.blocks())
    assert len(found) == source.config.num_layers
    for block, whole in zip(found, params["layers"], strict=True):
        assert jax.tree.structure(block) == jax.tree.structure(whole)
        for own, other in zip(jax.tree.leaves(block), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(own, other)
            assert not own.flags.writeable


@pytest.mark.parametrize("prefix", ["", "random:"])
def test_one_layer_is_in_memory_at_a_time(prefix, tmp_path):
    model = weights.Checkpoint(DEEP, random_params(DEEP, np.float32), None, "deep", "0" * 64)
    weights.export_hf(model, tmp_path / "deep")
    each = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params["layers"][0]))
    source = weights.open_model(f"{prefix}file:{tmp_path / 'deep'}")
    next(source.blocks())  # what is imported and cached on the way
    tracemalloc.start()
    for _ in source.blocks():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * each


def test_a_layer_that_is_not_finite_is_named_when_it_is_read(checkpoint, tmp_path):
    params = jax.tree.map(np.copy, checkpoint.params)
    params["layers"][1]["mlp"]["down_proj"]["kernel"][3, 0] = np.inf
    weights.export_hf(checkpoint, tmp_path / "saved")
    weights.export_hf(dataclasses.replace(checkpoint, params=params), tmp_path / "broken")
    blocks = weights.open_model(f"file:{tmp_path / 'broken'}").blocks()
    next(blocks)
    with pytest.raises(InputError, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        next(blocks)

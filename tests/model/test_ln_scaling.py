"""LN-scaling against a naive forward that divides the outputs of norms by sqrt(layer)."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, naive_nll, random_params, replaced, text

from jaxanatomy import model, tree, weights
from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.apply import grow, grown_config
from jaxanatomy.growth.maps import growth_map
from jaxanatomy.interventions.materialise import materialise
from jaxanatomy.interventions.variants import Step, Variant, baseline, closed
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.model import rope
from jaxanatomy.model.modules import RMSNorm
from jaxanatomy.sweep import Sweep
from jaxanatomy.weights import Checkpoint
from jaxanatomy.weights.orbax_io import open_orbax, save_orbax

SCALED = dataclasses.replace(CONFIG, ln_scaling=True)
MIXED = dataclasses.replace(MIXED_SHAPES, ln_scaling=True)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 9)), jnp.int32)


def naive_logits(config, params, token_BT):
    """Layer after layer, its norms' outputs over sqrt(l), l from 1; the final norm as it is."""
    T = token_BT.shape[1]
    tables = rope.tables(config, jnp.arange(T)[None])
    bias_BTS = model.attention_bias(jnp.zeros((1, T), jnp.int32))
    x_BTD = model.embed(params, token_BT)
    for layer, block in enumerate(params["layers"]):

        def divided(call, args, kwargs, context, layer=layer):
            output = call(*args, **kwargs)
            is_norm = isinstance(context.module, RMSNorm)
            return output / math.sqrt(layer + 1) if is_norm else output

        with nn.intercept_methods(divided):
            apply = model.block(config, layer).apply
            x_BTD, _ = apply({"params": block}, x_BTD, tables, bias_BTS)
    return model.logits(config, params, x_BTD)


@pytest.mark.parametrize("config", [SCALED, MIXED], ids=["uniform", "mixed"])
@pytest.mark.parametrize("stacked", [False, True])
def test_norms_are_divided_by_the_root_of_their_layer(config, stacked):
    params = random_params(config)
    expected = naive_logits(config, params, TOKENS)
    given = tree.with_layers(params, tree.stack(params["layers"])) if stacked else params
    found = model.forward(config, given, TOKENS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    plain = dataclasses.replace(config, ln_scaling=False)
    assert np.abs(model.forward(plain, given, TOKENS) - expected).max() > 1e-2


def test_a_folded_model_is_a_plain_one_and_computes_the_same():
    params = random_params(SCALED)
    config, folded = tree.fold_norms(SCALED, params)
    assert config == CONFIG
    np.testing.assert_array_equal(
        model.forward(config, folded, TOKENS), model.forward(SCALED, params, TOKENS)
    )
    third = tree.get(folded["layers"][3], "mlp_norm")
    assert isinstance(third, np.ndarray)
    np.testing.assert_array_equal(third, tree.get(params["layers"][3], "mlp_norm") / 2)
    assert tree.fold_norms(CONFIG, params) == (CONFIG, params)
    assert folded["final_norm"] is params["final_norm"]


def test_the_gradient_is_with_respect_to_the_unscaled_norms():
    params = jax.tree.map(jnp.asarray, random_params(SCALED))

    def loss(function):
        return jax.jit(jax.grad(lambda params: jnp.square(function(SCALED, params, TOKENS)).mean()))

    found, expected = loss(model.forward)(params), loss(naive_logits)(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected
    )


def test_decoding_scales_too():
    params = random_params(SCALED)
    found = model.generate(SCALED, params, TOKENS, 5)
    np.testing.assert_array_equal(
        found, model.generate(*tree.fold_norms(SCALED, params), TOKENS, 5)
    )
    # Teacher-forced: the naive forward would have written the same tokens.
    scores = naive_logits(SCALED, params, jnp.concatenate([TOKENS, found], axis=1))
    np.testing.assert_array_equal(found, scores[:, TOKENS.shape[1] - 1 : -1].argmax(-1))


def test_a_sweep_takes_the_layers_as_they_act():
    params, batch = random_params(SCALED), text()
    steps = replaced(baseline(5).steps, Step(3, factors=closed("mlp")))
    variants = [baseline(5), Variant("closed", steps), Variant("swapped", tuple(map(Step, (1, 0))))]
    sweep = Sweep(SCALED, variants, [batch], {"nll": nll})
    sweep.place(params)
    readings = sweep.run(0)
    folded = tree.fold_norms(SCALED, params)
    for variant in variants:
        expected = naive_nll(*folded, variant.steps, batch)
        np.testing.assert_allclose(readings["nll"][variant.name], expected, rtol=1e-5, atol=1e-5)
    scores = jax.nn.log_softmax(
        model.forward(SCALED, params, batch.token_RT, batch.position_RT, batch.segment_RT)
    ).reshape(-1, CONFIG.vocab_size)
    np.testing.assert_allclose(
        readings["nll"]["baseline"],
        -scores[batch.predict_P, batch.target_P],
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_layer_that_growth_moves_has_the_scale_of_its_new_place():
    params, growth = random_params(SCALED), growth_map("lidas", 5, 2)
    config = grown_config(SCALED, growth)
    assert config.ln_scaling
    grown, _ = grow(growth, params)
    literal = tree.with_layers(params, [params["layers"][source] for source in growth.sources])
    expected = naive_logits(config, literal, TOKENS)
    np.testing.assert_allclose(model.forward(config, grown, TOKENS), expected, rtol=1e-5, atol=1e-5)


def test_a_materialised_variant_keeps_the_scales_of_its_layers():
    params = random_params(SCALED)
    steps = tuple(map(Step, (0, 2, 4)))
    config, found = materialise(SCALED, params, steps)
    assert (config.num_layers, config.ln_scaling) == (3, False)
    norm = tree.get(found["layers"][2], "attention_norm")
    expected = tree.get(params["layers"][4], "attention_norm") / np.float32(math.sqrt(5))
    np.testing.assert_allclose(norm, expected, rtol=1e-6)


def test_a_written_folder_is_a_plain_model(tmp_path):
    params = random_params(SCALED)
    checkpoint = Checkpoint(SCALED, params, None, "tests", "0" * 64)
    loaded = weights.load(f"file:{weights.export_hf(checkpoint, tmp_path / 'model')}")
    assert not loaded.config.ln_scaling
    np.testing.assert_allclose(
        model.forward(loaded.config, loaded.params, TOKENS),
        naive_logits(SCALED, params, TOKENS),
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_checkpoint_of_our_own_keeps_the_scaling_and_can_grow_on(tmp_path):
    params, growth = random_params(SCALED), growth_map("lidas", 5, 2)
    checkpoint = Checkpoint(SCALED, params, None, "tests", "0" * 64)
    loaded = open_orbax(save_orbax(checkpoint, tmp_path / "model"), "tests").load()
    assert loaded.config == SCALED
    for before, after in ((params, loaded.params), grown_both(growth, params, loaded.params)):
        config = SCALED if after is loaded.params else grown_config(SCALED, growth)
        expected = naive_logits(config, before, TOKENS)
        found = model.forward(config, after, TOKENS)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def grown_both(growth, *every):
    return [grow(growth, params)[0] for params in every]


def test_the_option_survives_json_and_is_off_in_older_files():
    assert ModelConfig.from_dict(SCALED.to_dict()) == SCALED
    older = CONFIG.to_dict()
    del older["ln_scaling"]
    assert ModelConfig.from_dict(older) == CONFIG

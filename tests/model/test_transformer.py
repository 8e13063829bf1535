"""The whole forward: stacked or not, packed or alone, layers of several shapes."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, naive_stream, random_params, text

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.interventions.variants import baseline_steps
from jaxanatomy.model import products

SMOLLM2_135M = ModelConfig.uniform(
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    ffn_width=1536,
    vocab_size=49152,
    hidden_size=576,
    head_dim=64,
    rope_theta=100_000.0,
    context_length=8192,
)
CONFIGS = {
    "uniform": CONFIG,
    "mixed and untied": dataclasses.replace(MIXED_SHAPES, tie_embeddings=False),
    "windows": CONFIG.with_layers(
        LayerShape(4, 2, 24, ("q_proj", "o_proj"), qk_norm=True, window=window)
        for window in (None, 3, 3, None, 2)
    ),
}
CONFIG_OF = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
TOKEN_BT = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 9))


@CONFIG_OF
def test_stacked_and_single_layers_are_equal_to_the_bit(config):
    params = random_params(config)
    stacked = tree.with_layers(params, tree.stack(params["layers"]))
    assert len(stacked["layers"]) == (1 if config.is_uniform else 3)
    expected = model.forward(config, params, TOKEN_BT)
    np.testing.assert_array_equal(model.forward(config, stacked, TOKEN_BT), expected)
    assert expected.shape == (2, 9, config.vocab_size)


@CONFIG_OF
def test_layers_run_in_order(config):
    params, batch = random_params(config), text()
    x_RTD = naive_stream(config, params, baseline_steps(config.num_layers), batch)
    got = jax.jit(model.hidden, static_argnums=0)(
        config, params, batch.token_RT, batch.position_RT, batch.segment_RT
    )
    np.testing.assert_allclose(got, x_RTD, rtol=1e-5, atol=1e-5)


def test_packed_documents_give_the_logits_of_documents_alone():
    params = random_params(CONFIG)
    documents = [TOKEN_BT[:1, :4], TOKEN_BT[:1, 4:], TOKEN_BT[1:, :6]]
    lengths = [document.shape[1] for document in documents]
    packed = model.forward(
        CONFIG,
        params,
        np.concatenate(documents, axis=1),
        np.concatenate([np.arange(n) for n in lengths])[None],
        np.repeat([5, 2, 9], lengths)[None],
    )
    starts = np.cumsum([0, *lengths])
    for start, document in zip(starts, documents, strict=False):
        alone = model.forward(CONFIG, params, document)
        part = packed[:, start : start + document.shape[1]]
        np.testing.assert_allclose(part, alone, rtol=0, atol=1e-5)


def test_defaults_are_one_document_from_position_0():
    params, (B, T) = random_params(CONFIG), TOKEN_BT.shape
    position_BT = np.broadcast_to(np.arange(T), (B, T))
    expected = model.forward(CONFIG, params, TOKEN_BT, position_BT, np.full((B, T), 3))
    np.testing.assert_array_equal(model.forward(CONFIG, params, TOKEN_BT), expected)


def test_later_tokens_change_nothing_before_them():
    params, changed = random_params(CONFIG), TOKEN_BT.copy()
    changed[:, 6] = (changed[:, 6] + 1) % CONFIG.vocab_size
    before = np.asarray(model.forward(CONFIG, params, TOKEN_BT))
    after = np.asarray(model.forward(CONFIG, params, changed))
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert (np.abs(before - after)[:, 6:].max(axis=-1) > 1e-3).all()


def test_an_untied_head_has_a_matrix_of_its_own():
    untied = dataclasses.replace(CONFIG, tie_embeddings=False)
    params = random_params(CONFIG)
    tied_logits = model.forward(CONFIG, params, TOKEN_BT)
    doubled = params | {"unembed": {"embedding": 2 * params["embed"]["embedding"]}}
    got = model.forward(untied, doubled, TOKEN_BT)
    np.testing.assert_allclose(got, 2 * tied_logits, rtol=0, atol=1e-5)


def test_bfloat16_is_near_float32_and_gives_float32():
    params = random_params(CONFIG)
    exact = model.forward(CONFIG, params, TOKEN_BT)
    rough = model.forward(CONFIG, params, TOKEN_BT, dtype=jnp.bfloat16)
    assert rough.dtype == jnp.float32
    assert 1e-3 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


@CONFIG_OF
def test_fused_attention_gives_the_same_streams_and_gradients(config, monkeypatch):
    params = random_params(config)
    segment_BT = jnp.asarray([[0] * 4 + [1] * 5, [2] * 9])

    def stream(params):
        return model.hidden(config, params, TOKEN_BT, segment_BT=segment_BT)

    def norm(params):
        return (stream(params) ** 2).sum()

    expected, gradient = stream(params), jax.grad(norm)(params)
    fused, called = jax.nn.dot_product_attention, []
    products._fused.cache_clear()  # JAX may have traced it before

    def counted(*arguments, **options):
        called.append(options["implementation"])
        return fused(*arguments, **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", counted)
    monkeypatch.setattr(model.transformer, "fused_implementation", lambda *shapes: "xla")
    np.testing.assert_allclose(stream(params), expected, rtol=0, atol=2e-5)
    assert set(called) == {"xla"}
    jax.tree.map(
        lambda own, other: np.testing.assert_allclose(own, other, rtol=2e-3, atol=2e-3),
        jax.grad(norm)(params),
        gradient,
    )


@pytest.mark.parametrize(
    ("platform", "version", "capability", "shapes", "found"),
    [
        ("gpu", "cuda 13000", "9.0", (64, 2048, jnp.bfloat16), "cudnn"),
        ("gpu", "cuda 13000", "10.3", (128, 2, jnp.bfloat16), "cudnn"),
        ("gpu", "cuda 13000", "9.0", (64, 2048, jnp.float32), ""),
        ("gpu", "cuda 13000", "9.0", (64, 2047, jnp.bfloat16), ""),
        ("gpu", "cuda 13000", "9.0", (60, 2048, jnp.bfloat16), ""),
        ("gpu", "cuda 13000", "9.0", (136, 2048, jnp.bfloat16), ""),
        ("gpu", "cuda 13000", "7.5", (64, 2048, jnp.bfloat16), ""),
        ("gpu", "rocm 60300", "gfx942", (64, 2048, jnp.bfloat16), ""),
        ("tpu", "TFRT", "", (64, 2048, jnp.bfloat16), ""),
        ("cpu", "cpu", "", (64, 2048, jnp.bfloat16), ""),
    ],
)
def test_which_devices_and_shapes_have_fused_attention(
    platform, version, capability, shapes, found, monkeypatch
):
    client = types.SimpleNamespace(platform_version=version)
    device = types.SimpleNamespace(platform=platform, client=client, compute_capability=capability)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert products.fused_implementation(*shapes) == found


@pytest.mark.parametrize("given", [4, 6])
@pytest.mark.parametrize("stacked", [True, False])
def test_another_depth_than_the_config_says_is_refused(given, stacked):
    params = random_params(CONFIG)
    layers = (params["layers"] * 2)[:given]
    params = tree.with_layers(params, tree.stack(layers) if stacked else layers)
    with pytest.raises(ValueError, match=f"config has 5 layers, the parameters have {given}"):
        model.forward(CONFIG, params, TOKEN_BT)


def test_the_program_does_not_grow_with_depth():
    def program(num_layers):
        config = CONFIG.with_layers(CONFIG.layers[:1] * num_layers)
        shapes = jax.eval_shape(lambda key: model.init(config, key), jax.random.key(0))
        stacked = jax.eval_shape(lambda p: tree.with_layers(p, tree.stack(p["layers"])), shapes)
        jaxpr = jax.make_jaxpr(model.forward, static_argnums=0)(config, stacked, TOKEN_BT)
        return str(jaxpr).count(" = ")

    assert program(2) == program(12)


@CONFIG_OF
def test_initial_parameters_have_the_shapes_of_the_config(config):
    params = model.init(config, jax.random.key(0))
    for layer, block in enumerate(params["layers"]):
        shapes = {name: array.shape for name, array in tree.components(block).items()}
        assert shapes == model.block_shapes(config, layer)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == model.parameter_count(config)
    assert ("unembed" in params) is not config.tie_embeddings


def test_smollm2_has_134_515_008_parameters():
    params = jax.eval_shape(lambda: model.init(SMOLLM2_135M, jax.random.key(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == model.parameter_count(SMOLLM2_135M) == 134_515_008
    logits = jax.eval_shape(lambda p: model.forward(SMOLLM2_135M, p, TOKEN_BT), params)
    assert (logits.shape, logits.dtype) == ((2, 9, 49152), jnp.float32)


def test_initial_values_are_normal_and_no_two_layers_alike():
    config = dataclasses.replace(CONFIG, tie_embeddings=False, vocab_size=5_000)
    params = model.init(config, jax.random.key(0))
    for part in ("embed", "unembed"):
        values = np.asarray(params[part]["embedding"])
        assert values.std() == pytest.approx(0.02, rel=0.02)
        assert abs(values.mean()) < 3e-4  # five standard errors are 3.5e-4
    kernels = [np.asarray(tree.get(block, "up_proj")) for block in params["layers"]]
    kernels.append(np.asarray(tree.get(params["layers"][0], "gate_proj")))
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)
    assert np.std(kernels) == pytest.approx(0.02, rel=0.1)
    np.testing.assert_array_equal(tree.get(params["layers"][2], "mlp_norm"), np.ones(16))


@CONFIG_OF
def test_each_layer_is_drawn_from_a_key_of_its_own(config):
    key = jax.random.key(3)
    keys = jax.random.split(key, 2 + config.num_layers)[2:]
    position_BT = jnp.zeros((1, 1), jnp.int32)
    given = jnp.zeros((1, 1, config.hidden_size)), model.rope.tables(config, position_BT)
    for layer, found in enumerate(model.init(config, key)["layers"]):
        bias_BTS = jnp.zeros((1, 1, 1))
        alone = model.block(config, layer).init(keys[layer], *given, bias_BTS)["params"]
        jax.tree.map(np.testing.assert_array_equal, found, alone)


def test_initial_values_by_fan_in():
    config = dataclasses.replace(CONFIG, tie_embeddings=False, vocab_size=5_000)
    plain, params = (model.init(config, jax.random.key(0), how) for how in ("normal", "fan_in"))
    D, F, L = config.hidden_size, config.layers[0].ffn_width, config.num_layers
    heads = config.layers[0].num_heads * config.head_dim
    expected = dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), D**-0.5)
    expected |= {"o_proj": (2 * L * heads) ** -0.5, "down_proj": (2 * L * F) ** -0.5}
    for before, block in zip(plain["layers"], params["layers"], strict=True):
        for name, std in expected.items():
            scaled = np.asarray(tree.get(before, name)) / 0.02 * std
            np.testing.assert_allclose(tree.get(block, name), scaled, rtol=1e-5)
        np.testing.assert_array_equal(tree.get(block, "mlp_norm"), np.ones(D))
    assert np.std(params["embed"]["embedding"]) == pytest.approx(0.5, rel=0.02)
    assert np.std(params["unembed"]["embedding"]) == pytest.approx(D**-0.5, rel=0.02)


def test_equal_keys_give_equal_parameters():
    one, again, other = (model.init(CONFIG, jax.random.key(seed)) for seed in (3, 3, 4))
    assert jax.tree.all(jax.tree.map(np.array_equal, one, again))
    assert not np.array_equal(one["embed"]["embedding"], other["embed"]["embedding"])


def test_tree_bias():
    # A root, a branch of two tokens below it, another of one; padding sees itself.
    seen_TS = np.asarray(model.tree_bias(jnp.asarray([[4, 3, 3, 4, 5]])))[0] == 0
    np.testing.assert_array_equal(
        seen_TS.astype(int),
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1]],
    )


def test_attention_bias():
    bias_BTS = model.attention_bias(jnp.asarray([[0, 0, 1, -1]]))
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(bias_BTS[0] == 0, np.array(expected, bool))
    assert bias_BTS.min() < -1e29
    assert np.isfinite(bias_BTS).all()

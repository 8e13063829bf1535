"""The model and the loading of HF folders against stored results of transformers.

`tools/make_golden.py` wrote the data and describes it. The last tests show that the
comparison has teeth: a slightly wrong RoPE or a wrong order inside the heads of q and k
fails it by far.
"""

import dataclasses
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxanatomy import model, tree, weights

FOLDER = pathlib.Path(__file__).parent
LLAMAS = ("mha_tied", "mqa_untied", "gqa_tied", "gqa_untied", "llama3_rope", "llama_biases")
KINDS = (*LLAMAS, "mistral", "qwen2", "qwen3")
# Two that differ in everything, for what compiles slowly.
TWO_KINDS = pytest.mark.parametrize("kind", ["gqa_untied", "llama3_rope"], indirect=True)
TOLERANCE = 1e-5
FAR = 100 * TOLERANCE


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def checkpoint(kind):
    return weights.load(f"file:{FOLDER / kind}")


@pytest.fixture(scope="module")
def expected(kind):
    with np.load(FOLDER / kind / "expected.npz") as arrays:
        return {name: arrays[name] for name in arrays}


def largest_difference(config, params, expected):
    token_BT, position_BT = jnp.asarray(expected["token_BT"]), jnp.asarray(expected["position_BT"])
    logits_BTV = model.forward(config, params, token_BT, position_BT)
    return np.abs(np.asarray(logits_BTV) - expected["logits_BTV"]).max()


def as_llama_cpp_orders(kernel, d):
    """A kernel whose outputs stand inside each head as GGUF files keep them: in pairs."""
    return kernel.reshape(len(kernel), -1, 2, d // 2).swapaxes(2, 3).reshape(kernel.shape)


def test_the_data_varies_enough_to_show_mistakes(expected):
    assert expected["logits_BTV"].std() > 1
    assert all(len(set(row)) > 4 for row in expected["continuation_BT"].tolist())


def test_logits(checkpoint, expected):
    assert largest_difference(checkpoint.config, checkpoint.params, expected) < TOLERANCE


@TWO_KINDS
def test_residual_stream_after_each_layer(checkpoint, expected):
    config, params = checkpoint.config, checkpoint.params
    token_BT, position_BT = jnp.asarray(expected["token_BT"]), jnp.asarray(expected["position_BT"])
    streams = [model.embed(params, token_BT)]
    for depth in range(1, config.num_layers + 1):
        shallow = tree.with_layers(params, params["layers"][:depth])
        shapes = config.with_layers(config.layers[:depth])
        streams.append(model.hidden(shapes, shallow, token_BT, position_BT))
    np.testing.assert_allclose(np.stack(streams), expected["hidden_NBTD"], rtol=0, atol=TOLERANCE)


def test_greedy_continuation(checkpoint, expected):
    prompt_BT, continuation_BT = jnp.asarray(expected["token_BT"]), expected["continuation_BT"]
    written_BT = model.generate(
        checkpoint.config, checkpoint.params, prompt_BT, continuation_BT.shape[1]
    )
    np.testing.assert_array_equal(written_BT, continuation_BT)


@TWO_KINDS
def test_a_slightly_wrong_rope_base_fails(checkpoint, expected):
    wrong = dataclasses.replace(checkpoint.config, rope_theta=1.01 * checkpoint.config.rope_theta)
    assert largest_difference(wrong, checkpoint.params, expected) > FAR


def test_the_family_is_that_of_the_folder(kind, checkpoint):
    assert checkpoint.config.family == ("llama" if kind in LLAMAS else kind)


def test_rope_scaling_left_out_fails(kind, checkpoint, expected):
    unscaled = dataclasses.replace(checkpoint.config, rope_scaling=None)
    difference = largest_difference(unscaled, checkpoint.params, expected)
    assert difference > FAR if kind == "llama3_rope" else difference < TOLERANCE


@pytest.mark.parametrize("permuted", [("q_proj",), ("k_proj",), ("q_proj", "k_proj")], ids="+".join)
def test_a_wrong_order_inside_heads_fails(checkpoint, expected, permuted):
    d = checkpoint.config.head_dim

    def permute(block):
        return tree.replace(
            block, {name: as_llama_cpp_orders(tree.get(block, name), d) for name in permuted}
        )

    wrong = tree.with_layers(
        checkpoint.params, [permute(block) for block in checkpoint.params["layers"]]
    )
    assert largest_difference(checkpoint.config, wrong, expected) > FAR


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("llama_biases", f"{name}.bias") for name in tree.MATRICES if name != "k_proj"),
        *(("qwen2", f"{name}.bias") for name in ("q_proj", "k_proj", "v_proj")),
        *(("qwen3", name) for name in ("q_norm", "k_norm")),
    ],
    indirect=["kind"],
)
def test_a_bias_or_norm_left_out_fails(checkpoint, expected, name):
    left = 1.0 if name.endswith("norm") else 0.0
    layers = [
        tree.replace(block, {name: np.full_like(tree.get(block, name), left)})
        for block in checkpoint.params["layers"]
    ]
    wrong = tree.with_layers(checkpoint.params, layers)
    assert largest_difference(checkpoint.config, wrong, expected) > FAR


@pytest.mark.parametrize("kind", ["mistral", "qwen2"], indirect=True)
@pytest.mark.parametrize("change", [None, -1, 1])
def test_another_window_fails(checkpoint, expected, change):
    wrong = checkpoint.config.with_layers(
        dataclasses.replace(shape, window=shape.window and change and shape.window + change)
        for shape in checkpoint.config.layers
    )
    assert largest_difference(wrong, checkpoint.params, expected) > FAR


def test_norms_taken_for_each_other_fail(checkpoint, expected):
    def swap(block):
        attention, mlp = tree.get(block, "attention_norm"), tree.get(block, "mlp_norm")
        return tree.replace(block, {"attention_norm": mlp, "mlp_norm": attention})

    wrong = tree.with_layers(
        checkpoint.params, [swap(block) for block in checkpoint.params["layers"]]
    )
    assert largest_difference(checkpoint.config, wrong, expected) > FAR

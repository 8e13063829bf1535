"""Mistral, Qwen2 and Qwen3: what their configs say, and what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from transformers import AutoConfig

from jaxanatomy import model, tree, weights
from jaxanatomy.config import ATTENTION, LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights import families, gguf_config, hf_config
from jaxanatomy.weights.random_init import random_params
from jaxanatomy.weights.tensors import StoredTensor

COMMON = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
QWEN2 = {
    **COMMON,
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "max_window_layers": 24,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_mrope": False,
    "use_sliding_window": False,
}
QWEN3 = {
    **COMMON,
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "vocab_size": 151936,
    "hidden_size": 1024,
    "head_dim": 128,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
MISTRAL = {
    **COMMON,
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
}
# The public configs, and the number of parameters that their model cards imply.
PUBLIC = {
    "Qwen2.5-0.5B": (QWEN2, 494_032_768),
    "Qwen3-0.6B": (QWEN3, 596_049_920),
    "Mistral-7B-v0.1": (MISTRAL, 7_241_732_096),
    "Mistral-7B-v0.3": (
        {**MISTRAL, "vocab_size": 32768, "sliding_window": None, "rope_theta": 1e6},
        7_248_023_552,
    ),
}
BIASES = ("q_proj", "k_proj", "v_proj")


@pytest.mark.parametrize("name", PUBLIC)
def test_public_configs_are_understood_and_written(name):
    fields, parameters = PUBLIC[name]
    config = hf_config.from_config(fields)
    assert model.parameter_count(config) == parameters
    assert config.family == fields["model_type"]
    assert hf_config.from_config(json.loads(json.dumps(hf_config.to_config(config)))) == config
    assert hf_config.updated_config(fields, config) == fields


def test_the_options_of_each_family():
    shape = hf_config.from_config(QWEN2).layers[0]
    assert shape == LayerShape(14, 2, 4864, biases=BIASES)
    config = hf_config.from_config(QWEN3)
    assert config.layers[0] == LayerShape(16, 8, 3072, qk_norm=True)
    assert (config.head_dim, config.hidden_size // 16) == (128, 64)
    biased = hf_config.from_config({**QWEN3, "attention_bias": True})
    assert biased.layers[0].biases == ATTENTION
    assert {shape.window for shape in hf_config.from_config(MISTRAL).layers} == {4096}
    none = hf_config.from_config({**MISTRAL, "sliding_window": None})
    assert {shape.window for shape in none.layers} == {None}


FULL, WINDOWED = "full_attention", "sliding_attention"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"use_sliding_window": True, "max_window_layers": 0},
        {"use_sliding_window": True, "max_window_layers": 21},
        {"use_sliding_window": True, "max_window_layers": 24},
        {"use_sliding_window": True, "layer_types": [FULL, WINDOWED] * 12},
        {"layer_types": [FULL] * 24},
    ],
)
@pytest.mark.parametrize("absent", [(), ("max_window_layers",), ("sliding_window",)])
def test_windows_are_those_of_transformers(change, absent, tmp_path):
    fields = {k: v for k, v in (QWEN2 | change).items() if k not in absent}
    config = hf_config.from_config(fields)
    theirs = AutoConfig.for_model(**fields)
    expected = [theirs.sliding_window if t == WINDOWED else None for t in theirs.layer_types]
    assert [shape.window for shape in config.layers] == expected
    # As written they read the same, there and here, also with fewer layers.
    for layers in (config.layers, config.layers[2:], config.layers[:1]):
        shorter = config.with_layers(layers)
        for written in (hf_config.to_config(shorter), hf_config.updated_config(fields, shorter)):
            again = AutoConfig.for_model(**written)
            kinds = [WINDOWED if shape.window else FULL for shape in layers]
            assert again.layer_types == kinds
            assert hf_config.from_config(written) == shorter


@pytest.mark.parametrize("fields", [QWEN2, QWEN3, MISTRAL])
def test_what_is_absent_is_what_transformers_takes(fields):
    needed = ["architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size"]
    needed += ["num_hidden_layers", "num_attention_heads"]
    few = {name: fields[name] for name in needed} | {"num_attention_heads": 32}
    theirs, config = AutoConfig.for_model(**few), hf_config.from_config(few)
    shape = config.layers[0]
    assert shape.num_kv_heads == theirs.num_key_value_heads
    assert config.context_length == theirs.max_position_embeddings
    assert config.norm_epsilon == theirs.rms_norm_eps
    assert config.tie_embeddings == theirs.tie_word_embeddings
    assert config.rope_theta == theirs.rope_parameters["rope_theta"]
    assert config.head_dim == getattr(theirs, "head_dim", few["hidden_size"] // 32)
    assert shape.window == (4096 if fields is MISTRAL else None)


REFUSED = [
    (QWEN2, {"attention_bias": True}, "not understood: attention_bias"),
    (QWEN2, {"use_mrope": True}, "expected use_mrope=False in config.json; got True"),
    (QWEN2, {"use_sliding_window": 1}, "use_sliding_window in config.json must be true or false"),
    (
        QWEN2,
        {"use_sliding_window": True, "sliding_window": None},
        "sliding_window, as use_sliding_window is true, of the model must be a positive integer",
    ),
    (QWEN2, {"use_sliding_window": True, "sliding_window": 0}, "positive integer; got 0"),
    (
        QWEN2,
        {"use_sliding_window": True, "max_window_layers": -1},
        "max_window_layers of the model must be a whole number, 0 or above; got -1",
    ),
    (QWEN2, {"layer_types": [FULL] * 23}, "for each of 24 layers; got ['full"),
    (QWEN2, {"layer_types": [FULL] * 23 + ["chunked_attention"]}, "for each of 24 layers"),
    (QWEN2, {"layer_types": [[]] * 24}, "for each of 24 layers"),
    (QWEN2, {"layer_types": [WINDOWED] * 24}, "but use_sliding_window=false; set it to true"),
    (QWEN2, {"model_type": "llama"}, "expected model_type='qwen2' in config.json; got 'llama'"),
    (QWEN2, {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "default or llama3; got 'yarn'"),
    (QWEN3, {"head_dim": 127}, "head_dim must be even for RoPE; got 127"),
    (QWEN3, {"head_dim": 0}, "head_dim of the model must be a positive integer; got 0"),
    (QWEN3, {"attention_bias": None}, "attention_bias in config.json must be true or false"),
    (QWEN3, {"qk_norm": True}, "not understood: qk_norm"),
    (QWEN3, {"num_experts": 8}, "not understood: num_experts"),
    (MISTRAL, {"sliding_window": -5}, "sliding_window of the model must be a positive integer"),
    (MISTRAL, {"sliding_window": 4096.0}, "positive integer; got 4096.0"),
    (MISTRAL, {"layer_types": [FULL] * 32}, "not understood: layer_types"),
    (MISTRAL, {"attention_bias": False}, "not understood: attention_bias"),
]


@pytest.mark.parametrize(("fields", "change", "message"), REFUSED)
def test_what_is_not_understood_is_refused_by_name(fields, change, message):
    with pytest.raises(InputError) as caught:
        hf_config.from_config({**fields, **change})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def tiny(fields, **options):
    """A config of two layers of a family."""
    config = hf_config.from_config({**fields, "num_hidden_layers": 2})
    return config.with_layers(dataclasses.replace(shape, **options) for shape in config.layers)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (tiny(MISTRAL, qk_norm=True), "the family mistral cannot say LayerShape.*qk_norm=True"),
        (tiny(MISTRAL, biases=BIASES), "the family mistral cannot say"),
        (tiny(QWEN2, biases=()), r"the family qwen2 cannot say LayerShape\(.*biases=\(\)"),
        (tiny(QWEN3, qk_norm=False), "the family qwen3 cannot say"),
        (dataclasses.replace(tiny(QWEN2), family="llama"), "the family llama cannot say"),
        (dataclasses.replace(tiny(QWEN3), family="gpt"), "unknown family 'gpt'; known: llama, mis"),
        (
            tiny(MISTRAL).with_layers(
                (LayerShape(32, 8, 9, window=7), LayerShape(32, 8, 9, window=8))
            ),
            "the family mistral cannot say LayerShape.*window=8",
        ),
        (
            tiny(QWEN2).with_layers(LayerShape(14, 2, 9, BIASES, window=w) for w in (7, 8)),
            "the family qwen2 cannot say LayerShape.*window=7",
        ),
    ],
)
def test_what_a_family_cannot_say_is_not_written(config, said):
    with pytest.raises(InputError, match=said):
        hf_config.to_config(config)


def test_a_mistral_without_a_window_says_so(tmp_path):
    """Where the attribute is absent transformers takes 4,096."""
    config = ModelConfig.uniform(
        2, 4, 2, 24, vocab_size=40, hidden_size=32, tie_embeddings=False, family="mistral"
    )
    params = random_params(config, np.dtype(np.float32))
    checkpoint = weights.Checkpoint(config, params, None, "tiny", "")
    folder = weights.export_hf(checkpoint, tmp_path / "model")
    assert AutoConfig.from_pretrained(folder).sliding_window is None
    assert weights.load(f"file:{folder}").config == config


GGUF = {
    "block_count": 2,
    "context_length": 128,
    "embedding_length": 32,
    "feed_forward_length": 48,
    "attention.head_count": 4,
    "attention.layer_norm_rms_epsilon": float(np.float32(1e-6)),
    "vocab_size": 300,
}


def from_gguf(architecture, stored=(), **more):
    fields = {f"{architecture}.{key}": value for key, value in (GGUF | more).items()}
    tensors = {name: StoredTensor((8,), lambda start, stop: None) for name in stored}
    return gguf_config.from_metadata({"general.architecture": architecture, **fields}, tensors)[0]


def test_families_of_gguf_files():
    shape = LayerShape(4, 4, 48)
    window = {"attention.sliding_window": 64}
    found = {
        "llama": from_gguf("llama"),
        "mistral": from_gguf("llama", **window),
        "qwen2": from_gguf("qwen2"),
        "qwen3": from_gguf("qwen3", **{"attention.key_length": 16}),
    }
    options = {"mistral": {"window": 64}, "qwen2": {"biases": BIASES}, "qwen3": {"qk_norm": True}}
    for name, config in found.items():
        assert config.family == name
        assert config.layers == (dataclasses.replace(shape, **options.get(name, {})),) * 2
        assert bool(gguf_config.row_orders(config)) == (families.of(config).gguf == "llama")
    none = from_gguf("llama", **{"attention.sliding_window": 0})
    assert (none.family, none.layers[0].window) == ("mistral", None)
    biased = from_gguf("llama", ["blk.0.attn_q.bias", "blk.0.attn_norm.bias", "output.bias"])
    assert biased.layers[0].biases == ("q_proj",)
    assert gguf_config.names(found["qwen3"])["layers/1/attention/k_norm/scale"] == (
        "blk.1.attn_k_norm.weight"
    )


@pytest.mark.parametrize(
    ("architecture", "more", "message"),
    [
        ("qwen2", {"attention.sliding_window": 64}, "not understood: qwen2.attention.sliding_w"),
        ("llama", {"attention.sliding_window": -1}, "sliding_window of the model must be a whole"),
        ("qwen3", {"attention.key_length": 15}, "head_dim must be even for RoPE; got 15"),
        ("qwen3moe", {}, "unknown GGUF architecture 'qwen3moe'; known: llama, qwen2, qwen3;"),
    ],
)
def test_gguf_files_that_are_refused(architecture, more, message):
    with pytest.raises(InputError) as caught:
        from_gguf(architecture, **more)
    assert message in str(caught.value)


def test_the_null_model_has_norms_of_one_and_biases_of_zero():
    config = ModelConfig.uniform(
        2, 4, 2, 24, vocab_size=40, hidden_size=32, biases=("q_proj", "down_proj"), qk_norm=True
    )
    leaves = tree.to_leaves(random_params(config, np.dtype(np.float32)))
    drawn = model.init(config, jax.random.key(0))
    for path, array in leaves.items():
        kind = path.split("/")[-1]
        if kind in ("scale", "bias"):
            assert set(array.tolist()) == {1.0 if kind == "scale" else 0.0}
            np.testing.assert_array_equal(tree.to_leaves(drawn)[path], array)
        else:
            assert 0.015 < array.std() < 0.025

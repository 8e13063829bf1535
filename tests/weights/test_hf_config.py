import json

import numpy as np
import pytest

from jaxanatomy.config import LayerShape, Llama3RopeScaling, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.model import parameter_count
from jaxanatomy.weights import families, hf_config
from jaxanatomy.weights.tensors import StoredTensor

COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rope_scaling": None,
    "rms_norm_eps": 1e-05,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.42.3",
    "use_cache": True,
}


def sizes(V, D, F, layers, H, K, context, tied, **more):
    """The size attributes of a config.json."""
    return {
        **COMMON,
        "vocab_size": V,
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": layers,
        "num_attention_heads": H,
        "num_key_value_heads": K,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        **more,
    }


def llama3_rope(factor):
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


SMOLLM2 = sizes(
    49152,
    576,
    1536,
    30,
    9,
    3,
    8192,
    True,
    rope_theta=100000,
    is_llama_config=True,
    mlp_bias=False,
    pad_token_id=2,
    rope_interleaved=False,
    **{"transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}}},
)

# The public configs, and the number of parameters that their model cards imply.
PUBLIC = {
    "SmolLM-135M": (
        sizes(49152, 576, 1536, 30, 9, 3, 2048, True, rope_theta=10000.0),
        134_515_008,
    ),
    "SmolLM2-135M-Instruct": (SMOLLM2, 134_515_008),
    "SmolLM2-1.7B": (
        sizes(49152, 2048, 8192, 24, 32, 32, 8192, True, rope_theta=130000),
        1_711_376_384,
    ),
    "TinyLlama-1.1B": (
        sizes(32000, 2048, 5632, 22, 32, 4, 2048, False, rope_theta=10000.0),
        1_100_048_384,
    ),
    "Llama-2-7b": (
        {**sizes(32000, 4096, 11008, 32, 32, 32, 4096, False), "_name_or_path": "llama"},
        6_738_415_616,
    ),
    "Meta-Llama-3-8B": (
        sizes(128256, 4096, 14336, 32, 32, 8, 8192, False, rope_theta=500000.0),
        8_030_261_248,
    ),
    "Llama-3.1-8B-Instruct": (
        {
            **sizes(128256, 4096, 14336, 32, 32, 8, 131072, False, rope_theta=500000.0),
            "eos_token_id": [128001, 128008, 128009],
            "mlp_bias": False,
            "rope_scaling": llama3_rope(8.0),
        },
        8_030_261_248,
    ),
    "Llama-3.2-1B": (
        {
            **sizes(128256, 2048, 8192, 16, 32, 8, 131072, True, rope_theta=500000.0),
            "head_dim": 64,
            "rope_scaling": llama3_rope(32.0),
        },
        1_235_814_400,
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_configs_are_understood(name):
    fields, parameters = PUBLIC[name]
    assert families.for_config(fields).name == "llama"
    config = hf_config.from_config(fields)
    assert parameter_count(config) == parameters
    assert config.context_length == fields["max_position_embeddings"]
    assert config.rope_theta == fields.get("rope_theta", 10000.0)


def test_the_fields_of_one_config():
    config = hf_config.from_config(SMOLLM2)
    shape = LayerShape(num_heads=9, num_kv_heads=3, ffn_width=1536)
    assert config == ModelConfig(
        49152,
        576,
        64,
        (shape,) * 30,
        100000.0,
        None,
        1e-5,
        8192,
        True,
    )


def test_both_forms_of_rope_give_the_same():
    older = {**SMOLLM2, "rope_theta": 5e5, "rope_scaling": llama3_rope(32.0)}
    newer = {**SMOLLM2, "rope_parameters": {**llama3_rope(32.0), "rope_theta": 5e5}}
    del newer["rope_theta"]
    expected = Llama3RopeScaling(32.0, 1.0, 4.0, 8192)
    assert hf_config.from_config(older) == hf_config.from_config(newer)
    assert hf_config.from_config(newer).rope_scaling == expected
    assert hf_config.from_config(newer).rope_theta == 5e5
    assert hf_config.from_config({**older, "rope_parameters": newer["rope_parameters"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_experts": 8, "clip_qkv": 1}, "not understood: clip_qkv, num_experts;"),
        ({"attention_bias": 1}, "attention_bias in config.json must be true or false; got 1"),
        ({"mlp_bias": "no"}, "mlp_bias in config.json must be true or false; got 'no'"),
        ({"hidden_act": "gelu"}, "expected hidden_act='silu' in config.json; got 'gelu'"),
        ({"pretraining_tp": 2}, "expected pretraining_tp=1 in config.json; got 2"),
        ({"rope_interleaved": True}, "expected rope_interleaved=False"),
        ({"sliding_window": 4096}, "expected sliding_window=None in config.json; got 4096"),
        (
            {"quantization_config": {"bits": 4}},
            "a checkpoint that is not quantised; got quantization_config=",
        ),
        ({"hidden_size": None}, "config.json must have hidden_size;"),
        ({"hidden_size": "576"}, "hidden_size of the model must be a positive integer; got '576'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers of the model must be a positive integer"),
        ({"num_attention_heads": 7}, "must be a multiple of num_attention_heads; got 576 and 7"),
        ({"num_key_value_heads": 2}, "num_heads must be a multiple of num_kv_heads"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "default or llama3; got 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "of type llama3 must have"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "gives RoPE twice and differently"),
        (
            {"rope_parameters": {"rope_type": "default"}, "rope_scaling": llama3_rope(8.0)},
            "gives RoPE twice and differently",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change, message):
    with pytest.raises(InputError) as caught:
        hf_config.from_config({**SMOLLM2, **change})
    assert message in str(caught.value)


@pytest.mark.parametrize("given", [["GemmaForCausalLM"], [], None, "LlamaForCausalLM"])
def test_other_architectures_are_refused(given):
    with pytest.raises(InputError, match="architecture"):
        families.for_config({**SMOLLM2, "architectures": given})


@pytest.mark.parametrize("name", PUBLIC)
def test_a_written_config_is_read_back(name):
    config = hf_config.from_config(PUBLIC[name][0])
    assert hf_config.from_config(json.loads(json.dumps(hf_config.to_config(config)))) == config


def test_transformers_reads_a_written_config(tmp_path):
    from transformers import AutoConfig

    config = hf_config.from_config(PUBLIC["Llama-3.2-1B"][0])
    (tmp_path / "config.json").write_text(json.dumps(hf_config.to_config(config)))
    read = AutoConfig.from_pretrained(tmp_path)
    assert (read.model_type, read.head_dim, read.num_key_value_heads) == ("llama", 64, 8)
    assert read.rope_parameters == {**llama3_rope(32.0), "rope_theta": 500000.0}
    assert hf_config.from_config(read.to_dict()) == config


def test_what_transformers_cannot_express_is_refused():
    shapes = (LayerShape(4, 2, 96), LayerShape(2, 2, 96))
    config = ModelConfig(320, 64, 16, shapes)
    with pytest.raises(InputError, match=r"one number of heads .* got \[\(2, 2\), \(4, 2\)\]"):
        hf_config.to_config(config)
    with pytest.raises(InputError, match="multiple of the heads; got 64 and 3"):
        hf_config.to_config(config.with_layers([LayerShape(3, 1, 96)]))


def tensor(array):
    return StoredTensor(array.shape, lambda start, stop: array[start:stop])


def test_a_repeated_head_and_rotary_frequencies_are_left_out(config):
    embedding = np.arange(12.0).reshape(6, 2)
    stored = {
        "model.embed_tokens.weight": tensor(embedding),
        "lm_head.weight": tensor(embedding.copy()),
        "model.layers.0.self_attn.rotary_emb.inv_freq": tensor(np.ones(8)),
    }
    assert list(hf_config.drop_redundant(stored, config)) == list(stored)[:2]
    tied = hf_config.from_config(SMOLLM2)
    assert list(hf_config.drop_redundant(stored, tied)) == list(stored)[:1]
    stored["lm_head.weight"] = tensor(embedding + np.eye(6, 2))
    with pytest.raises(InputError, match=r"tie_word_embeddings=true but lm_head.weight differs"):
        hf_config.drop_redundant(stored, tied)

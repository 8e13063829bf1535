"""Qwen3: a norm of queries and keys, heads of their own width, windows from some layer on."""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.config import ATTENTION, ModelConfig
from jaxanatomy.weights.attributes import WINDOWS, boolean, window_at, window_attributes
from jaxanatomy.weights.family import GGUF_NAMES, HF_NAMES, Family, Options


def _options(fields: Mapping[str, Any], layer: int) -> Options:
    biases = ATTENTION if boolean(fields["attention_bias"], "attention_bias") else ()
    return {"qk_norm": True, "biases": biases, "window": window_at(fields, layer)}


def _attributes(config: ModelConfig) -> dict[str, Any]:
    biased = "o_proj" in config.layers[0].biases
    return {"attention_bias": biased, **window_attributes(config)}


FAMILY = Family(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    gguf="qwen3",
    defaults={
        **WINDOWS,
        "attention_bias": False,
        "head_dim": 128,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32_768,
    },
    options=_options,
    attributes=_attributes,
    gguf_options=lambda fields, stored: {"qk_norm": True},
    hf_names=HF_NAMES
    | {
        "attention/q_norm": "model.layers.{}.self_attn.q_norm",
        "attention/k_norm": "model.layers.{}.self_attn.k_norm",
    },
    gguf_names=GGUF_NAMES
    | {"attention/q_norm": "blk.{}.attn_q_norm", "attention/k_norm": "blk.{}.attn_k_norm"},
)

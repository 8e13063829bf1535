"""Qwen2 and Qwen2.5: biases of queries, keys and values; windows from some layer on."""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.weights.attributes import WINDOWS, window_at, window_attributes
from jaxanatomy.weights.family import Family, Options

_BIASES = {"biases": ("q_proj", "k_proj", "v_proj")}


def _options(fields: Mapping[str, Any], layer: int) -> Options:
    return {**_BIASES, "window": window_at(fields, layer)}


FAMILY = Family(
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    gguf="qwen2",
    defaults={**WINDOWS, "num_key_value_heads": 32, "max_position_embeddings": 32_768},
    fixed={"use_mrope": (False, None)},
    options=_options,
    attributes=window_attributes,
    gguf_options=lambda fields, stored: _BIASES,
)

"""Mistral: Llama with one window for all layers, or none.

llama.cpp stores it as `llama` and knows no window there: a GGUF that has none cannot be told
from Llama, and is read as Llama, which computes the same.
"""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.config import ModelConfig
from jaxanatomy.weights.attributes import integer
from jaxanatomy.weights.family import Family, Options


def _options(fields: Mapping[str, Any], layer: int) -> Options:
    window = fields["sliding_window"]
    return {"window": None if window is None else integer(window, "sliding_window")}


def _attributes(config: ModelConfig) -> dict[str, Any]:
    return {"sliding_window": config.layers[0].window}


def _gguf_options(fields: Mapping[str, Any], stored: Any) -> Options:
    # In metadata 0 is none.
    return {"window": integer(fields["attention.sliding_window"], "sliding_window", 0) or None}


FAMILY = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    gguf="llama",
    gguf_pairs=True,
    defaults={
        "sliding_window": 4096,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
    },
    options=_options,
    attributes=_attributes,
    gguf_keys=("attention.sliding_window",),
    gguf_options=_gguf_options,
)

"""Llama and its like: SmolLM, SmolLM2, TinyLlama, Llama 2 and 3."""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.config import ATTENTION, MLP, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights.attributes import boolean
from jaxanatomy.weights.family import GGUF_NAMES, Family, Options
from jaxanatomy.weights.tensors import StoredTensor


def _options(fields: Mapping[str, Any], layer: int) -> Options:
    asked = {"attention_bias": ATTENTION, "mlp_bias": MLP}
    return {
        "biases": tuple(
            matrix
            for name, matrices in asked.items()
            if fields[name] is not None and boolean(fields[name], name)
            for matrix in matrices
        )
    }


def _attributes(config: ModelConfig) -> dict[str, Any]:
    heads = config.layers[0].num_heads
    if config.hidden_size % heads:
        raise InputError(
            f"transformers wants a hidden size that is a multiple of the heads; got "
            f"{config.hidden_size} and {heads}; export a model with another number of heads"
        )
    biases = config.layers[0].biases
    return {"attention_bias": "o_proj" in biases, "mlp_bias": "down_proj" in biases}


def _gguf_options(fields: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> Options:
    """No key says which biases there are, but the tensors of the first layer do."""
    biased = (module for module, name in GGUF_NAMES.items() if f"{name.format(0)}.bias" in stored)
    return {"biases": tuple(module.split("/")[1] for module in biased if "/" in module)}


FAMILY = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    gguf="llama",
    gguf_pairs=True,
    defaults={"attention_bias": False, "mlp_bias": False},
    fixed={"pretraining_tp": (1, None), "sliding_window": (None,)},
    options=_options,
    attributes=_attributes,
    gguf_options=_gguf_options,
)

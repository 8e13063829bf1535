"""The architecture in the metadata of a GGUF file of any family, as llama.cpp stores it.

Keys outside `ARCHITECTURE.` describe the file, its making and its tokenizer, not the
architecture; inside, every key is understood, fixed or refused.

llama.cpp rotates the neighbouring features of a head in its `llama` (Llama and Mistral), for
which its converter permutes the rows of queries and keys; in `qwen2` and `qwen3` it rotates
halves as Hugging Face does, and rows lie as they are.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from jaxanatomy.config import LayerShape, Llama3RopeScaling, ModelConfig, require_depth
from jaxanatomy.errors import InputError
from jaxanatomy.weights import families
from jaxanatomy.weights.attributes import integer
from jaxanatomy.weights.family import tensor_names
from jaxanatomy.weights.tensors import StoredTensor, leaf_shapes, shorten

_REQUIRED = (
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)
_UNDERSTOOD = {
    *_REQUIRED, "vocab_size", "attention.head_count_kv", "rope.freq_base", "rope.dimension_count",
    "attention.key_length", "attention.value_length", "tensor_data_layout",
}  # fmt: skip

# Keys of which only these values mean the forward pass that we have.
_FIXED = {
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (1.0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "attention.causal": (True,),
}
_ROPE_FREQUENCIES = "rope_freqs.weight"

# Llama 3.1 and 3.2, whose converted files keep only the factors that these give.
_LLAMA3_BANDS = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_context_length": 8192,
}


def from_metadata(
    fields: Mapping[str, Any], stored: Mapping[str, StoredTensor]
) -> tuple[ModelConfig, dict[str, StoredTensor]]:
    """The architecture of a GGUF, and its tensors without the RoPE factors.

    Args:
      fields: Metadata by key.
      stored: Tensors by name; no `output.weight` means tied embeddings.

    Raises:
      InputError: The family is not known; a key is missing, not known, or has a value that
        changes the forward pass in a way that we do not have.
    """
    family = families.for_gguf(fields)
    prefix = f"{family.gguf}."
    own = {key.removeprefix(prefix): fields[key] for key in fields if key.startswith(prefix)}
    _check_keys(prefix, own, family.gguf_keys)
    num_layers, D = (integer(own[name], name) for name in ("block_count", "embedding_length"))
    require_depth(num_layers)
    heads = _per_layer(own["attention.head_count"], num_layers, "head_count")
    kv_heads = own.get("attention.head_count_kv")
    kv_heads = _per_layer(heads if kv_heads is None else kv_heads, num_layers, "head_count_kv")
    widths = _per_layer(own["feed_forward_length"], num_layers, "feed_forward_length")
    d, options = _head_dim(own, D, heads[0]), family.gguf_options(own, stored)
    theta = own.get("rope.freq_base")
    theta = 10_000.0 if theta is None else _shortest(theta, "rope.freq_base")
    weights = {name: tensor for name, tensor in stored.items() if name != _ROPE_FREQUENCIES}
    config = ModelConfig(
        vocab_size=_vocab_size(prefix, own, stored),
        hidden_size=D,
        head_dim=d,
        layers=tuple(
            LayerShape(*sizes, **options) for sizes in zip(heads, kv_heads, widths, strict=True)
        ),
        rope_theta=theta,
        rope_scaling=_rope_scaling(stored.get(_ROPE_FREQUENCIES), theta, d),
        norm_epsilon=_shortest(own["attention.layer_norm_rms_epsilon"], "layer_norm_rms_epsilon"),
        context_length=integer(own["context_length"], "context_length"),
        tie_embeddings="output.weight" not in stored,
        family=family.name,
    )
    return config, weights


def names(config: ModelConfig) -> dict[str, str]:
    """The tensor's name in a GGUF file for each leaf."""
    return tensor_names(config, families.of(config).gguf_names)


def row_orders(config: ModelConfig) -> dict[str, np.ndarray]:
    """Where each row of queries and keys lies in the file, where it is permuted; biases alike."""
    if not families.of(config).gguf_pairs:
        return {}
    orders = {
        f"layers/{layer}/attention/{name}/": rotary_row_order(count, config.head_dim)
        for layer, shape in enumerate(config.layers)
        for name, count in (("q_proj", shape.num_heads), ("k_proj", shape.num_kv_heads))
    }
    modules = {leaf: leaf[: leaf.rindex("/") + 1] for leaf in leaf_shapes(config) if "/" in leaf}
    return {leaf: orders[module] for leaf, module in modules.items() if module in orders}


def rotary_row_order(num_heads: int, head_dim: int) -> np.ndarray:
    """The file's row for each row of a query or key matrix.

    llama.cpp rotates neighbouring pairs (2j, 2j+1) of a head, Hugging Face pairs
    (j, j + d/2). So inside a head, row s*d/2 + j is row 2j + s of the file.
    """
    rows = np.arange(num_heads * head_dim)
    return rows.reshape(num_heads, head_dim // 2, 2).swapaxes(1, 2).reshape(-1)


def llama3_factors(scaling: Llama3RopeScaling, theta: float, head_dim: int) -> np.ndarray:
    """What the rotary frequencies are divided by, float64 [d/2].

    Source: Llama 3.1's RoPE as in Hugging Face's `rope_type: llama3`.
    """
    wavelengths = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    turns = scaling.original_context_length / wavelengths
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return 1.0 / ((1.0 - smooth) / scaling.factor + smooth)


def _check_keys(prefix: str, own: Mapping[str, Any], more: Collection[str]) -> None:
    known = {*_UNDERSTOOD, *_FIXED, *more}
    if unknown := sorted(f"{prefix}{key}" for key in own if key not in known):
        raise InputError(
            f"the GGUF has keys that are not understood: {shorten(unknown)}; "
            "this architecture is not supported"
        )
    if absent := [f"{prefix}{key}" for key in _REQUIRED if own.get(key) is None]:
        raise InputError(f"the GGUF must have {', '.join(absent)}; fetch it again")
    for key, accepted in _FIXED.items():
        if key in own and own[key] not in accepted:
            raise InputError(
                f"expected {prefix}{key}={accepted[-1]!r}; got {own[key]!r:.50} in the GGUF; this "
                "is not supported; use another file"
            )


def _rope_scaling(
    frequencies: StoredTensor | None, theta: float, head_dim: int
) -> Llama3RopeScaling | None:
    """The scaling whose factors the file stores, if it is that of Llama 3.1 or 3.2."""
    if frequencies is None:
        return None
    scaling = None
    if frequencies.shape == (head_dim // 2,) and head_dim > 1:
        stored = frequencies.read(0, frequencies.shape[0])
        factor = _shortest(float(stored.max()), _ROPE_FREQUENCIES)
        scaling = Llama3RopeScaling(factor=factor, **_LLAMA3_BANDS)
    if scaling is None or not np.allclose(
        stored, llama3_factors(scaling, theta, head_dim), rtol=1e-5, atol=0
    ):
        raise InputError(
            f"{_ROPE_FREQUENCIES} of the GGUF are not the factors of Llama 3.1 or 3.2; other "
            "RoPE scalings are not supported; use the Hugging Face folder if its config says llama3"
        )
    return scaling


def _vocab_size(prefix: str, own: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> int:
    if "vocab_size" in own:
        return integer(own["vocab_size"], "vocab_size")
    if "token_embd.weight" not in stored:
        raise InputError(
            f"the GGUF has neither {prefix}vocab_size nor token_embd.weight; fetch it again"
        )
    return stored["token_embd.weight"].shape[0]


def _head_dim(own: Mapping[str, Any], hidden_size: int, num_heads: int) -> int:
    given = {
        name: own[name]
        for name in ("attention.key_length", "attention.value_length", "rope.dimension_count")
        if name in own
    }
    if len(set(map(repr, given.values()))) > 1:
        raise InputError(
            f"expected one width for keys, values and RoPE; got {given!s:.200}; not supported"
        )
    if given:
        return integer(next(iter(given.values())), "head width")
    if hidden_size % num_heads:
        raise InputError(
            f"embedding_length must be a multiple of head_count; got {hidden_size} and {num_heads}"
        )
    return hidden_size // num_heads


def _per_layer(value: Any, num_layers: int, name: str) -> tuple[int, ...]:
    """One number for each layer, from one for all or a list."""
    values = value if isinstance(value, list | tuple) else [value] * num_layers
    if len(values) != num_layers:
        raise InputError(f"{name} of the GGUF must have {num_layers} values; got {len(values)}")
    return tuple(integer(number, name) for number in values)


def _shortest(value: Any, name: str) -> float:
    """The shortest decimal that is this float32: 1e-05, not 9.999999747378752e-06."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e38:
        raise InputError(f"{name} of the GGUF must be 0 or above and finite; got {value!r:.50}")
    return float(str(np.float32(value)))

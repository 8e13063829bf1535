"""The Llama family: SmolLM, SmolLM2, TinyLlama, Llama 2 and 3.

Every attribute of a config is understood, known to change nothing here, or refused.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxanatomy.config import Llama3RopeScaling, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights.tensors import StoredTensor, leaf_shapes, shorten

ARCHITECTURES = ("LlamaForCausalLM",)

_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers")
_SIZES += ("num_attention_heads", "intermediate_size")
_UNDERSTOOD = {
    *_SIZES, "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps",
    "rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings",
}  # fmt: skip

# Attributes of which only these values mean the forward pass that we have.
_FIXED = {
    "model_type": ("llama",),
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "pretraining_tp": (1, None),
    "rope_interleaved": (False, None),
    "partial_rotary_factor": (1, 1.0, None),
    "sliding_window": (None,),
    "quantization_config": (None,),
    "is_decoder": (True, False, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "pruned_heads": ({}, None),
}

# Attributes that decide nothing about the forward pass: training, generation, files.
_IGNORED = {
    "architectures", "attention_dropout", "initializer_range", "use_cache", "bos_token_id",
    "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id",
    "torch_dtype", "dtype", "transformers_version", "transformers.js_config", "_name_or_path",
    "name_or_path", "is_llama_config", "unsloth_fixed", "unsloth_version", "output_attentions",
    "output_hidden_states", "return_dict", "chunk_size_feed_forward", "id2label", "label2id",
    "problem_type", "_attn_implementation_autoset", "auto_map", "task_specific_params",
    "tokenizer_class", "prefix", "max_length", "use_return_dict", "torchscript",
    "tf_legacy_loss", "use_bfloat16", "finetuning_task", "cross_attention_hidden_size",
    "tie_encoder_decoder",
}  # fmt: skip
_GENERATION = {"temperature", "top_k", "top_p", "do_sample", "repetition_penalty"}

_LLAMA3 = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_context_length",
}

_NAMES = {"embed": "model.embed_tokens", "final_norm": "model.norm", "unembed": "lm_head"}
_LAYER_NAMES = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "o_proj": "self_attn.o_proj",
    "gate_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "down_proj": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
}


def from_config(fields: Mapping[str, Any]) -> ModelConfig:
    """The architecture that a config.json describes.

    Raises:
      InputError: An attribute is missing, not known, or has a value that changes the
        forward pass in a way that we do not have.
    """
    known = _UNDERSTOOD | set(_FIXED) | _IGNORED | _GENERATION
    if unknown := sorted(set(fields) - known):
        raise InputError(
            f"config.json has attributes that are not understood: {shorten(unknown)}; remove "
            "them if they change nothing, else this architecture is not supported"
        )
    if absent := [name for name in _SIZES if fields.get(name) is None]:
        raise InputError(f"config.json must have {', '.join(absent)}; fetch it again")
    for name, accepted in _FIXED.items():
        if name in fields and fields[name] not in accepted:
            if name == "quantization_config":
                raise InputError(
                    f"expected a checkpoint that is not quantised; got {name}={fields[name]!r:.80} "
                    "in config.json; use the original checkpoint, or a GGUF"
                )
            raise InputError(
                f"expected {name}={accepted[0]!r} in config.json; got {fields[name]!r:.50}; "
                "this architecture is not supported"
            )
    V, D, num_layers, H, F = (_integer(fields[name], name) for name in _SIZES)
    given = {name: value for name, value in fields.items() if value is not None}
    head_dim = given["head_dim"] if "head_dim" in given else _head_dim(D, H)
    theta, scaling = _rope(fields)
    return ModelConfig.uniform(
        num_layers,
        H,
        _integer(given.get("num_key_value_heads", H), "num_key_value_heads"),
        F,
        vocab_size=V,
        hidden_size=D,
        head_dim=_integer(head_dim, "head_dim"),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_epsilon=_number(given.get("rms_norm_eps", 1e-6), "rms_norm_eps"),
        context_length=_integer(given.get("max_position_embeddings", 2048), "context length"),
        tie_embeddings=_boolean(given.get("tie_word_embeddings", False), "tie_word_embeddings"),
    )


def to_config(config: ModelConfig) -> dict[str, Any]:
    """A config.json; layers have the widest FFN, to which the others are padded.

    RoPE is written in the form of transformers 5 and in the older one.

    Raises:
      InputError: transformers cannot express the architecture.
    """
    heads = {(shape.num_heads, shape.num_kv_heads) for shape in config.layers}
    if len(heads) > 1:
        raise InputError(
            "a Hugging Face config has one number of heads for all layers; got "
            f"{sorted(heads)} query and key-value heads; export a model with equal heads"
        )
    ((H, K),) = heads
    if config.hidden_size % H:
        raise InputError(
            f"transformers wants a hidden size that is a multiple of the heads; got "
            f"{config.hidden_size} and {H}; export a model with another number of heads"
        )
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    older = {"rope_theta": config.rope_theta, "rope_scaling": None}
    if config.rope_scaling is not None:
        scaling = {name: getattr(config.rope_scaling, ours) for name, ours in _LLAMA3.items()}
        rope |= {"rope_type": "llama3", **scaling}
        older["rope_scaling"] = {"rope_type": "llama3", **scaling}
    return {
        "architectures": list(ARCHITECTURES),
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": max(shape.ffn_width for shape in config.layers),
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": H,
        "num_key_value_heads": K,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        **older,
        "rope_parameters": rope,
    }


def updated_config(fields: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """A config.json of which only what describes another architecture is changed.

    Args:
      fields: Of the model as it was; without `architectures` they are fields beside the
        architecture, which is then written whole.
      config: The architecture now.

    Raises:
      InputError: As `to_config`.
    """
    new = to_config(config)
    if "architectures" not in fields:
        return {name: value for name, value in new.items() if value is not None} | dict(fields)
    old = to_config(from_config(fields))
    changed = {name: value for name, value in new.items() if value != old[name]}
    if from_config({**fields, **changed}) != from_config(new):  # defaults that follow the heads
        changed |= {name: new[name] for name in ("num_key_value_heads", "head_dim")}
    return {**fields, **changed}


def names(config: ModelConfig) -> dict[str, str]:
    """The tensor's name in a Hugging Face folder for each leaf."""
    return {
        leaf: f"{_layered(leaf, 'model.layers', _LAYER_NAMES) or _NAMES[leaf]}.weight"
        for leaf in leaf_shapes(config)
    }


def drop_redundant(
    stored: Mapping[str, StoredTensor], config: ModelConfig
) -> dict[str, StoredTensor]:
    """Leaves out rotary frequencies, which the config implies, and a repeated head.

    Raises:
      InputError: The config ties the embeddings but the file has another head, or does not
        tie them and the file has none.
    """
    kept = {
        name: tensor for name, tensor in stored.items() if not name.endswith("rotary_emb.inv_freq")
    }
    head, embedding = kept.get("lm_head.weight"), kept.get("model.embed_tokens.weight")
    if not config.tie_embeddings and head is None and embedding is not None:
        raise InputError(
            "config.json has tie_word_embeddings=false, or nothing, which means false; but there "
            "is no lm_head.weight; set it to true if the model ties them, else fetch the "
            "checkpoint again"
        )
    if config.tie_embeddings and head is not None and embedding is not None:
        if not _equal(head, embedding):
            raise InputError(
                "config.json has tie_word_embeddings=true but lm_head.weight differs from "
                "model.embed_tokens.weight; correct the config or remove lm_head.weight"
            )
        del kept["lm_head.weight"]
    return kept


def _layered(leaf: str, prefix: str, layer_names: Mapping[str, str]) -> str | None:
    """The name of a leaf inside a layer; None for the others."""
    if not leaf.startswith("layers/"):
        return None
    _, layer, component = leaf.split("/")
    return f"{prefix}.{layer}.{layer_names[component]}"


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} of the model must be a positive integer; got {value!r:.50}")
    return value


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} in config.json must be a finite number; got {value!r:.50}")
    return number


def _boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} in config.json must be true or false; got {value!r:.50}")
    return value


def _head_dim(hidden_size: int, num_heads: int) -> int:
    if hidden_size % num_heads:
        raise InputError(
            f"hidden_size must be a multiple of num_attention_heads; got {hidden_size} and "
            f"{num_heads}; give head_dim in config.json"
        )
    return hidden_size // num_heads


def _rope(fields: Mapping[str, Any]) -> tuple[float, Llama3RopeScaling | None]:
    """Base and scaling of RoPE, from `rope_parameters` (transformers 5) or the older form."""
    forms = {key: fields.get(key) or {} for key in ("rope_parameters", "rope_scaling")}
    for key, form in forms.items():
        if not isinstance(form, Mapping):
            raise InputError(f"{key} in config.json must be an object or null; got {form!r:.50}")
    bases = [fields.get("rope_theta"), *(form.get("rope_theta") for form in forms.values())]
    thetas = {_number(base, "rope_theta") for base in bases if base is not None}
    scalings = {_rope_scaling(form, key) for key, form in forms.items() if form}
    if len(thetas) > 1 or len(scalings) > 1:
        raise InputError(
            f"config.json gives RoPE twice and differently ({sorted(thetas)}, {scalings}); "
            "keep rope_parameters or rope_theta with rope_scaling"
        )
    return thetas.pop() if thetas else 10_000.0, scalings.pop() if scalings else None


def _rope_scaling(form: Mapping[str, Any], key: str) -> Llama3RopeScaling | None:
    kind = form.get("rope_type", form.get("type", "default"))
    known = {"default": (), "llama3": tuple(_LLAMA3)}
    wanted = known.get(kind) if isinstance(kind, str) else None
    if wanted is None:
        raise InputError(
            f"expected {key} of type default or llama3; got {kind!r:.50} in config.json; "
            "this architecture is not supported"
        )
    given = set(form) - {"rope_type", "type", "rope_theta"}
    if form.get("partial_rotary_factor") in (1, None):
        given -= {"partial_rotary_factor"}
    if given != set(wanted):
        raise InputError(
            f"{key} of type {kind} must have {', '.join(wanted) or 'nothing more'}; got "
            f"{shorten(sorted(given)) or 'nothing'}; fetch config.json again"
        )
    if kind == "default":
        return None
    return Llama3RopeScaling(**{ours: form[name] for name, ours in _LLAMA3.items()})


def _equal(one: StoredTensor, other: StoredTensor, rows: int = 1024) -> bool:
    return one.shape == other.shape and all(
        np.array_equal(one.read(start, stop), other.read(start, stop))
        for start in range(0, one.shape[0], rows)
        for stop in (min(start + rows, one.shape[0]),)
    )

"""A config.json of any family, read and written.

Every attribute is understood, known to change nothing here, or refused by name.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxanatomy.config import LayerShape, ModelConfig, require_depth
from jaxanatomy.errors import InputError
from jaxanatomy.weights import families
from jaxanatomy.weights.attributes import boolean, integer, number, rope, rope_attributes
from jaxanatomy.weights.family import Family, tensor_names
from jaxanatomy.weights.tensors import StoredTensor, shorten

_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers")
_SIZES += ("num_attention_heads", "intermediate_size")
# What all families understand, and what transformers takes where it is absent.
_DEFAULTS = {
    "num_key_value_heads": None,  # as many as query heads
    "head_dim": None,  # hidden_size / num_attention_heads
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
_ROPE = {"rope_theta", "rope_scaling", "rope_parameters"}

# Attributes of which only these values mean the forward pass that we have.
_FIXED = {
    "hidden_act": ("silu", "swish"),
    "rope_interleaved": (False, None),
    "partial_rotary_factor": (1, 1.0, None),
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


def from_config(fields: Mapping[str, Any]) -> ModelConfig:
    """The architecture that a config.json describes.

    Raises:
      InputError: The family is not known; an attribute is missing, not known, or has a value
        that changes the forward pass in a way that we do not have.
    """
    family = families.for_config(fields)
    _check_names(family, fields)
    V, D, num_layers, H, F = (integer(fields[name], name) for name in _SIZES)
    require_depth(num_layers)
    given = {**_DEFAULTS, **family.defaults, **fields}
    for name in ("max_position_embeddings", "rms_norm_eps", "tie_word_embeddings"):
        if given[name] is None:
            given[name] = {**_DEFAULTS, **family.defaults}[name]
    K, d = given["num_key_value_heads"], given["head_dim"]
    heads = (H, integer(H if K is None else K, "num_key_value_heads"))
    theta, scaling = rope(fields)
    return ModelConfig(
        vocab_size=V,
        hidden_size=D,
        head_dim=_head_dim(D, H) if d is None else integer(d, "head_dim"),
        layers=tuple(
            LayerShape(*heads, F, **family.options(given, layer)) for layer in range(num_layers)
        ),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_epsilon=number(given["rms_norm_eps"], "rms_norm_eps"),
        context_length=integer(given["max_position_embeddings"], "context length"),
        tie_embeddings=boolean(given["tie_word_embeddings"], "tie_word_embeddings"),
        family=family.name,
    )


def to_config(config: ModelConfig) -> dict[str, Any]:
    """A config.json; layers have the widest FFN, to which the others are padded.

    RoPE is written in the form of transformers 5 and in the older one.

    Raises:
      InputError: A config.json of the family cannot say it.
    """
    family = families.of(config)
    heads = {(shape.num_heads, shape.num_kv_heads) for shape in config.layers}
    if len(heads) > 1:
        raise InputError(
            "a Hugging Face config has one number of heads for all layers; got "
            f"{sorted(heads)} query and key-value heads; export a model with equal heads"
        )
    ((H, K),) = heads
    F = max(shape.ffn_width for shape in config.layers)
    fields = {
        "architectures": [family.architecture],
        "model_type": family.name,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": F,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": H,
        "num_key_value_heads": K,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tie_embeddings,
        **family.attributes(config),
        **rope_attributes(config),
    }
    _require_same(config, F, from_config(fields))
    return fields


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
        own = families.of(config).defaults  # where absent is not the same as null
        return {k: v for k, v in new.items() if v is not None or k in own} | dict(fields)
    old = to_config(from_config(fields))
    changed = {name: value for name, value in new.items() if value != old.get(name)}
    if from_config({**fields, **changed}) != from_config(new):  # defaults that follow the heads
        changed |= {name: new[name] for name in ("num_key_value_heads", "head_dim")}
    return {**fields, **changed}


def names(config: ModelConfig) -> dict[str, str]:
    """The tensor's name in a Hugging Face folder for each leaf."""
    return tensor_names(config, families.of(config).hf_names)


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
    hf_names = families.of(config).hf_names
    head_name, embedding_name = (f"{hf_names[name]}.weight" for name in ("unembed", "embed"))
    head, embedding = kept.get(head_name), kept.get(embedding_name)
    if not config.tie_embeddings and head is None and embedding is not None:
        raise InputError(
            "config.json has tie_word_embeddings=false, or nothing, which means false; but there "
            f"is no {head_name}; set it to true if the model ties them, else fetch the "
            "checkpoint again"
        )
    if config.tie_embeddings and head is not None and embedding is not None:
        if not _equal(head, embedding):
            raise InputError(
                f"config.json has tie_word_embeddings=true but {head_name} differs from "
                f"{embedding_name}; correct the config or remove {head_name}"
            )
        del kept[head_name]
    return kept


def _check_names(family: Family, fields: Mapping[str, Any]) -> None:
    """Refuses attributes that are not known or missing, and values that are not supported."""
    fixed = {"model_type": (family.name,), **_FIXED, **family.fixed}
    known = {*_SIZES, *_DEFAULTS, *_ROPE, *family.defaults, *fixed} | _IGNORED | _GENERATION
    if unknown := sorted(set(fields) - known):
        raise InputError(
            f"config.json has attributes that are not understood: {shorten(unknown)}; remove "
            "them if they change nothing, else this architecture is not supported"
        )
    if absent := [name for name in _SIZES if fields.get(name) is None]:
        raise InputError(f"config.json must have {', '.join(absent)}; fetch it again")
    for name, accepted in fixed.items():
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


def _require_same(config: ModelConfig, ffn_width: int, read: ModelConfig) -> None:
    """Refuses what a config.json would not say: it must read back as it was."""
    wide = [dataclasses.replace(shape, ffn_width=ffn_width) for shape in config.layers]
    meant = dataclasses.replace(config.with_layers(wide), ln_scaling=False)
    if read != meant:
        layers = zip(meant.layers, read.layers, strict=True)
        differ = next(((one, other) for one, other in layers if one != other), (meant, read))
        raise InputError(
            f"a config.json of the family {config.family} cannot say {differ[0]}, it would be read "
            f"as {differ[1]}; make the model with another `family`, or without that option"
        )


def _head_dim(hidden_size: int, num_heads: int) -> int:
    if hidden_size % num_heads:
        raise InputError(
            f"hidden_size must be a multiple of num_attention_heads; got {hidden_size} and "
            f"{num_heads}; give head_dim in config.json"
        )
    return hidden_size // num_heads


def _equal(one: StoredTensor, other: StoredTensor, rows: int = 1024) -> bool:
    return one.shape == other.shape and all(
        np.array_equal(one.read(start, stop), other.read(start, stop))
        for start in range(0, one.shape[0], rows)
        for stop in (min(start + rows, one.shape[0]),)
    )

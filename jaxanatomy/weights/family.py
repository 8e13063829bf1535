"""What a model family is: its attributes of a config.json, and the names of its tensors.

All families are the same decoder with other options (`jaxanatomy.config.LayerShape`). A family
says which options its config asks for, and what it calls things; `hf_config` and `gguf_config`
do the rest for all of them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxanatomy.config import ModelConfig
from jaxanatomy.weights.tensors import StoredTensor, leaf_shapes

Options = dict[str, Any]  # fields of `LayerShape` beyond heads and widths

# The modules of the tree and their names in files; `{}` is the number of the layer.
HF_NAMES = {
    "embed": "model.embed_tokens",
    "final_norm": "model.norm",
    "unembed": "lm_head",
    "attention_norm": "model.layers.{}.input_layernorm",
    "attention/q_proj": "model.layers.{}.self_attn.q_proj",
    "attention/k_proj": "model.layers.{}.self_attn.k_proj",
    "attention/v_proj": "model.layers.{}.self_attn.v_proj",
    "attention/o_proj": "model.layers.{}.self_attn.o_proj",
    "mlp_norm": "model.layers.{}.post_attention_layernorm",
    "mlp/gate_proj": "model.layers.{}.mlp.gate_proj",
    "mlp/up_proj": "model.layers.{}.mlp.up_proj",
    "mlp/down_proj": "model.layers.{}.mlp.down_proj",
}
GGUF_NAMES = {
    "embed": "token_embd",
    "final_norm": "output_norm",
    "unembed": "output",
    "attention_norm": "blk.{}.attn_norm",
    "attention/q_proj": "blk.{}.attn_q",
    "attention/k_proj": "blk.{}.attn_k",
    "attention/v_proj": "blk.{}.attn_v",
    "attention/o_proj": "blk.{}.attn_output",
    "mlp_norm": "blk.{}.ffn_norm",
    "mlp/gate_proj": "blk.{}.ffn_gate",
    "mlp/up_proj": "blk.{}.ffn_up",
    "mlp/down_proj": "blk.{}.ffn_down",
}


def no_options(fields: Mapping[str, Any], place: Any) -> Options:
    """Of a family that adds nothing."""
    del fields, place
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One family.

    Attributes:
      name: `model_type` of its config.json, and `ModelConfig.family`.
      architecture: The one name in `architectures` of its config.json.
      gguf: `general.architecture` of its GGUF files.
      gguf_pairs: Whether llama.cpp rotates neighbouring features there, and so permutes the rows
        of queries and keys: what it stores as `llama`. Others are rotated as in Hugging Face.
      defaults: Attributes that it understands besides what all have, with the values that
        transformers takes where they are absent; and other defaults of what all have.
      fixed: Attributes of which only these values mean the forward pass that we have.
      options: `options(fields, layer)`: what a config.json asks of a layer; `fields` has all of
        `defaults`. Raises InputError for values that it does not understand.
      attributes: The inverse: the attributes of a config, those of `defaults`.
      gguf_keys: Keys of metadata that it understands besides what all have, without the
        architecture before them.
      gguf_options: `gguf_options(fields, stored)`: what a GGUF asks of every layer, from its keys
        without the architecture before them, and from its tensors.
      hf_names: The names of its tensors in a Hugging Face folder, by module.
      gguf_names: The same in a GGUF.
    """

    name: str
    architecture: str
    gguf: str
    gguf_pairs: bool = False
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    options: Callable[[Mapping[str, Any], int], Options] = no_options
    attributes: Callable[[ModelConfig], dict[str, Any]] = lambda config: {}
    gguf_keys: tuple[str, ...] = ()
    gguf_options: Callable[[Mapping[str, Any], Mapping[str, StoredTensor]], Options] = no_options
    hf_names: Mapping[str, str] = dataclasses.field(default_factory=lambda: HF_NAMES)
    gguf_names: Mapping[str, str] = dataclasses.field(default_factory=lambda: GGUF_NAMES)


def tensor_names(config: ModelConfig, names: Mapping[str, str]) -> dict[str, str]:
    """The tensor's name in a file for each leaf of the tree.

    Args:
      config: The architecture.
      names: Those of its family's modules, for the kind of file.
    """
    found = {}
    for leaf in leaf_shapes(config):
        *module, kind = leaf.split("/")
        layer, module = (module[1], module[2:]) if module[0] == "layers" else (None, module)
        suffix = "bias" if kind == "bias" else "weight"
        found[leaf] = f"{names['/'.join(module)].format(layer)}.{suffix}"
    return found

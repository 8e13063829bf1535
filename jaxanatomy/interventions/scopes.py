"""Scopes: the part of a layer that an intervention acts on."""

import re

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.model import abstract_block

SCOPES = {
    "layer": "the whole layer: seven matrices",
    "attention": "q_proj, k_proj, v_proj and o_proj",
    "mlp": "gate_proj, up_proj and down_proj",
    "q_proj": "the query projection",
    "k_proj": "the key projection",
    "v_proj": "the value projection",
    "o_proj": "the output projection of attention",
    "gate_proj": "the gate of the MLP, the input of its silu",
    "up_proj": "the other factor of the MLP's hidden layer",
    "down_proj": "the output projection of the MLP",
}


def all_scopes(config: ModelConfig) -> dict[str, str]:
    """Every scope of a model, with a line of help each."""
    heads = {
        f"head_{head}": f"query head {head}: its slice of the o_proj input"
        for head in range(config.max_heads)
    }
    return SCOPES | heads


def choose_scope(config: ModelConfig, scope: str) -> str:
    """`scope` if the model has it.

    Raises:
      InputError: it does not; the message has the heads that there are, or the closest name.
    """
    head = head_index(scope)
    if head is not None and head >= config.max_heads:
        raise InputError(
            f"query heads of this model are 0 to {config.max_heads - 1}; got {scope!r}; name one"
        )
    return choose("scope", scope, all_scopes(config))


def scope_components(config: ModelConfig, layer: int, scope: str) -> tuple[str, ...]:
    """The components of a layer that belong to a scope, norms included; none for a single head.

    A sublayer's modules lie under its name, and the norm before it is named after it.
    """
    if head_index(scope) is not None:
        return ()
    if scope in tree.MATRICES:
        return (scope,)
    inside = [
        tree.component_of(path).partition(".")[0]
        for path in tree.to_leaves(abstract_block(config, layer))
        if scope == "layer" or path.startswith(scope)
    ]
    return tuple(dict.fromkeys(inside))


def head_index(scope: str) -> int | None:
    """The head of a scope `head_i`, or None for any other scope."""
    match = re.fullmatch(r"head_(\d+)", str(scope))  # a config may hold a number
    return int(match.group(1)) if match else None

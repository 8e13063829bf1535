"""Model families: one module each, found by the name of the architecture.

A module for Hugging Face folders has

| member | is |
| --- | --- |
| `ARCHITECTURES` | names in `architectures` of a config.json |
| `from_config(fields)` | the `ModelConfig` of a config.json, refusing what it does not understand |
| `to_config(config)` | the inverse |
| `names(config)` | the tensor's name for each leaf of the tree |
| `drop_redundant(stored, config)` | stored tensors without those that say nothing new |

and one for GGUF files

| member | is |
| --- | --- |
| `ARCHITECTURES` | names in `general.architecture` |
| `from_metadata(fields, stored)` | the `ModelConfig`, and the stored tensors that are weights |
| `names(config)` | the tensor's name for each leaf of the tree |
| `row_orders(config)` | for leaves whose rows the file permutes, where each row lies |

To add a family, write its module and add it to `FAMILIES` or `GGUF_FAMILIES`.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.weights.families import llama, llama_gguf

FAMILIES = (llama,)
GGUF_FAMILIES = (llama_gguf,)


def for_config(fields: Mapping[str, Any]) -> ModuleType:
    """The family of a config.json.

    Raises:
      InputError: Its architecture is not known.
    """
    given = fields.get("architectures")
    if not (isinstance(given, list) and len(given) == 1):
        raise InputError(f"config.json must name one architecture; got architectures={given!r:.60}")
    return _find("architecture", given[0], FAMILIES)


def for_gguf(architecture: str | None) -> ModuleType:
    """The family of a GGUF file; InputError when it is not known."""
    return _find("GGUF architecture", architecture, GGUF_FAMILIES)


def _find(kind: str, name: str | None, families: tuple[ModuleType, ...]) -> ModuleType:
    by_name = {known: family for family in families for known in family.ARCHITECTURES}
    if not isinstance(name, str) or name not in by_name:
        raise InputError(
            f"unknown {kind} {name!r:.60}; known: {', '.join(by_name)}; to add one, write a module "
            "of jaxanatomy/weights/families"
        )
    return by_name[name]

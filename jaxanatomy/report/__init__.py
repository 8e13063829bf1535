"""Figures, tables and the one-page HTML report, made from the files of a run.

`write_report(workdir)` writes the page; `plot` holds the figure functions;
`summary_table(rows)` is the terminal's table of rows of any kind. Each is imported when
first used, because matplotlib is slow to import.
"""

import importlib
from typing import Any

_HOMES = {
    "write_report": "jaxanatomy.report.page",
    "conclude": "jaxanatomy.report.page",
    "summary_table": "jaxanatomy.report.terminal",
    "plot": "jaxanatomy.report.plot",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    return module if name == "plot" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__

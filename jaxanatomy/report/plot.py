"""The figure functions: rows in, matplotlib axes out."""

from jaxanatomy.report.controls import control_ratios
from jaxanatomy.report.heat import controls, heads, scopes
from jaxanatomy.report.importance import importance
from jaxanatomy.report.positions import first_token
from jaxanatomy.report.reference import table1

__all__ = [
    "control_ratios",
    "controls",
    "first_token",
    "heads",
    "importance",
    "scopes",
    "table1",
]

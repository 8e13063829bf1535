"""The figure functions: rows in, matplotlib axes out."""

from jaxanatomy.papers import table1
from jaxanatomy.report.importance.controls import control_ratios
from jaxanatomy.report.importance.figure import importance
from jaxanatomy.report.importance.heat import controls, heads, scopes
from jaxanatomy.report.importance.positions import first_token
from jaxanatomy.report.manipulation.attention import attention_shift
from jaxanatomy.report.manipulation.figures import (
    compounding,
    manipulation,
    manipulation_layers,
)
from jaxanatomy.report.manipulation.grids import manipulation_pairs, manipulation_sets

__all__ = [
    "attention_shift",
    "compounding",
    "control_ratios",
    "controls",
    "first_token",
    "heads",
    "importance",
    "manipulation",
    "manipulation_layers",
    "manipulation_pairs",
    "manipulation_sets",
    "scopes",
    "table1",
]

"""The figure functions: rows in, matplotlib axes out."""

from jaxanatomy.report.attention import attention_shift
from jaxanatomy.report.controls import control_ratios
from jaxanatomy.report.heat import controls, heads, scopes
from jaxanatomy.report.importance import importance
from jaxanatomy.report.manipulation_figures import (
    compounding,
    manipulation,
    manipulation_layers,
)
from jaxanatomy.report.manipulation_grids import manipulation_pairs, manipulation_sets
from jaxanatomy.report.positions import first_token
from jaxanatomy.report.reference import table1

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

"""The sweep engine: plan, schedule, execute; each distinct layer application once."""

from jaxanatomy.sweep.engine import Sweep
from jaxanatomy.sweep.options import SweepOptions
from jaxanatomy.sweep.plan import Plan
from jaxanatomy.sweep.programs import Context, TextArrays
from jaxanatomy.sweep.reading import (
    EVERYTHING,
    Beside,
    Measure,
    Measured,
    Parametric,
    Reading,
    Reduction,
    maximum,
    mean,
)
from jaxanatomy.sweep.schedule import Schedule, schedule

__all__ = [
    "EVERYTHING",
    "Beside",
    "Context",
    "Measure",
    "Measured",
    "Parametric",
    "Plan",
    "Reading",
    "Reduction",
    "Schedule",
    "Sweep",
    "SweepOptions",
    "TextArrays",
    "maximum",
    "mean",
    "schedule",
]

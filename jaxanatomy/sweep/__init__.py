"""The sweep engine: plan, schedule, execute; each distinct layer application once."""

from jaxanatomy.sweep.engine import Readings, Sweep
from jaxanatomy.sweep.options import SweepOptions
from jaxanatomy.sweep.plan import Plan
from jaxanatomy.sweep.programs import BesideClean, Context, Measure, TextArrays
from jaxanatomy.sweep.schedule import Schedule, schedule

__all__ = [
    "BesideClean",
    "Context",
    "Measure",
    "Plan",
    "Readings",
    "Schedule",
    "Sweep",
    "SweepOptions",
    "TextArrays",
    "schedule",
]

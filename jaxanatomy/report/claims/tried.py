"""Improvements among many variants that were tried: one in forty is better by chance."""

from jaxanatomy.measures.calibration import TOLERANCE_PERCENT
from jaxanatomy.measures.statistics import paired_difference
from jaxanatomy.report.cells import Row
from jaxanatomy.report.claims.claim import Answer, reaches

LEVEL = 0.05  # of the interval; by chance one side of it is missed half as often
RULE = (
    f"whole interval below −{TOLERANCE_PERCENT} %; Student's interval over documents at level "
    f"1 − {LEVEL} / K, as the best of K is looked for"
)


def gains(row: Row, baseline: Row, tried: int) -> bool:
    """Whether a variant is better than the baseline, as the best of so many; see `RULE`."""
    found = paired_difference(row, baseline, 1 - LEVEL / tried).degradation_percent()
    return found.high < -TOLERANCE_PERCENT


def improves(row: Row, baseline: Row | None, tried: int) -> Answer:
    """True if a variant `gains`, False if its own 95 % interval lies at or above 0."""
    if reaches(row, 0.0):
        return False
    return True if baseline and "unit_nll" in row and gains(row, baseline, tried) else None

"""Whether a change that lowers the perplexity does more than a temperature does.

Works on rows of kind "temperature" (`jaxanatomy.measures.readings.temperature`). Temperatures are
fitted on one text and judged on another: fitted on the text itself even a temperature
that means nothing would gain.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import paired_difference, perplexity
from jaxanatomy.records import Row

NEIGHBOURS = 4

# Interpolation on the default grid errs by up to 4e-5 nats a token, in either of two models:
# a gain below this may be no more than that, and no interval over documents sees it.
TOLERANCE_PERCENT = 0.01


class TemperatureFit(NamedTuple):
    """The best temperature, and whether it is an end of the grid, where a better may lie beyond."""

    temperature: float
    at_edge: bool


def fit_temperature(row: Row) -> TemperatureFit:
    """The temperature at which the summed loss of a row is least.

    The loss is convex in 1 / tau, so its minimum on the grid is the only one. The curve
    through that point and two on either side, a quartic in log tau, refines it.

    Args:
      row: Of kind "temperature".

    Raises:
      InputError: A loss of the row is not finite.
    """
    temperature_Q, nll_QU = _losses(row)
    log_Q, total_Q = np.log(temperature_Q), nll_QU.sum(axis=1)
    best = int(total_Q.argmin())
    if best in (0, len(total_Q) - 1):
        return TemperatureFit(float(temperature_Q[best]), True)
    near = slice(max(0, best - 2), best + 3)
    offset_Q = log_Q[near] - log_Q[best]
    curve = np.polynomial.Polynomial.fit(offset_Q, total_Q[near], len(offset_Q) - 1)
    roots = curve.deriv().roots()
    low, high = log_Q[best - 1] - log_Q[best], log_Q[best + 1] - log_Q[best]
    inside = [root.real for root in roots if root.imag == 0 and low < root.real < high]
    offset = min([0.0, *inside], key=curve)
    return TemperatureFit(float(temperature_Q[best] * np.exp(offset)), False)


def nll_at(row: Row, temperature: float) -> np.ndarray:
    """The summed loss of each sampling unit at any temperature inside the grid, float64 [U].

    A cubic in log tau through the four nearest grid points; on the grid its exact value.

    Raises:
      InputError: The temperature lies outside the grid, or a loss is not finite.
    """
    temperature_Q, nll_QU = _losses(row)
    if not temperature_Q[0] <= temperature <= temperature_Q[-1]:
        raise InputError(
            f"the loss was read at temperatures {temperature_Q[0]:g} to {temperature_Q[-1]:g}; got "
            f"{temperature:g}; read it on a wider grid"
        )
    log_Q, wanted = np.log(temperature_Q), math.log(temperature)
    start = int(np.searchsorted(log_Q, wanted)) - NEIGHBOURS // 2
    start = min(max(start, 0), len(log_Q) - NEIGHBOURS)
    near = range(start, start + NEIGHBOURS)
    # Lagrange's weights: 1 at the own grid point, 0 at the others.
    weight_Q = [
        math.prod((wanted - log_Q[j]) / (log_Q[i] - log_Q[j]) for j in near if j != i) for i in near
    ]
    return np.asarray(weight_Q) @ nll_QU[start : start + NEIGHBOURS]


def calibrated(
    fit_variant: Row,
    fit_baseline: Row,
    eval_variant: Row,
    eval_baseline: Row,
) -> dict[str, Any]:
    """A variant against the baseline on a text, before and after both got a temperature.

    Args:
      fit_variant: The variant's row on the text that its temperature is fitted on.
      fit_baseline: The baseline's row on that text.
      eval_variant: The variant's row on another text, on which all figures are read.
      eval_baseline: The baseline's row on that other text.

    Returns:
      A dict ready for JSON. `degradation_percent` and `ci95` compare at temperature 1,
      `degradation_percent_calibrated` and `ci95_calibrated` with each at its fitted
      temperature; below 0 the variant is better. `gain_remains`: the interval after
      calibration lies below 0, by more than interpolation errs (0.01 %).
      `explained_by_calibration`, for a variant that is
      better at temperature 1 (else None), is true if the gain does not remain, or if the
      calibrated baseline is at least as good as the variant at temperature 1: then a
      temperature alone buys as much, though the two gains may still add up.

    Raises:
      InputError: Both texts are the same, or rows of other variants or texts were mixed.
    """
    _check(fit_variant, fit_baseline, eval_variant, eval_baseline)
    fits = [fit_temperature(row) for row in (fit_variant, fit_baseline)]
    temperatures = [fit.temperature for fit in fits]
    before = [at_temperature(row, 1.0) for row in (eval_variant, eval_baseline)]
    after = [
        at_temperature(row, temperature)
        for row, temperature in zip((eval_variant, eval_baseline), temperatures, strict=True)
    ]
    result = {
        "variant": eval_variant["variant"],
        "fit_text": fit_variant["text"],
        "text": eval_variant["text"],
        "temperature": temperatures[0],
        "baseline_temperature": temperatures[1],
        "temperature_at_edge": fits[0].at_edge,
        "baseline_temperature_at_edge": fits[1].at_edge,
    }
    for suffix, (variant, base) in (("", before), ("_calibrated", after)):
        found = paired_difference(variant, base).degradation_percent()
        result |= {
            f"ppl{suffix}": _ppl(variant),
            f"baseline_ppl{suffix}": _ppl(base),
            f"degradation_percent{suffix}": finite(found.value),
            f"ci95{suffix}": found.ends,
        }
    calibrated_baseline_gains = sum(after[1]["unit_nll"]) <= sum(before[0]["unit_nll"])
    return result | _verdict(result, calibrated_baseline_gains)


def _verdict(result: dict[str, Any], calibrated_baseline_gains: bool) -> dict[str, Any]:
    interval = result["ci95_calibrated"]
    remains = interval is not None and interval[1] < -TOLERANCE_PERCENT
    better = (result["degradation_percent"] or 0) < 0  # None: overflowed, far above 0
    explained = (calibrated_baseline_gains or not remains) if better else None
    return {"gain_remains": remains, "explained_by_calibration": explained}


def at_temperature(row: Row, temperature: float) -> Row:
    """A row of losses over temperatures with the `unit_nll` at one of them."""
    return {**row, "unit_nll": nll_at(row, temperature).tolist()}


def _ppl(row: Row) -> float | None:
    return perplexity(sum(row["unit_nll"]), sum(row["unit_tokens"]))[0]


def _losses(row: Row) -> tuple[np.ndarray, np.ndarray]:
    nll_QU = np.array(row["unit_nll"], np.float64)
    if not np.isfinite(nll_QU).all():
        raise InputError(
            f"a temperature needs finite losses; {row['variant']!r} on {row['text']!r} has others; "
            "leave the variant out"
        )
    return np.array(row["temperatures"], np.float64), nll_QU


def _check(fit_variant: Row, fit_baseline: Row, eval_variant: Row, eval_baseline: Row) -> None:
    for own, base, use in (
        (fit_variant, fit_baseline, "to fit on"),
        (eval_variant, eval_baseline, "to judge on"),
    ):
        if own["text"] != base["text"]:
            raise InputError(
                f"the rows {use} must be of one text; got {own['text']!r} and {base['text']!r}; "
                "select the rows of one"
            )
    if fit_variant["text"] == eval_variant["text"]:
        raise InputError(
            "temperatures must be fitted on another text than they are judged on; got "
            f"{eval_variant['text']!r} twice; name a second text"
        )
    for one, other in ((fit_variant, eval_variant), (fit_baseline, eval_baseline)):
        if one["variant"] != other["variant"]:
            raise InputError(
                f"the rows of both texts must be of one variant; got {one['variant']!r} and "
                f"{other['variant']!r}; select the rows of one"
            )

"""The loss of a model whose scores are divided by a temperature, and its rows.

A model that is merely too sure of itself gains from a temperature above 1, whatever
it knows. So a change that lowers the perplexity is compared with a baseline at its best
temperature: see `jaxanatomy.measures.calibration`.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import Variant
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings.nll import predictions
from jaxanatomy.measures.statistics.estimates import sampling_units
from jaxanatomy.records import Row
from jaxanatomy.sweep import Context, Measured
from jaxanatomy.sweep.reading import MeasureFunction

MEASURE = "nll_at_temperatures"

# 0.59 to 2.83. A model that wants more is far from the baseline, and its fit is flagged.
TEMPERATURES = tuple(2 ** (step / 4) for step in range(-3, 7))
FEWEST = 4


def nll_at_temperatures(temperatures: Sequence[float] = TEMPERATURES) -> MeasureFunction:
    """A measure of the sweep: the loss at each predicted position and temperature.

    Args:
      temperatures: Ascending and positive, at least four, 1 among them.

    Returns:
      A function of streams and context that gives nll_CPQ in nats, float32; the same
      function for equal temperatures, so that it is compiled once.

    Raises:
      InputError: Other temperatures.
    """
    return _measure(checked_temperatures(temperatures))


def temperature_rows(
    measured: Mapping[str, Measured],
    variants: Sequence[Variant],
    *,
    text: str,
    temperatures: Sequence[float] = TEMPERATURES,
) -> list[Row]:
    """Rows of kind "temperature": the summed loss of each document at each temperature.

    Args:
      measured: What `Sweep.run` returned, with `nll_at_temperatures` read.
      variants: The variants to report.
      text: Its name.
      temperatures: Those that the measure was made with.

    Returns:
      Rows with `temperatures` [Q], `unit_tokens` [U] and `unit_nll` [Q][U] (nats), U the
      units of `sampling_units`. A sum that is not finite is None, and `reason` says so.

    Raises:
      InputError: The measure was made with another number of temperatures.
    """
    temperatures = checked_temperatures(temperatures)
    rows, unit_P = [], sampling_units(measured[MEASURE].documents)
    for variant in variants:
        nll_QP = measured[MEASURE][variant.name].T
        if len(nll_QP) != len(temperatures):
            raise InputError(
                f"the loss was read at {len(nll_QP)} temperatures; got {len(temperatures)} for its "
                "rows; give both the same"
            )
        sums_QU = [np.bincount(unit_P, weights=nll_P) for nll_P in nll_QP.astype(np.float64)]
        all_finite = bool(np.isfinite(sums_QU).all())
        row = {
            "kind": "temperature",
            "variant": variant.name,
            **variant.labels,
            "text": text,
            "temperatures": list(temperatures),
            "unit_tokens": np.bincount(unit_P).tolist(),
            "unit_nll": [[finite(total) for total in sums_U] for sums_U in sums_QU],
        }
        rows.append(row if all_finite else row | {"reason": "a summed NLL is not finite"})
    return rows


def checked_temperatures(temperatures: Sequence[float]) -> tuple[float, ...]:
    """The temperatures as a tuple of floats.

    Raises:
      InputError: Fewer than four, not ascending, not positive and finite, or without 1.
    """
    values = tuple(map(float, temperatures))
    ascending = all(low < high for low, high in itertools.pairwise((0.0, *values, math.inf)))
    if len(values) < FEWEST or not ascending or 1.0 not in values:
        raise InputError(
            f"temperatures must be at least {FEWEST} positive numbers, ascending, with 1 among "
            f"them; got {list(temperatures)}; take for example {[0.5, 1.0, 2.0, 4.0]}"
        )
    return values


@functools.cache
def _measure(temperatures: tuple[float, ...]) -> MeasureFunction:
    def nll_at_temperatures(streams: tuple[jax.Array, ...], context: Context) -> jax.Array:
        h_PD, target_P = predictions(streams, context)
        inverse_Q = 1 / jnp.asarray(temperatures, jnp.float32)
        matrix_VD = tree.unembedding(context.head)
        nll_QP = model.token_nll_at(h_PD, matrix_VD, target_P, inverse_Q, context.dtype)
        C, Q = len(streams[0]), len(temperatures)
        return nll_QP.reshape(Q, C, -1).transpose(1, 2, 0)

    return nll_at_temperatures

"""From what a sweep read to rows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxanatomy.data.packing import TextBatch, gather_predictions
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import BASELINE, Variant
from jaxanatomy.measures.importance import importance_rows
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics import Estimate, ratio_intervals, sampling_units
from jaxanatomy.records import Row
from jaxanatomy.sweep import Readings


def rows_of_readings(
    readings: Readings,
    variants: Sequence[Variant],
    batches: Sequence[TextBatch],
    *,
    text: str,
    make: Callable[..., list[Row]] = importance_rows,
) -> list[Row]:
    """Rows of the variants of one chunk.

    Args:
      readings: What `Sweep.run` returned, with the baseline among it.
      variants: The variants to report.
      batches: The text that was swept.
      text: Its name.
      make: What makes rows of losses: `importance_rows`, or `losses.loss_rows` for the
        fields that all experiments share.

    Returns:
      Rows, with the fields of `kl_fields` where the KL was read. Readings other than `nll`
      and `kl` stand in them under their own names, averaged over the predictions of the text.
    """
    nll, kl = {}, {}
    for name in dict.fromkeys([BASELINE, *(variant.name for variant in variants)]):
        nll[name], document_P, first_P = gather_predictions(batches, readings[name]["nll"])
        if "kl" in readings[name]:
            kl[name], _, _ = gather_predictions(batches, readings[name]["kl"])
    rows = make(
        nll,
        variants,
        baseline_P=nll[BASELINE],
        document_P=document_P,
        first_P=first_P,
        text=text,
    )
    unit_P = sampling_units(document_P)
    for row, variant in zip(rows, variants, strict=True):
        if variant.name in kl:
            row |= kl_fields(kl[variant.name], unit_P)
            if row["kl"] is None:
                row.setdefault("reason", "the KL to the unchanged model is not finite")
        for name, values in readings[variant.name].items():
            if name in ("nll", "kl"):
                continue
            if name in row:
                raise InputError(f"a measure may not be called {name!r}, a field of every row")
            row[name] = _average(name, values, batches)
    return rows


def kl_fields(kl_P: np.ndarray, unit_P: np.ndarray) -> Row:
    """The second reading of a variant: how far its predictions are from the unchanged model's.

    A KL is 0 only for the unchanged model and rises with any change, whether or not the text
    happens to like it.

    Args:
      kl_P: KL(unchanged model || variant) at each predicted token, in nats.
      unit_P: The unit of each; see `sampling_units`.

    Returns:
      `kl`, the mean over tokens; `kl_ci95`, its 95 % interval over units
      (`ratio_intervals`), cut at 0; `unit_kl`, the sum of each unit. What is not finite is None.
    """
    sums_U = np.bincount(unit_P, weights=kl_P.astype(np.float64))
    (found,) = ratio_intervals(sums_U[None], np.bincount(unit_P))
    mean = Estimate(*map(float, found)).map(lambda value: np.maximum(value, 0.0))
    return {
        "kl": finite(mean.value),
        "kl_ci95": mean.ends,
        "unit_kl": [finite(value) for value in sums_U],
    }


def _average(name: str, values: Sequence[Any], batches: Sequence[TextBatch]) -> float:
    """The mean over predictions of a user's measure: one number each, or one a batch."""
    arrays = [np.asarray(value, np.float64) for value in values]
    if all(array.ndim == 0 for array in arrays):
        weights = [np.count_nonzero(batch.document_P >= 0) for batch in batches]
        return float(np.average(arrays, weights=weights))
    expected = [batch.predict_P.shape for batch in batches]
    if [array.shape for array in arrays] != expected:
        raise InputError(
            f"measure {name!r} must return [C] or [C, P], a number for each stream or for each "
            f"of its {expected[0][0]} predicted positions; got [C, *{arrays[0].shape}]"
        )
    return float(gather_predictions(batches, arrays)[0].mean())

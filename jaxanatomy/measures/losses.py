"""What a variant loses against the unedited model: the fields that all sweep rows have."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import BASELINE, Variant
from jaxanatomy.measures.statistics.estimates import (
    Estimate,
    degradation_percent,
    perplexity,
    ratio_intervals,
    sampling_units,
)
from jaxanatomy.records import Row


def loss_rows(
    results: Mapping[str, np.ndarray],
    variants: Sequence[Variant],
    *,
    baseline_P: np.ndarray,
    document_P: np.ndarray,
    first_P: np.ndarray,
    text: str,
) -> list[Row]:
    """One row for each variant: its labels, its loss, and the loss against the baseline.

    Rows do not depend on which other variants come in the same call.

    Args:
      results: Per-token NLL of each variant by its name, float32 [P].
      variants: The variants to report, in order.
      baseline_P: Per-token NLL of the unedited model.
      document_P: Document index of each predicted token.
      first_P: Whether it is the first prediction of its document.
      text: Name of the text.

    Returns:
      Rows ready for JSON. `ci95` is the 95 % interval of degradation_percent, paired
      over units (`statistics.ratio_intervals`). `unit_nll` and `unit_tokens` hold the summed
      NLL and the tokens of each unit (see `sampling_units`), so that any two rows of a text can
      be compared
      (`statistics.paired_difference`). The fields that end in `_without_first` leave out
      the first prediction of each document. Where a figure is not finite it is None, and
      `reason` says why.

    Raises:
      InputError: a variant has no result, or one of another length.
    """
    nll_VP = np.stack([_result(results, variant.name, baseline_P) for variant in variants])
    unit_P = sampling_units(document_P)
    rows = []
    for variant, nll_P in zip(variants, nll_VP, strict=True):
        row = {"variant": variant.name, **variant.labels}
        row |= _loss(nll_P, baseline_P)
        row["ci95"] = None if variant.name == BASELINE else _interval(nll_P, baseline_P, unit_P)
        row |= unit_sums(nll_P, unit_P)
        row |= _without_first(nll_P, baseline_P, first_P)
        rows.append(row | {"text": text})
    return rows


def degradation(nll_P: np.ndarray, baseline_P: np.ndarray) -> float:
    """100 (PPL / PPL_baseline - 1) from the losses of the same tokens; may be infinite."""
    difference = nll_P.sum(dtype=np.float64) - baseline_P.sum(dtype=np.float64)
    return float(degradation_percent(difference / len(nll_P)))


def unit_sums(nll_P: np.ndarray, unit_P: np.ndarray) -> Row:
    """`unit_nll`, the summed NLL of each sampling unit, and `unit_tokens`."""
    sums_U = np.bincount(unit_P, weights=nll_P.astype(np.float64))
    return {
        "unit_nll": [finite(value) for value in sums_U],
        "unit_tokens": np.bincount(unit_P).tolist(),
    }


def finite(value: float | None) -> float | None:
    """A float for JSON: None where it is not finite, or not there."""
    return float(value) if value is not None and math.isfinite(value) else None


def mean_nll(row: Mapping[str, Any]) -> float:
    """Mean NLL, which stays finite where the perplexity overflows; infinite where unknown."""
    return math.inf if row["nll"] is None else row["nll"] / row["tokens"]


def _loss(nll_P: np.ndarray, baseline_P: np.ndarray) -> Row:
    nll, tokens = float(nll_P.sum(dtype=np.float64)), len(nll_P)
    ppl, reason = perplexity(nll, tokens)
    row = {
        "nll": finite(nll),
        "tokens": tokens,
        "ppl": ppl,
        "degradation_percent": finite(degradation(nll_P, baseline_P)),
    }
    if reason is None and row["degradation_percent"] is None:
        reason = "the ratio to the baseline is not finite"
    return row if reason is None else row | {"reason": reason}


def _interval(nll_P: np.ndarray, baseline_P: np.ndarray, unit_P: np.ndarray) -> list[float] | None:
    """Of degradation in percent; an upper end that overflows leaves none to report."""
    # In float64 before the difference is taken: it may be a small part of either.
    difference_P = nll_P.astype(np.float64) - baseline_P.astype(np.float64)
    sums_U = np.bincount(unit_P, weights=difference_P)
    (found,) = ratio_intervals(sums_U[None], np.bincount(unit_P))
    return Estimate(*found).degradation_percent().ends


def _without_first(nll_P: np.ndarray, baseline_P: np.ndarray, first_P: np.ndarray) -> Row:
    """The second reading: short texts are dominated by the first prediction."""
    kept = ~np.asarray(first_P, bool)
    if not kept.any():
        return {"ppl_without_first": None, "degradation_percent_without_first": None}
    nll_P, baseline_P = nll_P[kept], baseline_P[kept]
    ppl, _ = perplexity(float(nll_P.sum(dtype=np.float64)), len(nll_P))
    return {
        "ppl_without_first": ppl,
        "degradation_percent_without_first": finite(degradation(nll_P, baseline_P)),
    }


def _result(results: Mapping[str, np.ndarray], name: str, baseline_P: np.ndarray) -> np.ndarray:
    if name not in results:
        raise InputError(f"variant {name!r} has no result; sweep it before asking for its row")
    nll_P = np.asarray(results[name])
    if nll_P.shape != baseline_P.shape:
        raise InputError(
            f"variant {name!r} must have an NLL for each of the {len(baseline_P)} predicted "
            f"tokens of the baseline; got shape {nll_P.shape}; sweep both on the same text"
        )
    return nll_P

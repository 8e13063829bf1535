"""How fast layers recover: rows of the recovery experiment and what they say (AH section 3.6).

Training a layer lowers the perplexity whether it was damaged or not. So a damaged layer has
recovered when it is where the same training without noise is at the same step: the gap between
the two is what has not recovered. The paper counts the steps to multiples of the undamaged
model's perplexity instead; they are kept beside.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.measures.losses import finite, unit_sums
from jaxanatomy.measures.statistics.estimates import (
    draws_interval,
    paired_difference,
    perplexity,
    sampling_units,
    spearman_interval,
)
from jaxanatomy.records import Row

FINAL, BASELINE = "final", "baseline"


def check_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    """The thresholds, multiples of the baseline's perplexity.

    Raises:
      InputError: There is none, one is not finite and above 1, or they do not descend.
    """
    thresholds = tuple(float(value) for value in thresholds)
    descend = all(a > b for a, b in itertools.pairwise(thresholds))
    if not thresholds or not descend or not all(1 < value < math.inf for value in thresholds):
        raise InputError(
            "thresholds must be multiples of the baseline's perplexity that descend, each above "
            f"1, as in 2,1.5,1.1; got {','.join(f'{value:g}' for value in thresholds) or 'none'}"
        )
    return thresholds


def evaluation_fields(nll_P: np.ndarray, document_P: np.ndarray) -> Row:
    """What the model with one damaged layer does on the evaluation text.

    Args:
      nll_P: Loss of each predicted token.
      document_P: Document of each.

    Returns:
      `nll`, `tokens`, `ppl`, `unit_nll` and `unit_tokens` as in all rows of losses; where a
      figure is not finite it is None, and `reason` says why.
    """
    nll, tokens = float(nll_P.sum(dtype=np.float64)), len(nll_P)
    ppl, reason = perplexity(nll, tokens)
    row = {"nll": finite(nll), "tokens": tokens, "ppl": ppl}
    row |= unit_sums(nll_P, sampling_units(document_P))
    return row if reason is None else row | {"reason": reason}


def steps_to(
    curve: Iterable[Row], baseline_ppl: float, thresholds: Sequence[float]
) -> dict[str, int | None]:
    """The first evaluated step at which a curve is at or below each threshold.

    Args:
      curve: Rows of one replica with `step` and `ppl`, in order.
      baseline_ppl: Perplexity of the undamaged model.
      thresholds: Multiples of it.

    Returns:
      {"2": 10, "1.1": None}: None where the curve never gets there.
    """
    curve = list(curve)
    level = {row["step"]: baseline_ppl for row in curve}
    return _first_steps(curve, level, thresholds)


def steps_to_control(
    curve: Iterable[Row], control: Iterable[Row] | None, thresholds: Sequence[float]
) -> dict[str, int | None] | None:
    """The first evaluated step at which a curve is within each threshold of its control.

    Args:
      curve: Rows of one replica with `step` and `ppl`, in order.
      control: Of the same layer trained without noise; None if there is none.
      thresholds: Multiples of the control's perplexity at the same step.

    Returns:
      As `steps_to`; None without a control.
    """
    if control is None:
        return None
    level = {row["step"]: row["ppl"] for row in control if row["ppl"] is not None}
    return _first_steps(curve, level, thresholds)


def _first_steps(
    curve: Iterable[Row], level: Mapping[int, float], thresholds: Sequence[float]
) -> dict[str, int | None]:
    """The first step at which a curve is within each threshold of the level of that step."""
    points = [
        (row["step"], row["ppl"] / level[row["step"]])
        for row in curve
        if row["ppl"] is not None and row["step"] in level
    ]
    return {
        f"{threshold:g}": next((step for step, ratio in points if ratio <= threshold), None)
        for threshold in thresholds
    }


def curves(rows: Iterable[Row]) -> dict[tuple[int, int | None], list[Row]]:
    """The points of each replica by (layer, seed), in the order of steps; None: no noise."""
    found: dict[tuple[int, int | None], list[Row]] = {}
    for row in rows:
        if "step" in row and "kind" not in row:
            found.setdefault((row["layer"], row["seed"]), []).append(row)
    return {key: sorted(found[key], key=lambda row: row["step"]) for key in sorted(found, key=_key)}


def has_diverged(curve: Sequence[Row]) -> bool:
    """Whether a curve ends where it stopped being finite."""
    return str(curve[-1].get("reason")).startswith("diverged")


def has_ended(curve: Sequence[Row], steps: int) -> bool:
    """Whether a curve has all of its training, or has diverged."""
    return curve[-1]["step"] >= steps or has_diverged(curve)


def of_ended(rows: Iterable[Row], steps: int) -> list[Row]:
    """The points of the curves that have ended: not of a seed that was killed and left out."""
    ended = (curve for curve in curves(rows).values() if has_ended(curve, steps))
    return [row for curve in ended for row in curve]


def final_row(
    curve: Sequence[Row],
    control: Sequence[Row] | None,
    baseline_ppl: float,
    thresholds: Sequence[float],
) -> Row:
    """What one recovery curve comes to.

    Args:
      curve: Its points.
      control: The curve of the same layer trained without noise; None if there is none,
        or this is it.
      baseline_ppl: Perplexity of the undamaged model.
      thresholds: Multiples of it, and of the control's.

    Returns:
      A row of `kind` "final": `noised_ppl` and `final_ppl` at the ends of the curve,
      `best_ppl` and `best_step` at its minimum; the gap to the control at the last step that
      both have: `gap_to_control` in perplexity, `gap_to_control_nats` with its interval
      `gap_ci95` over documents in nats per token; `steps_to_control`; and `steps_to`, of
      the undamaged model, as in the paper. `reason` if the curve diverged.
    """
    first, last = curve[0], curve[-1]
    known = [row for row in curve if row["ppl"] is not None]
    best = min(known, key=lambda row: row["ppl"], default=None)
    row = {"kind": FINAL, **{name: first[name] for name in ("layer", "seed", "noise")}}
    row |= {
        "train_text": first["train_text"],
        "text": first["text"],
        "steps": last["step"],
        "noised_ppl": first["ppl"],
        "best_ppl": best and best["ppl"],
        "best_step": best and best["step"],
        "final_ppl": last["ppl"],
        **_gap(curve, control),
        "steps_to_control": steps_to_control(curve, control, thresholds),
        "steps_to": steps_to(curve, baseline_ppl, thresholds),
    }
    return row | {"reason": last["reason"]} if "reason" in last else row


def recovery_against_importance(
    finals: Iterable[Row],
    degradation: Mapping[int, float | None],
    threshold: str,
) -> dict[str, Row]:
    """Rank correlations of how layers recover with how important they are.

    The paper reads importance off recovery (AH section 4.5); this asks whether they agree.

    Args:
      finals: Final rows; those with noise count, several seeds of a layer by their mean.
      degradation: Importance of each layer: degradation in percent of its neighbour mean.
      threshold: Which of `steps_to_control` to rank by; a curve that never got there comes last.

    Returns:
      For "noised" (perplexity with noise), "gap" (to the control, at the end) and "steps" (until
      within the threshold of it) each {"layers", "value", "ci95"}; None where a figure does
      not vary, or without controls.
    """
    by_layer: dict[int, list[Row]] = {}
    for row in finals:
        if row["noise"] and degradation.get(row["layer"]) is not None:
            by_layer.setdefault(row["layer"], []).append(row)
    readings = {
        "noised": lambda row: _or_infinite(row["noised_ppl"]),
        "gap": lambda row: _or_infinite(row["gap_to_control_nats"]),
        "steps": lambda row: _or_infinite((row["steps_to_control"] or {}).get(threshold)),
    }
    importance = [degradation[layer] for layer in by_layer]
    return {
        name: _correlation(
            [float(np.mean([read(row) for row in own])) for own in by_layer.values()],
            importance,
        )
        for name, read in readings.items()
    }


def _correlation(x: list[float], y: list[float]) -> Row:
    if len(x) < 3:
        return {"layers": len(x), "value": None, "ci95": None}
    found = spearman_interval(x, y)
    return {"layers": len(x), "value": finite(found.value), "ci95": found.ends}


def _gap(curve: Sequence[Row], control: Sequence[Row] | None) -> Row:
    """The gap at the last step at which both curves are finite."""
    other = {row["step"]: row for row in control or () if row["ppl"] is not None}
    shared = [row for row in curve if row["ppl"] is not None and row["step"] in other]
    if not shared:
        return {"gap_to_control": None, "gap_to_control_nats": None, "gap_ci95": None}
    own = shared[-1]
    control_row = other[own["step"]]
    found = paired_difference(own, control_row)
    return {
        "gap_to_control": own["ppl"] - control_row["ppl"],
        "gap_to_control_nats": finite(found.value),
        "gap_ci95": found.ends,
    }


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value


def _key(key: tuple[int, int | None]) -> tuple[int, int]:
    layer, seed = key
    return layer, -1 if seed is None else seed


def noise_spread(rows: Iterable[Row]) -> dict[int, Row]:
    """How far noise seeds differ: perplexities with noise and without training, by layer.

    Returns:
      {"seeds", "low", "median", "high"} of the finite ones; None where there is none.
    """
    found: dict[int, list[float | None]] = {}
    for curve in curves(rows).values():
        if curve[0]["noise"] and curve[0]["step"] == 0:
            found.setdefault(curve[0]["layer"], []).append(curve[0]["ppl"])
    spread = {}
    for layer, values in found.items():
        known = [value for value in values if value is not None]
        spread[layer] = {"seeds": len(values), **dict.fromkeys(("low", "median", "high"))}
        if known:
            spread[layer] |= {
                "low": min(known),
                "median": float(np.median(known)),
                "high": max(known),
            }
    return spread


def gaps_to_control(rows: Iterable[Row]) -> dict[int, Row]:
    """What has not recovered at the end, by layer, over the noise seeds that trained.

    Args:
      rows: Of a recovery run.

    Returns:
      For each layer with a control, at the last step at which it and all seeds are finite: the
      number of `seeds`, the `step`, `mean`, `low` and `high` of the seeds' gaps in nats per
      token, and `ci95` of the mean over seeds and documents; None for one seed.
    """
    found = {key: curve for key, curve in curves(rows).items() if len(curve) > 1}
    gaps = {}
    for layer in sorted({layer for layer, seed in found if seed is not None}):
        own = [found[key] for key in found if key[0] == layer and key[1] is not None]
        control = found.get((layer, None))
        by_step = [_finite_by_step(curve) for curve in (control or (), *own)]
        shared = set.intersection(*map(set, by_step))
        if shared:
            step = max(shared)
            gaps[layer] = {"seeds": len(own), "step": step, **_gap_over_seeds(by_step, step)}
    return gaps


def _finite_by_step(curve: Iterable[Row]) -> dict[int, Row]:
    return {row["step"]: row for row in curve if row["ppl"] is not None}


def _gap_over_seeds(by_step: Sequence[Mapping[int, Row]], step: int) -> Row:
    """The gaps of a layer at a step; first of `by_step` is the control."""
    control, *own = (points[step] for points in by_step)
    tokens_U = np.asarray(control["unit_tokens"])
    sums_SU = np.array([np.subtract(row["unit_nll"], control["unit_nll"]) for row in own])
    gap_S = sums_SU.sum(axis=1) / tokens_U.sum()
    estimate = draws_interval(sums_SU, tokens_U)
    return {
        "mean": estimate.value,
        "low": float(gap_S.min()),
        "high": float(gap_S.max()),
        "ci95": estimate.ends,
    }

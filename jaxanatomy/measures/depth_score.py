"""Depth score: the layer at which a model's influence on later tokens stands on average.

As DG appendix B has it (after Csordás et al. 2025, arXiv 2505.13898): m_l is the mean over examples
of the largest change at future tokens when layer l writes nothing at earlier ones, and the score
is sum(l m_l) / sum(m_l), layers counted from 0.

The null is the architecture with random weights, not layers in random order: what a layer writes
reaches later tokens through the attention of the layers after it, of which the first layer has the
most and the last none, so that m_l falls with depth in any transformer. Random weights are drawn
several times: the model itself would be one more draw had training done nothing.

Intervals over examples are of the jackknife's pseudo-values. Where a few examples make most of the
changes they cover better than a linearised ratio. Nominally 95 %, with eight examples and 30
layers: 94 % where the examples' sizes have a standard deviation of 0.5 in the logarithm, 92 % of
1.0, 90 % where examples differ as much in depth as well (a linearised ratio 94, 88 and 85 %;
1,500 draws).
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.arms.finals import family_level
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings.effects import FUTURE, PROPAGATED
from jaxanatomy.measures.statistics.estimates import Estimate, jackknife_interval, student_quantile
from jaxanatomy.records import Row

EFFECTS = {
    "output": "of the predicted distribution",
    "layer": "of the later layer that moves most (of the last layer none)",
}


def untrained_id(model: str, draw: int = 0) -> str:
    """The `model` of a model's architecture with random weights, in one of several draws."""
    return f"random:{model}" + (f"#{draw}" if draw else "")


def untrained_draws(model: str, among: Iterable[str]) -> list[str]:
    """Those of some models that are draws of a model's architecture with random weights."""
    form = re.compile(re.escape(untrained_id(model)) + r"(#\d+)?")
    return [each for each in among if form.fullmatch(each)]


def depth_score(change_EL: np.ndarray, level: float = 0.95) -> Estimate:
    """The score with its interval over examples, of the jackknife's pseudo-values.

    Args:
      change_EL: For each example the largest change that each layer makes.
      level: Coverage.

    Returns:
      NaN where no layer makes a change or one is not finite; no ends for one example, or where
      one example makes all changes.
    """
    change_EL = np.asarray(change_EL, np.float64)
    value = _score(change_EL)
    if math.isnan(value):
        return Estimate(value)
    return jackknife_interval(value, _scores_without_each(change_EL), level)


def depth_score_difference(
    change_EL: np.ndarray, other_EL: np.ndarray, level: float = 0.95
) -> Estimate:
    """The score of one model less that of another on the same examples.

    Args:
      change_EL: For each example the largest change that each layer of the one makes.
      other_EL: The same of the other.
      level: Coverage.

    Returns:
      NaN where either has no score; no ends as in `depth_score`.
    """
    return depth_score_beyond_draws(change_EL, np.asarray(other_EL)[None], level)


def depth_score_beyond_draws(
    change_EL: np.ndarray, null_DEL: np.ndarray, level: float = 0.95
) -> Estimate:
    """The score of a model less the mean score of draws of its null, on the same examples.

    The interval holds for other examples and for other draws. Had training done nothing, the model
    would be one draw more, so that draws of variance v add v (1 + 1 / D), with Student's quantile
    of D - 1 degrees of freedom. The two half-widths are added in squares, each with a quantile of
    its own (as `statistics.draws_interval`; Graybill and Wang 1980).

    Args:
      change_EL: For each example the largest change that each layer of the model makes.
      null_DEL: The same of each draw. Of one draw the interval is over examples alone.
      level: Coverage.

    Returns:
      NaN where the model or a draw has no score; no ends as in `depth_score`.
    """
    own_EL, null_DEL = np.asarray(change_EL, np.float64), np.asarray(null_DEL, np.float64)
    scores_D = np.array([_score(each) for each in null_DEL])
    value = _score(own_EL) - float(scores_D.mean())
    if math.isnan(value):
        return Estimate(value)
    without_DE = np.stack([_scores_without_each(each) for each in null_DEL])
    found = jackknife_interval(value, _scores_without_each(own_EL) - without_DE.mean(axis=0), level)
    draws = len(null_DEL)
    if draws < 2:
        return found
    spread = scores_D.std(ddof=1) * math.sqrt(1 + 1 / draws)
    half = float(student_quantile(level, draws - 1) * spread)
    below, above = (math.hypot(end - value, half) for end in (found.low, found.high))
    return Estimate(value, value - below, value + above)


def _score(change_EL: np.ndarray) -> float:
    """The score; NaN where no layer makes a change or one is not finite."""
    if not change_EL.sum() > 0 or not np.isfinite(change_EL).all():
        return math.nan
    return float((change_EL @ np.arange(change_EL.shape[1])).sum() / change_EL.sum())


def _scores_without_each(change_EL: np.ndarray) -> np.ndarray:
    """The score without each example in turn, [E]; NaN where one was all."""
    moment_E, total_E = change_EL @ np.arange(change_EL.shape[1]), change_EL.sum(axis=1)
    left_E = total_E.sum() - total_E
    scores_E = np.full(len(total_E), np.nan)
    return np.divide(moment_E.sum() - moment_E, left_E, out=scores_E, where=left_E > 0)


def changes(rows: Iterable[Row], effect: str) -> dict[tuple[str, str], np.ndarray]:
    """For each convention and part the largest change by example and layer, [E, L].

    One of which not every layer was measured is left out.

    Args:
      rows: Of one model and text; of `effects.effect_rows`.
      effect: One of `EFFECTS`. The largest over boundaries and, of layers, over targets.
    """
    kind = "output" if effect == "output" else "effect"
    found: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    depth = 0
    for row in rows:
        if row.get("kind") not in ("effect", "output"):
            continue
        if (row["when"], row["spread"]) != (FUTURE, PROPAGATED):
            continue
        depth = max(depth, 1 + row["source"])
        if row["kind"] == kind:
            largest = found.setdefault((row["convention"], row["part"]), {})
            own = np.array([math.inf if each is None else each for each in row["examples"]])
            largest[row["source"]] = np.maximum(largest.get(row["source"], own), own)
    if effect == "layer":  # the last layer has none after it
        for own in found.values():
            own.setdefault(depth - 1, np.zeros_like(next(iter(own.values()))))
    return {
        key: np.stack([own[layer] for layer in range(depth)], axis=1)
        for key, own in found.items()
        if own.keys() == set(range(depth))
    }


def depth_score_rows(rows: Sequence[Row]) -> list[Row]:
    """Rows of kind "depth_score" of one model and text.

    Returns:
      For each convention, part and effect a row with `value` and `ci95` over examples; one with
      `over` "max", of the largest change over examples instead of the mean (it has no interval);
      one for each `example`.
    """
    texts = dict.fromkeys(row["text"] for row in rows if row["kind"] == "output")
    found = []
    for effect in EFFECTS:
        for (convention, part), change_EL in changes(rows, effect).items():
            labels = {"kind": "depth_score", "convention": convention, "part": part}
            labels |= {"effect": effect, "text": next(iter(texts))}
            mean = {"over": "mean", "example": None, **_fields(change_EL)}
            largest = {"over": "max", "example": None, **_fields(change_EL.max(axis=0)[None])}
            found += [labels | mean, labels | largest]
            for example, change_L in enumerate(change_EL):
                one = {"over": None, "example": example, **_fields(change_L[None])}
                found.append(labels | one)
    return found


def depth_difference_rows(rows: Sequence[Row], others: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Rows of kind "depth_difference": the scores of other models less that of one.

    Args:
      rows: Of one model and text.
      others: Of others, by `model`; all `untrained_draws` of the one are compared together.

    Returns:
      For each model, convention, part and effect `value` and `ci95`, which holds for all models of
      one of these at once; of a model of another depth or with other examples None, with a
      `reason`. Of untrained draws, with `model` that of the first, the mean of them, `ci95` of
      `depth_score_beyond_draws`, and the score of each in `draw_scores`, None for other models.
    """
    nulls = untrained_draws(rows[0]["model"], others)
    models = {model: [model] for model in others if model not in nulls}
    models |= {nulls[0]: nulls} if nulls else {}
    found, level = [], family_level(len(models))
    for effect in EFFECTS:
        given = changes(rows, effect)
        own = {model: changes(each, effect) for model, each in others.items()}
        for model, draws in models.items():
            for key in (key for key in own[model] if key in given):
                labels = dict(zip(("convention", "part"), key, strict=True))
                labels = {"kind": "depth_difference", "model": model, **labels, "effect": effect}
                labels |= {"text": others[model][0]["text"]}
                drawn = [own[draw][key] for draw in draws if key in own[draw]]
                scores = [finite(_score(each)) for each in drawn] if model in nulls else None
                difference = _difference(given[key], drawn, level)
                found.append({**labels, **difference, "draw_scores": scores})
    return found


def _difference(given_EL: np.ndarray, drawn: Sequence[np.ndarray], level: float) -> Row:
    """Fields of the mean score of some draws, or of one model, less that of the given one."""
    if given_EL.shape != drawn[0].shape:
        own, other = given_EL.shape, drawn[0].shape
        reason = f"examples, layers {own} and {other} do not compare"
        return {"value": None, "ci95": None, "reason": reason}
    found = depth_score_beyond_draws(given_EL, np.stack(drawn), level)
    found = Estimate(-found.value, -found.high, -found.low)
    return {"value": finite(found.value), "ci95": found.ends}


def _fields(change_EL: np.ndarray) -> Mapping[str, Any]:
    found = depth_score(change_EL)
    if math.isnan(found.value):
        reason = "no layer makes a change, or one that is not finite"
        return {"value": None, "ci95": None, "reason": reason}
    return {"value": found.value, "ci95": found.ends}

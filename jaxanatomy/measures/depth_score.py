"""Depth score: the layer at which a model's influence on later tokens stands on average.

As DG appendix B has it (after Csordás et al. 2025, arXiv 2505.13898): m_l is the mean over examples
of the largest change at future tokens when layer l writes nothing at earlier ones, and the score
is sum(l m_l) / sum(m_l), layers counted from 0.

The null is the architecture with random weights, not layers in random order: what a layer writes
reaches later tokens through the attention of the layers after it, of which the first layer has the
most and the last none, so that m_l falls with depth in any transformer.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.arms import family_level
from jaxanatomy.measures.effects import FUTURE, PROPAGATED
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics import Estimate, ratio_intervals
from jaxanatomy.records import Row

EFFECTS = {
    "output": "of the predicted distribution",
    "layer": "of the later layer that moves most (of the last layer none)",
}


def depth_score(change_EL: np.ndarray, level: float = 0.95) -> Estimate:
    """The score with its interval over examples.

    A ratio of two sums over examples, hence the interval of `ratio_intervals`.

    Args:
      change_EL: For each example the largest change that each layer makes.
      level: Coverage.

    Returns:
      NaN where no layer makes a change or one is not finite; no ends for one example.
    """
    change_EL = np.asarray(change_EL, np.float64)
    if not change_EL.sum() > 0 or not np.isfinite(change_EL).all():
        return Estimate(math.nan)
    moments_E = change_EL @ np.arange(change_EL.shape[1])
    (found,) = ratio_intervals(moments_E[None], change_EL.sum(axis=1), level)
    return Estimate(*map(float, found))


def depth_score_difference(
    change_EL: np.ndarray, other_EL: np.ndarray, level: float = 0.95
) -> Estimate:
    """The score of one model less that of another on the same examples.

    The interval is of the jackknife's pseudo-values: where a few examples make most of the changes
    it covers better than linearised ratios do.

    Args:
      change_EL: For each example the largest change that each layer of the one makes.
      other_EL: The same of the other.
      level: Coverage.

    Returns:
      NaN where either has no score; no ends for one example.
    """
    value = depth_score(change_EL).value - depth_score(other_EL).value
    if math.isnan(value):
        return Estimate(math.nan)
    without_E = _scores_without_each(change_EL) - _scores_without_each(other_EL)
    examples = len(without_E)
    x_E = value + (examples - 1) * (without_E.mean() - without_E) if examples > 1 else [value]
    (found,) = ratio_intervals(np.array(x_E)[None], np.ones(examples), level)
    return Estimate(*map(float, found))


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
            mean = {"over": "mean", "example": None, **_score(change_EL)}
            largest = {"over": "max", "example": None, **_score(change_EL.max(axis=0)[None])}
            found += [labels | mean, labels | largest]
            for example, change_L in enumerate(change_EL):
                one = {"over": None, "example": example, **_score(change_L[None])}
                found.append(labels | one)
    return found


def depth_difference_rows(rows: Sequence[Row], others: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Rows of kind "depth_difference": the scores of other models less that of one.

    Args:
      rows: Of one model and text.
      others: Of others, by `model`.

    Returns:
      For each model, convention, part and effect `value` and `ci95`, which holds for all models of
      one of these at once; of a model of another depth or with other examples None, with a
      `reason`.
    """
    found, level = [], family_level(len(others))
    for effect in EFFECTS:
        given = changes(rows, effect)
        for model, own in others.items():
            for key, change_EL in changes(own, effect).items():
                if key not in given:
                    continue
                labels = dict(zip(("convention", "part"), key, strict=True))
                labels = {"kind": "depth_difference", "model": model, **labels, "effect": effect}
                labels |= {"text": own[0]["text"]}
                if given[key].shape == change_EL.shape:
                    difference = depth_score_difference(change_EL, given[key], level)
                    ends = {"value": finite(difference.value), "ci95": difference.ends}
                else:
                    shapes = ("examples, layers", given[key].shape, change_EL.shape)
                    reason = "{} {} and {} do not compare".format(*shapes)
                    ends = {"value": None, "ci95": None, "reason": reason}
                found.append(labels | ends)
    return found


def _score(change_EL: np.ndarray) -> Mapping[str, Any]:
    found = depth_score(change_EL)
    if math.isnan(found.value):
        reason = "no layer makes a change, or one that is not finite"
        return {"value": None, "ci95": None, "reason": reason}
    return {"value": found.value, "ci95": found.ends}

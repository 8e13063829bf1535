"""How predictable layers are, in their weights and in their function: rows and summary."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxanatomy import tree
from jaxanatomy.errors import require_whole
from jaxanatomy.forensics.prediction import (
    FIRST_TARGET,
    READINGS,
    Scores,
    gaussian_like,
    sample_component,
)
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.draws import median_draw
from jaxanatomy.measures.statistics.estimates import draws_interval, paired_difference, z_score
from jaxanatomy.records import Row

_MEAN_FIELDS = (
    "r2",
    "best",
    "cosine",
    "null_r2",
    "null_low",
    "null_high",
    "null_best",
    "z",
    "shuffled_r2",
    "shuffled_low",
    "shuffled_high",
)


def component_rows(
    blocks: Sequence[tree.BlockParams], component: str, *, samples: int, null_draws: int, seed: int
) -> list[Row]:
    """`weight_rows` of one component of a model, on parameters that are sampled from it.

    Args:
      blocks: The layers.
      component: The matrix.
      samples: Parameters of each layer; see `forensics.prediction.sample_component`.
      null_draws: How often the nulls are drawn, at least 2.
      seed: Of the sample and of the draws.
    """
    values_LN = sample_component(blocks, component, samples, seed)
    return weight_rows(component, values_LN, null_draws=null_draws, seed=seed)


def weight_rows(component: str, values_LN: np.ndarray, *, null_draws: int, seed: int) -> list[Row]:
    """Rows of one component: every reading, its mean over targets and each target.

    AH Table 2 prints the average and the best R2 over the targets.

    Args:
      component: Its name.
      values_LN: The same sampled parameters in every layer, [L, N].
      null_draws: How often the null is drawn, at least 2.
      seed: Of the draws.

    Returns:
      Rows with `component`, `reading`, `target` (None: the mean over targets), `r2`,
      `cosine`; the Gaussian null's mean `null_r2`, the middle 95 % of its draws `null_low`
      and `null_high`, its `null_cosine`, and `z`; the same of the real layers in random
      order as `shuffled_r2`, `shuffled_low`, `shuffled_high`. Rows of means also have
      `best`, the largest R2 of a target, and `null_best`, the mean of that over draws.
      Figures that cannot be had are None, and `reason` says why.

    Raises:
      InputError: Fewer than two draws.
    """
    require_whole("null_draws", null_draws, least=2)
    index = tree.MATRICES.index(component)
    noise, order = (np.random.default_rng([seed, index, kind]) for kind in (1, 2))
    # What a reading does to a layer's values is done once for those that share it.
    transforms = dict.fromkeys(reading.transform for reading in READINGS.values())
    own_of = {transform: transform(values_LN) for transform in transforms}
    null_of: dict[str, list[Scores]] = {name: [] for name in READINGS}
    shuffled_of: dict[str, list[Scores]] = {name: [] for name in READINGS}
    for _ in range(null_draws):
        drawn_LN, order_L = gaussian_like(values_LN, noise), order.permutation(len(values_LN))
        drawn_of = {transform: transform(drawn_LN) for transform in transforms}
        for name, reading in READINGS.items():
            null_of[name].append(reading.score(drawn_of[reading.transform]))
            shuffled_of[name].append(reading.score(own_of[reading.transform][order_L]))
    return [
        {"component": component, "reading": name, **row}
        for name, reading in READINGS.items()
        for row in _reading_rows(
            reading.score(own_of[reading.transform]), null_of[name], shuffled_of[name]
        )
    ]


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures that the predictability experiment is about.

    Args:
      rows: Of a run.

    Returns:
      A dict ready for JSON. `weights`: for each component and reading the means over
      targets beside their nulls. `function`: for each text its `baseline_ppl`, for each set
      of layers, small sets first, the perplexities with predicted and with deleted layers and
      the difference of their mean NLLs (above 0: predicting is worse than deleting) with its
      95 % interval, and how many single layers lie on either side; and the same against noise
      as large as the error of the prediction, where it was measured (`noise_ppl` and so on).
    """
    rows = list(rows)
    weights: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["reading"] in READINGS and row["target"] is None:
            figures = {name: row[name] for name in _MEAN_FIELDS}
            weights.setdefault(row["component"], {})[row["reading"]] = figures
    tested = [row for row in rows if row["reading"] == "function"]
    by_text = {
        text: _function([row for row in tested if row["text"] == text])
        for text in dict.fromkeys(row["text"] for row in tested)
    }
    return {"weights": weights, "function": by_text}


def _reading_rows(own: Scores, null: Sequence[Scores], shuffled: Sequence[Scores]) -> list[Row]:
    """The mean over targets, then each target."""
    null_ST, shuffled_ST = (np.stack([each.r2_T for each in drawn]) for drawn in (null, shuffled))
    cosine_ST = np.stack([each.cosine_T for each in null])
    rows = [
        {
            "target": None,
            **_figures(own.r2_T.mean(), null_ST.mean(axis=1), shuffled_ST.mean(axis=1)),
            "best": finite(own.r2_T.max()),
            "null_best": finite(null_ST.max(axis=1).mean()),
            "cosine": finite(own.cosine_T.mean()),
            "null_cosine": finite(cosine_ST.mean()),
        }
    ]
    for place in range(len(own.r2_T)):
        rows.append(
            {
                "target": FIRST_TARGET + place,
                **_figures(own.r2_T[place], null_ST[:, place], shuffled_ST[:, place]),
                "cosine": finite(own.cosine_T[place]),
                "null_cosine": finite(cosine_ST[:, place].mean()),
            }
        )
    return rows


def _figures(r2: float, null_S: np.ndarray, shuffled_S: np.ndarray) -> Row:
    """An R2 beside its two nulls."""
    row = {"r2": finite(r2)}
    for name, drawn_S in (("null", null_S), ("shuffled", shuffled_S)):
        low, high = np.percentile(drawn_S, [2.5, 97.5])
        row[f"{name}_r2"] = finite(drawn_S.mean())
        row |= {f"{name}_low": finite(low), f"{name}_high": finite(high)}
    row["z"] = finite(z_score(r2, null_S))
    if row["r2"] is None:
        row["reason"] = "a target layer does not vary, so it has no R2"
    return row


def _function(rows: Sequence[Row]) -> Row:
    """The function test on one text."""
    by_key = {(row["strategy"], row["set"]): row for row in rows}
    pairs = [
        (row, by_key["zero", row["set"]])
        for row in sorted(rows, key=lambda row: (len(row["layers"]), row["layers"]))
        if row["strategy"] == "predicted" and ("zero", row["set"]) in by_key
    ]
    noise: dict[str, list[Row]] = {}
    for row in rows:
        if row["strategy"] == "predicted_noise":
            noise.setdefault(row["set"], []).append(row)
    sets = {}
    for predicted, deleted in pairs:
        found = paired_difference(predicted, deleted)
        sets[predicted["set"]] = {
            "layers": predicted["layers"],
            "predicted_ppl": predicted["ppl"],
            "predicted_percent": predicted["degradation_percent"],
            "zero_ppl": deleted["ppl"],
            "zero_percent": deleted["degradation_percent"],
            "difference": finite(found.value),
            "ci95": found.ends,
            **_against_noise(predicted, noise.get(predicted["set"], [])),
        }
    intervals = [each["ci95"] for each in sets.values() if len(each["layers"]) == 1]
    known = [ends for ends in intervals if ends]
    baseline = by_key.get(("none", None))
    return {
        "baseline_ppl": baseline and baseline["ppl"],
        "sets": sets,
        "single_layers": {
            "compared": len(intervals),
            "predicted_worse": sum(low > 0 for low, _ in known),
            "predicted_better": sum(high < 0 for _, high in known),
        },
    }


def _against_noise(predicted: Row, noised: Sequence[Row]) -> dict[str, Any]:
    """A prediction beside noise as large as its error: what the error's direction does.

    The difference is from the mean over draws of the noise; a median draw stands for them.
    """
    if not noised:
        return {}
    noise_SU = np.array([row["unit_nll"] for row in noised], np.float64)
    sums_SU = np.array(predicted["unit_nll"], np.float64) - noise_SU
    found = draws_interval(sums_SU, np.array(predicted["unit_tokens"]))
    median = median_draw(noised)
    return {
        "noise_draws": len(noised),
        "noise_ppl": median["ppl"],
        "noise_percent": median["degradation_percent"],
        "noise_difference": finite(found.value),
        "noise_ci95": found.ends,
    }

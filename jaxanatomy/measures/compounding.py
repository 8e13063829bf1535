"""Whether the effects of noise in several layers compound, add up, or cancel.

Works on sweep rows of `interventions.perturbations`. What to compare an exponent with: the
sum of independent effects of random sign grows with the square root of their number
(0.5), effects that add up grow in proportion (1), and effects that compound faster (above 1).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.measures.losses import Row, finite
from jaxanatomy.measures.statistics import degradation_percent

STRATEGY = "perturb"
_UNMEASURED = "not measured for every seed, or not finite"


def compounding(
    rows: Iterable[Row], *, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> list[dict[str, Any]]:
    """What noise in K layers costs, for each alpha (AH section 4.2: "compounds").

    Intervals are percentiles over resampled seeds: what another draw of noise and layers
    might have given, not another text.

    Args:
      rows: Sweep rows of one text with the baseline; other strategies are passed over.
      samples: Resamples of the seeds.
      seed: Of the resamples.
      level: Coverage of the intervals.

    Returns:
      A dict for each alpha, ascending: `alpha`, `text`, `seeds`, `counts` (a dict for each
      number of layers: `count`, the means over seeds `delta_nll` and
      `absolute_delta_nll` in nats per token and `degradation_percent`, and `ci95` of
      `delta_nll`), and for these three the exponents p of y ~ count^p, `exponents`
      (`value`, `ci95` and `counts`, those that were fitted: of positive y).
      `all_to_singles` compares all layers at once with the sum of all layers one by one,
      in `delta_nll`: `all`, `sum`, their `ratio` (1: they add up; above: they compound)
      and `ci95`. What cannot be had is None, and `reason` says why.

    Raises:
      InputError: Rows of several texts, no baseline, or no perturbed variant.
    """
    rows = list(rows)
    baselines = [row for row in rows if row["variant"] == BASELINE]
    chosen = [row for row in rows if row.get("strategy") == STRATEGY]
    texts = sorted({str(row["text"]) for row in baselines + chosen})
    if len(texts) != 1 or len(baselines) != 1 or not chosen:
        raise InputError(
            "compounding needs rows of one text, its baseline and perturbed variants; got texts "
            f"{texts}, {len(baselines)} baselines and {len(chosen)} perturbed variants; select them"
        )
    base = baselines[0]["nll"] / baselines[0]["tokens"]
    alphas = sorted({row["alpha"] for row in chosen})
    by_alpha = [[row for row in chosen if row["alpha"] == alpha] for alpha in alphas]
    return [
        {"alpha": alpha, "text": texts[0]} | _of_alpha(own, base, samples, seed, level)
        for alpha, own in zip(alphas, by_alpha, strict=True)
    ]


def _of_alpha(
    rows: Sequence[Row], base: float, samples: int, seed: int, level: float
) -> dict[str, Any]:
    seeds = sorted({row["seed"] for row in rows})
    draw_SW = _resampled_weights(len(seeds), samples, seed)
    sets = [row for row in rows if not row["set"].startswith("layer_")]
    singles = [row for row in rows if row["set"].startswith("layer_")]
    by_count = {
        count: _by_seed([row for row in sets if row["count"] == count], seeds, base)
        for count in sorted({row["count"] for row in sets})
    }
    return {
        "seeds": seeds,
        "counts": [_means(count, delta_W, draw_SW, level) for count, delta_W in by_count.items()],
        "exponents": {
            name: _exponent(by_count, reading, draw_SW, level)
            for name, reading in _READINGS.items()
        },
        "all_to_singles": _ratio(by_count, singles, seeds, base, draw_SW, level),
    }


_READINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "delta_nll": lambda delta: delta,
    "absolute_delta_nll": np.abs,
    "degradation_percent": degradation_percent,
}


def _by_seed(rows: Sequence[Row], seeds: Sequence[int], base: float) -> np.ndarray:
    """Rise of the mean NLL for each seed; NaN where it was not measured or is not finite."""
    delta = {
        row["seed"]: row["nll"] / row["tokens"] - base for row in rows if row["nll"] is not None
    }
    return np.array([delta.get(seed, np.nan) for seed in seeds])


def _means(count: int, delta_W: np.ndarray, draw_SW: np.ndarray, level: float) -> dict[str, Any]:
    means = {name: finite(reading(delta_W).mean()) for name, reading in _READINGS.items()}
    row = {"count": count, **means, "ci95": _interval(draw_SW @ delta_W, level)}
    return row if None not in means.values() else row | {"reason": _UNMEASURED}


def _exponent(
    by_count: dict[int, np.ndarray],
    reading: Callable[[np.ndarray], np.ndarray],
    draw_SW: np.ndarray,
    level: float,
) -> dict[str, Any]:
    """The slope of log mean over log count; each resample keeps its own positive means."""
    counts = np.array([*by_count])
    # One row for each count, so that a product with weights of seeds gives means.
    values = np.array([reading(delta_W) for delta_W in by_count.values()])

    def fit(weight_W: np.ndarray) -> tuple[float, np.ndarray]:
        means = values @ weight_W
        kept = np.isfinite(means) & (means > 0)
        return _slope(counts[kept], means[kept]), counts[kept]

    if not by_count:
        return {"value": None, "ci95": None, "counts": [], "reason": "no random set"}
    value, kept = fit(np.full(values.shape[1], 1 / values.shape[1]))
    fitted = {"value": finite(value), "ci95": None, "counts": kept.tolist()}
    if fitted["value"] is None:
        return fitted | {"reason": "fewer than two counts have a positive mean"}
    slope_S = np.array([fit(weight_W)[0] for weight_W in draw_SW])
    return fitted | {"ci95": _interval(slope_S, level)}


def _slope(count_K: np.ndarray, value_K: np.ndarray) -> float:
    if len(count_K) < 2:
        return float("nan")
    return float(np.polyfit(np.log(count_K), np.log(value_K), 1)[0])


def _ratio(
    by_count: dict[int, np.ndarray],
    singles: Sequence[Row],
    seeds: Sequence[int],
    base: float,
    draw_SW: np.ndarray,
    level: float,
) -> dict[str, Any]:
    """All layers at once against the sum of all layers one by one."""
    nothing = {"all": None, "sum": None, "ratio": None, "ci95": None}
    layers = sorted({row["layers"][0] for row in singles})
    if len(layers) not in by_count or layers != [*range(len(layers))]:
        return nothing | {"reason": "needs every layer alone, and all of them at once"}
    single_LW = np.array(
        [_by_seed([r for r in singles if r["layers"] == [each]], seeds, base) for each in layers]
    )
    all_W, sum_W = by_count[len(layers)], single_LW.sum(axis=0)
    if not np.isfinite([all_W, sum_W]).all():
        return nothing | {"reason": _UNMEASURED}
    found = nothing | {"all": float(all_W.mean()), "sum": float(sum_W.mean())}
    sum_S = draw_SW @ sum_W
    if sum_W.mean() <= 0 or np.percentile(sum_S, 50 * (1 - level)) <= 0:
        return found | {
            "reason": "the sum of single effects is not above 0 with its interval: no ratio"
        }
    ratio_S = draw_SW @ all_W / sum_S
    return found | {"ratio": found["all"] / found["sum"], "ci95": _interval(ratio_S, level)}


def _interval(value_S: np.ndarray, level: float) -> list[float] | None:
    """Percentiles, or None where a resample in more than one of twenty has no value."""
    finite_S = value_S[np.isfinite(value_S)]
    if len(finite_S) < 0.95 * len(value_S):
        return None
    tail = 50 * (1 - level)
    return np.percentile(finite_S, [tail, 100 - tail]).tolist()


def _resampled_weights(num_seeds: int, samples: int, seed: int) -> np.ndarray:
    """Weight of each seed in each resample, rows of sum 1, float64 [samples, W]."""
    if samples < 1:
        raise InputError(f"the bootstrap needs at least one sample; got {samples}")
    even = np.full(num_seeds, 1 / num_seeds)
    draws = np.random.default_rng(seed).multinomial(num_seeds, even, size=samples)
    return draws / num_seeds

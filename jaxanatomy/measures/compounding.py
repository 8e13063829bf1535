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
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import degradation_percent, seeds_interval
from jaxanatomy.records import Row

STRATEGY = "perturb"
FEWEST_SEEDS = 5
_UNMEASURED = "not measured for every seed, or not finite"
_FEW = f"an interval over seeds needs {FEWEST_SEEDS} of them"
_UNSTABLE = "without one of the seeds it has no value"


def compounding(rows: Iterable[Row], *, level: float = 0.95) -> list[dict[str, Any]]:
    """What noise in K layers costs, for each alpha (AH section 4.2: "compounds").

    Intervals say what another draw of noise and layers might have given, not another text.
    Those of means are Student's over seeds; those of exponents Student's over the
    jackknife's pseudo-values (Tukey 1958). That of the ratio, which decides, is Fieller's,
    exact for a ratio of normal means however few the seeds are. Percentiles of resampled
    seeds, with eight of them, are too narrow for all three. No interval from fewer than five
    seeds.

    Args:
      rows: Sweep rows of one text with the baseline; other strategies are passed over.
      level: Coverage of the intervals.

    Returns:
      A dict for each alpha, ascending: `alpha`, `text`, `seeds`, `counts` (a dict for each
      number of layers: `count`, the means over seeds `delta_nll` and
      `absolute_delta_nll` in nats per token and `degradation_percent`, and `ci95` of
      `delta_nll`), and for these three the exponents p of y ~ count^p, `exponents`
      (`value`, `ci95` and `counts`, those that were fitted: of positive y).
      `all_to_singles` compares all layers at once with the sum of all layers one by one,
      in `delta_nll`: `all`, `sum`, their `ratio` (the null is 1: independent errors add
      up; above: they compound) and `ci95`. What cannot be had is None, and `reason` says
      why.

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
        {"alpha": alpha, "text": texts[0]} | _of_alpha(own, base, level)
        for alpha, own in zip(alphas, by_alpha, strict=True)
    ]


def _of_alpha(rows: Sequence[Row], base: float, level: float) -> dict[str, Any]:
    seeds = sorted({row["seed"] for row in rows})
    sets = [row for row in rows if not row["set"].isdecimal()]
    singles = [row for row in rows if row["set"].isdecimal()]
    by_count = {
        count: _by_seed([row for row in sets if row["count"] == count], seeds, base)
        for count in sorted({row["count"] for row in sets})
    }
    return {
        "seeds": seeds,
        "counts": [_means(count, delta_W, level) for count, delta_W in by_count.items()],
        "exponents": {
            name: _exponent(by_count, reading, level) for name, reading in _READINGS.items()
        },
        "all_to_singles": _ratio(by_count, singles, seeds, base, level),
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


def _means(count: int, delta_W: np.ndarray, level: float) -> dict[str, Any]:
    means = {name: finite(reading(delta_W).mean()) for name, reading in _READINGS.items()}
    if None in means.values():
        return {"count": count, **means, "ci95": None, "reason": _UNMEASURED}
    return {"count": count, **means, **_interval(delta_W, level)}


def _exponent(
    by_count: dict[int, np.ndarray],
    reading: Callable[[np.ndarray], np.ndarray],
    level: float,
) -> dict[str, Any]:
    """The slope of log mean over log count, of positive means."""
    counts = np.array([*by_count])
    # One row for each count, so that a product with weights of seeds gives means.
    values = np.array([reading(delta_W) for delta_W in by_count.values()])

    def fit(weight_W: np.ndarray) -> tuple[float, np.ndarray]:
        means = values @ weight_W
        kept = np.isfinite(means) & (means > 0)
        return _slope(counts[kept], means[kept]), counts[kept]

    if not by_count:
        return {"value": None, "ci95": None, "counts": [], "reason": "no random set"}
    seeds = values.shape[1]
    value, kept = fit(np.full(seeds, 1 / seeds))
    fitted = {"value": finite(value), "ci95": None, "counts": kept.tolist()}
    if fitted["value"] is None:
        return fitted | {"reason": "fewer than two counts have a positive mean"}
    if seeds < FEWEST_SEEDS:
        return fitted | {"reason": _FEW}
    without_W = np.array([fit(left_out)[0] for left_out in (1 - np.eye(seeds)) / (seeds - 1)])
    return fitted | _interval(seeds * value - (seeds - 1) * without_W, level)


def _slope(count_K: np.ndarray, value_K: np.ndarray) -> float:
    if len(count_K) < 2:
        return float("nan")
    return float(np.polyfit(np.log(count_K), np.log(value_K), 1)[0])


def _ratio(
    by_count: dict[int, np.ndarray],
    singles: Sequence[Row],
    seeds: Sequence[int],
    base: float,
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
    is_few = len(seeds) < FEWEST_SEEDS
    ends = None if is_few else _fieller(all_W, sum_W, level)
    if sum_W.mean() <= 0 or not (is_few or ends):
        return found | {
            "reason": "the sum of single effects is not above 0 with its interval: no ratio"
        }
    found |= {"ratio": found["all"] / found["sum"], "ci95": ends}
    return found | {"reason": _FEW} if is_few else found


def _fieller(over_W: np.ndarray, under_W: np.ndarray, level: float) -> list[float] | None:
    """The ratios r at which Student's interval of the mean of over - r under holds 0.

    Fieller's interval of a ratio of means of paired values; None where it is not bounded,
    because the mean of `under_W` is not told from 0.
    """
    from scipy.stats import t

    count = len(over_W)
    t2 = t.ppf((1 + level) / 2, count - 1) ** 2
    (over2, product), (_, under2) = np.cov(over_W, under_W) * t2 / count
    over, under = over_W.mean(), under_W.mean()
    # over - r under stays within its interval where a r^2 - 2 b r + c <= 0.
    a, b, c = under**2 - under2, over * under - product, over**2 - over2
    if a <= 0:
        return None
    root = np.sqrt(max(b**2 - a * c, 0.0))
    return [float((b - root) / a), float((b + root) / a)]


def _interval(value_W: np.ndarray, level: float) -> dict[str, Any]:
    """Student's over seeds as `ci95`, or None and the `reason`."""
    if len(value_W) < FEWEST_SEEDS:
        return {"ci95": None, "reason": _FEW}
    ends = seeds_interval(value_W, level).ends
    return {"ci95": ends} if ends else {"ci95": None, "reason": _UNSTABLE}

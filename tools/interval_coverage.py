"""How often intervals of a mean over tokens hold the true one, by method and number of documents.

    python -m tools.interval_coverage [--draws 2000]

The choice of `ratio_intervals` (`jaxanatomy.measures.statistics.estimates`) and of the simultaneous
bands is read off this table. Populations: the documents of the default model's real losses, drawn
with replacement, and laws of known mean with documents of unequal length.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxanatomy.measures.statistics import ratio
from jaxanatomy.measures.statistics.estimates import ratio_intervals, simultaneous_intervals

LOSSES = Path(__file__).parents[1] / "tests/measures/statistics/document_losses.json"
LAYERS = 28
MAP = 30  # layers of the maps in which nothing happens
SKEWED = {
    "normal": lambda generator, size: generator.normal(size=size),
    "gamma": lambda generator, size: generator.gamma(1.0, size=size) - 1,
    "student 3": lambda generator, size: generator.standard_t(3, size=size),
    "lognormal": lambda generator, size: generator.lognormal(0, 0.8, size) - np.exp(0.32),
}

# Sums [R, U] or [V, U] and tokens of the same shape, and the true means.
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def real_losses() -> tuple[np.ndarray, np.ndarray]:
    """Differences of summed losses [28, 40] in nats, and tokens [40], of `paragraphs`."""
    stored = json.loads(LOSSES.read_text(encoding="utf-8"))
    return np.array(stored["sums_VU"]), np.array(stored["tokens_U"], float)


def skewed(name: str, units: int, draws: int, generator: np.random.Generator) -> Sample:
    """Independent texts of a law of mean 0; documents of 20 to 500 tokens."""
    tokens_RU = generator.lognormal(4.5, 0.6, (draws, units)).round() + 1
    return SKEWED[name](generator, (draws, units)) * np.sqrt(tokens_RU), tokens_RU, np.zeros(draws)


def resampled(layer: int, units: int, draws: int, generator: np.random.Generator) -> Sample:
    """Texts of documents drawn from a layer's real losses."""
    sums_VU, tokens_U = real_losses()
    chosen_RU = generator.integers(len(tokens_U), size=(draws, units))
    mean = sums_VU[layer].sum() / tokens_U.sum()
    return sums_VU[layer][chosen_RU], tokens_U[chosen_RU], np.full(draws, mean)


def blocks(units: int, draws: int, generator: np.random.Generator) -> Sample:
    """Blocks of 64 tokens of one document, the last of 40; skewed token losses, AR(1) of 0.5."""
    tokens_U = np.array([64] * (units - 1) + [40])
    shock_RT = generator.gamma(1.0, size=(draws, tokens_U.sum() + 64)) - 1
    for token in range(1, shock_RT.shape[1]):
        shock_RT[:, token] += 0.5 * shock_RT[:, token - 1]
    starts_U = np.cumsum(tokens_U) - tokens_U
    sums_RU = np.add.reduceat(shock_RT[:, 64:], starts_U, axis=1)
    return sums_RU, np.tile(tokens_U, (draws, 1)), np.zeros(draws)


def ours(sums_RU: np.ndarray, tokens_RU: np.ndarray) -> np.ndarray:
    """Ends [R, 2] of `ratio_intervals`; each text has tokens of its own."""
    pairs = zip(sums_RU, tokens_RU, strict=True)
    return np.array([ratio_intervals(sums_U[None], tokens_U)[0, 1:] for sums_U, tokens_U in pairs])


def student(sums_RU: np.ndarray, tokens_RU: np.ndarray) -> np.ndarray:
    """Student's interval on the linearised ratio alone."""
    from scipy.stats import t

    units = sums_RU.shape[1]
    mean_R = sums_RU.sum(axis=1) / tokens_RU.sum(axis=1)
    residual_RU = sums_RU - mean_R[:, None] * tokens_RU
    error_R = np.sqrt((residual_RU**2).sum(axis=1) * units / (units - 1)) / tokens_RU.sum(axis=1)
    half_R = t.ppf(0.975, units - 1) * error_R
    return np.stack([mean_R - half_R, mean_R + half_R], axis=1)


def percentile(sums_RU: np.ndarray, tokens_RU: np.ndarray) -> np.ndarray:
    """Percentile bootstrap over units."""
    units = sums_RU.shape[1]
    even = np.full(units, 1 / units)
    weight_SU = np.random.default_rng(0).multinomial(units, even, size=1000).astype(float)
    return np.percentile((sums_RU @ weight_SU.T) / (tokens_RU @ weight_SU.T), [2.5, 97.5], axis=1).T


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ours": ours,
    "Student": student,
    "percentile": percentile,
}


def coverage(method: str, sample: Sample) -> float:
    """The share of texts whose interval holds the true mean."""
    sums_RU, tokens_RU, truth_R = sample
    low_R, high_R = METHODS[method](sums_RU, tokens_RU).T
    return float(((low_R <= truth_R) & (truth_R <= high_R)).mean())


def real_coverage(method: str, units: int, draws: int, generator: np.random.Generator) -> float:
    """The mean over 28 layers of the coverage on their real losses."""
    found = [coverage(method, resampled(v, units, draws, generator)) for v in range(LAYERS)]
    return float(np.mean(found))


def null_map(
    units: int, generator: np.random.Generator, correlation: float = 0.13
) -> tuple[np.ndarray, np.ndarray]:
    """A text on which no layer does anything: sums [30, U] of mean 0, correlated, and tokens."""
    tokens_U = generator.lognormal(4.5, 0.3, units).round() + 1
    shared_U, own_VU = generator.normal(size=units), generator.normal(size=(MAP, units))
    values_VU = np.sqrt(correlation) * shared_U + np.sqrt(1 - correlation) * own_VU
    return values_VU * np.sqrt(tokens_U), tokens_U


def heavy_map(units: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same where documents differ in spread, in all layers at once: Student's t of 3."""
    sums_VU, tokens_U = null_map(units, generator, correlation=0.3)
    return sums_VU * np.sqrt(3 / generator.chisquare(3, units)), tokens_U


def alike_map(units: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same where layers mostly do the same to a document."""
    return null_map(units, generator, correlation=0.6)


def relabelled_map(units: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Real losses less each layer's mean, of every document with a random sign."""
    sums_VU, tokens_U = real_null_map(units, generator)
    return sums_VU * generator.choice([-1.0, 1.0], units), tokens_U


def rounding_map(units: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same model [30, U]: float32 losses that differ by up to two units in the last place."""
    tokens_U = generator.lognormal(3.0, 0.5, units).round().astype(int) + 2
    unit_P = np.repeat(np.arange(units), tokens_U)
    nll_P = generator.gamma(1.5, 2.0, len(unit_P)).astype(np.float32)
    steps_VP = generator.integers(-2, 3, (MAP, len(unit_P)))
    steps_VP -= generator.integers(-2, 3, len(unit_P))  # the unchanged model's own
    differences_VP = steps_VP * np.spacing(nll_P).astype(float)
    return np.array([np.bincount(unit_P, each) for each in differences_VP]), tokens_U


def divergence_map(units: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """KL less its mean of 1, [30, U]: skewed, and large in the same documents everywhere."""
    tokens_U = generator.lognormal(4.5, 0.3, units).round() + 1
    log_VU = 0.5 * generator.normal(size=units) + 0.3 * generator.normal(size=(MAP, units))
    return np.expm1(log_VU - (0.5**2 + 0.3**2) / 2) * tokens_U, tokens_U


def real_null_map(units: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Documents drawn from the real losses less each layer's mean."""
    sums_VU, tokens_U = real_losses()
    _, _, residual_VU = ratio.linearise(sums_VU, tokens_U)
    chosen_U = generator.integers(len(tokens_U), size=units)
    return residual_VU[:, chosen_U], tokens_U[chosen_U]


MAPS = (
    null_map,
    alike_map,
    heavy_map,
    real_null_map,
    relabelled_map,
    rounding_map,
    divergence_map,
)


def bands(
    make: Callable[..., tuple[np.ndarray, np.ndarray]],
    units: int,
    draws: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Shares of null maps whose band holds 0 in all layers, and that show an anti-layer."""
    ends_RV3 = np.array([simultaneous_intervals(*make(units, generator)) for _ in range(draws)])
    holds_RV = (ends_RV3[..., 1] <= 0) & (ends_RV3[..., 2] >= 0)
    return float(holds_RV.all(axis=1).mean()), float((ends_RV3[..., 2] < 0).any(axis=1).mean())


def _lines(draws: int) -> Iterator[str]:
    yield f"{'documents':>9}  {'method':10}  {'real':>6}" + "".join(f"{n:>11}" for n in SKEWED)
    for units in (5, 10, 40):
        for method in METHODS:
            generator = np.random.default_rng(0)
            found = [real_coverage(method, units, draws // 10, generator)]
            found += [coverage(method, skewed(name, units, draws, generator)) for name in SKEWED]
            yield f"{units:>9}  {method:10}" + "".join(f"{each:>11.3f}" for each in found)
    for units in (5, 10, 40):
        for make in MAPS:
            held, anti = bands(make, units, draws // 4, np.random.default_rng(0))
            name = make.__name__
            yield f"{units:>9}  {name:14} band holds {held:.3f}, some anti-layer {anti:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=2000, help="texts of each kind")
    for line in _lines(parser.parse_args().draws):
        print(line, flush=True)

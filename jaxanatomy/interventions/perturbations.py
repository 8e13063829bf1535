"""Variants with noise in one layer, in nested random sets of layers, and in all."""

from collections.abc import Iterable, Sequence

import numpy as np

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.noise import perturb_step
from jaxanatomy.interventions.variants import Step, Variant

ALPHAS = (0.01,)
COUNTS = (1, 2, 4, 8, 16)
SEEDS = tuple(range(8))


def perturbation_variants(
    config: ModelConfig,
    alphas: Sequence[float] = ALPHAS,
    counts: Sequence[int] | None = None,
    seeds: Sequence[int] = SEEDS,
) -> list[Variant]:
    """Noise (`noise.perturb`) in more and more layers: does its effect compound?

    The random sets of one seed are nested: the first layers of `layer_order`. Each layer is
    perturbed alone, too. A layer gets the same noise in each set and alone.

    Args:
      config: The model.
      alphas: Sizes of the noise against the std of each matrix.
      counts: Layers in a set; default 1, 2, 4, 8, 16 as far as there are layers, and all.
      seeds: Of the order and of the noise.

    Returns:
      Variants without the baseline, named `perturb_0.01/random_8_s3` and
      `perturb_0.01/layer_4_s3`, labelled with `strategy`, `alpha`, `rank` (None), `set`,
      `layers`, `seed` and `count`.

    Raises:
      InputError: a count that the model has not, a negative alpha or seed, or a value
        given twice.
    """
    L = config.num_layers
    counts = [*(count for count in COUNTS if count < L), L] if counts is None else list(counts)
    for name, values in (("alphas", alphas), ("counts", counts), ("seeds", seeds)):
        if len(set(values)) < len(values):
            raise InputError(f"{name} must name each value once; got {list(values)}")
    for count in counts:
        if not 1 <= count <= L:
            raise InputError(f"counts of perturbed layers are 1 to {L}; got {count}")
    variants = []
    for alpha in alphas:
        for seed in seeds:
            order = layer_order(L, seed)
            for count in counts:
                name = f"random_{count}_s{seed}"
                variants.append(_variant(config, alpha, seed, name, name, order[:count]))
            for layer in range(L):
                name = f"layer_{layer}"
                variants.append(_variant(config, alpha, seed, f"{name}_s{seed}", name, [layer]))
    return variants


def layer_order(num_layers: int, seed: int) -> list[int]:
    """The order in which layers join the random sets: `default_rng(seed).permutation(L)`."""
    if seed < 0:
        raise InputError(f"an order of layers needs a seed of 0 or above; got {seed}")
    return np.random.default_rng(seed).permutation(num_layers).tolist()


def _variant(
    config: ModelConfig, alpha: float, seed: int, name: str, set_name: str, layers: Iterable[int]
) -> Variant:
    layers = sorted(layers)
    steps = tuple(
        perturb_step(config, layer, alpha, seed) if layer in layers else Step(layer)
        for layer in range(config.num_layers)
    )
    labels = {
        "strategy": "perturb",
        "alpha": float(alpha),
        "rank": None,
        "set": set_name,
        "layers": layers,
        "seed": seed,
        "count": len(layers),
    }
    return Variant(f"perturb_{alpha:g}/{name}", steps, labels=labels)

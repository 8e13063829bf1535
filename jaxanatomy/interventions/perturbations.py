"""Variants with noise in one layer, in nested random sets of layers, and in all."""

import dataclasses
from collections.abc import Sequence

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.intervention import variant
from jaxanatomy.interventions.registry import INTERVENTIONS
from jaxanatomy.interventions.sets import parse_set
from jaxanatomy.interventions.variants import Variant

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

    The random sets of one seed are nested: the first layers of `sets.layer_order`. Each layer is
    perturbed alone, too. A layer gets the same noise in each set and alone.

    Args:
      config: The model.
      alphas: Sizes of the noise against the std of each matrix.
      counts: Layers in a set; default 1, 2, 4, 8, 16 as far as there are layers, and all.
      seeds: Of the order and of the noise.

    Returns:
      Variants without the baseline, named `perturb_0.01#3/set/random_8_s3` and
      `perturb_0.01#3/set/4`, labelled with `strategy`, `alpha`, `rank` (None), `set`,
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
    if min((*alphas, *seeds), default=0) < 0:
        raise InputError(
            f"noise needs alphas and seeds of 0 or above; got {list(alphas)} and {list(seeds)}"
        )
    for count in counts:
        if not 1 <= count <= L:
            raise InputError(f"counts of perturbed layers are 1 to {L}; got {count}")
    names = [(f"random_{count}_s{{seed}}", count) for count in counts]
    names += [(str(layer), 1) for layer in range(L)]
    return [
        variant(
            config,
            dataclasses.replace(INTERVENTIONS["perturb"].with_setting(alpha), draw=seed),
            parse_set(config.num_layers, name.format(seed=seed)),
            seed=seed,
            count=count,
        )
        for alpha in alphas
        for seed in seeds
        for name, count in names
    ]

"""A layer replaced by a weighted average of others."""

import functools
import operator
from collections.abc import Iterable

import jax

from jaxanatomy import tree


def blend(
    own: tree.BlockParams, *sources: tree.BlockParams, weights: tuple[float, ...]
) -> tree.BlockParams:
    """W_l <- sum_n w_n W_n over the nearest layers outside the set (AH section 3.5).

    Args:
      own: The layer's own block; unused.
      *sources: The blocks to average.
      weights: One for each of them; see `distance_weights`.
    """
    del own
    return jax.tree.map(
        lambda *leaves: functools.reduce(operator.add, map(operator.mul, weights, leaves)),
        *sources,
    )


def distance_weights(distances: Iterable[int]) -> tuple[float, ...]:
    """1 / distance, normalised to sum to 1 ("distance-weighted average", AH section 3.5)."""
    nearness = [1 / distance for distance in distances]
    return tuple(near / sum(nearness) for near in nearness)

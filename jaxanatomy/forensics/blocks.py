"""Blocks of layers: how alike their weights are, and whether layers repeat block by block.

A model that was grown in blocks has layers that were copies of each other (DG sections 4.3 and 4.4,
Figures 4, 7a and 22). Everything here follows from how alike every two layers are. Likeness falls
with distance in any model, so no score compares pairs of different distances but `periodicity`, for
which a fall is no period. A block begins at any layer; those of the paper begin at multiples of its
size.

Axes: L layers, B = L - size + 1 blocks by their first layer, S draws of a null.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.errors import InputError, require_each_once, require_whole
from jaxanatomy.forensics.gram import ROUNDING, Moments
from jaxanatomy.forensics.structure import (
    BesideNull,
    beside_null,
    cosine,
    gaussian_moments,
    random_orders,
)

FFN = "ffn"  # gate, up and down laid end to end, as DG section 4.4 compares blocks
FFN_PARTS = ("gate_proj", "up_proj", "down_proj")
SIZES = (1, 2, 4)
PERIODICITY = "block_periodicity"
SCORES = {
    "block_similarity": "cosine of two blocks' FFN weights, mean over pairs that share no layer",
    "block_symmetry": "how far blocks mirrored at the model's centre are as alike; 1: exactly",
    PERIODICITY: "cosine of layers a block apart, less that of layers one more or one less apart",
}
ERROR = 0.05  # of all that is looked at together

BlockKey = tuple[str, int, str]  # score, size, null


@dataclasses.dataclass(frozen=True)
class BlockScore(BesideNull):
    """A score beside one null.

    Attributes:
      block: Layers in a block.
      p: How often the null's draws score as high, the value itself among them; None without draws.
    """

    block: int
    p: float | None


def sizes_of(blocks: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The sizes of blocks that a model is looked at in; by default 1, 2 and 4, as far as two fit.

    Raises:
      InputError: A size given twice, or one of which two do not fit.
    """
    if not blocks:
        return tuple(size for size in SIZES if 2 * size <= num_layers)
    require_each_once("blocks", tuple(blocks))
    for size in blocks:
        require_whole("a size in blocks", size)
        if 2 * size > num_layers:
            raise InputError(
                f"two blocks must fit into the {num_layers} layers; got blocks of {size}; take "
                f"{num_layers // 2} or fewer"
            )
    return tuple(blocks)


def block_keys(sizes: Sequence[int], has_initial: bool) -> list[BlockKey]:
    """Score, size and null of everything that `analyse_blocks` gives, in order."""
    nulls = ["gaussian", "shuffled_layers"] + ["random_init"] * has_initial
    return [
        (score, size, null)
        for score in SCORES
        for size in sizes
        for null in nulls
        # A period of one layer is none; the mean over pairs does not depend on the order.
        if not (score == PERIODICITY and size == 1)
        and not (score == "block_similarity" and null == "shuffled_layers")
    ]


def block_similarity(moments: Moments, size: int) -> np.ndarray:
    """Cosine of every two blocks, each its layers laid end to end [..., B, B] (DG Figure 7a)."""
    return cosine(moments.in_blocks(size))


def mean_similarity(similarity_BB: np.ndarray, size: int) -> np.ndarray:
    """Mean over the pairs of blocks that share no layer [...]."""
    pairs = np.triu_indices(similarity_BB.shape[-1], k=size)
    return similarity_BB[..., *pairs].mean(-1)


def symmetry(similarity_BB: np.ndarray) -> np.ndarray:
    """Whether blocks are as alike as their mirror images at the model's centre are [...].

    Of the variance between pairs of one distance, how much their mirror images share: 1 if each
    pair is as alike as its image, about 0 if the image is as alike as any pair of its distance,
    below 0 if likeness leans to one side. Distances of fewer than four pairs say nothing, and pairs
    that are their own images are left out. (DG section 4.4 shows the pattern and has no score.)

    Returns:
      NaN where nothing varies, or there are too few blocks.
    """
    between = apart = np.zeros(similarity_BB.shape[:-2])
    for distance in range(1, similarity_BB.shape[-1] - 3):
        pair_M = np.diagonal(similarity_BB, offset=distance, axis1=-2, axis2=-1)
        is_own = np.arange(pair_M.shape[-1]) == np.arange(pair_M.shape[-1])[::-1]
        kept_M, image_M = pair_M[..., ~is_own], pair_M[..., ::-1][..., ~is_own]
        apart = apart + ((kept_M - image_M) ** 2).sum(-1) / 2
        between = between + kept_M.shape[-1] * kept_M.var(-1, ddof=1)
    return 1 - apart / np.where(between > ROUNDING, between, np.nan)


def periodicity(alike_LL: np.ndarray, size: int) -> np.ndarray:
    """How much more alike layers are at a distance of `size` than at one more or one less [...].

    A peak over distances. What falls or rises steadily with distance has none, and what is smooth
    over depth has next to none.

    Args:
      alike_LL: How alike every two layers are: cosines, or `likeness`.
      size: 2 or more.
    """
    before, here, after = (
        np.diagonal(alike_LL, offset=each, axis1=-2, axis2=-1).mean(-1)
        for each in (size - 1, size, size + 1)
    )
    return here - (before + after) / 2


def likeness(value_L: np.ndarray) -> np.ndarray:
    """How little the values of every two layers differ [..., L] -> [..., L, L].

    Minus half the squared difference in ranks of what a straight line over depth leaves, in
    variances: one layer far off decides neither the line, whose slope is the median of all pairs
    (Theil and Sen), nor the rest. NaN where the line leaves nothing.
    """
    layer_L = np.arange(value_L.shape[-1])
    first, second = np.triu_indices(len(layer_L), k=1)
    slope_P = (value_L[..., second] - value_L[..., first]) / (second - first)
    rest_L = value_L - np.median(slope_P, axis=-1, keepdims=True) * layer_L
    size = (value_L**2).mean(axis=-1, keepdims=True)
    is_line = rest_L.var(axis=-1, keepdims=True) <= ROUNDING * size
    rank_L = np.argsort(np.argsort(rest_L, axis=-1, kind="stable"), axis=-1)
    scaled_L = np.where(is_line, np.nan, rank_L / rank_L.std(axis=-1, keepdims=True))
    return -((scaled_L[..., :, None] - scaled_L[..., None, :]) ** 2) / 2


def periodicity_of(value_L: np.ndarray, size: int, samples: int, seed: Any) -> dict[str, Any]:
    """The periodicity of a value of each layer, beside that of the layers in random order.

    Returns:
      `value`, `null_value` with `null_low` and `null_high`, `z` and `p`, as of `BlockScore`.
    """
    value_L = np.asarray(value_L, float)
    order_SL = random_orders(len(value_L), samples, np.random.default_rng(seed))
    both = (periodicity(likeness(each), size) for each in (value_L, value_L[order_SL]))
    value, null_S = both if np.isfinite(value_L).all() else (np.array(np.nan), np.zeros(0))
    found = dataclasses.asdict(_score(PERIODICITY, size, value, "shuffled_layers", null_S))
    return {name: found[name] for name in found if name not in ("layer", "metric", "null", "block")}


def analyse_blocks(
    moments: Moments, initial: Moments | None, sizes: Sequence[int], samples: int, seed: Any
) -> tuple[tuple[BlockScore, ...], dict[int, np.ndarray]]:
    """All scores beside all nulls.

    Args:
      moments: Of the FFN weights of all layers.
      initial: Of those of the randomly initialised model; None leaves that null out.
      sizes: Of blocks.
      samples: Draws of the nulls that have draws.
      seed: Of `numpy.random.default_rng`.

    Returns:
      (a score for each of `block_keys`, similarities [B, B] by size).
    """
    rng = np.random.default_rng(seed)
    draws = {
        "gaussian": gaussian_moments(moments, samples, rng),
        "shuffled_layers": moments.permuted(random_orders(moments.num_layers, samples, rng)),
        "random_init": initial,
    }
    nulls = {name: block_scores(each, sizes) for name, each in draws.items() if each is not None}
    values = block_scores(moments, sizes)
    return tuple(
        _score(score, size, values[score, size], null, nulls[null][score, size])
        for score, size, null in block_keys(sizes, initial is not None)
    ), {size: block_similarity(moments, size) for size in sizes}


def require_enough_draws(draws: int, looks: int) -> None:
    """Refuses so many looks at periodicity that no draw could tell any of them.

    Raises:
      InputError: The smallest p of the draws, 1 / (draws + 1), is above what each look has.
    """
    least = math.ceil(looks / ERROR) - 1
    if looks and draws < least:
        raise InputError(
            f"null_draws must be {least} or more for {looks} looks at what repeats, or none could "
            f"be found; got {draws}; raise it or give fewer blocks"
        )


def repeats(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows whose layers repeat themselves, 5 % wrong for all rows together where none do."""
    return [row for row in rows if row["p"] is not None and row["p"] <= ERROR / len(rows)]


def block_scores(moments: Moments, sizes: Sequence[int]) -> dict[tuple[str, int], np.ndarray]:
    """Every score at every size, by name and size; with the axes that lead in the moments."""
    found = {}
    alike_LL = cosine(moments)
    for size in sizes:
        similarity_BB = block_similarity(moments, size)
        found["block_similarity", size] = mean_similarity(similarity_BB, size)
        found["block_symmetry", size] = symmetry(similarity_BB)
        if size > 1:
            found[PERIODICITY, size] = periodicity(alike_LL, size)
    return found


def _score(score: str, size: int, value: np.ndarray, null: str, draws: np.ndarray) -> BlockScore:
    found = beside_null(score, None, value, null, draws)
    known_S = draws[np.isfinite(draws)]
    has_p = draws.ndim and known_S.size and found.value is not None
    p = float((1 + (known_S >= value).sum()) / (1 + known_S.size)) if has_p else None
    return BlockScore(**dataclasses.asdict(found), block=size, p=p)

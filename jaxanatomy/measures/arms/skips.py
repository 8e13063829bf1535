"""Where skip gates should stand: layers left out by role, beside every other choice (LR section 8).

LR places its gates at passthroughs. Here a gate is closed: the layer is left out of a trained
model, and nothing is trained for it. Of a few layers all sets of each size are measured, so that
what a choice is worth is its rank among all that could have been made.

A rank says nothing yet: where the first layer is the dearest to skip in every seed and never a
passthrough, roles and places cannot be told apart by more seeds. So the null deals layers anew, in
all seeds alike, and a second order takes the roles of the *other* seeds: what those know as well is
known by the place alone.

Axes: S seeds, L layers, X sets, K sizes of sets, N deals.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.arms.finals import Finals, difference_fields, family_level, living
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import Row

PASSTHROUGH = "passthrough"
BY_ROLE, BY_SCORE, BY_OTHERS, BY_DAMAGE = "by_role", "by_score", "by_others", "by_damage"
ORDERS = {
    BY_ROLE: "passthroughs first, those of the highest score before others, then all other layers "
    "by that score",
    BY_SCORE: "by the passthrough score alone",
    BY_OTHERS: "by the mean passthrough score of the other seeds: what the place alone says",
    BY_DAMAGE: "by what each costs alone, measured on the same text: the ceiling",
}
MOST_DEALT = 8  # layers of which all orders are tried
_DEALS, _KEY = 10_000, 0


def all_sets(layers: int, most: int) -> list[tuple[int, ...]]:
    """Every set of 1 to `most` layers."""
    sizes = range(1, most + 1)
    return [own for size in sizes for own in itertools.combinations(range(layers), size)]


def ranks(sets: Sequence[Sequence[int]], nll_X: Sequence[float | None]) -> np.ndarray:
    """How many sets of its size each set beats, [X].

    1 / 2 is chance: a set beats another of more loss, half of itself and of one of equal loss.
    What is not finite costs most.
    """
    nll_X = np.array([math.inf if nll is None else nll for nll in nll_X])
    size_X = np.array(list(map(len, sets)))
    found_X = np.empty(len(sets))
    for at, nll in enumerate(nll_X):
        others = nll_X[size_X == size_X[at]]
        found_X[at] = ((others > nll).sum() + (others == nll).sum() / 2) / len(others)
    return found_X


def layer_orders(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """In which order layers are skipped, by each of `ORDERS`; int [S, L].

    Args:
      rows: Of each seed, with `skip_roles`, `skip_scores`, `skip_sets` and `skip_nll`.
    """
    score_SL = np.array([row["skip_scores"] for row in rows], np.float64)
    role_SL = np.array([[role == PASSTHROUGH for role in row["skip_roles"]] for row in rows])
    found = {
        BY_ROLE: np.argsort(-score_SL - 2 * role_SL, axis=1, kind="stable"),
        BY_SCORE: np.argsort(-score_SL, axis=1, kind="stable"),
        BY_DAMAGE: np.stack([np.argsort(_alone(row), kind="stable") for row in rows]),
    }
    if len(rows) > 1:
        others_SL = (score_SL.sum(axis=0) - score_SL) / (len(rows) - 1)
        found[BY_OTHERS] = np.argsort(-others_SL, axis=1, kind="stable")
    return {name: found[name] for name in ORDERS if name in found}


def _alone(row: Row) -> list[float]:
    """The loss without each layer."""
    pairs = zip(row["skip_sets"], row["skip_nll"], strict=True)
    return [math.inf if nll is None else nll for layers, nll in pairs if len(layers) == 1]


def summarise_skips(by_arm: Finals, arm: str) -> dict[str, Any] | None:
    """What each order is worth in the models of an arm, ready for JSON.

    Returns:
      `seeds`, and `orders`, by name as `placements` has them, with the intervals of all holding at
      once but for the ceiling. None where no seed was read.
    """
    rows = [row for row in living(by_arm.get(arm, {})).values() if row.get("skip_sets")]
    if not rows:
        return None
    found = placements(rows, family_level(len(ORDERS) - 1))
    orders = {
        name: {**own, "share": difference_fields((own["share"], len(rows)))}
        for name, own in found.items()
    }
    return {"seeds": len(rows), "orders": orders}


def placements(rows: Sequence[Row], level: float) -> dict[str, dict[str, Any]]:
    """What each order is worth, over seeds.

    Args:
      rows: Final rows of the seeds of one arm (`layer_orders`).
      level: Of each interval.

    Returns:
      By order `share`, an Estimate: the share of sets of the same size that its own beats, mean
      over sizes and seeds, less 1 / 2, with an interval by dealing layers anew in all seeds
      alike; `share_K`, by size; `cost_K`, the loss above the whole model's, nats a token, by size,
      and `random_K`, that of the mean over all sets; None where one is not finite.
    """
    layers, most = len(rows[0]["skip_roles"]), max(map(len, rows[0]["skip_sets"]))
    bits_X = np.array([sum(1 << layer for layer in own) for own in rows[0]["skip_sets"]])
    rank_SX = np.stack([ranks(row["skip_sets"], row["skip_nll"]) for row in rows])
    table = bits_X[np.argsort(bits_X)], rank_SX[:, np.argsort(bits_X)]
    deal_NL = deals(layers)
    found = {}
    for name, order_SL in layer_orders(rows).items():
        share_NSK = _shares(*table, deal_NL[:, order_SL[:, :most]])
        null_N = share_NSK.mean(axis=(1, 2)) - 0.5
        value = float(null_N[0])  # the first deal leaves all as it is
        # Values that there are: between two of few deals there is none, and no p below 1 / N.
        low = float(np.quantile(null_N, (1 - level) / 2, method="lower"))
        high = float(np.quantile(null_N, (1 + level) / 2, method="higher"))
        found[name] = {
            "share": Estimate(value, value - high, value - low),
            "share_K": share_NSK[0].mean(axis=0).tolist(),
            **_costs(rows, order_SL, most),
        }
    return found


def deals(layers: int) -> np.ndarray:
    """Orders of the layers in which roles mean nothing, int [N, L]; the first is their own."""
    if layers <= MOST_DEALT:
        return np.array(list(itertools.permutations(range(layers))))
    own_NL = np.tile(np.arange(layers), (_DEALS, 1))
    own_NL[1:] = np.random.default_rng(_KEY).permuted(own_NL[1:], axis=1)
    return own_NL


def _shares(bits_X: np.ndarray, rank_SX: np.ndarray, layer_NSK: np.ndarray) -> np.ndarray:
    """The rank of the sets of the first 1, 2, ... layers, [N, S, K]; `bits_X` ascends."""
    place_NSK = np.searchsorted(bits_X, np.cumsum(1 << layer_NSK, axis=-1))
    return np.take_along_axis(rank_SX[None], place_NSK, axis=-1)


def _costs(rows: Sequence[Row], order_SL: np.ndarray, most: int) -> dict[str, list[float | None]]:
    cost_2SK = np.empty((2, len(rows), most))
    for own_2K, row, order_L in zip(cost_2SK.swapaxes(0, 1), rows, order_SL.tolist(), strict=True):
        pairs = zip(row["skip_sets"], row["skip_nll"], strict=True)
        nll = {frozenset(layers): math.inf if each is None else each for layers, each in pairs}
        for k in range(most):
            same = [each for layers, each in nll.items() if len(layers) == k + 1]
            own_2K[:, k] = nll[frozenset(order_L[: k + 1])], np.mean(same)
        own_2K -= row["skip_whole"]
    own_K, random_K = (list(map(finite, each)) for each in cost_2SK.mean(axis=1).tolist())
    return {"cost_K": own_K, "random_K": random_K}

"""What edits at inference do to arms that were trained: seed by seed, with intervals over seeds."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxanatomy.growth.edits import CUT, LOOP, SWAP
from jaxanatomy.measures.arms import Finals, difference_fields, family_level, living, seed_range
from jaxanatomy.measures.seed_spread import seed_spread
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.records import Row

BySeed = dict[str, dict[int, float]]  # by arm and seed
# Of what guessing leaves, over all hops. Hops beyond every arm count: at 24 hops, where six layers
# answer ten, it is near a half.
LEAST_KNOWN = 0.25
LATE = "share lost without a late layer"
PAIRS = "share lost with blocks of two layers exchanged"


def is_late_cut(edit: Row, layers: int) -> bool:
    """Whether a layer of the second half is left out (DG section 4.1)."""
    return edit["kind"] == CUT and 2 * edit["layers"][0] >= layers


def is_swap_of_pairs(edit: Row, layers: int) -> bool:
    """Whether two blocks of two layers are exchanged, the first layer not among them.

    DG section 4.2: the first layers can be exchanged in no model.
    """
    del layers
    return edit["kind"] == SWAP and len(edit["layers"]) == 4 and edit["layers"][0] > 0


def loop_changes(by_arm: Finals, name: str) -> BySeed:
    """The log of how many times the loss is with a loop what it is without."""
    found: BySeed = {}
    for arm, seeds in by_arm.items():
        for seed, row in living(seeds).items():
            for edit in row.get("edited") or ():
                if (edit["kind"], edit["name"]) == (LOOP, name) and edit["eval_nll"]:
                    change = math.log(edit["eval_nll"] / row["eval_nll"])
                    found.setdefault(arm, {})[seed] = change
    return found


def share_lost(by_arm: Finals, chosen: Callable[[Row, int], bool]) -> BySeed:
    """How much is lost, on average over some edits, of the answers that are right beyond guessing.

    Of all hops alike. What an arm does not know it cannot lose: arms that know little are left
    out (`knows`).

    Args:
      by_arm: Final rows.
      chosen: Whether an edit is one of them; is given it and the number of the model's layers.
    """
    found: BySeed = {}
    for arm, seeds in by_arm.items():
        for seed, row in living(seeds).items():
            own = [each for each in row.get("edited") or () if chosen(each, row["layers"])]
            if own and knows(row):
                right = np.mean([edit["accuracy_by_hop"] for edit in own])
                whole, guessed = _accuracy(row), float(np.mean(row["guessing_by_hop"]))
                found.setdefault(arm, {})[seed] = (whole - float(right)) / (whole - guessed)
    return found


def knows(row: Row) -> bool:
    """Whether a model answers at least a quarter of what guessing leaves."""
    guessed = float(np.mean(row["guessing_by_hop"]))
    return _accuracy(row) >= guessed + LEAST_KNOWN * (1 - guessed)


def _accuracy(row: Row) -> float:
    return float(np.mean(row["accuracy_by_hop"]))


def summarise_loops(by_arm: Finals) -> dict[str, dict[str, Any]]:
    """What each loop does to each arm, by arm and name; all intervals hold at once.

    Returns:
      `layers`, and the `change`: `mean`, `low`, `high` and `seeds` of how many times the loss is
      what it is without.
    """
    found: dict[str, dict[str, Any]] = {
        arm: {
            edit["name"]: {"layers": edit["layers"]}
            | {"change": difference_fields((Estimate(math.nan), 0))}
            for row in seeds.values()
            for edit in row.get("edited") or ()
            if edit["kind"] == LOOP
        }
        for arm, seeds in by_arm.items()
    }
    level = family_level(sum(map(len, found.values())))
    for name in {name for loops in found.values() for name in loops}:
        changes = loop_changes(by_arm, name)
        spread = seed_spread(changes, of_difference=False)
        for arm, own in changes.items():
            change = spread.mean([*own.values()], (arm,), level).map(np.exp)
            found[arm][name]["change"] = difference_fields((change, len(own)))
    return found


def summarise_edits(by_arm: Finals) -> dict[str, list[dict[str, Any]]]:
    """What is right after each edit but loops, by arm.

    Returns:
      `kind`, `name`, `layers`; of `accuracy`, over all hops alike, `mean`, `low` and `high` over
      living seeds; likewise of `agreement`, the answers that are those of the whole model; their
      mean `accuracy_by_hop`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for arm, seeds in by_arm.items():
        own = [row["edited"] for row in living(seeds).values() if row.get("edited")]
        found[arm] = [
            _over_seeds(same) for same in zip(*own, strict=True) if same[0]["kind"] != LOOP
        ]
    return found


def _over_seeds(edits: tuple[Row, ...]) -> dict[str, Any]:
    right_SK = np.array([edit["accuracy_by_hop"] for edit in edits])
    return {
        **{name: edits[0][name] for name in ("kind", "name", "layers")},
        "accuracy": seed_range(right_SK.mean(axis=1)),
        "agreement": seed_range([edit["agreement"] for edit in edits]),
        "accuracy_by_hop": right_SK.mean(axis=0).tolist(),
    }

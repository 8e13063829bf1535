"""What edits at inference do to arms that were trained: seed by seed, with intervals over seeds.

Where there is a level of guessing (`khop_growth`), an edit costs a share of what is right beyond
it; on text, where there is none, nats per token.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.growth.depth_edits import CUT, LOOP, REVERSE, SWAP
from jaxanatomy.measures.arms.finals import (
    Finals,
    difference_fields,
    family_level,
    living,
    seed_range,
)
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.measures.statistics.seed_spread import seed_spread
from jaxanatomy.records import Row

BySeed = dict[str, dict[int, float]]  # by arm and seed
# Of what guessing leaves, over all hops. Hops beyond every arm count: at 24 hops, where six layers
# answer ten, it is near a half.
LEAST_KNOWN = 0.25
LATE = "cost of leaving out a late layer"
PAIRS = "cost of exchanging blocks of two layers"
ACROSS = "extra cost of reversals that begin inside a block"
Chosen = Callable[[Row, int], bool]  # of an edit, and of the number of the model's layers


def is_late_cut(edit: Row, layers: int) -> bool:
    """Whether a layer of the second half is left out (DG section 4.1)."""
    return edit["kind"] == CUT and 2 * edit["layers"][0] >= layers


def is_swap_of_pairs(edit: Row, layers: int) -> bool:
    """Whether two blocks of two layers are exchanged, the first layer not among them.

    DG section 4.2: the first layers can be exchanged in no model.
    """
    del layers
    return edit["kind"] == SWAP and len(edit["layers"]) == 4 and edit["layers"][0] > 0


def is_reversal(edit: Row, layers: int, *, inside: bool) -> bool:
    """Whether layers are reversed from inside a block on, or from the first layer of one.

    Reversals are as long as two blocks. The first layer is not among them, as in swaps.
    """
    del layers
    first, block = edit["layers"][0], len(edit["layers"]) // 2
    return edit["kind"] == REVERSE and first > 0 and bool(first % block) == inside


def loop_changes(by_arm: Finals, name: str) -> BySeed:
    """The log of how many times the loss is with a loop what it is without, where both have one."""
    found: BySeed = {}
    for arm, seeds in by_arm.items():
        for seed, row in living(seeds).items():
            for edit in row.get("edited") or ():
                ends = edit["eval_nll"], _whole_nll(edit, row)
                if (edit["kind"], edit["name"]) == (LOOP, name) and all(ends):
                    found.setdefault(arm, {})[seed] = math.log(ends[0] / ends[1])
    return found


def costs(by_arm: Finals, chosen: Chosen) -> BySeed:
    """What some edits cost, on average over them.

    Of what is right beyond guessing a share, of all hops alike. What an arm does not know it cannot
    lose: arms that know little are left out (`knows`). On text the rise of the loss.

    Args:
      by_arm: Final rows.
      chosen: Whether an edit is one of them.
    """
    found: BySeed = {}
    for arm, seeds in by_arm.items():
        for seed, row in living(seeds).items():
            own = [each for each in row.get("edited") or () if chosen(each, row["layers"])]
            cost = _cost(row, own) if own and knows(row) else None
            if cost is not None:
                found.setdefault(arm, {})[seed] = cost
    return found


def costs_across(by_arm: Finals) -> BySeed:
    """What reversals from inside a block on cost more than those from the first layer of one.

    DG section 4.3, Figure 6. Of models that have both.
    """
    inside, at_first = (
        costs(by_arm, functools.partial(is_reversal, inside=inside)) for inside in (True, False)
    )
    both = {arm: own.keys() & at_first.get(arm, {}).keys() for arm, own in inside.items()}
    return {
        arm: {seed: inside[arm][seed] - at_first[arm][seed] for seed in sorted(seeds)}
        for arm, seeds in both.items()
        if seeds
    }


# What is read of edits, each by arm and seed.
COSTS: Mapping[str, Callable[[Finals], BySeed]] = {
    LATE: functools.partial(costs, chosen=is_late_cut),
    PAIRS: functools.partial(costs, chosen=is_swap_of_pairs),
    ACROSS: costs_across,
}


def _cost(row: Row, edits: Sequence[Row]) -> float | None:
    if guesses(row):
        right = np.mean([edit["accuracy_by_hop"] for edit in edits])
        whole, guessed = _accuracy(row), float(np.mean(row["guessing_by_hop"]))
        return (whole - float(right)) / (whole - guessed)
    rises = [rise(edit) for edit in edits]
    return None if None in rises else float(np.mean(rises))


def rise(edit: Row) -> float | None:
    """How much higher the loss on text is than the whole model's; None where it is not finite."""
    ends = edit["eval_nll"], edit["whole_nll"]
    return None if None in ends else ends[0] - ends[1]


def _whole_nll(edit: Row, row: Row) -> float | None:
    """The loss of the whole model on what an edit was scored on: on text not all of it."""
    return edit["whole_nll"] if "whole_nll" in edit else row["eval_nll"]


def guesses(row: Row) -> bool:
    """Whether there is a level of guessing."""
    return "guessing_by_hop" in row


def knows(row: Row) -> bool:
    """Whether a model answers at least a quarter of what guessing leaves; of text it does."""
    if not guesses(row):
        return True
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
    """What a model answers after each edit but loops, by arm.

    Returns:
      `kind`, `name`, `layers`; of `accuracy`, over all hops alike, and of `agreement`, the answers
      that are those of the whole model, `mean`, `low` and `high` over living seeds. Of hops the
      mean `accuracy_by_hop`; of text the same of `rise` and `overlap`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for arm, seeds in by_arm.items():
        own = [row["edited"] for row in living(seeds).values() if row.get("edited")]
        found[arm] = [
            _over_seeds(same) for same in zip(*own, strict=True) if same[0]["kind"] != LOOP
        ]
    return found


def _over_seeds(edits: tuple[Row, ...]) -> dict[str, Any]:
    found = {
        **{name: edits[0][name] for name in ("kind", "name", "layers")},
        "agreement": seed_range([edit["agreement"] for edit in edits]),
    }
    if "accuracy_by_hop" not in edits[0]:
        rises = [each for each in map(rise, edits) if each is not None]
        more = {
            name: seed_range([edit[name] for edit in edits]) for name in ("accuracy", "overlap")
        }
        return {**found, **more, "rise": seed_range(rises)}
    right_SK = np.array([edit["accuracy_by_hop"] for edit in edits])
    right = {"accuracy": seed_range(right_SK.mean(axis=1))}
    return {**found, **right, "accuracy_by_hop": right_SK.mean(axis=0).tolist()}

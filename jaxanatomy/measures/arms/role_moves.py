"""Roles moved on purpose: what is read of a trained model, and arms beside the same seed untouched.

An arm and the baseline have the same first weights and the same text in the same order, seed by
seed. Two trainings that differ in nothing but the order of the text have other roles as well, so
that this is the null: an arm has moved roles where it moves them further than another order does
(`AGAIN`, which is further from the baseline than an arm that changes nothing).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.forensics.layer_features import co_magnitude, saturated_neurons
from jaxanatomy.forensics.roles import ROLES, assign, defined, role_scores
from jaxanatomy.measures.arms.finals import (
    Finals,
    Losses,
    account,
    difference_fields,
    family_level,
    finals_by_arm,
    living,
    living_pairs,
    seed_range,
)
from jaxanatomy.measures.arms.tuning import of_purpose
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.roles import features, name_of_role, role_distance, weight_rows
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.measures.statistics.seed_spread import seed_spread
from jaxanatomy.records import Row

UNIFORM, AGAIN = "uniform", "uniform_again"
PROPOSAL = "proposal"  # the kind of rows of policies
TUNED_BY = "eval_nll"
STUCK = 10  # proposals in a row with the mean at its clamp
RANKED = ("o_proj", "gate_proj", "down_proj")
WITHIN = 3.0  # LR section 5: effective ranks stayed within +-3


def layer_fields(config: ModelConfig, blocks: Sequence[tree.BlockParams]) -> dict[str, Any]:
    """What the weights of a model say of its layers, JSON-ready; of each layer in its order.

    Args:
      config: The architecture.
      blocks: Its layers, on the host.

    Returns:
      `features`: by name, as `measures.roles.features`; None where undefined. `scores`: by role, of
      the features of weights alone. `roles`: their names. `saturated`: the numbers of the saturated
      neurons.
    """
    folded = tree.scale_norms(config, blocks)
    rows = [row for own, _ in weight_rows(folded, config.head_dim) for row in own]
    named = features(rows, None)
    score_RL = role_scores(defined(named))
    return {
        "features": {name: [finite(each) for each in own_L] for name, own_L in named.items()},
        "scores": dict(zip(ROLES, score_RL.tolist(), strict=True)),
        "roles": [name_of_role(int(index)) for index in assign(score_RL)[0]],
        "saturated": [saturated_neurons(co_magnitude(block)).tolist() for block in blocks],
    }


def paired(by_arm: Finals) -> dict[str, list[tuple[Row, Row]]]:
    """Rows of arms beside the baseline's of the same seed, by arm.

    Arms of other shapes are left out: their first weights are others, so that their layers and
    neurons are not those of the baseline.
    """
    base = by_arm.get(UNIFORM, {})
    found = {arm: living_pairs(seeds, base, TUNED_BY) for arm, seeds in by_arm.items()}
    return {
        arm: pairs
        for arm, pairs in found.items()
        if arm != UNIFORM and pairs and all(own["alike"] for own, _ in pairs)
    }


def peers(by_arm: Finals, arm: str) -> dict[str, Mapping[int, Row]]:
    """The baseline, and the arms that share as much with it as one does.

    Arms with its first weights and its text differ from it far less, seed by seed, than those with
    others: variances are pooled over the one kind or the other.
    """
    close = paired(by_arm).keys() - {AGAIN}
    return {
        name: seeds
        for name, seeds in by_arm.items()
        if name == UNIFORM or (name in close) == (arm in close)
    }


def distances(by_arm: Finals) -> dict[str, dict[int, float]]:
    """`role_distance` from the baseline of the same seed, by arm and seed."""
    return {
        arm: {own["seed"]: role_distance(own["scores"], base["scores"]) for own, base in pairs}
        for arm, pairs in paired(by_arm).items()
    }


def lost_positions(by_arm: Finals) -> dict[str, dict[int, int]]:
    """How many saturated positions of the baseline of the same seed are lost, by arm and seed."""
    return {
        arm: {own["seed"]: len(positions(base) - positions(own)) for own, base in pairs}
        for arm, pairs in paired(by_arm).items()
    }


def rank_changes(by_arm: Finals) -> dict[str, dict[int, float]]:
    """The largest change in size of an effective rank, over `RANKED` and layers, by arm and seed.

    Beside the baseline of the same seed; NaN where a rank is undefined.
    """
    return {
        arm: {own["seed"]: _largest_rank_change(own, base) for own, base in pairs}
        for arm, pairs in paired(by_arm).items()
    }


def _largest_rank_change(own: Row, base: Row) -> float:
    own_KL, base_KL = (
        np.array([row["features"][f"{name}.effective_rank"] for name in RANKED], np.float64)
        for row in (own, base)
    )
    return float(np.abs(own_KL - base_KL).max())


def beyond_null(
    found: Mapping[str, Mapping[int, float]], arm: str, level: float
) -> tuple[Estimate, int]:
    """How much more an arm has than another order of the text, and over how many seeds.

    Args:
      found: By arm and seed what it is like beside the baseline of the seed, as `distances`.
      arm: Which.
      level: Coverage; the interval is that of `seed_spread`.
    """
    return seed_spread(found, of_difference=True).difference(found, (arm, AGAIN), level)


def summarise(rows: Iterable[Row], what: Mapping[str, str]) -> dict[str, Any]:
    """The figures that the experiment is about.

    Args:
      rows: Of the run.
      what: Of each arm what it is.

    Returns:
      `arms`: for each `what` it is, what `arms.account` has, and `eval_nll`: `mean`, `low` and
      `high` over seeds.
      `moves`: for each arm but the baseline `arm` and, beside the baseline of the same seed:
      `loss_percent`, the change of the held-out loss; `distance` of roles and its excess over the
      null, `beyond_null`; `changed`, layers of another role; `saturated`: positions (layer, neuron)
      `lost`, `gained` and `kept`, and their `net`; `rank`: by matrix the `largest` change of the
      effective rank of any layer in any seed, that `layer`, how many layers stay `within` 3 in all
      seeds, and `of`, the baseline's mean rank. Of arms of other shapes there is the loss alone.
      Intervals are of `level`, so that those of one figure hold for all arms at once with 95 %.
      `policies`: what each came to; see `summarise_policies`.
    """
    rows = list(rows)
    by_arm = finals_by_arm(rows)
    level = family_level(len(by_arm) - 1)
    arms = {
        arm: account(rows, arm, seeds, TUNED_BY)
        | {"what": what.get(arm, "")}
        | {"eval_nll": seed_range([row["eval_nll"] for row in living(seeds).values()])}
        for arm, seeds in by_arm.items()
    }
    others = [arm for arm in by_arm if arm != UNIFORM and UNIFORM in by_arm]
    moves = [_moved(rows, by_arm, arm, level) for arm in others]
    return {"arms": arms, "moves": moves, "level": level, "policies": summarise_policies(rows)}


def _moved(rows: Sequence[Row], by_arm: Finals, arm: str, level: float) -> dict[str, Any]:
    alike = peers(by_arm, arm)
    log, seeds = Losses.of(rows, TUNED_BY, alike).log_ratio((arm, UNIFORM), level)
    loss = difference_fields((log.degradation_percent(), seeds))
    pairs = paired(by_arm)
    if arm not in pairs:
        return {"arm": arm, "loss_percent": loss}
    own, far = pairs[arm], distances(by_arm)
    net = {
        name: {row["seed"]: len(positions(row)) - len(positions(base)) for row, base in each}
        for name, each in pairs.items()
    }
    null = {"beyond_null": difference_fields(beyond_null(far, arm, level))}
    return {
        "arm": arm,
        "loss_percent": loss,
        "distance": _over_seeds(far, alike, arm, level),
        **(null if arm != AGAIN and AGAIN in far else {}),
        "changed": seed_range([_changed(*pair) for pair in own]),
        "saturated": {**_saturated(own), "net": _over_seeds(net, alike, arm, level)},
        "rank": {name: _rank(own, name) for name in RANKED},
    }


def _over_seeds(
    values: Mapping[str, Mapping[int, float]], alike: Iterable[str], arm: str, level: float
) -> dict[str, Any]:
    among = {name: values[name] for name in alike if name in values}
    spread, own = seed_spread(among, of_difference=False), list(values[arm].values())
    return difference_fields((spread.mean(own, (arm,), level), len(own)))


def _changed(own: Row, base: Row) -> int:
    """Layers of another role."""
    return sum(one != other for one, other in zip(own["roles"], base["roles"], strict=True))


def positions(row: Row) -> set[tuple[int, int]]:
    """The saturated positions of a model: (layer, neuron)."""
    return {(layer, each) for layer, own in enumerate(row["saturated"]) for each in own}


def _saturated(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    """Positions that the baseline has and an arm has not, the reverse, and both; means."""
    both = [(positions(own), positions(base)) for own, base in pairs]
    return {
        "lost": seed_range([len(base - own) for own, base in both]),
        "gained": seed_range([len(own - base) for own, base in both]),
        "kept": seed_range([len(own & base) for own, base in both]),
    }


def _rank(pairs: Sequence[tuple[Row, Row]], name: str) -> dict[str, Any]:
    """How far the effective rank of a matrix has changed, layer by layer, and in any seed."""
    field = f"{name}.effective_rank"
    own_SL, base_SL = (
        np.array([row["features"][field] for row in side], np.float64)
        for side in zip(*pairs, strict=True)
    )
    change_SL = own_SL - base_SL
    seed, layer = np.unravel_index(np.nan_to_num(np.abs(change_SL)).argmax(), change_SL.shape)
    return {
        "layer": int(layer),
        "largest": finite(change_SL[seed, layer]),
        "within": int((np.abs(change_SL) <= WITHIN).all(axis=0).sum()),
        "of": float(np.nanmean(base_SL)),
    }


def summarise_policies(rows: Iterable[Row]) -> dict[str, Any]:
    """What each policy came to.

    Returns:
      By arm: `proposals` of a seed; `reward`, the mean fall of the held-out loss over a proposal;
      `at_clamp`, the share of means at an end of the clamp; `stuck`: `seed`, `tensor`, `layer` and
      `proposals` of those that were there for `STUCK` proposals in a row or more: what the policy
      would do beyond is not known.
    """
    found: dict[str, dict[int, list[Row]]] = {}
    for row in of_purpose(rows, PROPOSAL):
        found.setdefault(row["arm"], {}).setdefault(row["seed"], []).append(row)
    return {arm: _policy(seeds) for arm, seeds in found.items()}


def _policy(seeds: Mapping[int, Sequence[Row]]) -> dict[str, Any]:
    stuck, shares = [], []
    for seed, own in seeds.items():
        own = sorted(own, key=lambda row: row["step"])
        for tensor in own[0]["at_clamp"]:
            at_NL = np.array([row["at_clamp"][tensor] for row in own], bool)
            shares.append(at_NL.mean())
            for layer, at_N in enumerate(at_NL.T):
                if (longest := longest_run(at_N)) >= STUCK:
                    place = {"seed": seed, "tensor": tensor, "layer": layer}
                    stuck.append(place | {"proposals": longest})
    rewards = [row["reward"] for own in seeds.values() for row in own]
    known = [each for each in rewards if each is not None]
    return {
        "proposals": max(map(len, seeds.values())),
        "reward": float(np.mean(known)) if known else None,
        "at_clamp": float(np.mean(shares)),
        "stuck": stuck,
    }


def longest_run(is_N: np.ndarray) -> int:
    """How many in a row are true at most."""
    ends = np.flatnonzero(~np.concatenate([[False], is_N, [False]]))
    return int(np.diff(ends).max() - 1)

"""Roles of layers over training runs: from when on they stay, and whether changes meet losses.

Early in a run losses fall fast and roles change often, whatever causes either, so that the two
go together along any run. What LR section 8 says is more: that a fall of the loss coincides with
a change of roles. So each look is compared with the same look of other seeds: where more layers
than usual have changed their role since the look before, has the loss fallen further than usual?
Chance deals the courses of roles out among the seeds, each course whole, in every order: then
either keeps its trend and its own memory, and nothing but the coincidence is lost.

Axes: S seeds, I intervals between two looks of one stage.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.arms.finals import stopped
from jaxanatomy.measures.arms.tuning import CURVE, ROLES, of_purpose
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import Estimate, jackknife_interval
from jaxanatomy.records import Row

ORDERS, KEY = 5000, 0  # of seeds, drawn where there are more
_ALL_ORDERS_TO = 7  # seeds
# Looks in the order of steps, by arm and seed.
Courses = Mapping[tuple[str, int], Sequence[Row]]


def settled(rows: Iterable[Row]) -> dict[int, int]:
    """The step from which on each layer's role stays what it is at the end.

    Of a layer whose role was another one at the step before the last that is the last: it may
    change again. A layer that came later counts from its first step.

    Args:
      rows: Those of kind "role" count, with `step`, `layer` and `role`.
    """
    found: dict[int, int] = {}
    last: dict[int, str] = {}
    for row in sorted((row for row in rows if row["kind"] == "role"), key=lambda row: row["step"]):
        if last.get(row["layer"]) != row["role"]:
            found[row["layer"]], last[row["layer"]] = row["step"], row["role"]
    return found


@dataclasses.dataclass(frozen=True)
class Coincidence:
    """How changes of roles go with falls of the loss, each beside the same look of other seeds.

    Attributes:
      fall_percent: How much further the loss falls for each more layer that changes; NaN where no
        two seeds differ.
      correlation: Of the two, over all intervals of all seeds, deviations from the interval's mean.
      raw: The same without taking means off: what the trend of a run alone may give.
      p: Share of orders of the seeds in which they go together as well.
      least_p: The least that so many seeds allow.
    """

    fall_percent: float
    correlation: float
    raw: float
    p: float
    least_p: float


def coincidence(change_SI: np.ndarray, fall_SI: np.ndarray) -> Coincidence:
    """Compares changes with falls.

    Args:
      change_SI: Layers whose role is another than a look before.
      fall_SI: Log of the loss then, less now.
    """
    seeds = len(change_SI)
    own_SI, its_SI = (each - each.mean(axis=0) for each in (change_SI, fall_SI))
    together_SS = own_SI @ its_SI.T
    order_OS = _orders(seeds)
    found_O = together_SS[order_OS, np.arange(seeds)].sum(axis=1)
    scale = math.sqrt((own_SI**2).sum() * (its_SI**2).sum())
    as_well = found_O >= found_O[0] - 1e-9 * scale
    return Coincidence(
        fall_percent=_percent(_slope(change_SI, fall_SI)),
        correlation=float(found_O[0] / scale) if scale else math.nan,
        raw=_correlation(change_SI.ravel(), fall_SI.ravel()),
        p=float(as_well.mean()) if scale else math.nan,
        least_p=1 / len(order_OS),
    )


def fall_interval(change_SI: np.ndarray, fall_SI: np.ndarray, level: float) -> Estimate:
    """`Coincidence.fall_percent` with the jackknife's interval over seeds; NaN where none differ.

    Args:
      change_SI: As of `coincidence`, three seeds or more.
      fall_SI: Likewise.
      level: Coverage.
    """
    seeds = len(change_SI)
    without_S = [
        _slope(*(np.delete(each, seed, axis=0) for each in (change_SI, fall_SI)))
        for seed in range(seeds)
    ]
    found = jackknife_interval(_slope(change_SI, fall_SI), np.array(without_S), level)
    return found.map(_percent)


def _slope(change_SI: np.ndarray, fall_SI: np.ndarray) -> float:
    """The fall for each layer that changes, both beside the mean over seeds; NaN without any."""
    own_SI, its_SI = (each - each.mean(axis=0) for each in (change_SI, fall_SI))
    size = (own_SI**2).sum()
    return float((own_SI * its_SI).sum() / size) if size else math.nan


def _percent(slope: float) -> float:
    return float(100 * -np.expm1(-slope))


def commitment(looks: Sequence[Row], share: float) -> tuple[float, float] | None:
    """How far the roles of a model have come after a share of its steps.

    Args:
      looks: Of one model, in the order of their steps; those of its last stage count that were
        taken by the features of the last look.
      share: Of the steps to the last look.

    Returns:
      The share of layers whose last role stands from there on, and by how much the share of layers
      that change from look to look is larger before than after; None where there are no two
      intervals before, or after.
    """
    last = looks[-1]
    own = [
        look
        for look in looks
        if look["stage"] == last["stage"] and look["features"].keys() == last["features"].keys()
    ]
    until = share * last["step"]
    changes = ([], [])
    for one, two in itertools.pairwise(own):
        changes[two["step"] > until].append(_changed(one, two) / len(last["roles"]))
    if min(map(len, changes)) < 2:
        return None
    after = [look["roles"] for look in own if look["step"] > until]
    before = [look["roles"] for look in own if look["step"] <= until][-1]
    stays_L = [
        all(roles[layer] == role for roles in (before, *after))
        for layer, role in enumerate(last["roles"])
    ]
    return float(np.mean(stays_L)), float(np.mean(changes[0]) - np.mean(changes[1]))


def looks(rows: Sequence[Row]) -> list[Row]:
    """The looks of a run's results, those of seeds apart that have stopped."""
    found = of_purpose(rows, ROLES)
    lost = stopped(rows) if found else ()
    return [row for row in found if (row["arm"], row["seed"]) not in lost]


def courses_of(rows: Sequence[Row]) -> Courses:
    """The looks of a run's results by arm and seed, in the order of their steps."""
    found: dict[tuple[str, int], list[Row]] = {}
    for row in looks(rows):
        found.setdefault((row["arm"], row["seed"]), []).append(row)
    return {key: sorted(own, key=lambda row: row["step"]) for key, own in found.items()}


def summarise_courses(rows: Iterable[Row]) -> dict[str, Any]:
    """What a run that kept roles says of them; empty where it kept none.

    Returns:
      `roles`: `settled`, by arm and layer of its last stage the `roles` at the end and the `steps`
      from which on they stay, by seed; and `coincidence`, of `Coincidence` by field, with `seeds`,
      `intervals` and `changes`; None where fewer than two seeds have two looks.
    """
    rows = list(rows)
    courses = courses_of(rows)
    if not courses:
        return {}
    return {"roles": {"settled": _settled(courses), "coincidence": _coincidence(rows, courses)}}


def _settled(courses: Courses) -> list[dict[str, Any]]:
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for (arm, _), looks in courses.items():
        last = [row for row in looks if row["stage"] == looks[-1]["stage"]]
        steps = settled(
            {"kind": "role", "step": row["step"], "layer": layer, "role": role}
            for row in last
            for layer, role in enumerate(row["roles"])
        )
        for layer, role in enumerate(looks[-1]["roles"]):
            new = {"arm": arm, "layer": layer, "roles": [], "steps": []}
            own = found.setdefault((arm, layer), new)
            own["roles"].append(role)
            own["steps"].append(steps[layer])
    return list(found.values())


def _coincidence(rows: Sequence[Row], courses: Courses) -> dict[str, Any] | None:
    compared = changes_and_falls(rows, courses)
    if compared is None:
        return None
    seeds, change_SI, fall_SI = compared
    found = dataclasses.asdict(coincidence(change_SI, fall_SI))
    sizes = {"seeds": len(seeds), "intervals": change_SI.shape[1], "changes": int(change_SI.sum())}
    return {name: finite(value) for name, value in found.items()} | sizes


def changes_and_falls(
    rows: Sequence[Row], courses: Courses
) -> tuple[list[int], np.ndarray, np.ndarray] | None:
    """What `coincidence` compares, of a run: the seeds, changes and falls [S, I].

    Over all arms; of the seeds that every arm has, whose courses are dealt out together. None where
    fewer than two seeds have two looks.

    Args:
      rows: Of the run.
      courses: Their `courses_of`.
    """
    losses = {_place(row): row["eval_nll"] for row in of_purpose(rows, CURVE)}
    arms = dict.fromkeys(arm for arm, _ in courses)
    seeds = [
        seed
        for seed in dict.fromkeys(seed for _, seed in courses)
        if all((arm, seed) in courses for arm in arms)
    ]
    by_seed = [[courses[arm, seed] for arm in arms] for seed in seeds]
    pairs = [[pair for looks in own for pair in _intervals(looks)] for own in by_seed]
    there = all(_place(look) in losses for own in pairs for pair in own for look in pair)
    if len(seeds) < 2 or len({len(own) for own in pairs}) > 1 or not (pairs[0] and there):
        return None  # or the run has not come so far
    change_SI = [[_changed(one, two) for one, two in own] for own in pairs]
    fall_SI = [
        [math.log(losses[_place(one)] / losses[_place(two)]) for one, two in own] for own in pairs
    ]
    return seeds, np.array(change_SI, float), np.array(fall_SI)


def _intervals(looks: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Each look with the next one of the same stage, by the same features."""
    return [
        (one, two)
        for one, two in itertools.pairwise(looks)
        if one["stage"] == two["stage"] and one["features"].keys() == two["features"].keys()
    ]


def _changed(one: Row, two: Row) -> int:
    return sum(own != its for own, its in zip(one["roles"], two["roles"], strict=True))


def _place(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("arm", "seed", "stage", "step"))


def _orders(seeds: int) -> np.ndarray:
    """Orders of the seeds, the given one first, int [O, S]: all of them, or some drawn."""
    if seeds <= _ALL_ORDERS_TO:
        return np.array(list(itertools.permutations(range(seeds))))
    index_OS = np.tile(np.arange(seeds), (ORDERS, 1))
    drawn_OS = np.random.default_rng(KEY).permuted(index_OS[1:], axis=1)
    return np.concatenate([index_OS[:1], drawn_OS])


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if x.std() and y.std() else math.nan

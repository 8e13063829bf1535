"""How good alarms are: faults that they find before the loss has doubled, and false alarms.

A row of kind "run" has what was read at every step; levels and intervals between checks are tried
on that, without training again. "Doubled" is the loss twice that of the twin: the same seed and
data without the fault. Letters here: E steps done, from 0; K checks.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import wilson_interval
from jaxanatomy.measures.statistics.shares import clustered_share
from jaxanatomy.records import Row

CALIBRATION, SCORE = "calibration", "score"
# Of which series of a run; they are looked for at every step.
JUMPS = {"loss_jump": "loss", "gradient_jump": "gradient", "update_jump": "update"}
OF_LOSS = ("loss_jump", "gradient_jump")
GROWTH = "update_growth"
ALL, WEIGHTS, SIMPLEST = "all alarms", "weights and updates", "loss and gradient jumps"
SHIPPED = "all, levels as shipped"
EVERY_FAULT, CLEAN_FAULTS = "all faults", "all but corrupted batches"
Levels = Mapping[str, float]
OFFSETS = 10  # places of the first check that are tried, where an interval has as many
TIMES = 2.0  # the loss of the twin
WINDOW, FEWEST = 50, 10  # steps before one that it is compared with
STEADY = 0.05  # a spread of the log below which a series is not resolved


def jumps(step_ES: np.ndarray, first: int = 0) -> np.ndarray:
    """How far each step of some series stands out, in standard deviations of their logarithms.

    Each step is compared with up to 50 before it, those that are 0 or not finite left out; NaN with
    fewer than 10.

    Args:
      step_ES: Series S, such as the loss of each seed, oldest step first.
      first: The first step that is asked for; NaN for those before.

    Returns:
      [E, S].
    """
    found_ES = np.full(step_ES.shape, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_ES = np.log(step_ES)
        is_known_ES = np.isfinite(log_ES)
        for at in range(max(first, FEWEST), len(log_ES)):
            window = slice(max(at - WINDOW, 0), at)
            before_ES, known_ES = log_ES[window], is_known_ES[window]
            count_S = known_ES.sum(axis=0)
            mean_S = before_ES.sum(axis=0, where=known_ES) / count_S
            square_S = np.square(before_ES - mean_S).sum(axis=0, where=known_ES) / count_S
            jump_S = (log_ES[at] - mean_S) / np.maximum(np.sqrt(square_S), STEADY)
            found_ES[at] = np.where(count_S >= FEWEST, jump_S, np.nan)
    return found_ES


def detectors(chosen: Levels, shipped: Levels) -> dict[str, Levels]:
    """The kinds of alarm that each detector has, with their levels."""
    return {
        ALL: chosen,
        WEIGHTS: {kind: level for kind, level in chosen.items() if kind not in OF_LOSS},
        SIMPLEST: {kind: level for kind, level in chosen.items() if kind in OF_LOSS},
        SHIPPED: shipped,
    }


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was read of one run.

    Attributes:
      seed: Of the run.
      series: By kind, [E]; NaN where there is nothing. Of `GROWTH` norms of updates.
      always: Steps at which alarms check whatever the interval: where stages begin.
      since: Steps before it grows; until then it is to the bit the run of its seed that does not.
    """

    seed: int
    series: Mapping[str, np.ndarray]
    always: tuple[int, ...]
    since: int

    @classmethod
    def of(cls, row: Row) -> "Reading":
        """Of a row of kind "run"."""
        series = {kind: np.array(values, float) for kind, values in row["series"].items()}
        jump_ES = jumps(np.array([row[name] for name in JUMPS.values()], float).T)
        # Of a step: known when it is done.
        series |= zip(
            JUMPS, np.pad(jump_ES.T, ((0, 0), (1, 0)), constant_values=np.nan), strict=True
        )
        since = row["fault_step"] if row["grown"] else 0
        return cls(row["seed"], series, tuple({0, since}), since)

    @property
    def own_steps(self) -> int:
        """Steps that no other healthy run of the seed has."""
        return len(next(iter(self.series.values()))) - 1 - self.since

    def checks(self, kind: str, interval: int, offset: int) -> np.ndarray:
        """The steps after which a kind is looked for, [K]: of jumps every one."""
        steps = len(next(iter(self.series.values())))
        interval, offset = (1, 0) if kind in JUMPS else (interval, offset)
        return np.unique([*range(offset or interval, steps, interval), *self.always])

    def at(self, kind: str, check_K: np.ndarray) -> np.ndarray:
        """What is read at checks, [K]."""
        value_K = self.series[kind][check_K]
        if kind != GROWTH:
            return value_K
        before_K = np.fmax.accumulate(np.concatenate([[np.nan], value_K[:-1]]))
        return value_K / before_K

    def onsets(self, levels: Levels, interval: int, offset: int) -> list[tuple[int, str]]:
        """(step, kind) where a level is reached that was not at the check before, in order."""
        found = []
        for kind, level in levels.items():
            check_K = self.checks(kind, interval, offset)
            on_K = self.at(kind, check_K) >= level
            begun_K = on_K & ~np.concatenate([[False], on_K[:-1]])
            found += [(int(step), kind) for step in check_K[begun_K]]
        return sorted(found)


def offsets(interval: int) -> list[int]:
    """Steps of the first check."""
    return np.unique(np.linspace(0, interval, OFFSETS, endpoint=False).astype(int)).tolist()


def calibrated(
    healthy: Sequence[Reading], kinds: Iterable[str], intervals: Sequence[int], margin: float
) -> dict[str, float]:
    """The level of each kind: `margin` times the highest reading of any healthy run.

    A kind that reads nothing above 0 there is left out: a level of 0 would be reached at once.
    """

    def highest(kind: str, reading: Reading) -> float:
        places = [(interval, at) for interval in intervals for at in offsets(interval)]
        read = [np.fmax.reduce(reading.at(kind, reading.checks(kind, *each))) for each in places]
        return float(np.fmax.reduce(read, initial=0.0))

    most = {kind: max(highest(kind, each) for each in healthy) for kind in kinds}
    return {kind: margin * value for kind, value in most.items() if value > 0}


def doubled_at(row: Row, twin: Row) -> int | None:
    """Steps done before the first loss that is twice the twin's; None where none is.

    A loss that is not finite is. What the loss is on a corrupted batch says nothing of the model.

    Raises:
      InputError: The twin has diverged by itself.
    """
    for step in range(row["fault_step"] + row["corrupted"], len(row["loss"])):
        own, other = row["loss"][step], twin["loss"][step]
        if other is None:
            raise InputError(
                f"a healthy run is what faults are compared with; that of seed {twin['seed']} has "
                f"diverged at step {step}; lower learning_rate"
            )
        if own is None or own >= TIMES * other:
            return step
    return None


def scores(rows: Sequence[Row], found_by: Mapping[str, Levels], interval: int) -> list[Row]:
    """What became of each faulty run, for each detector and place of the first check.

    Args:
      rows: Runs that score, twins among them.
      found_by: Levels by detector.
      interval: Steps between checks.

    Returns:
      Rows with `fault`, `seed`, `corrupted` (batches), `detector`, `doubled` (steps done, or None),
      `flagged` (likewise), `first` (the kind), `lead` (steps from the alarm to the doubled loss;
      None without both) and `delay` (steps from the fault to the alarm).
    """
    twins = {(row["fault"], row["seed"]): row for row in rows}
    found = []
    for row in rows:
        if row["fault"] == row["twin"]:
            continue
        doubled, reading = doubled_at(row, twins[row["twin"], row["seed"]]), Reading.of(row)
        for offset, (detector, levels) in itertools.product(offsets(interval), found_by.items()):
            onsets = reading.onsets(levels, interval, offset)
            later = [each for each in onsets if each[0] >= row["fault_step"]]
            flagged, first = later[0] if later else (None, None)
            both = None not in (flagged, doubled)
            found.append(
                {
                    "fault": row["fault"],
                    "seed": row["seed"],
                    "corrupted": row["corrupted"],
                    "detector": detector,
                    "doubled": doubled,
                    "flagged": flagged,
                    "first": first,
                    "lead": doubled - flagged if both else None,
                    "delay": None if flagged is None else flagged - row["fault_step"],
                }
            )
    return found


def detection(scored: Iterable[Row]) -> list[Row]:
    """A row for each fault and detector, for all faults together, and those on clean batches.

    The loss of a corrupted batch counts as no doubled one, but as a jump: such a fault can be seen
    long before "the loss has doubled".

    Returns:
      `runs`, `doubled` (how many lose), `before` (the share of those flagged before the loss had
      doubled, with `before_ci95`, of `clustered_share`; None where no loss doubled), `flagged` (the
      share of all runs, likewise), `lead` and `delay` (medians), `first` (the kinds that were
      first, most often first).
    """
    scored = list(scored)
    groups = collections.defaultdict(list)
    for row in scored:
        groups[row["fault"], row["detector"]].append(row)
        groups[EVERY_FAULT, row["detector"]].append(row)
    if any(row["corrupted"] for row in scored):
        for row in (each for each in scored if not each["corrupted"]):
            groups[CLEAN_FAULTS, row["detector"]].append(row)
    found = []
    for (fault, detector), own in groups.items():
        doubled = [row for row in own if row["doubled"] is not None]
        early = [row["lead"] is not None and row["lead"] >= 0 for row in doubled]
        first = collections.Counter(row["first"] for row in own if row["first"])
        found.append(
            {
                "fault": fault,
                "detector": detector,
                "runs": _runs(own),
                "doubled": _runs(doubled),
                **_share("before", early, doubled),
                **_share("flagged", [row["flagged"] is not None for row in own], own),
                "lead": _median(row["lead"] for row in doubled),
                "delay": _median(row["delay"] for row in own),
                "first": [kind for kind, _ in first.most_common(3)],
            }
        )
    return found


def false_alarms(
    healthy: Sequence[Reading], found_by: Mapping[str, Levels], interval: int
) -> list[Row]:
    """Alarms of healthy runs by detector, means over places of the first check.

    Each step counts once: a run that grows from there on.

    Returns:
      Rows with `alarms`, `steps`, `per_10000` (steps) and `per_10000_ci95`, Wilson's for the share
      of steps as if they were independent, which those of a run are not; `seeds`, `affected` (the
      share of seeds with any alarm) and `affected_ci95`, Wilson's over seeds.
    """
    found, steps = [], sum(each.own_steps for each in healthy)
    seed_R = np.array([each.seed for each in healthy])
    seeds = len(np.unique(seed_R))
    for detector, levels in found_by.items():
        count_PR = np.array(
            [_own_alarms(healthy, levels, interval, at) for at in offsets(interval)]
        )
        count = float(count_PR.sum(axis=1).mean())
        rate = wilson_interval(min(count / steps, 1.0), steps).map(lambda share: 1e4 * share)
        hit = [len(np.unique(seed_R[count_R > 0])) / seeds for count_R in count_PR]
        affected = wilson_interval(float(np.mean(hit)), seeds)
        found.append(
            {
                "detector": detector,
                "alarms": count,
                "steps": steps,
                "per_10000": rate.value,
                "per_10000_ci95": rate.ends,
                "seeds": seeds,
                "affected": affected.value,
                "affected_ci95": affected.ends,
            }
        )
    return found


def summarise(
    rows: Iterable[Row], shipped: Levels, intervals: Sequence[int], margin: float
) -> dict[str, Any]:
    """The figures that the experiment is about.

    Args:
      rows: Of a run.
      shipped: The first level of each kind as it is without this experiment.
      intervals: Steps between checks.
      margin: Of levels over the highest reading of calibration.

    Returns:
      `levels` by kind, and `shipped`; `uncalibrated`, kinds that read nothing above 0 in healthy
      runs; `detection` and `false_alarms`, rows with their `interval`.
    """
    rows = list(rows)
    scoring = [row for row in rows if row["purpose"] == SCORE]
    tuning = [Reading.of(row) for row in rows if row["purpose"] == CALIBRATION]
    levels = calibrated(tuning, shipped, intervals, margin)
    healthy = [Reading.of(row) for row in scoring if row["fault"] == row["twin"]]
    found_by, found, wrong = detectors(levels, shipped), [], []
    for interval in intervals:
        at = {"interval": interval}
        found += [at | row for row in detection(scores(scoring, found_by, interval))]
        wrong += [at | row for row in false_alarms(healthy, found_by, interval)]
    return {
        "shipped": dict(shipped),
        "levels": levels,
        "uncalibrated": [kind for kind in shipped if kind not in levels],
        "detection": found,
        "false_alarms": wrong,
    }


def _own_alarms(
    healthy: Sequence[Reading], levels: Levels, interval: int, offset: int
) -> list[int]:
    """Alarms of each run from where it is not another one's."""
    onsets = [each.onsets(levels, interval, offset) for each in healthy]
    return [
        sum(step >= each.since for step, _ in own)
        for each, own in zip(healthy, onsets, strict=True)
    ]


def _runs(rows: Sequence[Row]) -> int:
    return len({(row["fault"], row["seed"]) for row in rows})


def _share(name: str, hits: Sequence[bool], rows: Sequence[Row]) -> Row:
    """Of runs, each of which has as many rows as there are places of the first check."""
    if not hits:
        return {name: None, f"{name}_ci95": None}
    places = len(rows) / _runs(rows)
    _, seed_R = np.unique([row["seed"] for row in rows], return_inverse=True)
    share = clustered_share(np.bincount(seed_R, hits) / places, np.bincount(seed_R) / places)
    return {name: share.value, f"{name}_ci95": share.ends}


def _median(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else None

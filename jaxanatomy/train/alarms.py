"""Alarms: what goes wrong in a training run, seen in weights and updates before the loss tells.

    watch = Watch(Alarms(every=100, actions=("warn", "act", "stop")), emit)
    trainer.train(folder, watch.callbacks())

Late layers whose spectral norms are 30 to 100 times those of their peers end a run thousands of
steps later, and the loss does not show it (LR section 8). How good the alarms are is measured by
`experiments.alarms`.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optax

from jaxanatomy.errors import InputError, choose, require_whole
from jaxanatomy.measures.arms.alarms import JUMPS, WINDOW, jumps
from jaxanatomy.measures.losses import finite
from jaxanatomy.progress import LOG
from jaxanatomy.train.alarm_readings import (
    DEAD,
    KINDS,
    MIN_PEERS,
    NON_FINITE,
    PEER_KINDS,
    Readings,
    readings,
)
from jaxanatomy.train.callbacks import Every, Response, RunState
from jaxanatomy.train.optimiser import with_layer_factors
from jaxanatomy.train.points import DIVERGED
from jaxanatomy.tree import PyTree

WARN, ACT, STOP = "warn", "act", "stop"
ACTIONS = {
    WARN: "a row and a line on stderr",
    ACT: "the layer learns a tenth as fast for as long as the alarm stands, less with each check; "
    "not a dead one, which would never come back",
    STOP: "the seed stops",
}
CUT, SLOWEST = 0.1, 1e-3
OF_NONE = "/None/"  # in the place of an alarm of no layer
Levels = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Alarms:
    """When something is an alarm, and what is done then.

    A kind has three levels, each above the one before, or none: then it is off. The defaults lie
    above what healthy runs of `experiments.alarms` reach, those of `spectral` are LR's.

    Attributes:
      every: Steps between checks; 0: no alarms. Jumps are told where the call of their step ends.
      spectral: Levels, as `KINDS` says of what; and so the others.
      update_growth: Likewise.
      update_size: Likewise.
      cv: Likewise.
      saturated: Likewise.
      dead: Likewise.
      loss_jump: Likewise.
      gradient_jump: Likewise.
      update_jump: Likewise.
      actions: What is done at each level, of `ACTIONS`.
    """

    every: int = 100
    spectral: Levels = (10.0, 30.0, 100.0)
    # Not 2: from a check in early warmup to the next a healthy update grows up to 3.9 times.
    update_growth: Levels = (5.0, 15.0, 50.0)
    update_size: Levels = (0.3, 1.0, 3.0)
    cv: Levels = (4.0, 8.0, 16.0)
    saturated: Levels = (0.06, 0.08, 0.09)
    dead: Levels = (1e2, 1e3, 1e4)
    loss_jump: Levels = (6.0, 12.0, 24.0)
    gradient_jump: Levels = (10.0, 20.0, 40.0)
    update_jump: Levels = (10.0, 20.0, 40.0)
    actions: tuple[str, ...] = (WARN, WARN, WARN)

    def __post_init__(self):
        require_whole("alarms.every", self.every, 0)
        for kind in KINDS:
            levels = tuple(getattr(self, kind))
            object.__setattr__(self, kind, levels)
            rising = all(low < high for low, high in itertools.pairwise((0.0, *levels)))
            if len(levels) not in (0, 3) or not rising:
                raise InputError(
                    f"alarms.{kind} must be three levels, each above 0 and above the one before, "
                    f"or () for no such alarm; got {levels}"
                )
        object.__setattr__(self, "actions", tuple(self.actions))
        for action in self.actions:
            choose("action of an alarm", action, ACTIONS)
        if len(self.actions) != 3:
            raise InputError(
                f"alarms.actions must be one for each of the three levels; got {self.actions}"
            )

    @property
    def acts(self) -> bool:
        """Whether an alarm may change how fast layers learn."""
        return bool(self.every) and ACT in self.actions

    def level(self, kind: str, value: float) -> int:
        """How many levels a value has reached, 0 to 3; a NaN none."""
        if kind == NON_FINITE:
            return 3 * bool(value)
        return sum(value >= level for level in getattr(self, kind))


@dataclasses.dataclass(frozen=True)
class Alarm:
    """What stands out at a check.

    Attributes:
      seed: Index of the seed among those that train together.
      kind: One of `KINDS`, or `NON_FINITE`.
      layer: Of the model as it is now; None where it is of no layer.
      tensor: The component; "" where it is of a whole layer.
      value: What was read.
      level: Levels that it has reached, 1 to 3.
    """

    seed: int
    kind: str
    layer: int | None
    tensor: str
    value: float
    level: int

    @property
    def place(self) -> str:
        """What is the same while an alarm stands."""
        return f"{self.seed}/{self.kind}/{self.layer}/{self.tensor}"

    def __str__(self) -> str:
        where = "" if self.layer is None else f" in layer {self.layer}"
        value = "not finite" if not math.isfinite(self.value) else f"{self.value:.3g}"
        return f"{self.kind} of {self.tensor or 'the layer'}{where}: {value}"


class Watch:
    """Checks the seeds that train together; what it remembers is kept with checkpoints."""

    def __init__(self, alarms: Alarms, emit: Callable[[RunState, Alarm, str], Any]):
        """Nothing is computed yet.

        Args:
          alarms: When, and what is done.
          emit: Called with the run, an alarm that is new or has reached a higher level, and what is
            done.
        """
        self._alarms, self._emit = alarms, emit
        self._memory: dict[str, Any] = {"standing": {}, "stage": 0, "largest": None}
        self._memory |= {"steps": [], "jumps": None}

    def callbacks(self) -> list[Every]:
        """For the trainer; none where there are no alarms."""
        if not self._alarms.every:
            return []
        check = Every(self._alarms.every, self._check, at_ends=True, memory=self._memory)
        return [Every(None, self.note), check]

    def note(self, state: RunState) -> Response:
        """Tells jumps at the steps of a call; a layer is slowed for them at the next check."""
        memory = self._memory
        step_EMS = np.stack([state.steps.series[of] for of in JUMPS.values()], axis=-1)
        memory["steps"] += [[list(map(finite, own)) for own in one] for one in step_EMS.tolist()]
        seen_EMS = np.array(memory["steps"], float)
        fresh = len(seen_EMS) - len(step_EMS)
        jump_EX = jumps(seen_EMS.reshape(len(seen_EMS), -1), fresh)[fresh:]
        jump_MS = np.fmax.reduce(jump_EX, axis=0).reshape(step_EMS.shape[1:])
        before = memory["jumps"]
        largest_MS = jump_MS if before is None else np.fmax(jump_MS, np.array(before, float))
        memory["jumps"] = [list(map(finite, own)) for own in largest_MS.tolist()]
        memory["steps"] = memory["steps"][-WINDOW:]
        raised = self.judge(state, self._jumps(jump_MS))
        self._announce(state, raised)
        return Response(stop=self._stopped_by(raised))

    def read(self, state: RunState) -> Readings:
        """What is read of a run at a check, the largest jumps since the one before among it."""
        memory = self._memory
        largest = memory["largest"]
        found, change_ML = readings(state, None if largest is None else np.array(largest))
        if change_ML is not None:
            own = np.nanmax(np.where(np.isfinite(change_ML), change_ML, 0), axis=1)
            memory["largest"] = np.fmax(own, largest if largest is not None else 0).tolist()
        if memory["jumps"] is not None:
            found |= self._jumps(np.array(memory["jumps"], float))
            memory["jumps"] = None
        return found

    def _jumps(self, jump_MS: np.ndarray) -> Readings:
        return {(kind, of): jump_MS[:, [at]] for at, (kind, of) in enumerate(JUMPS.items())}

    def _check(self, state: RunState) -> Response | None:
        memory = self._memory
        if state.steps is None:
            self._tell(state)
        grown = state.steps is None and state.at > 0
        if not grown and (not state.step or state.step % self._alarms.every):
            return None  # where a stage ends there is nothing new
        if memory["stage"] != state.at:  # layers have other numbers; what is of no layer stays
            own = {place: level for place, level in memory["standing"].items() if OF_NONE in place}
            memory["stage"], memory["standing"] = state.at, own
        found = self.judge(state, self.read(state))
        self._announce(state, found)
        memory["standing"] = {alarm.place: alarm.level for alarm in found}
        counts = collections.Counter(alarm.seed for alarm in found)
        acting = [alarm for alarm in found if self._action(alarm) == ACT]
        return Response(
            log={"alarms": [counts[seed] for seed in range(len(state.setup.seeds))]},
            stop=self._stopped_by(found),
            moments=slowed(state, acting) if self._alarms.acts else None,
        )

    def _announce(self, state: RunState, found: Sequence[Alarm]) -> None:
        """Tells of those that are new or have reached a higher level; from now on they stand."""
        standing = self._memory["standing"]
        new = [alarm for alarm in found if alarm.level > standing.get(alarm.place, 0)]
        for alarm in new:
            self._emit(state, alarm, self._action(alarm))
        standing |= {alarm.place: alarm.level for alarm in new}
        if new:
            worst = max(new, key=lambda alarm: (alarm.level, alarm.value))
            seed, more = state.setup.seeds[worst.seed], f", and {len(new) - 1} more"
            told = f"alarm at step {state.step}, seed {seed}: {worst}"
            LOG.warning("%s%s", told, more if len(new) > 1 else "")

    def _action(self, alarm: Alarm) -> str:
        return self._alarms.actions[alarm.level - 1]

    def _stopped_by(self, found: Sequence[Alarm]) -> dict[int, str]:
        return {alarm.seed: f"alarm: {alarm}" for alarm in found if self._action(alarm) == STOP}

    def _tell(self, state: RunState) -> None:
        """Where a stage begins with too few layers, which alarms that turns off."""
        layers = state.stage.config.num_layers
        kinds = [kind for kind in PEER_KINDS if getattr(self._alarms, kind)]
        if layers < MIN_PEERS and kinds:
            told = "alarms %s are off in stage %d: they compare at least %d layers, it has %d"
            LOG.warning(told, ", ".join(kinds), state.at, MIN_PEERS, layers)

    def judge(self, state: RunState, found: Readings) -> list[Alarm]:
        """The readings that have reached a level, of seeds that go on or have just diverged."""
        raised = []
        for seed, (reason, stopped) in enumerate(zip(state.reasons, state.stopped, strict=True)):
            if reason == DIVERGED:
                raised.append(Alarm(seed, NON_FINITE, None, "loss", math.inf, 3))
            if stopped is not None:
                continue
            for (kind, tensor), value_ML in found.items():
                for layer, value in enumerate(value_ML[seed].tolist()):
                    if level := self._alarms.level(kind, value):
                        place = None if kind in JUMPS else layer
                        raised.append(Alarm(seed, kind, place, tensor, value, level))
        return raised


def slowed(state: RunState, alarms: Sequence[Alarm]) -> PyTree | None:
    """The optimiser's state after an alarm that acts, or after one has ended; None as it is.

    A layer in alarm learns a tenth as fast with each check, at least a thousandth; one that is not
    ten times as fast, at most as all. An alarm of no layer is of all. A dead layer is not slowed.

    Args:
      state: Of a run whose setup has `layer_factors`.
      alarms: That act.
    """
    rates = optax.tree.get(state.moments, "layer_rates")
    rate_MNC = np.asarray(rates).reshape(-1, *rates.shape[-2:])
    slow_MN = np.zeros(rate_MNC.shape[:2], bool)
    for alarm in (each for each in alarms if each.kind != DEAD):
        slow_MN[alarm.seed, slice(None) if alarm.layer is None else alarm.layer] = True
    if state.steps is None:  # a stage begins: its layers have other numbers
        rate_MNC = np.ones_like(rate_MNC)
    slower_MNC, faster_MNC = np.maximum(CUT * rate_MNC, SLOWEST), np.minimum(rate_MNC / CUT, 1.0)
    changed_MNC = np.where(slow_MN[..., None], slower_MNC, faster_MNC).astype(np.float32)
    if np.array_equal(changed_MNC.reshape(rates.shape), np.asarray(rates)):
        return None
    return with_layer_factors(state.moments, layer_rates=changed_MNC)

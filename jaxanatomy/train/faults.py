"""Faults put into training runs on purpose, to score alarms by; and runs without any.

A small model learns simple facts (AH section 4.6), many seeds side by side. Each faulty run has a
twin, a healthy run of the same seed and data, so that what the fault does to the loss is known step
by step. Every step is read as alarms read it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.maps import growth_map
from jaxanatomy.growth.stages import Stage
from jaxanatomy.measures.arms.alarms import JUMPS
from jaxanatomy.measures.losses import finite
from jaxanatomy.train.alarm_readings import readings
from jaxanatomy.train.callbacks import Every, Response, RunState
from jaxanatomy.train.documents import DocumentBatches, Documents
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import Setup, TrainOptions
from jaxanatomy.train.trainer import Trainer

HEALTHY, GROWN = "healthy", "healthy_grown"
ADDED = 2  # layers
SPIKE = 20  # steps
LARGEST = 1e30  # what is infinite is written so


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is done to a run; how strongly is drawn for each seed, uniform in the logarithm.

    Attributes:
      help: What, with the severity as "x".
      low: The least severity.
      high: The greatest.
      grows: Whether layers are added.
    """

    help: str
    low: float = 1.0
    high: float = 1.0
    grows: bool = False

    @property
    def twin(self) -> str:
        """The same run without the fault."""
        return GROWN if self.grows else HEALTHY


FAULTS = {
    HEALTHY: Fault("nothing"),
    GROWN: Fault("nothing but growth: the last two layers copied on top", grows=True),
    "late_layers": Fault("the matrices of the FFN of two added layers times x", 3, 30, grows=True),
    "rate_spike": Fault(f"the learning rate of {SPIKE} steps times x", 10, 100),
    "corrupted_batch": Fault("the targets of x batches drawn at random", 3, 30),
    "head_scaled": Fault("what one attention head of one layer writes times x", 10, 100),
    "no_warmup": Fault("no warmup, and x times the learning rate", 1, 4),
    "gain_drift": Fault("the gains before one layer's FFN times x at each step", 1.02, 1.1),
}
TWINS = (HEALTHY, GROWN)


@dataclasses.dataclass(frozen=True)
class FaultPlan:
    """How all runs are trained.

    Attributes:
      model: The architecture before layers are added.
      steps: Of a healthy run; the schedule of every run is over so many.
      fault_step: Steps before a fault, and before layers are added.
      after: Steps from a fault to the end of its run.
      schedule: Of the learning rate.
      optimiser: Its settings.
      options: How to run.
      documents: What is learnt.
      orders: Which sentences each step reads, [steps, R] by seed.
      placement: One for all runs, so that they share compiled programs.
    """

    model: ModelConfig
    steps: int
    fault_step: int
    after: int
    schedule: WarmupStableDecay
    optimiser: Optimiser
    options: TrainOptions
    documents: Documents
    orders: Mapping[int, np.ndarray]
    placement: Placement

    @property
    def identity(self) -> dict[str, Any]:
        """What all runs depend on besides the sentences, JSON-ready."""
        parts = (self.model, self.schedule, self.optimiser, self.options)
        fields = [dataclasses.asdict(part) for part in parts]
        batch_size = next(iter(self.orders.values())).shape[1]
        return {"parts": fields, "steps": [self.steps, self.fault_step, self.after, batch_size]}

    def first_step(self, fault: str) -> int:
        """Steps done when a fault sets in."""
        return 0 if fault == "no_warmup" else self.fault_step

    def run_steps(self, fault: str) -> int:
        """Steps of a run."""
        return self.steps if fault in TWINS else self.first_step(fault) + self.after

    def stages(self, fault: str) -> tuple[Stage, ...]:
        """Of a run."""
        if not FAULTS[fault].grows:
            return (Stage(self.model, self.steps),)
        growth = growth_map("stack_last", self.model.num_layers, ADDED)
        deep = self.model.with_layers([self.model.layers[at] for at in growth.sources])
        rest = Stage(deep, self.steps - self.fault_step, growth)
        return Stage(self.model, self.fault_step), rest


def train_fault(
    plan: FaultPlan,
    fault: str,
    seeds: Sequence[int],
    folder: Path,
    progress: Callable[[int], Any],
) -> list[dict[str, Any]]:
    """Trains runs of one fault side by side, and reads every step.

    Args:
      plan: How.
      fault: One of `FAULTS`.
      seeds: Of the initial weights and of the fault.
      folder: For checkpoints.
      progress: Called with the number of steps done.

    Returns:
      For each seed `severity`, `layer` (drawn, also where it does not count), `fault_step`, and
      by steps done, from 0 on: `series`, a list for each kind of `alarm_readings.KINDS` but
      jumps, the largest over layers and tensors (of "update_growth" the norm itself); `loss` and
      `gradient` of each step, from before the first.
    """
    drawn = [_Drawn.of(plan, fault, seed) for seed in seeds]
    severity_M = np.array([each.severity for each in drawn])
    schedule, rate_M = plan.schedule, np.full(len(seeds), plan.schedule.peak)
    if fault == "no_warmup":
        schedule, rate_M = dataclasses.replace(schedule, warmup=0.0), rate_M * severity_M
    setup = _Setup(
        plan.stages(fault),
        plan.optimiser,
        schedule,
        seeds,
        placement=plan.placement,
        options=plan.options,
        learning_rates=rate_M.tolist(),
        init="fan_in",
        spike=(plan.fault_step, severity_M) if fault == "rate_spike" else None,
    )
    streams = [DocumentBatches(plan.documents, plan.orders[seed]) for seed in seeds]
    if fault == "corrupted_batch":
        vocabulary = plan.model.vocab_size
        streams = [
            _Corrupted(stream, own.corrupted(plan), vocabulary, own.seed)
            for stream, own in zip(streams, drawn, strict=True)
        ]
    recorder = _Recorder(len(seeds), plan.run_steps(fault))
    inject = functools.partial(_inject, plan, fault, drawn)
    callbacks = [Every(1, inject, at_ends=True), Every(1, recorder.record, at_ends=True)]
    Trainer(setup, streams).train(folder, callbacks, progress)
    return [
        {
            "severity": own.severity,
            "layer": own.layer,
            "fault_step": plan.first_step(fault),
            "corrupted": len(own.corrupted(plan)) if fault == "corrupted_batch" else 0,
            "grown": FAULTS[fault].grows,
            **recorder.found(at),
        }
        for at, own in enumerate(drawn)
    ]


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """What is drawn for a seed."""

    seed: int
    severity: float
    layer: int
    head: int

    @classmethod
    def of(cls, plan: FaultPlan, fault: str, seed: int) -> "_Drawn":
        generator = np.random.default_rng((seed, list(FAULTS).index(fault)))
        low, high = np.log([FAULTS[fault].low, FAULTS[fault].high])
        severity = float(np.exp(generator.uniform(low, high)))
        layer = int(generator.integers(plan.model.num_layers))
        return cls(seed, severity, layer, int(generator.integers(plan.model.layers[0].num_heads)))

    def corrupted(self, plan: FaultPlan) -> range:
        """The steps whose batches are corrupted."""
        return range(plan.fault_step, plan.fault_step + round(self.severity))


@dataclasses.dataclass(frozen=True, eq=False)
class _Setup(Setup):
    """A setup whose learning rate may spike: the first step of that, and how high for each seed."""

    spike: tuple[int, np.ndarray] | None = None

    def rates(self) -> np.ndarray:
        rate_EM = super().rates()
        if self.spike is not None:
            first, factor_M = self.spike
            rate_EM[first : first + SPIKE] *= factor_M
        return rate_EM


class _Corrupted:
    """A stream of which some batches have random targets."""

    def __init__(self, stream: DocumentBatches, steps: range, vocabulary: int, seed: int):
        self._stream, self._steps, self._vocabulary = stream, steps, vocabulary
        self._seed = seed

    def next(self) -> Batch:
        step = self._stream.state()["step"]
        batch = self._stream.next()
        if step not in self._steps:
            return batch
        generator = np.random.default_rng((self._seed, step))
        target_BT = generator.integers(0, self._vocabulary, batch.target_BT.shape)
        return batch._replace(target_BT=target_BT.astype(batch.target_BT.dtype))

    def state(self) -> dict[str, Any]:
        return self._stream.state()

    def restore(self, state: dict[str, Any]) -> None:
        self._stream.restore(state)


def _inject(
    plan: FaultPlan, fault: str, drawn: Sequence[_Drawn], state: RunState
) -> Response | None:
    """Multiplies weights where the fault is in them."""
    depth = state.stage.config.num_layers
    severity_M = np.array([own.severity for own in drawn])
    chosen_ML = np.arange(depth) == np.array([own.layer for own in drawn])[:, None]
    if fault == "late_layers" and state.at == 1 and state.steps is None:
        added_L = np.arange(depth) >= depth - ADDED
        factor_ML11 = np.where(added_L, severity_M[:, None], 1.0)[..., None, None]
        factors = dict.fromkeys(("gate_proj", "up_proj", "down_proj"), factor_ML11)
    elif fault == "head_scaled" and state.step == plan.fault_step:
        shape = plan.model.layers[0]
        row = np.arange(shape.num_heads * plan.model.head_dim) // plan.model.head_dim
        head_MI = row == np.array([own.head for own in drawn])[:, None]
        chosen_MLI = chosen_ML[:, :, None] & head_MI[:, None, :]
        factors = {"o_proj": np.where(chosen_MLI, severity_M[:, None, None], 1.0)[..., None]}
    elif fault == "gain_drift" and state.step >= plan.fault_step and state.steps is not None:
        factors = {"mlp_norm": np.where(chosen_ML, severity_M[:, None], 1.0)[..., None]}
    else:
        return None
    (stack,) = state.params["layers"]
    changed = {
        name: tree.get(stack, name) * jnp.asarray(factor, jnp.float32)
        for name, factor in factors.items()
    }
    return Response(params=tree.with_layers(state.params, [tree.replace(stack, changed)]))


class _Recorder:
    """Keeps what is read at every step, and ends a run."""

    def __init__(self, seeds: int, steps: int):
        self._steps = steps
        self._read: dict[str, np.ndarray] = {}
        self._steps_EM: dict[str, list[np.ndarray]] = {name: [] for name in JUMPS.values()}
        self._seeds = seeds

    def record(self, state: RunState) -> Response | None:
        if state.steps is not None:
            for of, seen_EM in self._steps_EM.items():
                seen_EM += [*state.steps.series[of]]
        found, change_ML = readings(state)
        if change_ML is not None:
            found["update_growth", ""] = change_ML
        for (kind, _), value_ML in found.items():
            nothing = np.full((self._steps + 1, self._seeds), np.nan)
            series_EM = self._read.setdefault(kind, nothing)
            worst_M = np.fmax.reduce(np.minimum(value_ML, LARGEST), axis=1)
            series_EM[state.step] = np.fmax(series_EM[state.step], worst_M)
        if state.step < self._steps:
            return None
        return Response(stop=dict.fromkeys(range(self._seeds), "read to the end"))

    def found(self, at: int) -> dict[str, Any]:
        """What was read of a seed, JSON-ready."""

        def plain(values: Sequence[float]) -> list[float | None]:
            return [finite(float(f"{value:.4g}")) for value in values]

        return {
            "series": {kind: plain(series_EM[:, at]) for kind, series_EM in self._read.items()},
            **{
                of: plain([each_M[at] for each_M in seen_EM])
                for of, seen_EM in self._steps_EM.items()
            },
        }

"""What is trained from scratch, and how: stages of growing depth, schedule, options."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose, require_whole
from jaxanatomy.growth.apply import MOMENTS, grow
from jaxanatomy.growth.depth_arms import DepthStage
from jaxanatomy.train.loop import TrainState, start
from jaxanatomy.train.loss import Batch, LanguageModelLoss
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.schedule import WarmupStableDecay


class BatchStream(Protocol):
    """Batches without end, of one shape; every process has its own rows."""

    def next(self) -> Batch:
        """The next batch, arrays [B, T] on the host."""

    def state(self) -> dict[str, Any]:
        """Where it stands, JSON-ready."""

    def restore(self, state: dict[str, Any]) -> None:
        """Resumes from there."""


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """What a run is scored on, of one source.

    Attributes:
      share: What its loss counts in the mean over sources; all sum to 1.
      batches: Of one shape.
    """

    share: float
    batches: Sequence[Batch]

    def __repr__(self) -> str:
        return f"HeldOut(share={self.share:.3g}, {len(self.batches)} batches)"


@dataclasses.dataclass(frozen=True)
class PretrainOptions:
    """How to run; rounding apart, only `moments` decides a result.

    Attributes:
      dtype: Of the operands of products, "float32" or "bfloat16". float32 is that on every
        device: GPUs and TPUs would round operands to fewer bits if nothing were said.
      remat: What a layer keeps for its gradient, one of `model.REMAT`.
      scan_layers: Whether layers are stacked and `lax.scan` walks them. A CPU copies each layer in
        and out of the stack, a tenth of a step; without the scan compilation takes longer.
      grad_accum_steps: Parts of a batch; see `loop.run_steps`.
      steps_per_call: Steps in one call, at most.
      eval_every: Steps between evaluations, also made at both ends of a stage.
      checkpoint_every: Steps between checkpoints.
      max_to_keep: Checkpoints that stay.
      moments: What becomes of the moments when the model grows, one of `growth.apply.MOMENTS`.
      peak_flops: What one device can do at most, FLOP/s, for MFU; 0: as published.
    """

    dtype: str = "float32"
    remat: str = "none"
    scan_layers: bool = True
    grad_accum_steps: int = 1
    steps_per_call: int = 16
    eval_every: int = 100
    checkpoint_every: int = 200
    max_to_keep: int = 2
    moments: str = "copy"
    peak_flops: float = 0.0

    def __post_init__(self):
        choose("dtype", self.dtype, ("float32", "bfloat16"))
        choose("remat", self.remat, model.REMAT)
        choose("policy for moments", self.moments, MOMENTS)
        if not self.scan_layers and self.remat != "none":
            raise InputError(
                f"remat needs scan_layers; got scan_layers=false and remat={self.remat!r}; set "
                "scan_layers=true"
            )
        for name in (
            "grad_accum_steps",
            "steps_per_call",
            "eval_every",
            "checkpoint_every",
            "max_to_keep",
        ):
            require_whole(name, getattr(self, name))
        if not 0 <= self.peak_flops < float("inf"):
            raise InputError(
                "peak_flops must be the FLOP/s of one device, or 0 for the published ones; got "
                f"{self.peak_flops}"
            )

    def check_batch_size(self, batch_size: int, placement: Placement) -> None:
        """Refuses a batch that cannot be cut into parts and shared out.

        Args:
          batch_size: Of a batch, over all processes.
          placement: The devices.

        Raises:
          InputError: `grad_accum_steps` does not divide the batch, or the devices not a part of it.
        """
        if batch_size % self.grad_accum_steps:
            raise InputError(
                "grad_accum_steps must divide batch_size; got "
                f"{self.grad_accum_steps} and {batch_size}; change one of them"
            )
        placement.check_rows(batch_size // self.grad_accum_steps)


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """What is trained, and how.

    Attributes:
      stages: In order.
      optimiser: Of `loop.adamw`.
      schedule: Of the learning rate, over all stages.
      seeds: Of the initial weights; several train side by side. A seed may stand there several
        times, with other learning rates.
      learning_rates: The rate of each seed's plateau; empty: the schedule's.
      placement: Where arrays lie.
      options: How to run.
    """

    stages: Sequence[DepthStage]
    optimiser: optax.GradientTransformation
    schedule: WarmupStableDecay
    seeds: Sequence[int] = (0,)
    placement: Placement = dataclasses.field(default_factory=Placement.over)
    options: PretrainOptions = dataclasses.field(default_factory=PretrainOptions)
    learning_rates: Sequence[float] = ()

    def __post_init__(self):
        if self.learning_rates and len(self.learning_rates) != len(self.seeds):
            raise ValueError(
                f"{len(self.learning_rates)} learning rates for {len(self.seeds)} seeds"
            )

    def rates(self) -> np.ndarray:
        """The learning rate of each step and seed, float32 [steps, M]."""
        learning_rates = self.learning_rates or [self.schedule.peak] * len(self.seeds)
        schedules = [dataclasses.replace(self.schedule, peak=peak) for peak in learning_rates]
        return np.stack([each.rates(self.steps) for each in schedules], axis=1)

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def replicas(self) -> bool:
        """Whether arrays have a leading axis M of seeds."""
        return len(self.seeds) > 1

    def initial_params(self, config: ModelConfig, seed: jax.Array) -> tree.Params:
        """Of one seed, layers stacked as they are trained."""
        params = model.init(config, jax.random.key(seed))
        stack = tree.stack if self.options.scan_layers else tree.stack_each
        return tree.with_layers(params, stack(params["layers"]))

    def initial_state(self, config: ModelConfig) -> TrainState:
        """Before the first step, if the first stage had this architecture; traced, or run."""

        def one(seed: jax.Array) -> TrainState:
            return start(self.optimiser, self.initial_params(config, seed))

        seeds_M = jnp.asarray(self.seeds, jnp.uint32)
        return jax.vmap(one)(seeds_M) if self.replicas else one(seeds_M[0])

    def growth(self, stage: DepthStage) -> Callable[..., tuple[tree.Params, Any]]:
        """A function that takes parameters and moments from the stage before to this one."""
        moments, scan_layers = self.options.moments, self.options.scan_layers
        apply = functools.partial(grow, stage.growth, moments=moments, scan_layers=scan_layers)
        return jax.vmap(apply) if self.replicas else apply

    def precision(self) -> contextlib.AbstractContextManager:
        """A context in which products are as exact as `dtype` says; programs are traced in it."""
        exact = self.options.dtype == "float32"
        return jax.default_matmul_precision("highest" if exact else "default")

    def loss(self, config: ModelConfig) -> LanguageModelLoss:
        """The loss of a stage with this architecture."""
        dtype, remat = jnp.dtype(self.options.dtype), self.options.remat
        return LanguageModelLoss(config, dtype, remat, self.placement.gather)

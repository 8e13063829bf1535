"""What is trained from scratch, and how: stages, objective, optimiser, schedule, options."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose, require_whole
from jaxanatomy.growth.apply import grow, grown_config
from jaxanatomy.growth.clone import clone, matched_mean
from jaxanatomy.growth.stages import Stage, total_steps
from jaxanatomy.train.loop import TrainState, start
from jaxanatomy.train.loss import LanguageModelLoss, merge, split
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser, make, parameter_names
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.tree import PyTree

# Fields of `train` in a config with which a run may go on that was begun with others.
MAY_CHANGE_ON_RESUME = (
    "train.remat",
    "train.vmap_seeds",
    "train.steps_per_call",
    "train.checkpoint_every",
    "train.max_to_keep",
    "train.keep_checkpoints",
    "train.devices",
    "train.fsdp_shards",
    "train.peak_flops",
    "train.data_workers",
)


class BatchStream(Protocol):
    """Batches without end, of one shape; every process has its own rows."""

    def next(self) -> PyTree:
        """The next batch, arrays [B, ...] on the host: a `loss.Batch`, or what makes one."""

    def state(self) -> dict[str, Any]:
        """Where it stands, JSON-ready."""

    def restore(self, state: dict[str, Any]) -> None:
        """Resumes from there."""


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How to run; nothing here decides a result beyond rounding.

    Attributes:
      dtype: Of the operands of products, "float32" or "bfloat16". float32 is that on every
        device: GPUs and TPUs would round operands to fewer bits if nothing were said.
      remat: What a layer keeps for its gradient, one of `model.REMAT`.
      scan_layers: Whether layers are stacked and `lax.scan` walks them. A CPU copies each layer in
        and out of the stack, a tenth of a step; without the scan compilation takes longer.
      grad_accum_steps: Parts of a batch; see `loop.run_steps`.
      steps_per_call: Steps in one call, at most.
      checkpoint_every: Steps between checkpoints.
      max_to_keep: Checkpoints that stay while an arm trains.
      keep_checkpoints: Whether they stay when it is trained; each is a model, orbax:DIR@STEP.
      peak_flops: What one device can do at most, FLOP/s, for MFU; 0: as published.
      data_workers: Processes that make batches of text for each seed; 0: threads of this one, which
        make about 400,000 tokens a second for all seeds together.
    """

    dtype: str = "float32"
    remat: str = "none"
    scan_layers: bool = True
    grad_accum_steps: int = 1
    steps_per_call: int = 16
    checkpoint_every: int = 200
    max_to_keep: int = 2
    keep_checkpoints: bool = False
    peak_flops: float = 0.0
    data_workers: int = 0

    def __post_init__(self):
        choose("dtype", self.dtype, ("float32", "bfloat16"))
        choose("remat", self.remat, model.REMAT)
        if not self.scan_layers and self.remat != "none":
            raise InputError(
                f"remat needs scan_layers; got scan_layers=false and remat={self.remat!r}; set "
                "scan_layers=true"
            )
        for name in ("grad_accum_steps", "steps_per_call", "checkpoint_every", "max_to_keep"):
            require_whole(name, getattr(self, name))
        require_whole("data_workers", self.data_workers, least=0)
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
      optimiser: Its settings.
      schedule: Of the learning rate, over all stages.
      seeds: Of the initial weights; several train side by side. A seed may stand there several
        times, with other learning rates.
      placement: Where arrays lie.
      options: How to run.
      learning_rates: The rate of each seed's plateau; empty: the schedule's.
      initial: The architecture of the model whose layers the first stage takes, and with whose
        initial weights layers are fresh; None: of the first stage.
      init: How initial weights are drawn, one of `model.INITS`.
      objective: Makes the loss, as `loss.LanguageModelLoss`: of (config, dtype, remat, gather).
      make_batch: Makes a batch of what the streams give, inside of the compiled step, as
        `hops.Sequences`; None: they give batches.
      layer_factors: Whether callbacks may change how fast single layers learn and decay; see
        `optimiser.with_layer_factors`.
    """

    stages: Sequence[Stage]
    optimiser: Optimiser
    schedule: WarmupStableDecay
    seeds: Sequence[int] = (0,)
    placement: Placement = dataclasses.field(default_factory=Placement.over)
    options: TrainOptions = dataclasses.field(default_factory=TrainOptions)
    learning_rates: Sequence[float] = ()
    initial: ModelConfig | None = None
    init: str = "normal"
    objective: Callable[..., Any] = LanguageModelLoss
    make_batch: Callable[[PyTree], PyTree] | None = None
    layer_factors: bool = False

    def __post_init__(self):
        choose("init", self.init, model.INITS)
        if self.learning_rates and len(self.learning_rates) != len(self.seeds):
            raise ValueError(
                f"{len(self.learning_rates)} learning rates for {len(self.seeds)} seeds"
            )
        _require_fitting(self.initial_config, self.stages)
        self.transformation(self.stages[-1])  # refuses patterns that fit nothing

    @property
    def initial_config(self) -> ModelConfig:
        """The architecture of the initial model."""
        return self.stages[0].config if self.initial is None else self.initial

    def rates(self) -> np.ndarray:
        """The learning rate of each step and seed, float32 [steps, M]."""
        learning_rates = self.learning_rates or [self.schedule.peak] * len(self.seeds)
        schedules = [dataclasses.replace(self.schedule, peak=peak) for peak in learning_rates]
        return np.stack([each.rates(self.steps) for each in schedules], axis=1)

    @property
    def steps(self) -> int:
        """Of all stages."""
        return total_steps(self.stages)

    @property
    def ends(self) -> list[int]:
        """Steps done at the end of each stage."""
        return list(itertools.accumulate(stage.steps for stage in self.stages))

    @property
    def replicas(self) -> bool:
        """Whether arrays have a leading axis M of seeds."""
        return len(self.seeds) > 1

    @property
    def seed_array(self) -> jax.Array:
        """The seeds; without an axis M if there is one."""
        seeds_M = jnp.asarray(self.seeds, jnp.uint32)
        return seeds_M if self.replicas else seeds_M[0]

    def model_of(self, params: tree.Params, at: int) -> tree.Params:
        """The parameters of one seed of those that train side by side."""
        return jax.tree.map(lambda leaf: leaf[at], params) if self.replicas else params

    def precision(self) -> contextlib.AbstractContextManager:
        """A context in which products are as exact as `dtype` says; programs are traced in it."""
        exact = self.options.dtype == "float32"
        return jax.default_matmul_precision("highest" if exact else "default")

    def loss(self, config: ModelConfig) -> Any:
        """The objective of a stage with this architecture."""
        dtype = jnp.dtype(self.options.dtype)
        return self.objective(config, dtype, self.options.remat, self.placement.gather)

    def transformation(self, stage: Stage) -> optax.GradientTransformation:
        """The optimiser of a stage, the same object at every call."""
        if stage not in self._transformations:
            self._transformations[stage] = self._transformation(stage)
        return self._transformations[stage]

    @functools.cached_property
    def _transformations(self) -> dict[Stage, optax.GradientTransformation]:
        return {}

    def _transformation(self, stage: Stage) -> optax.GradientTransformation:
        deepest = max(each.config.num_layers for each in self.stages) if self.layer_factors else 0
        if not self.optimiser.by_name and not deepest:
            return make(self.optimiser, {})
        # A pattern may be for layers that other stages have.
        names = (parameter_names(self._shapes(each)) for each in self.stages)
        return make(self.optimiser, self._shapes(stage), itertools.chain(*names), deepest)

    def initial_params(self, stage: Stage, seed: jax.Array | int) -> tree.Params:
        """What a model of one seed would be if its run began with a stage, layers stacked."""
        params = model.init(stage.config, jax.random.key(seed), self.init)
        return self._stacked(stage, params, params["layers"])

    def _shapes(self, stage: Stage) -> tree.Params:
        """Of the parameters of one seed; traced once for each stage."""
        if stage not in self._traced_shapes:
            self._traced_shapes[stage] = jax.eval_shape(lambda: self.initial_params(stage, 0))
        return self._traced_shapes[stage]

    @functools.cached_property
    def _traced_shapes(self) -> dict[Stage, tree.Params]:
        return {}

    def like(self, stage: Stage) -> tuple[tree.Params, TrainState, tree.Params]:
        """Shapes of all parameters, of the state of what trains and of what does not; placed."""

        def one(seed: jax.Array) -> tuple[tree.Params, TrainState, tree.Params]:
            params = self.initial_params(stage, seed)
            trained, frozen = self.split(stage, params)
            return params, start(self.transformation(stage), trained), frozen

        begin = jax.vmap(one) if self.replicas else one
        return self.placement.abstract_of(jax.eval_shape(begin, self.seed_array))

    def split(self, stage: Stage, params: PyTree) -> tuple[PyTree, PyTree]:
        """Parameters of a stage, or moments of all of them, as (what trains, what does not)."""
        if stage.trains_all:
            return split(params, [True] * len(params["layers"]), True)
        like = self._shapes(stage)
        counts = [jax.tree.leaves(stack)[0].shape[0] for stack in like["layers"]]
        first = itertools.accumulate(counts[:-1], initial=0)
        return split(params, [stage.layers[at] in stage.train for at in first], stage.train_ends)

    def begin(self, seed: jax.Array) -> tuple[tree.Params, PyTree]:
        """(parameters, moments) before the first step, of `seed_array`; traced, or run."""
        stage = self.stages[0]

        def one(seed: jax.Array) -> tuple[tree.Params, PyTree]:
            params = model.init(self.initial_config, jax.random.key(seed), self.init)
            if stage.growth is not None:
                params, _ = grow(stage.growth, params)
            blocks = self._renewed(stage, params["layers"], seed)
            params = self._stacked(stage, params, blocks)
            return params, self.transformation(stage).init(self.split(stage, params)[0])

        return jax.vmap(one)(seed) if self.replicas else one(seed)

    def entering(self, at: int) -> Callable[..., tuple[tree.Params, PyTree]]:
        """A function of (params, moments, `seed_array`) from the stage before into a stage."""
        before, stage = self.stages[at - 1], self.stages[at]

        restart = stage.moments == "restart"
        scan, policy = self.options.scan_layers, "copy" if restart else stage.moments

        def one(params: tree.Params, moments: PyTree, seed: jax.Array) -> tuple:
            # Layers that did not train have moments of zero.
            nothing = jax.tree.map(jnp.zeros_like, self.split(before, params)[1])
            fill = lambda node: merge(node, nothing)  # noqa: E731
            moments = None if restart else map_moments(fill, moments, params)
            if stage.growth is not None:
                params, moments = grow(stage.growth, params, moments, policy, scan_layers=scan)
            if stage.changes_new:
                blocks = self._renewed(stage, tree.unstack(params["layers"]), seed)
                params = self._stacked(stage, params, blocks)
            if stage.changes_new or not (before.trains_all and stage.trains_all):
                restack = functools.partial(self._restacked, stage)
                params, moments = restack(params), map_moments(restack, moments, params)
            trained = lambda node: self.split(stage, node)[0]  # noqa: E731
            if restart:
                return params, self.transformation(stage).init(trained(params))
            return params, map_moments(trained, moments, params)

        return jax.vmap(one) if self.replicas else one

    def _renewed(
        self, stage: Stage, blocks: Sequence[tree.BlockParams], seed: jax.Array
    ) -> Sequence[tree.BlockParams]:
        """The layers with which a stage begins, from those that its map has put in their places."""
        if not stage.changes_new:
            return blocks
        key, before, blocks = jax.random.key(seed), blocks, list(blocks)
        initial = model.init(self.initial_config, key, self.init) if stage.fresh else {}
        for place in stage.growth.inserted:
            layer, width = stage.layers[place], stage.config.layers[place].ffn_width
            if layer in stage.fresh:
                blocks[place] = initial["layers"][layer]
            elif stage.aligned:
                following = before[min(place + 1, len(before) - 1)]
                head_dim = stage.config.head_dim
                blocks[place] = matched_mean(before[place], following, head_dim)
            else:
                drawn = jax.random.fold_in(key, layer)
                blocks[place] = clone(blocks[place], width, drawn, stage.noise, stage.ffn_scale)
        return blocks

    def _restacked(self, stage: Stage, params: tree.Params) -> tree.Params:
        return self._stacked(stage, params, tree.unstack(params["layers"]))

    def _stacked(
        self, stage: Stage, params: tree.Params, blocks: Sequence[tree.BlockParams]
    ) -> tree.Params:
        """A model, its layers stacked as a stage trains them: what trains and what does not apart.

        Stacks of one where layers are not scanned: a loop over a stack of few copies weights and
        gradients in and out, which costs a third of a step on a CPU.
        """
        if not self.options.scan_layers:
            return tree.with_layers(params, tree.stack_each(blocks))
        numbered = zip(stage.layers, blocks, strict=True)
        runs = itertools.groupby(numbered, key=lambda pair: pair[0] in stage.train)
        stacks = [tree.stack([block for _, block in run]) for _, run in runs]
        return tree.with_layers(params, itertools.chain(*stacks))


def map_moments(function: Callable[[PyTree], PyTree], state: PyTree, params: PyTree) -> PyTree:
    """An optax state with a function applied to each tree that has the form of the parameters."""

    def is_moments(node: Any) -> bool:
        return isinstance(node, Mapping) and node.keys() == params.keys()

    return jax.tree.map(
        lambda node: function(node) if is_moments(node) else node, state, is_leaf=is_moments
    )


def _require_fitting(config: ModelConfig, stages: Sequence[Stage]) -> None:
    """Refuses stages of which one does not begin with what the one before leaves."""
    for at, stage in enumerate(stages):
        shapes, new = config.layers, ()
        if stage.growth is not None:
            shapes, new = grown_config(config, stage.growth).layers, stage.growth.inserted
        # A new layer may have another width than its source, but then not its moments.
        free = new if stage.moments == "restart" or at == 0 else ()
        wrong = len(shapes) != stage.config.num_layers or any(
            shapes[place] != stage.config.layers[place]
            for place in range(len(shapes))
            if place not in free
        )
        if wrong:
            raise InputError(
                f"stage {at} must have the layers that its growth map makes of the stage before, "
                f"{len(shapes)} of the same shapes; got {stage.config.num_layers} layers; other "
                "FFN widths are for new layers where moments restart"
            )
        config = stage.config

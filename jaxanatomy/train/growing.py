"""Training that grows a model stage by stage, several replicas at once (AH section 4.6).

At the start of a stage layers are cloned, the model is put together anew from the layers
that are there, and the optimiser starts anew: moments of a layer that was frozen would be
stale, and those of a new one would be zeros under the bias correction of an old step. The
learning rate is one continuous schedule over all stages.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.clone import clone
from jaxanatomy.growth.phases import Stage
from jaxanatomy.progress import announced
from jaxanatomy.train.loop import adamw, evaluate, run_steps, start
from jaxanatomy.train.loss import (
    Batch,
    LanguageModelLoss,
    merge,
    nothing_frozen,
    packed_batch,
    partition,
)
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.scoring import document_sums

Blocks = dict[int, tree.BlockParams]


@dataclasses.dataclass(frozen=True, eq=False)
class TokenSplits:
    """Rows of one document each.

    Attributes:
      train_NT: Token ids of the training split, padded, int32.
      validation_NT: Token ids of the validation split.
      pad: The id of padding.
      max_predictions: Predictions that a batch has room for, all its documents in one row.
    """

    train_NT: np.ndarray
    validation_NT: np.ndarray
    pad: int
    max_predictions: int


@dataclasses.dataclass(frozen=True, eq=False)
class PhaseReplica:
    """One of the models that train side by side.

    Attributes:
      seed: Of initial weights and of the noise on clones.
      schedule: Of its learning rate.
      order: Rows of the training split that each step reads, [steps, R].
    """

    seed: int
    schedule: WarmupStableDecay
    order: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class PhasePoint:
    """What is known at an evaluation; lists have a value for each replica.

    Attributes:
      stage: Name.
      step: Steps done so far.
      tokens: Predicted tokens so far, padding apart.
      seconds: Training time so far, without compilation and evaluation, divided by the
        number of replicas.
      loss: Mean training loss of the steps since the last point; NaN at a stage's start.
      eval_nll: Mean NLL of the validation split, nats per token.
      unit_nll: Summed NLL of each of its documents.
    """

    stage: str
    step: int
    tokens: list[int]
    seconds: float
    loss: list[float]
    eval_nll: list[float]
    unit_nll: list[list[float]]


@dataclasses.dataclass(frozen=True, eq=False)
class PhaseResult:
    """The result of `train_stages`.

    Attributes:
      points: Evaluations, the first of each stage before its first step.
      unit_tokens: Predictions of each validation document.
      config: The architecture that was grown: of the plan's last stage.
      params: Parameters of each replica, layers stacked for `model.forward`.
      train_nll: Mean NLL of the whole training split, of each replica.
      diverged: The step at which a replica's loss was not finite and it stopped, or None.
      wall_seconds: Time of all replicas with compilation and evaluation.
    """

    points: list[PhasePoint]
    unit_tokens: list[int]
    config: ModelConfig
    params: list[tree.Params]
    train_nll: list[float]
    diverged: list[int | None]
    wall_seconds: float

    def __repr__(self) -> str:
        return f"PhaseResult({len(self.params)} replicas, {len(self.points)} points, {self.config})"


def train_stages(
    config: ModelConfig,
    plan: Sequence[Stage],
    corpus: TokenSplits,
    replicas: Sequence[PhaseReplica],
    *,
    eval_every: int,
    weight_decay: float = 0.01,
    progress: Callable[[int], Any] = lambda steps: None,
) -> PhaseResult:
    """Trains replicas of one plan side by side.

    Args:
      config: The architecture at the end.
      plan: Of `phases.stages`.
      corpus: What to learn and what to score.
      replicas: They differ in seed, learning rate and order of the data.
      eval_every: Steps between evaluations; also made at both ends of a stage.
      weight_decay: Of AdamW.
      progress: Called with the number of steps that were done.
    """
    began = time.perf_counter()
    growing = _Growing(config, corpus, replicas, sum(stage.steps for stage in plan))
    optimiser = adamw(weight_decay)
    for stage in plan:
        growing.grow(stage)
        if stage.steps:
            growing.train(stage, optimiser, eval_every, progress)
    return PhaseResult(
        points=growing.points,
        unit_tokens=growing.unit_tokens,
        config=growing.grown(),
        params=growing.parameters(),
        train_nll=growing.score(growing.packed(corpus.train_NT)),
        diverged=growing.diverged,
        wall_seconds=time.perf_counter() - began,
    )


def phase_point_places(plan: Sequence[Stage], eval_every: int) -> list[tuple[str, int]]:
    """Stage and steps done of each evaluation, in order.

    Both ends of each stage that has steps, and every `eval_every` steps from its start.
    """
    places, start = [], 0
    for stage in plan:
        end = start + stage.steps
        if stage.steps:
            places += [(stage.name, step) for step in (*range(start, end, eval_every), end)]
        start = end
    return places


class _Growing:
    """Replicas on their way; every array has a leading axis M of replicas."""

    def __init__(
        self, config: ModelConfig, corpus: TokenSplits, replicas: Sequence[PhaseReplica], steps: int
    ):
        self.config, self.corpus, self.replicas = config, corpus, replicas
        seeds_M = np.array([replica.seed for replica in replicas])
        self.keys_M = jax.vmap(jax.random.key)(seeds_M)
        params = _init(config, self.keys_M)
        self.initial: Blocks = dict(enumerate(params.pop("layers")))
        self.ends: tree.Params = params
        self.blocks: Blocks = {}
        self.rates_EM = np.stack([each.schedule.rates(steps) for each in replicas], axis=1)
        self.order_EMR = np.stack([replica.order for replica in replicas], axis=1)
        targets_N = np.count_nonzero(corpus.train_NT[:, 1:] != corpus.pad, axis=1)
        self.tokens_EM = targets_N[self.order_EMR].sum(axis=-1).cumsum(axis=0)
        self.validation = self.packed(corpus.validation_NT)
        self.points: list[PhasePoint] = []
        targets_U = np.count_nonzero(corpus.validation_NT[:, 1:] != corpus.pad, axis=1)
        self.unit_tokens: list[int] = targets_U.tolist()
        self.diverged: list[int | None] = [None] * len(replicas)
        self.step, self.seconds = 0, 0.0

    def grow(self, stage: Stage) -> None:
        """Brings in the layers of a stage: clones, and those with initial weights."""
        for layer, source in stage.clone:
            width = self.config.layers[layer].ffn_width
            self.blocks[layer] = _clone(
                self.blocks[source], self.keys_M, layer, width, stage.noise, stage.ffn_scale
            )
        for layer in stage.layers:
            self.blocks.setdefault(layer, self.initial[layer])

    def train(self, stage: Stage, optimiser, eval_every: int, progress) -> None:
        """The steps of a stage, with evaluations."""
        loss = LanguageModelLoss(self._config(stage.layers))
        trained, frozen = self._partition(stage)
        # A replica that has stopped stays stopped.
        alive_M = jnp.array([step is None for step in self.diverged])
        state = start(optimiser, trained, replicas=True)._replace(alive=alive_M)

        # More steps than there are would only be padding.
        eval_every = min(eval_every, len(self.rates_EM))

        def run(state, count: int):
            batches, rates = self._chunk(eval_every)
            return run_steps(loss, optimiser, state, frozen, batches, rates, count, replicas=True)

        with announced(f"compiling {stage.name}"):
            state, _ = run(state, 0)
        self._evaluate(stage, loss, state.params, frozen, [])
        end = self.step + stage.steps
        while self.step < end:
            count = min(eval_every, end - self.step)
            before = time.perf_counter()
            state, trace = run(state, count)
            losses_EM = np.asarray(trace.loss)[:count]
            self.seconds += (time.perf_counter() - before) / len(self.replicas)
            self._note_divergence(losses_EM, np.asarray(state.alive))
            self.step += count
            self._evaluate(stage, loss, state.params, frozen, losses_EM)
            progress(count)
        merged = merge(state.params, frozen)
        blocks = _unstack(merged.pop("layers"))
        self.blocks |= dict(zip(stage.layers, blocks, strict=True))
        self.ends = merged

    def grown(self) -> ModelConfig:
        """The architecture of the layers that are there."""
        return self._config(sorted(self.blocks))

    def parameters(self) -> list[tree.Params]:
        """Parameters of each replica."""
        params = {**self.ends, "layers": _stack(self._ordered())}
        return [
            jax.tree.map(lambda leaf, at=at: leaf[at], params) for at in range(len(self.replicas))
        ]

    def packed(self, token_NT: np.ndarray) -> Batch:
        """Rows of one document each, as many in a row as in training."""
        R = self.order_EMR.shape[-1]
        token_NT = np.pad(
            token_NT, ((0, -len(token_NT) % R), (0, 0)), constant_values=self.corpus.pad
        )
        token_BRT = token_NT.reshape(-1, R, token_NT.shape[1])
        most = np.count_nonzero(token_BRT[..., 1:] != self.corpus.pad, axis=(1, 2)).max()
        return packed_batch(token_BRT, self.corpus.pad, int(most))

    def score(self, batch: Batch) -> list[float]:
        """The loss of the model as it is on a batch."""
        params = {**self.ends, "layers": _stack(self._ordered())}
        loss = LanguageModelLoss(self.grown())
        return np.asarray(
            evaluate(loss, params, nothing_frozen(params), batch, replicas=True)
        ).tolist()

    def _ordered(self) -> list[tree.BlockParams]:
        return [self.blocks[layer] for layer in sorted(self.blocks)]

    def _config(self, layers: Sequence[int]) -> ModelConfig:
        return self.config.with_layers(self.config.layers[layer] for layer in layers)

    def _partition(self, stage: Stage) -> tuple[tree.Params, tree.Params]:
        blocks = {layer: self.blocks[layer] for layer in stage.layers}
        return _split(blocks, self.ends, stage.train, stage.embedding)

    def _chunk(self, length: int):
        """Batches [E, M, 1, T] and rates [E, M] of the next steps; beyond the end repeats."""
        at_E = np.minimum(self.step + np.arange(length), len(self.rates_EM) - 1)
        token_EMRT = self.corpus.train_NT[self.order_EMR[at_E]]
        E, M, R, T = token_EMRT.shape
        flat = packed_batch(
            token_EMRT.reshape(-1, R, T), self.corpus.pad, self.corpus.max_predictions
        )
        batches = jax.tree.map(lambda leaf: leaf.reshape(E, M, 1, -1), flat)
        return batches, jnp.asarray(self.rates_EM[at_E])

    def _note_divergence(self, losses_EM: np.ndarray, alive_M: np.ndarray) -> None:
        for at, alive in enumerate(alive_M):
            if not alive and self.diverged[at] is None:
                finite = np.isfinite(losses_EM[:, at])
                self.diverged[at] = self.step + int(finite.sum())

    def _evaluate(self, stage: Stage, loss, trained, frozen, losses_EM) -> None:
        params, documents = merge(trained, frozen), self.order_EMR.shape[-1]
        nll_MU = document_sums(loss, params, self.validation, documents)
        nll_MU = np.asarray(nll_MU, np.float64)[:, : len(self.unit_tokens)]  # the rest is padding
        nll_M = nll_MU.sum(axis=1) / sum(self.unit_tokens)
        nothing = [float("nan")] * len(self.replicas)
        mean_M = np.mean(losses_EM, axis=0).tolist() if len(losses_EM) else nothing
        done = self.tokens_EM[self.step - 1] if self.step else np.zeros_like(self.tokens_EM[0])
        self.points.append(
            PhasePoint(
                stage=stage.name,
                step=self.step,
                tokens=done.tolist(),
                seconds=self.seconds,
                loss=mean_M,
                eval_nll=nll_M.tolist(),
                unit_nll=nll_MU.tolist(),
            )
        )


# Over the axis of replicas; compiled once for all arms of an experiment.


@functools.partial(jax.jit, static_argnames="config")
def _init(config: ModelConfig, keys_M: jax.Array) -> tree.Params:
    return jax.vmap(functools.partial(model.init, config))(keys_M)


@functools.partial(jax.jit, static_argnames=("width", "noise", "ffn_scale"))
def _clone(block, keys_M, layer, width: int, noise: float, ffn_scale: float) -> tree.BlockParams:
    def one(block: tree.BlockParams, key: jax.Array) -> tree.BlockParams:
        return clone(block, width, jax.random.fold_in(key, layer), noise, ffn_scale)

    return jax.vmap(one)(block, keys_M)


@functools.partial(jax.jit, static_argnames=("train", "ends_train"))
def _split(blocks: Blocks, ends, train: tuple[int, ...], ends_train: bool):
    return jax.vmap(lambda blocks, ends: partition(blocks, ends, train, ends_train))(blocks, ends)


_stack = jax.jit(jax.vmap(tree.stack))
_unstack = jax.jit(jax.vmap(tree.unstack))

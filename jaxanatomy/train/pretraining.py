"""Training a model from scratch, through stages of growing depth, and surviving a kill.

    run = Pretraining(setup, streams, evaluation)
    run.train(folder, emit=lambda points: ...)

At the start of a stage the layers are gathered by its index map, and the moments with them;
step count, learning rate and data go on as if nothing had happened (DG section 3). Steps run
in chunks of one compiled program for each stage; while the devices compute, the next chunk
is read. The state is saved every so many steps. A run that was killed reads its architecture
first, then its arrays, and resumes to the same losses, bit for bit on the same devices.

Several seeds may train side by side, with a leading axis M on every array.
"""

import bisect
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.growth.depth_arms import DepthStage
from jaxanatomy.growth.flops import step_flops
from jaxanatomy.progress import announced
from jaxanatomy.train.loop import Trace, TrainState, run_steps
from jaxanatomy.train.loss import Batch, LanguageModelLoss, nothing_frozen
from jaxanatomy.train.peak import peak_flops
from jaxanatomy.train.points import DIVERGED, Evaluation, HeldOutRows, StepMetrics, point_places
from jaxanatomy.train.scoring import row_sums
from jaxanatomy.train.setup import BatchStream, HeldOut, Setup
from jaxanatomy.train.snapshots import Snapshot, Snapshots

OnEvaluation = Callable[[Evaluation], Any]
StepLog = Callable[[StepMetrics], Any]
HasPoint = Callable[[int, int], bool]


class Pretraining:
    """A run; `train` does all of it, or what is left of it."""

    def __init__(
        self, setup: Setup, streams: Sequence[BatchStream], evaluation: Mapping[str, HeldOut]
    ):
        """Checks; no array is made.

        Args:
          setup: What is trained.
          streams: One for each seed.
          evaluation: What to score, by source.

        Raises:
          InputError: Rows that cannot be shared out.
        """
        self._setup, self._streams = setup, streams
        self._options, self._place = setup.options, setup.placement
        self._replicas = setup.replicas
        if len(streams) != len(setup.seeds):
            raise ValueError(f"{len(streams)} streams for {len(setup.seeds)} seeds")
        self._like = _first_batch(streams[0])
        batch_size = len(self._like.token_BT) * jax.process_count()
        self._options.check_batch_size(batch_size, self._place)
        device = self._place.mesh.devices.flat[0]
        peak = self._options.peak_flops or peak_flops(device.device_kind)
        self._peak = peak and peak * self._place.device_count
        self._rates_EM = setup.rates()
        self._evaluation = {
            name: HeldOut(each.share, [self._place.rows(batch) for batch in each.batches])
            for name, each in evaluation.items()
        }
        # Where each stage ends.
        self._ends = np.cumsum([stage.steps for stage in setup.stages]).tolist()

    def train(
        self,
        folder: Path,
        emit: OnEvaluation,
        log: StepLog = lambda steps: None,
        progress: Callable[[int], Any] = lambda steps: None,
        has_point: HasPoint = lambda stage, step: True,
    ) -> tree.Params:
        """Trains from the latest checkpoint, or from the start, to the end.

        A point is emitted before the checkpoint of its step is written: a run that is
        killed emits some points twice and none never. One that was at its end emits its
        last point again, its loss apart.

        Args:
          folder: For checkpoints.
          emit: Takes each point.
          log: Takes the steps of each chunk.
          progress: Called with the number of steps done.
          has_point: Whether a point has been emitted and kept. Where one before the latest
            checkpoint is not, all is trained anew: it cannot be had from the checkpoint.

        Returns:
          The parameters at the end, layers stacked, with an axis M if there are several seeds.
        """
        with (
            self._setup.precision(),
            Snapshots(folder, self._options.max_to_keep) as snapshots,
            ThreadPoolExecutor(1) as pool,
        ):
            self._drop_beyond_gap(snapshots, has_point)
            state = self._begin(snapshots)
            progress(self._step)
            if self._step == self._setup.steps:
                self._emit(self._setup.loss(self._setup.stages[-1].config), state, emit)
            while self._step < self._setup.steps and bool(np.any(np.asarray(state.alive))):
                state = self._stage(state, snapshots, pool, emit, log, progress)
            return state.params

    def _drop_beyond_gap(self, snapshots: Snapshots, has_point: HasPoint) -> None:
        """Removes the checkpoints if a point before the latest one is missing."""
        latest = snapshots.latest
        if latest is None:
            return
        stage_of_latest = bisect.bisect_left(self._ends, latest)
        places = point_places(
            [stage.steps for stage in self._setup.stages], self._options.eval_every
        )
        for stage, step in places:
            emitted = step < latest or (step == latest and stage <= stage_of_latest)
            if emitted and not has_point(stage, step):
                snapshots.clear()
                return

    def _begin(self, snapshots: Snapshots) -> TrainState:
        """The state at the latest checkpoint, or before the first step."""
        found = snapshots.read_meta()
        self._step, self._stage_at = 0, 0
        self._seconds, self._tokens, self._flops = 0.0, 0, 0
        self._possible = self._peak and 0.0  # FLOPs that the peak would have given so far
        self._losses: list[np.ndarray] = []
        self._alive = len(self._setup.seeds)
        if found is None:
            initial = functools.partial(self._setup.initial_state, self._setup.stages[0].config)
            return self._place.make(initial)
        config, meta = found
        self._refuse_other(config, snapshots.latest, meta)
        self._step, self._stage_at = snapshots.latest, meta["stage"]
        self._seconds, self._tokens, self._flops = meta["seconds"], meta["tokens"], meta["flops"]
        self._possible = self._peak and meta["possible"]
        self._losses = [np.asarray(each, np.float32) for each in meta["losses"]]
        for stream, state in zip(self._streams, meta["streams"], strict=True):
            stream.restore(state)
        state = jax.eval_shape(functools.partial(self._setup.initial_state, config))
        params, moments = (self._abstract(part) for part in (state.params, state.moments))
        params, moments = snapshots.restore(params, moments)
        # Where a step leaves it: else the first chunk would be compiled again.
        alive = self._place.replicate(np.asarray(meta["alive"]))
        self._alive = np.sum(meta["alive"])
        return TrainState(params, moments, alive)

    def _refuse_other(self, config: ModelConfig, step: int, meta: Mapping[str, Any]) -> None:
        """Raises InputError where a checkpoint is of another model, or of other seeds."""
        if step > self._setup.steps:
            raise InputError(
                f"the checkpoint is of step {step}; the config ends at step {self._setup.steps}; "
                "choose another workdir"
            )
        expected = self._setup.stages[bisect.bisect_left(self._ends, step)].config
        if config != expected:
            raise InputError(
                f"the checkpoint at step {step} has {_describe(config)}; the config says "
                f"{_describe(expected)}; choose another workdir"
            )
        for name in ("seeds", "learning_rates"):
            own = list(getattr(self._setup, name))
            if meta[name] != own:
                raise InputError(
                    f"the checkpoint at step {step} has the {name} {meta[name]}; the config says "
                    f"{own}; choose another workdir"
                )

    def _abstract(self, part: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=self._place.sharding(leaf)
            ),
            part,
        )

    def _stage(self, state, snapshots, pool, emit, log, progress) -> TrainState:
        """What is left of the present stage; grows first if the one before has ended."""
        while self._step >= self._ends[self._stage_at]:
            self._stage_at += 1
            state = self._grow(state, self._setup.stages[self._stage_at])
            self._losses = []
        stage, end = self._setup.stages[self._stage_at], self._ends[self._stage_at]
        loss = self._setup.loss(stage.config)
        reading = pool.submit(self._read, self._next_count(end))
        with announced(f"compiling {stage.config.num_layers} layers"):
            state, _ = self._run(loss, state, *self._empty_chunk(), 0)
        if self._step == end - stage.steps:
            self._emit(loss, state, emit)
        while self._step < end:
            began = time.perf_counter()
            chunk, rates_EM, count, streams = reading.result()
            state, trace = self._run(loss, state, chunk, rates_EM, count)
            at = self._step + count
            if at < end:
                reading = pool.submit(self._read, self._next_count(end, at))
            trace = Trace(*(np.asarray(part)[:count].reshape(count, -1) for part in trace))
            seconds = (time.perf_counter() - began) / len(self._setup.seeds)
            log(self._account(stage.config, rates_EM[:count], trace, seconds))
            progress(count)
            alive_M = np.asarray(state.alive).reshape(-1)
            if alive_M.sum() < self._alive:
                snapshots.pin_latest()  # the last one before a seed diverged
            self._alive, alive = alive_M.sum(), bool(alive_M.any())
            if self._step % self._options.eval_every == 0 or self._step == end or not alive:
                self._emit(loss, state, emit)
            if not alive:
                break
            if self._step % self._options.checkpoint_every == 0 or self._step == end:
                self._save(snapshots, stage.config, state, streams)
        return state

    def _grow(self, state: TrainState, stage: DepthStage) -> TrainState:
        apply = self._setup.growth(stage)
        params, moments = self._place.make(apply, state.params, state.moments)
        return TrainState(params, moments, state.alive)

    def _run(self, loss, state: TrainState, batches, rates_EM: np.ndarray, count: int):
        """Steps of a chunk."""
        return run_steps(
            loss,
            self._setup.optimiser,
            state,
            nothing_frozen(state.params),
            self._place.rows(batches, axis=2 if self._replicas else 1),
            self._place.replicate(rates_EM if self._replicas else rates_EM[:, 0]),
            count,
            replicas=self._replicas,
            grad_accum_steps=self._options.grad_accum_steps,
            place=self._place.constrain,
        )

    def _next_count(self, end: int, at: int | None = None) -> tuple[int, int]:
        """(first step, steps) of the next chunk: it ends where something is to be done."""
        at = self._step if at is None else at
        options = self._options
        stops = [at + options.steps_per_call, end]
        stops += [(at // n + 1) * n for n in (options.eval_every, options.checkpoint_every)]
        return at, min(stops) - at

    def _read(self, at_count: tuple[int, int]):
        """The batches of a chunk, [E, (M,) B, T], E the largest chunk; then each stream's state."""
        at, count = at_count
        batches = [[stream.next() for stream in self._streams] for _ in range(count)]
        batches += [batches[-1]] * (self._options.steps_per_call - count)

        def join(*leaves: np.ndarray) -> np.ndarray:
            joined = np.stack(leaves)
            shape = (self._options.steps_per_call, len(self._streams), *joined.shape[1:])
            return joined.reshape(shape if self._replicas else joined.shape)

        chunk = jax.tree.map(join, *(batch for step in batches for batch in step))
        rates_EM = self._rates_EM[at : at + count]
        rates_EM = np.resize(rates_EM, (self._options.steps_per_call, rates_EM.shape[1]))
        return chunk, rates_EM, count, [stream.state() for stream in self._streams]

    def _empty_chunk(self) -> tuple[Batch, np.ndarray]:
        lead = (self._options.steps_per_call, *([len(self._streams)] if self._replicas else []))
        zeros = jax.tree.map(lambda leaf: np.zeros((*lead, *leaf.shape), leaf.dtype), self._like)
        return zeros, np.zeros((self._options.steps_per_call, len(self._streams)), np.float32)

    def _account(
        self, config: ModelConfig, rates_EM: np.ndarray, trace: Trace, seconds: float
    ) -> StepMetrics:
        """Adds the steps of a chunk to what was done before."""
        count, first = len(rates_EM), self._step
        batch_size, seq_len = self._like.token_BT.shape
        batch_size *= jax.process_count()
        flops = step_flops(config, batch_size, seq_len)
        self._step += count
        self._tokens += count * batch_size * seq_len
        self._flops += count * flops
        self._seconds += seconds
        if self._possible is not None:
            self._possible += seconds * self._peak
        self._losses.extend(trace.loss)
        return StepMetrics(
            stage=self._stage_at,
            first=first,
            rate_EM=rates_EM,
            loss_EM=trace.loss,
            norm_EM=trace.gradient_norm,
            tokens=self._tokens,
            flops=self._flops,
            seconds=self._seconds,
            step_tokens=batch_size * seq_len,
            step_flops=flops,
            step_seconds=seconds / count,
            mfu=self._peak and count * flops / (seconds * self._peak),
        )

    def _emit(self, loss: LanguageModelLoss, state: TrainState, emit: OnEvaluation) -> None:
        """Scores the model and emits an `Evaluation`."""
        units = {name: self._score(loss, state, each) for name, each in self._evaluation.items()}
        nll = {name: np.array(each.mean()) for name, each in units.items()}
        mean_M = sum(each.share * nll[name] for name, each in units.items())
        alive_M = np.asarray(state.alive).reshape(-1)
        # Every process has the same numbers; losses are those of whole batches.
        loss_M = np.mean(self._losses, axis=0) if self._losses else [None] * len(alive_M)
        self._losses = []
        emit(
            Evaluation(
                stage=self._stage_at,
                step=self._step,
                tokens=self._tokens,
                flops=self._flops,
                seconds=self._seconds,
                mfu=self._flops / self._possible if self._possible else None,
                loss=[None if value is None else float(value) for value in loss_M],
                eval_nll=mean_M.tolist(),
                by_source={name: nll_M.tolist() for name, nll_M in nll.items()},
                units=units,
                reason=["" if alive else DIVERGED for alive in alive_M],
            )
        )

    def _score(self, loss, state: TrainState, held_out: HeldOut) -> HeldOutRows:
        """The rows of a source; in every process all of them, in the same order."""
        whole, replicas = self._place.whole, self._replicas
        nlls, tokens = [], []
        for batch in held_out.batches:
            found = row_sums(loss, state.params, batch, whole, replicas)
            nll, tokens_B = map(np.asarray, found)  # one program at a time: they exchange
            nlls.append(nll)
            tokens.append(tokens_B)
        tokens_B = np.concatenate(tokens)
        nll_MB = np.concatenate(nlls, axis=-1, dtype=np.float64)
        there = tokens_B > 0
        return HeldOutRows(
            held_out.share,
            tokens_B[there].astype(int).tolist(),
            nll_MB.reshape(-1, len(there))[:, there].tolist(),
        )

    def _save(self, snapshots: Snapshots, config: ModelConfig, state: TrainState, streams) -> None:
        meta = {
            "stage": self._stage_at,
            "seconds": self._seconds,
            "tokens": self._tokens,
            "flops": self._flops,
            "possible": self._possible,
            "losses": [each.tolist() for each in self._losses],
            "alive": np.asarray(state.alive).tolist(),
            "seeds": list(self._setup.seeds),
            "learning_rates": list(self._setup.learning_rates),
            "streams": streams,
        }
        snapshots.save(Snapshot(self._step, config, state.params, state.moments, meta))


def _first_batch(stream: BatchStream) -> Batch:
    """A batch of a stream, which stays where it is."""
    state = stream.state()
    batch = stream.next()
    stream.restore(state)
    return batch


def _describe(config: ModelConfig) -> str:
    shapes = dict.fromkeys(config.layers)
    heads = " or ".join(
        f"{shape.num_heads} heads, {shape.num_kv_heads} of keys, FFN {shape.ffn_width}"
        for shape in shapes
    )
    scaling = ", LN-scaling" if config.ln_scaling else ""
    return (
        f"{config.num_layers} layers ({heads}{scaling}) of width {config.hidden_size}, "
        f"{config.vocab_size} entries and context {config.context_length}"
    )

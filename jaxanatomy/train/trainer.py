"""The one trainer: stages one after another, watched by callbacks, surviving a kill.

    trainer = Trainer(setup, streams)
    params = trainer.train(folder, [Every(100, evaluating(held_out, emit), at_ends=True)])

Where a stage begins, layers are gathered by its index map and what is new is made; unless the
stage says otherwise the moments go with them, and step count, learning rate and data go on as if
nothing had happened. Steps run in chunks of one compiled program for each stage; while the
devices compute, the next chunk is read. The state is saved every so many steps. A run that was
killed reads its architecture first, then its arrays, and resumes to the same losses, bit for bit
on the same devices where these repeat themselves: a CPU does, a GPU's sums may not (XLA's flag
xla_gpu_deterministic_ops).

Several seeds may train side by side, with a leading axis M on every array.
"""

import bisect
import dataclasses
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
from jaxanatomy.measures.losses import finite
from jaxanatomy.progress import announced
from jaxanatomy.train.callbacks import Every, Response, RunState
from jaxanatomy.train.loop import Trace, TrainState, run_steps
from jaxanatomy.train.loss import merge
from jaxanatomy.train.peak import peak_flops
from jaxanatomy.train.points import DIVERGED, Account, StepMetrics
from jaxanatomy.train.setup import BatchStream, Setup
from jaxanatomy.train.snapshots import Snapshot, Snapshots
from jaxanatomy.tree import PyTree


class Trainer:
    """A run; `train` does all of it, or what is left of it."""

    def __init__(self, setup: Setup, streams: Sequence[BatchStream]):
        """Checks; no array is made.

        Args:
          setup: What is trained.
          streams: One for each seed.

        Raises:
          InputError: Rows that cannot be shared out.
        """
        self._setup, self._streams = setup, streams
        self._options, self._place = setup.options, setup.placement
        if len(streams) != len(setup.seeds):
            raise ValueError(f"{len(streams)} streams for {len(setup.seeds)} seeds")
        self._like = _first_batch(streams[0])
        batch = self._like
        if setup.make_batch is not None:
            batch = jax.eval_shape(setup.make_batch, batch)
        batch_size, self._seq_len = batch.token_BT.shape
        self._batch_size = batch_size * jax.process_count()
        self._options.check_batch_size(self._batch_size, self._place)
        device = self._place.mesh.devices.flat[0]
        peak = self._options.peak_flops or peak_flops(device.device_kind)
        self._peak = peak and peak * self._place.device_count
        self._rates_EM = setup.rates()

    def train(
        self,
        folder: Path,
        callbacks: Sequence[Every] = (),
        progress: Callable[[int], Any] = lambda steps: None,
        is_kept: Callable[[int, int], bool] = lambda stage, step: True,
    ) -> tree.Params:
        """Trains from the latest checkpoint, or from the start, to the end.

        Callbacks are called before the checkpoint of their step is written: in a run that is
        killed some are called twice for a step and none never. A run that was at its end calls
        those of a stage's end again.

        Args:
          folder: For checkpoints.
          callbacks: Called in their order.
          progress: Called with the number of steps done.
          is_kept: Whether what the callbacks made up to a checkpoint, at the end of this stage
            and step or within, is kept. Where it is not, all is trained anew.

        Returns:
          The parameters at the end, layers stacked, with an axis M if there are several seeds.
        """
        self._callbacks = list(callbacks)
        with (
            self._setup.precision(),
            Snapshots(folder, self._options.max_to_keep) as self._snapshots,
            ThreadPoolExecutor(1) as self._pool,
        ):
            latest = self._snapshots.latest
            if latest is not None and not is_kept(self._stage_of(latest), latest):
                self._snapshots.clear()
            state, frozen = self._begin()
            progress(self._step)
            if self._step == self._setup.steps:
                state, frozen = self._call(state, frozen, lambda each: each.at_ends, None)
            while self._step < self._setup.steps and any(self._alive):
                state, frozen = self._stage(state, frozen, progress)
            return merge(state.params, frozen)

    @property
    def _alive(self) -> list[bool]:
        return [step is None for step in self._stopped]

    def _stage_of(self, step: int) -> int:
        """The stage in which a checkpoint at a step was written."""
        return bisect.bisect_left(self._setup.ends, step)

    def _begin(self) -> tuple[TrainState, PyTree]:
        """The state at the latest checkpoint, or before the first step."""
        found, seeds = self._snapshots.read_meta(), len(self._setup.seeds)
        self._step, self._at = 0, 0
        self._account = Account(possible=self._peak and 0.0)
        self._began = time.perf_counter()
        self._losses: list[np.ndarray] = []  # the last ones of this stage
        self._reasons, self._stopped = [""] * seeds, [None] * seeds
        if found is None:
            params, moments = self._place.make(self._setup.begin, self._setup.seed_array)
            return self._split(params, moments)
        config, meta = found
        self._refuse_other(config, self._snapshots.latest, meta)
        self._step, self._at = self._snapshots.latest, meta["stage"]
        self._account = Account(**meta["account"])
        if self._peak is None:
            self._account = dataclasses.replace(self._account, possible=None)
        self._began -= self._account.wall_seconds
        self._losses = [np.asarray(each, np.float32) for each in meta["losses"]]
        self._reasons, self._stopped = meta["reasons"], meta["stopped"]
        for each, memory in zip(self._callbacks, meta["memories"], strict=False):
            each.memory.update(memory)
        for stream, state in zip(self._streams, meta["streams"], strict=True):
            stream.restore(state)
        params, like, _ = self._setup.like(self._setup.stages[self._at])
        return self._split(*self._snapshots.restore(params, like.moments))

    def _refuse_other(self, config: ModelConfig, step: int, meta: Mapping[str, Any]) -> None:
        """Raises InputError where a checkpoint is of another model, or of other seeds."""
        if step > self._setup.steps:
            raise InputError(
                f"the checkpoint is of step {step}; the config ends at step {self._setup.steps}; "
                "choose another workdir"
            )
        expected = self._setup.stages[self._stage_of(step)].config
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

    def _split(self, params: tree.Params, moments: PyTree) -> tuple[TrainState, PyTree]:
        """A state with what trains, and what does not."""
        alive = np.asarray(self._alive if self._setup.replicas else self._alive[0])
        trained, frozen = self._setup.split(self._setup.stages[self._at], params)
        # Where a step leaves it: else the first chunk would be compiled again.
        return TrainState(trained, moments, self._place.replicate(alive)), frozen

    def _stage(self, state: TrainState, frozen: PyTree, progress) -> tuple[TrainState, PyTree]:
        """What is left of the present stage; enters the next one if it has ended."""
        setup, ends = self._setup, self._setup.ends
        while self._step >= ends[self._at]:
            self._at, self._losses = self._at + 1, []
            arguments = merge(state.params, frozen), state.moments, setup.seed_array
            state, frozen = self._split(*self._place.make(setup.entering(self._at), *arguments))
        stage, end = setup.stages[self._at], ends[self._at]
        start = end - stage.steps
        run = functools.partial(self._run, setup.loss(stage.config), setup.transformation(stage))
        reading = self._pool.submit(self._read, self._step, self._next_stop(self._step, start, end))
        with announced(f"compiling {stage.name or f'{stage.config.num_layers} layers'}"):
            state, _ = run(state, frozen, *self._empty_chunk(), 0)
        if self._step == start:
            state, frozen = self._call(state, frozen, lambda each: each.at_ends, None)
        while self._step < end and any(self._alive):
            began = time.perf_counter()
            chunk, rates_EM, count, streams = reading.result()
            state, trace = run(state, frozen, chunk, rates_EM, count)
            stop = self._step + count
            if stop < end:
                next_stop = self._next_stop(stop, start, end)
                reading = self._pool.submit(self._read, stop, next_stop)
            trace = Trace(*(np.asarray(part)[:count].reshape(count, -1) for part in trace))
            seconds = (time.perf_counter() - began) / len(setup.seeds)
            steps = self._add(rates_EM[:count], trace, seconds)
            progress(count)
            self._note_stops(np.asarray(state.alive).reshape(-1), trace.loss + trace.gradient_norm)
            ends_here = stop == end or not any(self._alive)
            due = functools.partial(Every.due, step=stop, start=start, ends=ends_here)
            state, frozen = self._call(state, frozen, due, steps)
            if any(self._alive) and (stop == end or stop % self._options.checkpoint_every == 0):
                self._save(state, frozen, streams)
        return state, frozen

    def _call(
        self,
        state: TrainState,
        frozen: PyTree,
        due: Callable[[Every], bool],
        steps: StepMetrics | None,
    ) -> tuple[TrainState, PyTree]:
        """Calls the callbacks that are due, and does what they ask for."""
        start = self._setup.ends[self._at] - self._setup.stages[self._at].steps
        wall = time.perf_counter() - self._began
        self._account = dataclasses.replace(self._account, wall_seconds=wall)
        log: dict[str, Any] = {}
        for each in self._callbacks:
            # One before may have stopped the last seed.
            if not due(each) and (any(self._alive) or not each.at_ends):
                continue
            since = min(self._step - each.before(self._step, start), len(self._losses))
            seen = RunState(
                setup=self._setup,
                at=self._at,
                step=self._step,
                params=merge(state.params, frozen),
                moments=state.moments,
                reasons=tuple(self._reasons),
                stopped=tuple(self._stopped),
                account=self._account,
                steps=steps,
                loss_EM=np.array(self._losses[len(self._losses) - since :]),
                log=log,
            )
            response = each.call(seen) or Response()
            log |= response.log
            for seed, reason in response.stop.items():
                if not self._reasons[seed]:
                    self._reasons[seed], self._stopped[seed] = reason, self._step
            if response.stop or response.params is not None or response.moments is not None:
                params = seen.params if response.params is None else response.params
                moments = seen.moments if response.moments is None else response.moments
                state, frozen = self._split(params, moments)
        longest = max((each.steps or 1 for each in self._callbacks), default=0)
        self._losses = self._losses[max(0, len(self._losses) - longest) :]
        return state, frozen

    def _run(self, loss, optimiser, state: TrainState, frozen, batches, rates_EM, count: int):
        """Steps of a chunk."""
        replicas = self._setup.replicas
        return run_steps(
            loss,
            optimiser,
            state,
            frozen,
            self._place.rows(batches, axis=2 if replicas else 1),
            self._place.replicate(rates_EM if replicas else rates_EM[:, 0]),
            count,
            replicas=replicas,
            grad_accum_steps=self._options.grad_accum_steps,
            place=self._place.constrain,
            make_batch=self._setup.make_batch,
        )

    def _next_stop(self, step: int, start: int, end: int) -> int:
        """Where the chunk after a step ends: where something is to be done."""
        checkpoint = (step // self._options.checkpoint_every + 1) * self._options.checkpoint_every
        places = [each.next(step, start) for each in self._callbacks]
        stops = [step + self._options.steps_per_call, checkpoint, end]
        return min(stops + [place for place in places if place is not None])

    def _read(self, step: int, stop: int):
        """The batches of a chunk, [E, (M,) B, ...], E the largest chunk; then the streams."""
        largest, count = self._options.steps_per_call, stop - step
        batches = [[stream.next() for stream in self._streams] for _ in range(count)]
        batches += [batches[-1]] * (largest - count)

        def join(*leaves: np.ndarray) -> np.ndarray:
            joined = np.stack(leaves)
            shape = (largest, len(self._streams), *joined.shape[1:])
            return joined.reshape(shape if self._setup.replicas else joined.shape)

        chunk = jax.tree.map(join, *(batch for own in batches for batch in own))
        rates_EM = self._rates_EM[step:stop]
        rates_EM = np.resize(rates_EM, (largest, rates_EM.shape[1]))
        return chunk, rates_EM, count, [stream.state() for stream in self._streams]

    def _empty_chunk(self) -> tuple[PyTree, np.ndarray]:
        seeds = [len(self._streams)] if self._setup.replicas else []
        lead = (self._options.steps_per_call, *seeds)
        zeros = jax.tree.map(
            lambda leaf: np.zeros((*lead, *np.shape(leaf)), np.asarray(leaf).dtype), self._like
        )
        return zeros, np.zeros((self._options.steps_per_call, len(self._streams)), np.float32)

    def _add(self, rates_EM: np.ndarray, trace: Trace, seconds: float) -> StepMetrics:
        """Adds the steps of a chunk to what was done before."""
        count, first, before = len(rates_EM), self._step, self._account
        tokens = self._batch_size * self._seq_len
        flops = self._setup.stages[self._at].step_flops(self._batch_size, self._seq_len)
        possible = before.possible
        self._step += count
        self._account = dataclasses.replace(
            before,
            tokens=before.tokens + count * tokens,
            flops=before.flops + count * flops,
            seconds=before.seconds + seconds,
            possible=None if possible is None else possible + seconds * self._peak,
        )
        self._losses.extend(trace.loss)
        return StepMetrics(
            stage=self._at,
            first=first,
            rate_EM=rates_EM,
            loss_EM=trace.loss,
            norm_EM=trace.gradient_norm,
            update_EM=trace.update_norm,
            account=self._account,
            step_tokens=tokens,
            step_flops=flops,
            step_seconds=seconds / count,
            mfu=self._peak and count * flops / (seconds * self._peak),
        )

    def _note_stops(self, alive_M: np.ndarray, step_EM: np.ndarray) -> None:
        """Notes the seeds that diverged in a chunk, and keeps the last checkpoint before.

        A step is taken where its loss and its gradient, whose sum `step_EM` is, are finite.
        """
        for seed, alive in enumerate(alive_M.tolist()):
            if not alive and self._stopped[seed] is None:
                taken = int(np.isfinite(step_EM[:, seed]).sum())
                self._stopped[seed] = self._step - len(step_EM) + taken
                self._reasons[seed] = DIVERGED
                self._snapshots.pin_latest()

    def _save(self, state: TrainState, frozen: PyTree, streams: list[dict[str, Any]]) -> None:
        meta = {
            "stage": self._at,
            "account": dataclasses.asdict(self._account),
            "losses": [list(map(finite, each.tolist())) for each in self._losses],
            "reasons": self._reasons,
            "stopped": self._stopped,
            "seeds": list(self._setup.seeds),
            "learning_rates": list(self._setup.learning_rates),
            "memories": [each.memory for each in self._callbacks],
            "streams": streams,
        }
        config, params = self._setup.stages[self._at].config, merge(state.params, frozen)
        self._snapshots.save(Snapshot(self._step, config, params, state.moments, meta))


def _first_batch(stream: BatchStream) -> PyTree:
    """A batch of a stream, which stays where it is."""
    state = stream.state()
    batch = stream.next()
    stream.restore(state)
    return batch


def _describe(config: ModelConfig) -> str:
    shapes = dict.fromkeys(config.layers)
    heads = " or ".join(shape.summary for shape in shapes)
    scaling = ", LN-scaling" if config.ln_scaling else ""
    return (
        f"{config.num_layers} layers ({heads}{scaling}) of width {config.hidden_size}, "
        f"{config.vocab_size} entries and context {config.context_length}"
    )

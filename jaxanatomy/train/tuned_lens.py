"""Training tuned lenses: an affine map for each layer, all layers at once (Belrose et al. 2023).

    lens, losses = train(config, read_params, batches, settings, folder, weights_sha256)

A lens takes the stream after its layer to what the model's own final norm and head are to read;
it starts as the identity, and its loss is KL(final distribution || lens) (section 3). The frozen
model runs once for the lenses of all layers. Of a batch the lenses learn from some positions
alone: neighbours say much the same, and the head, V D products for each position and lens, is
nearly all of the work.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.errors import InputError, require_whole
from jaxanatomy.measures.readings.lens import TunedLens, require_same_weights
from jaxanatomy.train.loop import Trace, TrainState, run_steps, start
from jaxanatomy.train.optimiser import Optimiser, make
from jaxanatomy.train.snapshots import Snapshot, Snapshots

STEPS_PER_CALL = 2


class LensBatch(NamedTuple):
    """Rows of text and Q positions in them; a weight is 0 where a position is padding."""

    token_RT: np.ndarray
    position_RT: np.ndarray
    segment_RT: np.ndarray
    predict_Q: np.ndarray
    target_Q: np.ndarray
    weight_Q: np.ndarray


@dataclasses.dataclass(frozen=True)
class LensSettings:
    """What decides a lens besides the model and the text.

    Attributes:
      optimiser: Of each layer's lens, its gradient clipped by itself. The learning rate falls
        linearly to 0 (Belrose et al., section 3).
      positions: Q, predicted positions of a batch that a step learns from.
      steps: Steps; a step reads one batch, and of a batch that comes again other positions.
      seed: Of the order of batches and the choice of positions.
      dtype: Of the operands of products.
    """

    optimiser: Optimiser
    positions: int = 128
    steps: int = 40
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self):
        require_whole("positions", self.positions)
        require_whole("steps", self.steps)
        require_whole("seed", self.seed, least=0)

    def rates(self) -> np.ndarray:
        """The learning rate of each step, float32."""
        left = 1 - np.arange(self.steps) / self.steps
        return (self.optimiser.learning_rate * left).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class LensLoss:
    """The sum over lenses of their mean KL(final || lens), nats: `loss(lens, params, batch)`.

    Attributes:
      config: The architecture.
      dtype: Of the operands of products.
    """

    config: ModelConfig
    dtype: jnp.dtype

    def __call__(self, lens: TunedLens, params: tree.Params, batch: LensBatch) -> jax.Array:
        return self.by_layer(lens, params, batch).sum()

    def by_layer(self, lens: TunedLens, params: tree.Params, batch: LensBatch) -> jax.Array:
        """That of each layer but the last, whose stream is what the head reads."""
        text = batch.token_RT, batch.position_RT, batch.segment_RT
        x_LQD = model.residual_streams(self.config, params, *text, batch.predict_Q, self.dtype)
        norm = functools.partial(model.final_norm, self.config, params)
        head = tree.unembedding(params), batch.target_Q, self.dtype
        clean = model.reference(norm(x_LQD[-1]), *head)

        def of_layer(_, layer: tuple[TunedLens, jax.Array]) -> tuple[None, jax.Array]:
            lens, x_QD = layer
            kl_Q = model.kl_to(norm(lens(x_QD)), clean, *head)
            return None, (kl_Q * batch.weight_Q).sum() / batch.weight_Q.sum()

        # One layer at a time: the scores of a chunk of the vocabulary stay in the cache.
        return jax.lax.scan(of_layer, None, (lens, x_LQD[:-1]))[1]


def train(
    config: ModelConfig,
    read_params: Callable[[], tree.Params],
    batches: Sequence[TextBatch],
    settings: LensSettings,
    folder: Path,
    weights_sha256: str,
    checkpoint_every: int = 10,
    progress: Callable[[int], Any] = lambda steps: None,
) -> tuple[TunedLens, list[float]]:
    """Trains from the latest checkpoint, or from the identity, to the end.

    Args:
      config: The architecture.
      read_params: Gives the parameters of the frozen model, a block for each layer.
      batches: The text.
      settings: What decides the lens.
      folder: For checkpoints; the last step stays there.
      weights_sha256: Of the model's weights.
      checkpoint_every: Steps between checkpoints.
      progress: Called with the number of steps done.

    Returns:
      The lens of all layers, zeros at the last one, and the loss before each step: the mean over
      the other layers, nats.

    Raises:
      InputError: Fewer than two layers, a checkpoint of another model, a loss that is not finite.
    """
    if config.num_layers < 2:
        raise InputError("a tuned lens needs a model of at least 2 layers; got 1; take another")
    steps = settings.steps
    with _precision(settings.dtype), Snapshots(folder, max_to_keep=2) as snapshots:
        state, losses = _begin(config, settings, snapshots, weights_sha256)
        progress(len(losses))
        if len(losses) < steps:
            run = _steps_of(config, read_params(), batches, settings)
        while (done := len(losses)) < steps:
            checkpoint = (done // checkpoint_every + 1) * checkpoint_every
            stop = min(done + STEPS_PER_CALL, checkpoint, steps)
            state, trace = run(state, done, stop)
            if not state.alive:
                raise InputError(
                    f"the loss of the lenses must be finite; it was not after step {done}; lower "
                    "optimiser.learning_rate and choose another workdir"
                )
            loss_E = np.asarray(trace.loss, np.float64)[: stop - done]
            losses += (loss_E / (config.num_layers - 1)).tolist()
            progress(stop - done)
            if stop in (checkpoint, steps):
                meta = {"weights_sha256": weights_sha256, "losses": losses}
                snapshots.save(Snapshot(stop, config, state.params, state.moments, meta))
    return TunedLens(*(_with_last(leaf) for leaf in state.params)), losses


def example(batches: Sequence[TextBatch], settings: LensSettings, step: int) -> LensBatch:
    """What a step learns from: a pure function of its arguments.

    Every pass has the batches in an order of its own, and of each other positions, as long as
    there are some.
    """
    turn, place = divmod(step, len(batches))
    order = np.random.default_rng((settings.seed, 0, turn)).permutation(len(batches))
    index = int(order[place])
    batch, positions = batches[index], min(settings.positions, len(batches[0].predict_P))
    valid = np.flatnonzero(batch.document_P >= 0)
    drawn = np.random.default_rng((settings.seed, 1, index)).permutation(valid)
    chosen = np.roll(drawn, -turn * positions)[:positions]
    beyond = positions - len(chosen)
    return LensBatch(
        batch.token_RT,
        batch.position_RT,
        batch.segment_RT,
        np.pad(batch.predict_P[chosen], (0, beyond)),
        np.pad(batch.target_P[chosen], (0, beyond)),
        np.pad(np.ones(len(chosen), np.float32), (0, beyond)),
    )


def step_flops(config: ModelConfig, batch: TextBatch, settings: LensSettings) -> int:
    """FLOPs of the matrix products of a step: the frozen layers, then head and lens, and back."""
    D, V, lenses = config.hidden_size, config.vocab_size, config.num_layers - 1
    layers = range(config.num_layers)
    frozen = sum(model.matrix_parameter_count(config, layer) for layer in layers)
    positions = min(settings.positions, len(batch.predict_P))
    of_position = 2 * D * V * (1 + lenses) + 3 * D * D * lenses
    return 2 * (batch.token_RT.size * frozen + positions * of_position)


def _steps_of(
    config: ModelConfig,
    params: tree.Params,
    batches: Sequence[TextBatch],
    settings: LensSettings,
) -> Callable[[TrainState, int, int], tuple[TrainState, Trace]]:
    """Runs the steps from one number up to another."""
    config, params = tree.fold_norms(config, params)
    params = jax.device_put(tree.with_layers(params, tree.stack(params["layers"])))
    rates = settings.rates()
    loss, optimiser = LensLoss(config, jnp.dtype(settings.dtype)), _each_lens(settings.optimiser)

    def run(state: TrainState, first: int, stop: int) -> tuple[TrainState, Trace]:
        numbers = [min(first + at, stop - 1) for at in range(STEPS_PER_CALL)]
        examples = [example(batches, settings, step) for step in numbers]
        chunk = jax.tree.map(lambda *leaves: np.stack(leaves), *examples)
        arguments = state, params, chunk, rates[numbers], stop - first
        return run_steps(loss, optimiser, *arguments)

    return run


def _begin(
    config: ModelConfig, settings: LensSettings, snapshots: Snapshots, weights_sha256: str
) -> tuple[TrainState, list[float]]:
    """The state at the latest checkpoint, or the identity; the losses up to there."""
    lenses, D = config.num_layers - 1, config.hidden_size
    identity = TunedLens(jnp.zeros((lenses, D, D)), jnp.zeros((lenses, D)))
    state = start(_each_lens(settings.optimiser), identity)
    found = snapshots.read_meta()
    if found is None:
        return state, []
    meta = found[1]
    require_same_weights(meta["weights_sha256"], weights_sha256)
    params, moments = snapshots.restore(state.params, state.moments)
    return TrainState(params, moments, jnp.bool_(True)), meta["losses"]


@functools.cache
def _each_lens(settings: Optimiser) -> optax.GradientTransformation:
    """The optimiser of every lens by itself: each gradient is clipped by its own norm."""
    one = make(settings, TunedLens(*(jax.ShapeDtypeStruct((1,) * n, jnp.float32) for n in (2, 1))))
    return optax.GradientTransformation(jax.vmap(one.init), jax.vmap(one.update))


def _precision(dtype: str) -> contextlib.AbstractContextManager:
    return jax.default_matmul_precision("highest" if dtype == "float32" else "default")


def _with_last(leaf: jax.Array) -> np.ndarray:
    """Of all layers: at the last one the identity."""
    return np.concatenate([np.asarray(leaf), np.zeros((1, *leaf.shape[1:]), leaf.dtype)])

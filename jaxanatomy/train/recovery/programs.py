"""The compiled parts of training many single layers at once, as pure functions of one lane.

Streams live in a pool, `pool_XRTD`, one slot for each replica. On the way forward a slot
holds the replica's residual stream, from the head on backwards the gradient of it.
`clean_LRTD[l]` is the stream of the unedited model before layer l. Calls may be padded;
padding reads what does not matter and writes to slot X, which is dropped.
"""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep import programs
from jaxanatomy.sweep.compilation import ProgramKey, abstract_block, abstract_head, text_inputs
from jaxanatomy.sweep.devices import Lanes
from jaxanatomy.sweep.programs import Context, TextArrays
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.tape import Reversible

Fixed = tuple[tree.BlockParams, TextArrays]


def reversible_block(config: ModelConfig, shape: LayerShape, dtype: jnp.dtype) -> Reversible:
    """A layer of a shape, forward and back, that keeps the results of its products alone."""

    def block(fixed: Fixed, x_CRTD: jax.Array) -> jax.Array:
        params, text = fixed
        return programs.apply_block(config, shape, dtype, params, x_CRTD, text)

    # Norms, softmax and products with gates are cheap to do again, and twice the memory.
    return Reversible(jax.checkpoint(block, policy=jax.checkpoint_policies.dots_saveable))


def prediction_weights(batch: TextBatch) -> np.ndarray:
    """Weights that make a sum over predictions a mean over those that are no padding."""
    valid_P = batch.document_P >= 0
    return (valid_P / valid_P.sum()).astype(np.float32)


class StreamPrograms:
    """The functions, and their compilation ahead of time, in threads.

    A function of layers takes their shape first.
    """

    def __init__(
        self,
        config: ModelConfig,
        options: RecoveryOptions,
        lanes: Lanes,
        batch: TextBatch,
        clean_layers: int,
        slots: int,
        optimiser: optax.GradientTransformation | None,
    ):
        self._config, self._options, self._lanes = config, options, lanes
        self._optimiser, self._dtype = optimiser, options.compute_dtype
        self._head = abstract_head(config, self._dtype)
        self._inputs = jax.eval_shape(lambda: text_inputs(batch))
        self._prepare = functools.partial(programs.prepare, config, clean_layers)
        self._clean, self._text = jax.eval_shape(self._prepare, self._head, *self._inputs)
        self._pool = jax.ShapeDtypeStruct((slots, *self._clean.shape[1:]), jnp.float32)

    def compile(self, keys: Iterable[ProgramKey]) -> dict[ProgramKey, Callable]:
        """Compiles the programs of `keys`; "tape" gives both "forward" and "back"."""
        keys = list(keys)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return {
                (kind, *key[1:]): program
                for key, made in zip(keys, pool.map(self._build, keys), strict=True)
                for kind, program in made.items()
            }

    def advance(self, shape, params, clean_LRTD, layer, text) -> jax.Array:
        """The clean streams with the one after `layer` filled in."""
        y_CRTD = self._apply(shape, params, clean_LRTD[layer][None], text)
        return clean_LRTD.at[layer + 1].set(y_CRTD[0])

    def start(self, shape, params, pool_XRTD, clean_LRTD, layer_slot, text) -> jax.Array:
        """The pool with a replica's stream after its own layer in its slot."""
        layer, slot = layer_slot
        y_CRTD = self._apply(shape, params, clean_LRTD[layer][None], text)
        return pool_XRTD.at[slot].set(y_CRTD[0], mode="drop")

    def through(self, shape, params, pool_XRTD, slot_C, text) -> jax.Array:
        """Takes C streams through a frozen layer, with no way back."""
        y_CRTD = self._apply(shape, params, _streams(pool_XRTD, slot_C), text)
        return pool_XRTD.at[slot_C].set(y_CRTD, mode="drop")

    def turn(self, head, pool_XRTD, slot_C, weight_P, text) -> tuple[jax.Array, jax.Array]:
        """Replaces C streams by the gradients of their losses.

        Args:
          head: Parameters without layers.
          pool_XRTD: All streams.
          slot_C: The slots.
          weight_P: Weight of each prediction in the loss; 0 for padding.
          text: The text.

        Returns:
          (pool, loss_C), the loss being the weighted sum of the predictions' losses.
        """
        x_CRTD = _streams(pool_XRTD, slot_C)
        C, R, T, D = x_CRTD.shape
        x_PD = x_CRTD.reshape(C, R * T, D)[:, text.predict_P].reshape(-1, D)
        h_PD, pull = jax.vjp(lambda x_PD: model.final_norm(self._config, head, x_PD), x_PD)
        target_P, weight_P = jnp.tile(text.target_P, C), jnp.tile(weight_P, C)
        unembedding = tree.unembedding(head)
        nll_P, dh_PD = model.token_nll_and_gradient(h_PD, unembedding, target_P, self._dtype)
        (dx_PD,) = pull(dh_PD * weight_P[:, None])
        # Added, not set: padding points at position 0, which may be predicted from as well.
        flat = jnp.zeros_like(x_CRTD).reshape(C, R * T, D)
        flat = flat.at[:, text.predict_P].add(dx_PD.reshape(C, -1, D))
        pool_XRTD = pool_XRTD.at[slot_C].set(flat.reshape(x_CRTD.shape), mode="drop")
        return pool_XRTD, (nll_P * weight_P).reshape(C, -1).sum(axis=-1)

    def read(self, head, pool_XRTD, slot_C, text) -> jax.Array:
        """The loss of each prediction of C streams, nll_CP."""
        context = Context(self._config, self._dtype, head, text)
        return nll((_streams(pool_XRTD, slot_C),), context)

    def update(
        self, shape, params, moments, pool_XRTD, clean_LRTD, layer_slot, text
    ) -> tuple[tree.BlockParams, Any]:
        """One step of a replica's own layer, whose output has its gradient in the pool."""
        layer, slot = layer_slot
        x_CRTD = clean_LRTD[layer][None]
        _, pull = jax.vjp(lambda own: self._apply(shape, own, x_CRTD, text), params)
        (gradient,) = pull(pool_XRTD[slot][None])
        updates, moments = self._optimiser.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments

    def _apply(self, shape, params, x_CRTD, text) -> jax.Array:
        return programs.apply_block(self._config, shape, self._dtype, params, x_CRTD, text)

    def _build(self, key: ProgramKey) -> dict[str, Callable]:
        kind, shape, width = key
        if kind == "tape":
            return self._tape(shape, _indices(width))
        function, donate, arguments = self._program(kind, shape, width)
        return {kind: self._compile(function, donate, arguments)}

    def _compile(self, function: Callable, donate: tuple[int, ...], arguments: tuple) -> Callable:
        with jax.default_matmul_precision(self._options.precision):
            return self._lanes.compile(function, donate, arguments)

    def _program(self, kind: str, shape: LayerShape | None, width: int) -> tuple:
        """A function, the arguments that it donates, and their shapes."""
        pool, clean, text, slot_C = self._pool, self._clean, self._text, _indices(width)
        if kind == "prepare":
            return self._prepare, (), (self._head, *self._inputs)
        if kind == "read":
            return self.read, (), (self._head, pool, slot_C, text)
        if kind == "turn":
            weight_P = jax.ShapeDtypeStruct(text.target_P.shape, jnp.float32)
            return self.turn, (1,), (self._head, pool, slot_C, weight_P, text)
        function = functools.partial(getattr(self, kind), shape)
        frozen = self._block(shape, self._dtype)
        # A replica's layer is float32, whatever the operands of products are.
        own, layer_slot = self._block(shape, jnp.dtype(jnp.float32)), _indices(2)
        if kind == "advance":
            return function, (1,), (frozen, clean, _indices(), text)
        if kind == "through":
            return function, (1,), (frozen, pool, slot_C, text)
        if kind == "start":
            return function, (1,), (own, pool, clean, layer_slot, text)
        moments = jax.eval_shape(self._optimiser.init, own)
        return function, (0, 1), (own, moments, pool, clean, layer_slot, text)

    def _tape(self, shape: LayerShape, slot_C: jax.ShapeDtypeStruct) -> dict[str, Callable]:
        """C streams through a frozen layer, and the gradients of them back.

        The way forward is traced first: it tells the way back what it will be given.
        """
        block = reversible_block(self._config, shape, self._dtype)
        params = self._block(shape, self._dtype)

        def forward(params, pool_XRTD, slot_C, text) -> tuple[jax.Array, list[jax.Array]]:
            y_CRTD, kept = block.forward((params, text), _streams(pool_XRTD, slot_C))
            return pool_XRTD.at[slot_C].set(y_CRTD, mode="drop"), kept

        def back(params, kept, pool_XRTD, slot_C, text) -> jax.Array:
            dx_CRTD = block.back((params, text), kept, _streams(pool_XRTD, slot_C))
            return pool_XRTD.at[slot_C].set(dx_CRTD, mode="drop")

        arguments = self._pool, slot_C, self._text
        with jax.default_matmul_precision(self._options.precision):
            _, kept = jax.eval_shape(forward, params, *arguments)
        return {
            "forward": self._compile(forward, (1,), (params, *arguments)),
            "back": self._compile(back, (2,), (params, kept, *arguments)),
        }

    def _block(self, shape: LayerShape, dtype: jnp.dtype) -> tree.BlockParams:
        return abstract_block(self._config, self._config.layers.index(shape), dtype)


def _streams(pool_XRTD: jax.Array, slot_C: jax.Array) -> jax.Array:
    """The streams of some slots; ones where padded, so that no norm divides by zero."""
    return pool_XRTD.at[slot_C].get(mode="fill", fill_value=1.0)


def _indices(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)

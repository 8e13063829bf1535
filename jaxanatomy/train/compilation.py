"""Ahead-of-time compilation of the passes of many replicas, in threads."""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import optax

from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.sweep import programs
from jaxanatomy.sweep.compilation import ProgramKey, abstract_block, abstract_head, text_inputs
from jaxanatomy.sweep.devices import Lanes
from jaxanatomy.train import streams
from jaxanatomy.train.options import RecoveryOptions


class StreamCompiler:
    """Knows the arguments of each program of `streams` and compiles them."""

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
        self._begin = functools.partial(programs.prepare, config, clean_layers)
        self._clean, self._text = jax.eval_shape(self._begin, self._head, *self._inputs)
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

    def _build(self, key: ProgramKey) -> dict[str, Callable]:
        kind, shape, width = key
        if kind == "tape":
            return self._tape(shape, width)
        function, donate, arguments = getattr(self, f"_{kind}")(shape, width)
        return {kind: self._compile(function, donate, arguments)}

    def _compile(self, function: Callable, donate: tuple[int, ...], arguments: tuple) -> Callable:
        with jax.default_matmul_precision(self._options.precision):
            return self._lanes.compile(function, donate, arguments)

    def _prepare(self, shape: None, width: int) -> tuple:
        return self._begin, (), (self._head, *self._inputs)

    def _advance(self, shape: LayerShape, width: int) -> tuple:
        function = functools.partial(streams.advance, self._config, shape, self._dtype)
        return function, (1,), (self._block(shape), self._clean, _indices(), self._text)

    def _start(self, shape: LayerShape, width: int) -> tuple:
        function = functools.partial(streams.start, self._config, shape, self._dtype)
        arguments = (self._own(shape), self._pool, self._clean, _indices(2), self._text)
        return function, (1,), arguments

    def _through(self, shape: LayerShape, width: int) -> tuple:
        function = functools.partial(streams.through, self._config, shape, self._dtype)
        return function, (1,), (self._block(shape), self._pool, _indices(width), self._text)

    def _read(self, shape: None, width: int) -> tuple:
        function = functools.partial(streams.read, self._config, self._dtype)
        return function, (), (self._head, self._pool, _indices(width), self._text)

    def _turn(self, shape: None, width: int) -> tuple:
        function = functools.partial(streams.turn, self._config, self._dtype)
        weight_P = jax.ShapeDtypeStruct(self._text.target_P.shape, jnp.float32)
        arguments = (self._head, self._pool, _indices(width), weight_P, self._text)
        return function, (1,), arguments

    def _update(self, shape: LayerShape, width: int) -> tuple:
        function = functools.partial(
            streams.update, self._config, shape, self._dtype, self._optimiser
        )
        own = self._own(shape)
        moments = jax.eval_shape(self._optimiser.init, own)
        arguments = (own, moments, self._pool, self._clean, _indices(2), self._text)
        return function, (0, 1), arguments

    def _tape(self, shape: LayerShape, width: int) -> dict[str, Callable]:
        """The way forward is traced first: it tells the way back what it will be given."""
        block = streams.reversible_block(self._config, shape, self._dtype)
        forward, back = (functools.partial(f, block) for f in (streams.forward, streams.back))
        params, slot_C = self._block(shape), _indices(width)
        with jax.default_matmul_precision(self._options.precision):
            _, kept = jax.eval_shape(forward, params, self._pool, slot_C, self._text)
        return {
            "forward": self._compile(forward, (1,), (params, self._pool, slot_C, self._text)),
            "back": self._compile(back, (2,), (params, kept, self._pool, slot_C, self._text)),
        }

    def _block(self, shape: LayerShape):
        """A frozen layer."""
        return abstract_block(self._config, self._config.layers.index(shape), self._dtype)

    def _own(self, shape: LayerShape):
        """A replica's layer: float32, whatever the operands of products are."""
        layer = self._config.layers.index(shape)
        return abstract_block(self._config, layer, jnp.dtype(jnp.float32))


def _indices(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)

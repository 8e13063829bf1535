"""Ahead-of-time compilation of the programs of a sweep.

Every shape follows from the configuration, the text and the schedules, so that
programs compile in threads while the weights load.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.sweep import programs
from jaxanatomy.sweep.devices import Lanes
from jaxanatomy.sweep.options import SweepOptions

ProgramKey = tuple[str, Hashable, int]
PREPARE: ProgramKey = ("prepare", None, 0)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes that all programs of a sweep share.

    Attributes:
      slots: Streams of the pool.
      gates: Rows of the table of gates.
      mixtures: Rows of the tables of mixtures.
      terms: Streams of the longest mixture.
    """

    slots: int
    gates: int
    mixtures: int
    terms: int


class Compiler:
    """Knows the arguments of each program and compiles them.

    Attributes:
      summaries: Shapes of what each `BesideClean` makes of the clean stream.
    """

    def __init__(
        self,
        config: ModelConfig,
        options: SweepOptions,
        lanes: Lanes,
        batch: TextBatch,
        sizes: Sizes,
        measures: Mapping[str, programs.Measure],
    ):
        self._config, self._options, self._lanes = config, options, lanes
        self._sizes, self._measures = sizes, measures
        self._dtype = options.compute_dtype
        self._head = abstract_head(config, self._dtype)
        self._inputs = jax.eval_shape(lambda: text_inputs(batch))
        self._prepare = functools.partial(programs.prepare, config, sizes.slots)
        self._pool, self._text = jax.eval_shape(self._prepare, self._head, *self._inputs)
        R, T = batch.token_RT.shape
        self.summaries = {
            name: jax.eval_shape(*self._read_of(measure.summarise, 1, 1))
            for name, measure in measures.items()
            if isinstance(measure, programs.BesideClean)
        }
        self._gates = jax.ShapeDtypeStruct((sizes.gates, R, T, config.max_heads + 2), jnp.float32)
        self._coefficients = jax.ShapeDtypeStruct((sizes.mixtures, sizes.terms), jnp.float32)
        self._masks = jax.ShapeDtypeStruct((sizes.mixtures, R, T), jnp.bool_)

    def compile(self, keys: Iterable[ProgramKey]) -> dict[ProgramKey, Callable]:
        """Compiles the programs of `keys` and the one that prepares a batch."""
        keys = [PREPARE, *keys]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return dict(zip(keys, pool.map(self._build, keys), strict=True))

    def program(self, key: ProgramKey) -> tuple[Callable, tuple[int, ...], tuple]:
        """A program as a function, the arguments that it donates, and their shapes."""
        kind, variety, width = key
        return getattr(self, f"_{kind}_program")(variety, width)

    def _build(self, key: ProgramKey) -> Callable:
        function, donate, arguments = self.program(key)
        with jax.default_matmul_precision(self._options.precision):
            return self._lanes.compile(function, donate, arguments)

    def _prepare_program(self, variety: None, width: int) -> tuple:
        return self._prepare, (), (self._head, *self._inputs)

    def _apply_program(self, shape: Hashable, width: int) -> tuple:
        function = functools.partial(programs.apply_layer, self._config, shape, self._dtype)
        layer = self._config.layers.index(shape)
        block = abstract_block(self._config, layer, self._dtype)
        arguments = (block, self._pool, _indices(3, width), self._gates, self._text)
        return function, (1,), arguments

    def _combine_program(self, streams: int, width: int) -> tuple:
        arguments = (self._pool, _indices(streams + 2, width), self._coefficients, self._masks)
        return programs.combine, (0,), arguments

    def _read_program(self, variety: tuple[str, int, int], width: int) -> tuple:
        name, own, shared = variety
        measure = self._measures[name]
        if isinstance(measure, programs.BesideClean):
            measure = measure.function
        function, *arguments = self._read_of(measure, own, width)
        return function, (), (*arguments, *([self.summaries[name]] if shared else []))

    def _summarise_program(self, name: str, width: int) -> tuple:
        measure = self._measures[name].summarise
        function = functools.partial(programs.summarise, self._config, self._dtype, measure)
        _, *arguments = self._read_of(measure, 1, width)
        return function, (), (*arguments, self.summaries[name])

    def _read_of(self, measure: programs.MeasureFunction, streams: int, width: int) -> tuple:
        """The program that reads a measure, and its arguments without a summary."""
        function = functools.partial(programs.read, self._config, self._dtype, measure)
        return function, self._head, self._pool, _indices(streams, width), self._text


def text_inputs(batch: TextBatch) -> tuple[np.ndarray, ...]:
    """The arrays of a batch that `programs.prepare` takes."""
    return (
        batch.token_RT,
        batch.position_RT,
        batch.segment_RT,
        batch.predict_P,
        batch.target_P,
    )


def cast(array: tree.Array, dtype: jnp.dtype) -> tree.Array:
    """Matrices in the compute dtype, norms in float32, whatever the model was loaded in."""
    wanted = dtype if array.ndim > 1 else np.dtype(np.float32)
    return array if array.dtype == wanted else array.astype(wanted)


def abstract_block(config: ModelConfig, layer: int, dtype: jnp.dtype) -> tree.BlockParams:
    """Shapes of one layer's placed weights."""
    return jax.tree.map(lambda leaf: _placed(leaf, dtype), model.abstract_block(config, layer))


def abstract_head(config: ModelConfig, dtype: jnp.dtype) -> tree.Params:
    """Shapes of the placed weights that are not layers."""
    head = {name: part for name, part in model.abstract_params(config).items() if name != "layers"}
    return jax.tree.map(lambda leaf: _placed(leaf, dtype), head)


def _placed(leaf: jax.ShapeDtypeStruct, dtype: jnp.dtype) -> jax.ShapeDtypeStruct:
    """As `cast` places it."""
    return leaf.update(dtype=dtype if leaf.ndim > 1 else jnp.float32)


def _indices(rows: int, width: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows, width), jnp.int32)

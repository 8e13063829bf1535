"""Ahead-of-time compilation of the programs of a sweep.

Every shape follows from the configuration, the text and the schedules, so that
programs compile in threads while the weights load.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.sweep import programs
from jaxanatomy.sweep.devices import Lanes
from jaxanatomy.sweep.options import SweepOptions
from jaxanatomy.sweep.plan import Plan
from jaxanatomy.sweep.reading import MeasureFunction, Probe
from jaxanatomy.sweep.schedule import Schedule

ProgramKey = tuple[str, Hashable, int]
Variety = tuple[LayerShape, tuple[str, ...]]
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

    @classmethod
    def of(cls, plans: Sequence[Plan], schedules: Sequence[Schedule]) -> "Sizes":
        """The sizes that serve all plans of a sweep."""
        mixtures = [mixture for plan in plans for mixture in plan.mixtures]
        return cls(
            slots=max(schedule.slots for schedule in schedules),
            gates=max(len(plan.gates) for plan in plans),
            mixtures=max(len(plan.mixtures) for plan in plans),
            terms=max((len(mixture.coefficients) for mixture in mixtures), default=0),
        )


class Compiler:
    """Knows the arguments of each program and compiles them.

    Attributes:
      summaries: For each probe that reads another variant's end, the shapes of what it makes of
        that.
    """

    def __init__(
        self,
        config: ModelConfig,
        options: SweepOptions,
        lanes: Lanes,
        batch: TextBatch,
        sizes: Sizes,
        probes: Sequence[Probe],
    ):
        self._config, self._options, self._lanes = config, options, lanes
        self._sizes, self._probes = sizes, tuple(probes)
        shapes = tuple((array.shape, array.dtype) for array in text_inputs(batch))
        #: Equal of two compilers whose programs are the same.
        self.identity = (config, options, lanes.sharding, shapes, sizes, self._probes)
        self._dtype = options.compute_dtype
        self._head = abstract_head(config, self._dtype)
        self._inputs = jax.eval_shape(lambda: text_inputs(batch))
        self._prepare = functools.partial(programs.prepare, config, sizes.slots)
        self._pool, self._text = jax.eval_shape(self._prepare, self._head, *self._inputs)
        R, T = batch.token_RT.shape
        self._gates = jax.ShapeDtypeStruct((sizes.gates, R, T, config.max_heads + 2), jnp.float32)
        self._coefficients = jax.ShapeDtypeStruct((sizes.mixtures, sizes.terms), jnp.float32)
        self._masks = jax.ShapeDtypeStruct((sizes.mixtures, R, T), jnp.bool_)
        self.summaries = {
            number: jax.eval_shape(*self._read_of(probe.beside.summarise, 1))
            for number, probe in enumerate(probes)
            if probe.beside_end
        }

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

    def _apply_program(self, variety: Variety, width: int) -> tuple:
        shape, points = variety
        layer = self._config.layers.index(shape)
        block = abstract_block(self._config, layer, self._dtype)
        function = functools.partial(
            programs.apply_layer, self._config, shape, self._dtype, points=points
        )
        return function, (1,), (block, self._pool, _indices(3, width), self._gates, self._text)

    def _combine_program(self, streams: int, width: int) -> tuple:
        arguments = (self._pool, _indices(streams + 2, width), self._coefficients, self._masks)
        return programs.combine, (0,), arguments

    def _read_program(self, number: int, width: int) -> tuple:
        function, *arguments = self._read_of(self._probes[number].function, width)
        summary = [self.summaries[number]] if number in self.summaries else []
        return function, (), (*arguments, *summary)

    def _summarise_program(self, number: int, width: int) -> tuple:
        measure = self._probes[number].beside.summarise
        function = functools.partial(programs.summarise, self._config, self._dtype, measure)
        _, *arguments = self._read_of(measure, width)
        return function, (), (*arguments, self.summaries[number])

    def _inside_program(self, key: tuple[int, LayerShape], width: int) -> tuple:
        number, shape = key
        probe, summary = self._probes[number], []
        if number in self.summaries:
            summary = [self.summaries[number]]
        elif probe.beside:
            function, _, arguments = self._summarise_inside_program(key, 1)
            summary = [jax.eval_shape(function, *arguments)]
        function, *arguments = self._inside_of(probe.function, probe, shape, width)
        params = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0], probe.params))
        return function, (), (*arguments, params, *summary)

    def _summarise_inside_program(self, key: tuple[int, LayerShape], width: int) -> tuple:
        number, shape = key
        probe = self._probes[number]
        function, *arguments = self._inside_of(probe.beside.summarise, probe, shape, width)
        return function, (), tuple(arguments)

    def _pick_program(self, variety: Variety, width: int) -> tuple:
        return programs.pick, (), (self._points(*variety, width), _indices())

    def _mix_points_program(self, variety: Variety, width: int) -> tuple:
        points = self._points(*variety, width)
        return programs.mix_points, (), (points, points, _indices(), self._masks)

    def _read_of(self, measure: MeasureFunction, width: int) -> tuple:
        """The program that reads a measure, and its arguments without a summary."""
        function = functools.partial(programs.read, self._config, self._dtype, measure)
        return function, self._head, self._pool, _indices(width), self._text

    def _inside_of(
        self, measure: MeasureFunction, probe: Probe, shape: LayerShape, width: int
    ) -> tuple:
        """The same inside layers of a shape."""
        function = functools.partial(programs.read_inside, self._config, self._dtype, measure)
        found = self._points(shape, probe.points, width)
        return function, self._head, tuple(found[name] for name in probe.points), self._text

    def _points(self, shape: LayerShape, points: tuple[str, ...], width: int) -> Any:
        function, _, arguments = self._apply_program((shape, points), width)
        return jax.eval_shape(function, *arguments)[1]


def text_inputs(batch: TextBatch) -> tuple[np.ndarray, ...]:
    """The arrays of a batch that `programs.prepare` takes."""
    return (
        batch.token_RT,
        batch.position_RT,
        batch.segment_RT,
        batch.predict_P,
        batch.target_P,
        *(() if batch.end_RT is None else (batch.end_RT,)),
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


def _indices(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)

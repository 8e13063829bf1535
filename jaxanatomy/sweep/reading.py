"""What is read of a sweep: a measure, the points that it is given, and what is kept of it.

    Reading(norm)                                  at the end of each variant
    Reading(norm, "mlp_out")                       at a point inside every layer
    Reading(relative, ("block_in", "mlp_out"), mean("predicted"))
    Reading(Beside(distance), "block_out")         beside the unedited model at the same layer

The measure decides what is computed, the points where, the reduction what is kept. Readings of
the same measure at the same points share its computation.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.variants import POSITIONS, Positions, Steps
from jaxanatomy.model import POINTS
from jaxanatomy.ranges import parse_layers, parse_ranges
from jaxanatomy.reprs import repr_in_one_line
from jaxanatomy.tree import PyTree

END = "end"
PREDICTED = "predicted"
ALL_POINTS = {END: "the stream after the last step of a variant, [C, R, T, D]", **POINTS}
HOWS = {
    "everything": "every value by itself",
    "mean": "the mean over positions",
    "max": "the maximum over positions",
}
GROUPS = ("text", "document")

# Takes a tuple of arrays [C, R, T, D] (attention [C, R, H, T, S]), one for each point, and a
# `programs.Context`; gives [C], [C, P, ...] or [C, R, T, ...], or a dict of such arrays.
MeasureFunction = Callable[[tuple[Any, ...], Any], Any]


def themselves(streams: tuple[Any, ...], context: Any) -> Any:
    """The summary of points that is the points: one array, or a tuple of several."""
    return streams[0] if len(streams) == 1 else streams


@dataclasses.dataclass(frozen=True)
class Beside:
    """A measure of a variant beside another one.

    Attributes:
      function: Takes `(*points, summary)` of C variants and what `summarise` returned.
      summarise: Takes the points of the other one, `[1, ...]`; runs once for each place in
        each batch of text, whatever the number of variants. By default the points themselves.
      steps: The other one; None: the unedited model.
      at: Where the other one is read: "same", at the points of the same layer, or "end".
    """

    function: MeasureFunction
    summarise: MeasureFunction = themselves
    steps: Steps | None = None
    at: str = "same"

    def __post_init__(self):
        choose("place to read beside", self.at, ("same", END))


@dataclasses.dataclass(frozen=True, eq=False)
class Parametric:
    """A measure with parameters of its own at each layer: a linear probe, a tuned lens.

    Attributes:
      measure: A function, or `Beside`; `context.params` holds the parameters of the layer that
        the function reads.
      params: A tree of arrays with a leading axis over all layers of the model, [L, ...].
    """

    measure: MeasureFunction | Beside
    params: Any

    __repr__ = repr_in_one_line


Measure = MeasureFunction | Beside | Parametric


@dataclasses.dataclass(frozen=True)
class Reduction:
    """What is kept of a measure's values.

    Attributes:
      how: One of `HOWS`.
      where: Which positions count: "all", "first", "others", "predicted" (those from which a
        token is predicted), or `variants.Positions`: `after(t - 1)` are those at or after t.
        What counts nowhere is not kept either.
      per: "text" or "document": over what a mean or a maximum goes.
    """

    how: str = "everything"
    where: str | Positions = "all"
    per: str = "text"

    def __post_init__(self):
        choose("reduction", self.how, HOWS)
        choose("group of a reduction", self.per, GROUPS)
        if isinstance(self.where, str):
            choose("positions", self.where, (*POSITIONS, PREDICTED))
        elif not isinstance(self.where, Positions):
            raise InputError(
                f"where must be a name or Positions; got {self.where!r}; take 'all', 'predicted' "
                "or ja.Positions(NAME, FUNCTION)"
            )

    @property
    def place(self) -> str:
        """The name of the positions."""
        return self.where if isinstance(self.where, str) else self.where.name


EVERYTHING = Reduction()


def mean(where: str | Positions = "all", per: str = "text") -> Reduction:
    """The mean over the positions of the text, or of each of its documents."""
    return Reduction("mean", where, per)


def maximum(where: str | Positions = "all", per: str = "text") -> Reduction:
    """The maximum over the positions of the text, or of each of its documents."""
    return Reduction("max", where, per)


@dataclasses.dataclass(frozen=True)
class Reading:
    """One thing to read of every variant.

    Attributes:
      measure: A function, `Beside` or `Parametric`. It gives `[C]` (a number for each stream and
        batch of text), `[C, P, ...]` (for each prediction) or `[C, R, T, ...]` (for each token).
      points: `END`, or names of `model.POINTS`, which the measure gets in this order.
      reduction: What is kept.
      layers: Which layers are read, as `ranges.parse_layers` takes them; None: all.
      part: Which entry, of a measure that gives a dict.
      axes: Names of the axes that come after those of the text: ("head",).
      by: "layer": one value for each layer of the model, NaN where a variant does not apply it.
        "step": one for each application in order, for variants that apply a layer twice.
    """

    measure: Measure
    points: str | Sequence[str] = END
    reduction: Reduction | str = EVERYTHING
    layers: str | int | Iterable[int | str] | None = None
    part: str | None = None
    axes: Sequence[str] = ()
    by: str = "layer"

    def __post_init__(self):
        points = (self.points,) if isinstance(self.points, str) else tuple(self.points)
        for point in points:
            choose("point", point, ALL_POINTS)
        if not points or (END in points and len(points) > 1):
            raise InputError(
                f"a reading takes {END!r} alone, or points inside a layer; got {list(points)}"
            )
        if not _is_measure(self.measure):
            raise InputError(f"a measure must be a function; got {type(self.measure).__name__}")
        if END in points and isinstance(self.measure, Parametric):
            raise InputError(
                "a measure with parameters for each layer reads inside layers; got 'end'; read it "
                "at 'block_out'"
            )
        if isinstance(self.reduction, str):
            object.__setattr__(self, "reduction", Reduction(self.reduction))
        if self.layers is not None:
            numbers = tuple(parse_ranges(self.layers, "layers"))
            object.__setattr__(self, "layers", numbers)
        choose("order of a reading", self.by, ("layer", "step"))
        if (END in points or self.by == "step") and self.layers is not None:
            raise InputError("layers are chosen inside layers and by layer only; leave them out")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "axes", tuple(self.axes))

    @property
    def at_end(self) -> bool:
        """Whether it reads the ends of variants."""
        return self.points == (END,)


def as_reading(name: str, given: Any) -> Reading:
    """A reading, or a bare measure as the reading of everything at the ends.

    Raises:
      InputError: It is something else.
    """
    if isinstance(given, Reading):
        return given
    if not _is_measure(given):
        raise InputError(
            f"reading {name!r} must be a Reading or a measure; got {type(given).__name__}"
        )
    return Reading(given)


def _is_measure(given: Any) -> bool:
    return callable(given) or isinstance(given, Beside | Parametric)


@dataclasses.dataclass(frozen=True)
class Probe:
    """What is computed: a measure at some points. Readings keep parts of it.

    Attributes:
      measure: The measure.
      points: The points.
      layers: Where it is read; none at the ends.
    """

    measure: Measure
    points: tuple[str, ...]
    layers: tuple[int, ...]

    @property
    def function(self) -> MeasureFunction:
        """What is called with points."""
        return self.beside.function if self.beside else self._measure

    @property
    def beside(self) -> Beside | None:
        """The measure, if it reads another variant besides."""
        return self._measure if isinstance(self._measure, Beside) else None

    @property
    def params(self) -> PyTree:
        """The measure's parameters at all layers, [L, ...]; None where it has none."""
        return self.measure.params if isinstance(self.measure, Parametric) else None

    @property
    def _measure(self) -> MeasureFunction | Beside:
        return self.measure.measure if isinstance(self.measure, Parametric) else self.measure

    @property
    def beside_end(self) -> bool:
        """Whether it reads the end of another variant."""
        return self.beside is not None and (END in self.points or self.beside.at == END)


def probes_of(
    config: ModelConfig, readings: Mapping[str, Reading]
) -> tuple[tuple[Probe, ...], dict[str, int]]:
    """The distinct probes of some readings, and which of them each reading is of.

    Raises:
      InputError: A layer that the model does not have, parameters that are not one for each.
    """
    layers: dict[tuple[Measure, tuple[str, ...]], set[int]] = {}
    for reading in readings.values():
        wanted = () if reading.at_end else parse_layers(reading.layers, config.num_layers)
        layers.setdefault((reading.measure, reading.points), set()).update(wanted)
    probes = tuple(Probe(*key, tuple(sorted(found))) for key, found in layers.items())
    for leaf in jax.tree.leaves([probe.params for probe in probes]):
        if np.shape(leaf)[:1] != (config.num_layers,):
            raise InputError(
                "the parameters of a measure must have a first axis of as many as the model has "
                f"layers, {config.num_layers}; got the shape {list(np.shape(leaf))}"
            )
    numbers = {key: number for number, key in enumerate(layers)}
    return probes, {name: numbers[each.measure, each.points] for name, each in readings.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What one reading gave.

    Attributes:
      values: The numbers; NaN where a variant does not apply a layer.
      dims: Names of their axes, for example ("variant", "layer", "position").
      variants: Names along the first axis.
      layers: Numbers along the axis "layer"; by step the layers of each variant, [variant,
        step], -1 beyond its end; None for readings at ends.
      documents: Along the axis "position", "prediction" or "document": the number of the
        document in the text.
      positions: Along "position" or "prediction": the position in the window, for predictions
        that from which they are made.
      branches: Along "position" or "prediction": the branch (`data.branches`), 0 where a text
        has none.
    """

    values: np.ndarray
    dims: tuple[str, ...]
    variants: tuple[str, ...]
    layers: np.ndarray | None = None
    documents: np.ndarray | None = None
    positions: np.ndarray | None = None
    branches: np.ndarray | None = None

    def __repr__(self) -> str:
        sizes = zip(self.dims, self.values.shape, strict=True)
        return f"Measured({', '.join(f'{name}={size}' for name, size in sizes)})"

    @classmethod
    def joined(cls, parts: Sequence["Measured"]) -> "Measured":
        """The parts of several chunks as one."""
        first = parts[0]
        layers = first.layers
        if "step" in first.dims:
            layers = np.concatenate([part.layers for part in parts])
        return dataclasses.replace(
            first,
            values=np.concatenate([part.values for part in parts]),
            variants=tuple(name for part in parts for name in part.variants),
            layers=layers,
        )

    def __getitem__(self, variant: str) -> np.ndarray:
        """The values of one variant."""
        if variant not in self.variants:
            choose("variant", variant, self.variants)
        return self.values[self.variants.index(variant)]

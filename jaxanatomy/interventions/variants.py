"""Variants of a model as data: which layer runs at each depth step, and with what edit.

Nothing here touches weights or streams. A `Variant` is a list of `Step`s that the
sweep engine plans, shares and executes; the baseline is layers 0 .. L-1 unedited,
a skip drops a step, swap and reverse permute steps, an early exit truncates them.
"""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from jaxanatomy import tree


@dataclasses.dataclass(frozen=True)
class Positions:
    """Which token positions an edit or a gate acts on.

    Positions count from 0 inside each window of text; a document that is not longer than
    a window is one window.

    Attributes:
      name: As it stands in names of variants and in rows.
      select: Maps positions inside their windows, int [R, T], to a bool mask [R, T].
    """

    name: str
    select: Callable[[np.ndarray], np.ndarray]


ALL = Positions("all", lambda position_RT: np.ones_like(position_RT, dtype=bool))
FIRST = Positions("first", lambda position_RT: position_RT == 0)
OTHERS = Positions("others", lambda position_RT: position_RT > 0)
POSITIONS = {positions.name: positions for positions in (ALL, FIRST, OTHERS)}


@functools.cache
def up_to(last: int) -> Positions:
    """Positions 0 .. `last` of each window."""
    return Positions(f"up_to_{last}", lambda position_RT: position_RT <= last)


@functools.cache
def after(last: int) -> Positions:
    """Positions above `last` of each window."""
    return Positions(f"after_{last}", lambda position_RT: position_RT > last)


@dataclasses.dataclass(frozen=True)
class Edit:
    """New weights for one layer, as a pure function of unedited weights.

    Attributes:
      name: The intervention's name.
      function: `function(own, *others, **arguments)` takes the layer's own block and
        the blocks of `sources` (see `jaxanatomy.tree`) and returns a block; only the
        components in `scope` are taken from it. It is compiled by `jax.jit` with
        `arguments` static unless `on_host`.
      sources: Layers whose unedited blocks the function reads besides its own.
      scope: Components that the edit may replace, each whole: a matrix with its bias.
      arguments: Keyword arguments as a sorted tuple of (name, value).
      on_host: The function works on NumPy arrays (random numbers, assignments).
    """

    name: str
    function: Callable[..., tree.BlockParams]
    sources: tuple[int, ...] = ()
    scope: tuple[str, ...] = tree.MATRICES
    arguments: tuple[tuple[str, Hashable], ...] = ()
    on_host: bool = False


@dataclasses.dataclass(frozen=True)
class Step:
    """One depth step of a variant.

    Attributes:
      layer: The layer that is applied.
      edit: New weights for it, or None.
      closed: What is gated off: "attention", "mlp", or single query heads as
        "head_0", "head_1", ...; a gated sublayer adds nothing to the residual stream.
      positions: Where edit and gates act. An edit at some positions selects outputs:
        the edited block's output there, the unedited block's elsewhere, both from
        the same input. (Edited keys and values seen by all tokens would be another
        experiment.)
    """

    layer: int
    edit: Edit | None = None
    closed: tuple[str, ...] = ()
    positions: Positions = ALL


Steps = tuple[Step, ...]


@dataclasses.dataclass(frozen=True)
class Tap:
    """A measure of streams inside the network rather than at its end.

    Attributes:
      name: Under which the result stands in the variant's readings.
      measure: Name of the measure, as given to the sweep.
      streams: The streams that it reads, each named by the steps that lead to it. The
        contribution of step i is read from `(steps[:i], steps[:i + 1])`.
    """

    name: str
    measure: str
    streams: tuple[Steps, ...]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named list of steps.

    Attributes:
      name: Unique in a sweep, for example "neighbour_mean/layer/11".
      steps: What is applied, in order, from the embedding to the read-out.
      taps: Further streams to measure.
      labels: Fields that its row carries: intervention, scope, positions, layer, ...
    """

    name: str
    steps: Steps
    taps: tuple[Tap, ...] = ()
    labels: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        taps = f", {len(self.taps)} taps" if self.taps else ""
        return f"Variant({self.name!r}, {len(self.steps)} steps{taps})"

    def fingerprint(self) -> str:
        """A hash of everything that decides the result, stable between processes."""
        parts = [_describe(step) for step in self.steps]
        for tap in self.taps:
            parts += [tap.measure, *(_describe(step) for path in tap.streams for step in path)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


BASELINE = "baseline"
DRAWS = 4  # of each change that is random


def name_of_draw(name: str, draw: int) -> str:
    """The name of a random change in one of its draws: "matched_noise", "matched_noise#1"."""
    return f"{name}#{draw}" if draw else name


def baseline_steps(num_layers: int) -> Steps:
    """All layers in order, unedited."""
    return tuple(Step(layer) for layer in range(num_layers))


def baseline(num_layers: int) -> Variant:
    """The unedited model."""
    return Variant(BASELINE, baseline_steps(num_layers), labels={"intervention": "none"})


def _describe(step: Step) -> str:
    positions = step.positions
    text = f"{step.layer} {sorted(step.closed)} {positions.name}"
    if positions not in POSITIONS.values():
        text += f" {_code(positions.select)}"
    if step.edit is None:
        return text
    edit = step.edit
    return f"{text} {edit.name} {edit.sources} {edit.scope} {edit.arguments} {_code(edit.function)}"


def _code(function: Callable) -> str:
    """The source of a function and what it captured, so that a changed one is measured anew."""
    if isinstance(function, functools.partial):
        return f"{_code(function.func)} {function.args} {sorted(function.keywords.items())}"
    captured = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    try:
        return f"{inspect.getsource(function)} {captured}"
    except (OSError, TypeError):
        return f"{function.__module__}.{getattr(function, '__qualname__', function)} {captured}"

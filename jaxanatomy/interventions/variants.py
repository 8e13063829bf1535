"""Variants of a model as data: which layer runs at each depth step, and with what edit.

Nothing here touches weights or streams. A `Variant` is a list of `Step`s that the
sweep engine plans, shares and executes; the baseline is layers 0 .. L-1 unedited,
a skip drops a step, swap and reverse permute steps, an early exit truncates them. A
`Combination` stands among them where streams are added.
"""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from jaxanatomy import tree
from jaxanatomy.data.packing import TextBatch


@dataclasses.dataclass(frozen=True)
class Positions:
    """Which tokens an edit or a gate acts on.

    Positions, `text.position_RT`, count from 0 inside each window of text; a document that is
    not longer than a window is one window.

    Attributes:
      name: As it stands in names of variants and in rows.
      select: Maps a batch of text to a bool mask [R, T].
    """

    name: str
    select: Callable[[TextBatch], np.ndarray]


ALL = Positions("all", lambda text: np.ones_like(text.position_RT, dtype=bool))
FIRST = Positions("first", lambda text: text.position_RT == 0)
OTHERS = Positions("others", lambda text: text.position_RT > 0)
POSITIONS = {positions.name: positions for positions in (ALL, FIRST, OTHERS)}


@functools.cache
def up_to(last: int) -> Positions:
    """Positions 0 .. `last` of each window."""
    return Positions(f"up_to_{last}", lambda text: text.position_RT <= last)


@functools.cache
def after(last: int) -> Positions:
    """Positions above `last` of each window."""
    return Positions(f"after_{last}", lambda text: text.position_RT > last)


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


Factors = tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """One depth step of a variant: a layer is applied.

    Attributes:
      layer: The layer that is applied.
      edit: New weights for it, or None.
      factors: What parts of the layer write is multiplied by: "attention", "mlp", or single
        query heads as "head_0", "head_1", ...; 0 closes a part, 1 / 2 damps it. A mapping will
        do: `Step(3, factors={"mlp": 0.5})`. A head gets its own factor times attention's.
      positions: Where edit and factors act. An edit at some positions selects outputs:
        the edited block's output there, the unedited block's elsewhere, both from
        the same input. (Edited keys and values seen by all tokens would be another
        experiment.)
    """

    layer: int
    edit: Edit | None = None
    factors: Factors | Mapping[str, float] = ()
    positions: Positions = ALL

    def __post_init__(self):
        pairs = ((name, float(factor)) for name, factor in dict(self.factors).items())
        object.__setattr__(self, "factors", tuple(sorted(pairs)))


@dataclasses.dataclass(frozen=True)
class Combination:
    """A linear combination of streams, in the place of a depth step.

    Attributes:
      terms: Pairs (coefficient, steps). The steps lead from the stream so far (at the beginning
        of a variant the embedded text) to that of the term; `()` is the stream so far itself.
      positions: Where the combination stands; elsewhere it is the stream of the first term.
      from_text: The steps lead from the embedded text, wherever the combination stands: what the
        variant has done before is left behind.
    """

    terms: "tuple[tuple[float, Steps], ...]"
    positions: Positions = ALL
    from_text: bool = False


Steps = tuple[Step | Combination, ...]


def closed(*parts: str) -> Factors:
    """Factors of 0: parts of a layer that write nothing into the residual stream."""
    return tuple((part, 0.0) for part in parts)


def damped(steps: Steps, factor: float) -> Combination:
    """The change that some steps make, added with a factor: 0 leaves them out, 1 takes them."""
    return Combination(((1 - factor, ()), (factor, tuple(steps))))


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named list of steps.

    Attributes:
      name: Unique in a sweep, for example "neighbour_mean/layer/11".
      steps: What is applied, in order, from the embedding to the read-out.
      labels: Fields that its row carries: intervention, scope, positions, layer, ...
    """

    name: str
    steps: Steps
    labels: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        return f"Variant({self.name!r}, {len(self.steps)} steps)"

    def fingerprint(self) -> str:
        """A hash of everything that decides the result, stable between processes."""
        return hashlib.sha256(_describe(self.steps).encode()).hexdigest()[:16]


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


def _describe(steps: Steps) -> str:
    return "\n".join(map(_describe_step, steps))


def _describe_step(step: Step | Combination) -> str:
    if isinstance(step, Combination):
        terms = "; ".join(f"{factor} ({_describe(steps)})" for factor, steps in step.terms)
        start = " from the text" if step.from_text else ""
        return f"combination {_describe_positions(step.positions)}{start}: {terms}"
    text = f"{step.layer} {step.factors} {_describe_positions(step.positions)}"
    if step.edit is None:
        return text
    edit = step.edit
    return f"{text} {edit.name} {edit.sources} {edit.scope} {edit.arguments} {_code(edit.function)}"


def _describe_positions(positions: Positions) -> str:
    if positions in POSITIONS.values():
        return positions.name
    return f"{positions.name} {_code(positions.select)}"


def _code(function: Callable) -> str:
    """The source of a function and what it captured, so that a changed one is measured anew."""
    if isinstance(function, functools.partial):
        return f"{_code(function.func)} {function.args} {sorted(function.keywords.items())}"
    captured = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    try:
        return f"{inspect.getsource(function)} {captured}"
    except (OSError, TypeError):
        return f"{function.__module__}.{getattr(function, '__qualname__', function)} {captured}"

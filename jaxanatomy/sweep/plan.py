"""Which layer applications a list of variants needs, each of them once. No JAX here.

The steps of all variants are interned into one directed acyclic graph: two
variants that begin with the same steps share those nodes, and only what differs is
computed anew. One edit per layer over L layers needs L (L + 1) / 2 applications
instead of L * L.

Three kinds of node make a stream:

    ROOT                                   the embedded text
    Apply(parent, layer, edit, gate)       a layer, possibly edited, possibly gated
    Combine(nodes, mixture)                a linear combination of streams at some positions,
                                           the first of them elsewhere

A skipped layer is no node. An edit at some positions is Combine of the unedited layer's stream
and the edited one's with coefficients 0 and 1. What is not weights is data of the stream (`gate`
and `mixture` index tables that are built from the text), so that gated and ungated streams
go through a layer together.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from jaxanatomy import model
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.steps import part_factors
from jaxanatomy.interventions.variants import (
    ALL,
    Combination,
    Edit,
    Positions,
    Step,
    Steps,
    Variant,
    baseline_steps,
)

ROOT = 0


@dataclasses.dataclass(frozen=True)
class Apply:
    """One application of one layer to one stream.

    Attributes:
      parent: The node whose stream goes in.
      layer: The layer whose weights, edited or not, are applied.
      edit: The edit of its weights, or None.
      gate: Index into `Plan.gates`.
    """

    parent: int
    layer: int
    edit: Edit | None
    gate: int


@dataclasses.dataclass(frozen=True)
class Combine:
    """The sum of the streams of `nodes`, weighted and placed by `Plan.mixtures[mixture]`."""

    nodes: tuple[int, ...]
    mixture: int


@dataclasses.dataclass(frozen=True)
class Gate:
    """What the outputs of a layer's parts are multiplied by, and where.

    Attributes:
      heads: Pairs (query head, factor), of heads whose factor is not 1.
      attention: The factor of what attention writes beside its heads.
      mlp: The factor of the MLP.
      positions: Where.
    """

    heads: tuple[tuple[int, float], ...]
    attention: float
    mlp: float
    positions: Positions


@dataclasses.dataclass(frozen=True)
class Mixture:
    """How streams are combined.

    Attributes:
      coefficients: One for each stream.
      positions: Where they are combined; elsewhere the first stream stands.
    """

    coefficients: tuple[float, ...]
    positions: Positions


@dataclasses.dataclass(frozen=True)
class Read:
    """One evaluation of a measure on the streams of some nodes.

    Attributes:
      measure: Its name.
      nodes: The streams that are its own.
      shared: The streams that it has in common with all other reads of the measure.
    """

    measure: str
    nodes: tuple[int, ...]
    shared: tuple[int, ...] = ()


OPEN = Gate((), 1.0, 1.0, ALL)


class Plan:
    """The interned graph of a list of variants.

    Attributes:
      nodes: Node i is computed from nodes below i; `nodes[ROOT]` is None.
      gates: Distinct gates; the first is `OPEN`.
      mixtures: Distinct ways to combine streams.
      reads: Distinct evaluations of measures.
      outputs: For each variant's name, the index into `reads` of each of its readings:
        measures at its end under their own names.
    """

    def __init__(
        self,
        config: ModelConfig,
        variants: Iterable[Variant],
        measures: Sequence[str],
        beside_clean: Sequence[str] = (),
    ):
        """Plans variants, each read by all `measures` at its end.

        Measures in `beside_clean` read the end of the unedited model as well.

        Raises:
          InputError: A layer out of range, a factor of an unknown part, coefficients that are
            not finite, or a name given twice.
        """
        self.config = config
        self.outputs: dict[str, dict[str, int]] = {}
        self._nodes, self._gates = _Table([None]), _Table([OPEN])
        self._mixtures, self._reads = _Table(), _Table()
        self._measures = tuple(measures)
        clean = (self._stream(baseline_steps(config.num_layers)),) if beside_clean else ()
        shared = {name: clean if name in beside_clean else () for name in measures}
        for variant in variants:
            if variant.name in self.outputs:
                raise InputError(f"variant names must be unique; {variant.name!r} came twice")
            end = self._stream(variant.steps)
            outputs = {
                name: self._reads.index(Read(name, (end,), shared[name])) for name in measures
            }
            self.outputs[variant.name] = outputs
        self.nodes: list[Apply | Combine | None] = list(self._nodes)
        self.gates: list[Gate] = list(self._gates)
        self.mixtures: list[Mixture] = list(self._mixtures)
        self.reads: list[Read] = list(self._reads)

    def __repr__(self) -> str:
        return f"Plan({len(self.outputs)} variants, {self.applications:,} layer applications)"

    @property
    def applications(self) -> int:
        """Distinct layer applications: the work of the plan."""
        return sum(isinstance(node, Apply) for node in self.nodes)

    def flops(self, tokens: int, predictions: int) -> int:
        """Floating-point operations of the matrix products, a product of m, n, k being 2mnk.

        Counts the seven matrices of each distinct application and the head of each
        distinct read at an end; not the attention products (a few per cent), no elementwise
        work, and not the head of clean streams that measures read beside the others.
        """
        D = self.config.hidden_size
        layers = sum(
            2 * tokens * model.matrix_parameter_count(self.config, node.layer)
            for node in self.nodes
            if isinstance(node, Apply)
        )
        heads = sum(read.measure in self._measures for read in self.reads)
        return layers + heads * 2 * predictions * D * self.config.vocab_size

    def _stream(self, steps: Steps, node: int = ROOT) -> int:
        """The node of the stream that `steps` lead to from that of `node`."""
        for step in steps:
            combined = isinstance(step, Combination)
            node = self._combination(node, step) if combined else self._step(node, step)
        return node

    def _step(self, parent: int, step: Step) -> int:
        num_layers = self.config.num_layers
        if not 0 <= step.layer < num_layers:
            raise InputError(f"layers are 0 .. {num_layers - 1}; got {step.layer}; count from 0")
        factors = part_factors(self.config, step)
        if step.positions == ALL and not any(factors):
            return parent  # both sublayers add nothing: the layer is skipped
        if step.edit is None:
            return self._apply(parent, step.layer, None, factors, step.positions)
        edited = self._apply(parent, step.layer, step.edit, factors, ALL)
        if step.positions == ALL:
            return edited
        clean = self._nodes.index(Apply(parent, step.layer, None, 0))
        return self._combine((clean, edited), (0.0, 1.0), step.positions)

    def _combination(self, parent: int, combination: Combination) -> int:
        coefficients = tuple(float(coefficient) for coefficient, _ in combination.terms)
        if not coefficients or not all(map(math.isfinite, coefficients)):
            raise InputError(
                "a combination of streams needs at least one term, and finite coefficients; got "
                f"{list(coefficients)}"
            )
        nodes = tuple(self._stream(steps, parent) for _, steps in combination.terms)
        return self._combine(nodes, coefficients, combination.positions)

    def _apply(
        self,
        parent: int,
        layer: int,
        edit: Edit | None,
        factors: tuple[float, ...],
        positions: Positions,
    ) -> int:
        *heads, attention, mlp = factors
        changed = tuple((head, factor) for head, factor in enumerate(heads) if factor != 1)
        gate = OPEN
        if any(factor != 1 for factor in factors):
            gate = Gate(changed, attention, mlp, positions)
        return self._nodes.index(Apply(parent, layer, edit, self._gates.index(gate)))

    def _combine(
        self, nodes: tuple[int, ...], coefficients: tuple[float, ...], positions: Positions
    ) -> int:
        mixture = self._mixtures.index(Mixture(coefficients, positions))
        return self._nodes.index(Combine(nodes, mixture))


class _Table(dict):
    """Distinct items in the order in which they first came, each with its index."""

    def __init__(self, items: Iterable = ()):
        super().__init__((item, index) for index, item in enumerate(items))

    def index(self, item) -> int:
        return self.setdefault(item, len(self))


def parents(node: Apply | Combine | None) -> tuple[int, ...]:
    """The nodes that a node is computed from."""
    if node is None:
        return ()
    return (node.parent,) if isinstance(node, Apply) else node.nodes

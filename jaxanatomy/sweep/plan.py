"""Which layer applications a list of variants needs, each of them once. No JAX here.

The steps of all variants are interned into one directed acyclic graph: two
variants that begin with the same steps share those nodes, and only what differs is
computed anew. One edit per layer over L layers needs L (L + 1) / 2 applications
instead of L * L.

Three kinds of node make a stream:

    ROOT                                   the embedded text
    Apply(parent, layer, edit, gate)       a layer, possibly edited, possibly gated
    Mix(edited, clean, mask)               the edited stream at some positions,
                                           the clean one elsewhere

A skipped layer is no node. What is not weights is data of the stream (`gate` and
`mask` index tables that are built from the text), so that gated and ungated streams
go through a layer together.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from jaxanatomy import model
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.steps import closed_parts
from jaxanatomy.interventions.variants import (
    ALL,
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
class Mix:
    """The stream of `edited` where `Plan.masks[mask]` selects, of `clean` elsewhere."""

    edited: int
    clean: int
    mask: int


@dataclasses.dataclass(frozen=True)
class Gate:
    """Which outputs of a layer are closed, and where.

    Attributes:
      heads: Closed query heads.
      mlp: Whether the MLP is closed.
      positions: Where.
    """

    heads: frozenset[int]
    mlp: bool
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


OPEN = Gate(frozenset(), False, ALL)


class Plan:
    """The interned graph of a list of variants.

    Attributes:
      nodes: Node i is computed from nodes below i; `nodes[ROOT]` is None.
      gates: Distinct gates; the first is `OPEN`.
      masks: Distinct positions of mixes.
      reads: Distinct evaluations of measures.
      outputs: For each variant's name, the index into `reads` of each of its readings:
        measures at its end under their own names, taps under theirs.
    """

    def __init__(
        self,
        config: ModelConfig,
        variants: Iterable[Variant],
        measures: Sequence[str],
        beside_clean: Sequence[str] = (),
    ):
        """Plans variants, each read by all `measures` at its end and by its taps.

        Measures in `beside_clean` read the end of the unedited model as well.

        Raises:
          InputError: A layer out of range, an unknown gate, or a name given twice.
        """
        self.config = config
        self.outputs: dict[str, dict[str, int]] = {}
        self._nodes, self._gates = _Table([None]), _Table([OPEN])
        self._masks, self._reads = _Table(), _Table()
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
            for tap in variant.taps:
                nodes = tuple(self._stream(steps) for steps in tap.streams)
                outputs[tap.name] = self._reads.index(Read(tap.measure, nodes))
            self.outputs[variant.name] = outputs
        self.nodes: list[Apply | Mix | None] = list(self._nodes)
        self.gates: list[Gate] = list(self._gates)
        self.masks: list[Positions] = list(self._masks)
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

    def _stream(self, steps: Steps) -> int:
        """The node of the stream that `steps` lead to."""
        node = ROOT
        for step in steps:
            node = self._step(node, step)
        return node

    def _step(self, parent: int, step: Step) -> int:
        num_layers = self.config.num_layers
        if not 0 <= step.layer < num_layers:
            raise InputError(f"layers are 0 .. {num_layers - 1}; got {step.layer}; count from 0")
        heads, mlp = closed_parts(self.config, step)
        if step.edit is None:
            if step.positions == ALL and mlp and len(heads) == self._num_heads(step.layer):
                return parent  # both sublayers add nothing: the layer is skipped
            return self._apply(parent, step.layer, None, Gate(heads, mlp, step.positions))
        edited = self._apply(parent, step.layer, step.edit, Gate(heads, mlp, ALL))
        if step.positions == ALL:
            return edited
        clean = self._apply(parent, step.layer, None, OPEN)
        return self._nodes.index(Mix(edited, clean, self._masks.index(step.positions)))

    def _num_heads(self, layer: int) -> int:
        return self.config.layers[layer].num_heads

    def _apply(self, parent: int, layer: int, edit: Edit | None, gate: Gate) -> int:
        if not gate.heads and not gate.mlp:
            gate = OPEN
        return self._nodes.index(Apply(parent, layer, edit, self._gates.index(gate)))


class _Table(dict):
    """Distinct items in the order in which they first came, each with its index."""

    def __init__(self, items: Iterable = ()):
        super().__init__((item, index) for index, item in enumerate(items))

    def index(self, item) -> int:
        return self.setdefault(item, len(self))


def parents(node: Apply | Mix | None) -> tuple[int, ...]:
    """The nodes that a node is computed from."""
    if node is None:
        return ()
    return (node.parent,) if isinstance(node, Apply) else (node.edited, node.clean)

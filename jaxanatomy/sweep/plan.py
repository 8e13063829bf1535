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
from jaxanatomy.sweep.reading import Probe

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
    """One evaluation of a probe.

    Attributes:
      probe: Index into `Plan.probes`.
      node: The node whose stream is read, or the layer that leads to it.
      layer: That layer; None at the end of a variant.
    """

    probe: int
    node: int
    layer: int | None = None


OPEN = Gate((), 1.0, 1.0, ALL)
Path = list[tuple[int, int]]


class Plan:
    """The interned graph of a list of variants.

    Attributes:
      nodes: Node i is computed from nodes below i; `nodes[ROOT]` is None.
      gates: Distinct gates; the first is `OPEN`.
      mixtures: Distinct ways to combine streams.
      probes: What is computed of streams.
      reads: Distinct evaluations of probes.
      outputs: For each variant's name and each probe the reads in order, as indices into `reads`:
        one at its end, or one for each layer that it applies and the probe reads.
      others: For each probe that reads another variant beside, the node of that one's end
        (under None), or the nodes that lead out of its layers.
      inside: For each probe and node the read of what stands inside the layer that leads to it.
      references: For each node the probes and layers that are read beside what stands there.
      halves: For each application the combinations that it is a half of (those of an edit at
        some positions) and inside which something is read.
    """

    def __init__(self, config: ModelConfig, variants: Iterable[Variant], probes: Sequence[Probe]):
        """Plans variants, each read by all probes.

        Raises:
          InputError: A layer out of range, a factor of an unknown part, coefficients that are
            not finite, a name given twice, or nothing to be read beside.
        """
        self.config, self.probes = config, tuple(probes)
        self._nodes, self._gates = _Table([None]), _Table([OPEN])
        self._mixtures, self._reads = _Table(), _Table()
        self.outputs: dict[str, list[list[int]]] = {}
        self.others = {
            number: self._other(probe) for number, probe in enumerate(probes) if probe.beside
        }
        for variant in variants:
            if variant.name in self.outputs:
                raise InputError(f"variant names must be unique; {variant.name!r} came twice")
            self.outputs[variant.name] = self._outputs(variant.steps)
        self.nodes: list[Apply | Combine | None] = list(self._nodes)
        self.gates: list[Gate] = list(self._gates)
        self.mixtures: list[Mixture] = list(self._mixtures)
        self.reads: list[Read] = list(self._reads)
        self.inside = {
            (read.probe, read.node): index
            for index, read in enumerate(self.reads)
            if read.layer is not None
        }
        self.references: dict[int, list[tuple[int, int]]] = {}
        for probe, nodes in self.others.items():
            for layer, node in nodes.items():
                if layer is not None:
                    self.references.setdefault(node, []).append((probe, layer))
        self.halves: dict[int, list[int]] = {}
        for node in dict.fromkeys([*(node for _, node in self.inside), *self.references]):
            for half in self.nodes[node].nodes if isinstance(self.nodes[node], Combine) else ():
                self.halves.setdefault(half, []).append(node)

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
        work, nothing that is read inside layers, and not the head of what is read beside.
        """
        D = self.config.hidden_size
        layers = sum(
            2 * tokens * model.matrix_parameter_count(self.config, node.layer)
            for node in self.nodes
            if isinstance(node, Apply)
        )
        heads = sum(read.layer is None for read in self.reads)
        return layers + heads * 2 * predictions * D * self.config.vocab_size

    def points(self, layer: int) -> tuple[str, ...]:
        """The points inside a layer that probes read."""
        wanted = {point for p in self.probes if layer in p.layers for point in p.points}
        return tuple(point for point in model.POINTS if point in wanted)

    def _outputs(self, steps: Steps) -> list[list[int]]:
        """The reads of each probe."""
        if all(probe.layers for probe in self.probes):
            # Nothing is read at the end, so nothing is computed beyond the last layer read.
            steps = _up_to(steps, {layer for probe in self.probes for layer in probe.layers})
        end, path = self._stream(steps)
        return [
            [
                self._reads.index(Read(number, node, layer))
                for layer, node in path
                if layer in probe.layers
            ]
            if probe.layers
            else [self._reads.index(Read(number, end))]
            for number, probe in enumerate(self.probes)
        ]

    def _other(self, probe: Probe) -> dict[int | None, int]:
        """The nodes of the variant that a probe reads beside, by layer; its end under None."""
        steps = probe.beside.steps
        steps = baseline_steps(self.config.num_layers) if steps is None else steps
        if probe.beside_end:
            return {None: self._stream(steps)[0]}
        _, path = self._stream(_up_to(steps, set(probe.layers)))
        applied = [layer for layer, _ in path]
        for layer in probe.layers:
            if applied.count(layer) != 1:
                raise InputError(
                    "what is read beside at the same layers must apply each of them once; got "
                    f"layer {layer} {applied.count(layer)} times; choose other layers, or its end"
                )
        return {layer: node for layer, node in path if layer in probe.layers}

    def _stream(self, steps: Steps, node: int = ROOT) -> tuple[int, Path]:
        """Where `steps` lead to from the stream of `node`.

        Returns:
          The node of that stream, and for each step that applies a layer (layer, node).
        """
        path = []
        for step in steps:
            if isinstance(step, Combination):
                node = self._combination(node, step)
                continue
            parent, node = node, self._step(node, step)
            if node != parent:
                path.append((step.layer, node))
        return node, path

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
        start = ROOT if combination.from_text else parent
        nodes = tuple(self._stream(steps, start)[0] for _, steps in combination.terms)
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


def _up_to(steps: Steps, layers: set[int]) -> Steps:
    """The steps up to the last that applies one of some layers."""
    deepest = [i for i, step in enumerate(steps) if getattr(step, "layer", None) in layers]
    return steps[: deepest[-1] + 1] if deepest else ()


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

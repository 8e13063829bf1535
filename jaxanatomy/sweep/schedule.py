"""In which order, and in which batches, the nodes of a plan are computed. No JAX here.

Streams live in the slots of a pool. A schedule is a list of calls; a call applies
one set of weights to as many streams as its width and writes the results to
slots. Programs are compiled for a few widths only, so a call may be padded; padding
reads slot 0 and writes to a slot that does not exist, which drops it.

The order: the weights whose streams have most steps left come first, so that all
streams pass a layer together. When the pool is nearly full, steps that would
keep their parent alive wait until the live streams have run to their ends. That bounds
the memory whatever the number of variants.

Where what stands inside layers is compared with another stream, that one runs first, alone: what
is to be compared with it is then at hand, and nothing else has to wait in memory.

Several lanes (devices) run the same calls in lockstep, each on its own plan: clean
layers are the same weights on all lanes, edited ones are each lane's own.
"""

import collections
import dataclasses
import functools
from collections.abc import Hashable, Iterable, Sequence

from jaxanatomy.config import LayerShape
from jaxanatomy.interventions.variants import Edit
from jaxanatomy.sweep.plan import ROOT, Apply, Combine, Plan, parents

# What starting a call costs on a CPU, in units of one more stream: padding is weighed against it.
CALL_OVERHEAD = 0.35
Weights = tuple[int, Edit | None]


@dataclasses.dataclass(frozen=True)
class LaneWork:
    """What one lane does in a call; with no rows it only pads.

    Attributes:
      weights: (layer, edit) of an apply call, else None.
      sources: For each input stream, the slots it is read from.
      destinations: The slots written to; empty for a read and a summary.
      rows: For each stream the gate (apply), the mixture (combine) or the read's index.
      nodes: For each stream the node that it becomes; empty for a read and a summary.
    """

    weights: Weights | None = None
    sources: tuple[tuple[int, ...], ...] = ()
    destinations: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a compiled program.

    Attributes:
      kind: "apply", "combine", "read", or "summarise": of the end that a probe reads beside,
        before the first of its reads.
      variety: Which program of the kind: a `LayerShape` and the points that it gives; the number
        of streams that are combined; the number of the probe.
      width: Streams that the program takes.
      lanes: The work of each lane, at most `width` streams each.
    """

    kind: str
    variety: Hashable
    width: int
    lanes: tuple[LaneWork, ...]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Calls in order, and the number of slots that they use.

    Attributes:
      calls: Every node and every read of every lane's plan is in exactly one of them.
      slots: Slots of the pool; slot 0 holds the embedded text at the start.
    """

    calls: tuple[Call, ...]
    slots: int

    def __repr__(self) -> str:
        return f"Schedule({len(self.calls)} calls, {self.slots} slots)"

    @property
    def executed(self) -> int:
        """Layer applications with padding, as the devices run them."""
        return sum(len(c.lanes) * c.width for c in self.calls if c.kind == "apply")

    @property
    def distinct(self) -> int:
        """Layer applications without padding."""
        return sum(len(lane.rows) for c in self.calls if c.kind == "apply" for lane in c.lanes)


def schedule(
    plans: Sequence[Plan], widths: Sequence[int], slots: int, overhead: float = CALL_OVERHEAD
) -> Schedule:
    """Orders the plans of all lanes into calls.

    Args:
      plans: One plan for each lane.
      widths: The widths that programs are compiled for; 1 among them.
      slots: Streams to keep at most; exceeded only if a single path needs more, or if reads
        share a stream: the nodes that lead to it are kept besides, until they are used up.
      overhead: See `split`.
    """
    if min(widths) != 1:
        raise ValueError(f"widths must include 1; got {tuple(widths)}")
    widths = tuple(sorted(set(widths), reverse=True))
    lanes = [_Lane(plan, slots - widths[0]) for plan in plans]
    calls = []
    while any(lane.ready for lane in lanes):
        lead, chosen = _choose(lanes, widths[0])
        most = max(len(nodes) for _, nodes in chosen)
        # Far above the widest there is nothing to weigh.
        width = widths[0] if most > 2 * widths[0] else split(most, widths, overhead)[0]
        work = tuple(
            lane.run(key, nodes[:width]) if nodes else LaneWork()
            for lane, (key, nodes) in zip(lanes, chosen, strict=True)
        )
        calls.append(Call(lead.kind, lead.variety, width, work))
    return Schedule(tuple(calls), max(lane.top for lane in lanes))


@dataclasses.dataclass(frozen=True)
class _Key:
    """What streams of one call have in common."""

    kind: str
    variety: Hashable
    weights: Weights | None = None

    @property
    def edited(self) -> bool:
        return self.weights is not None and self.weights[1] is not None


@dataclasses.dataclass(frozen=True)
class _Task:
    """What happens to the stream of a node besides going on."""

    kind: str
    probe: int
    index: int


class _Lane:
    """The state of one lane while its plan is ordered."""

    def __init__(self, plan: Plan, budget: int):
        self.plan, self.budget = plan, budget
        nodes = plan.nodes
        self.children = [[] for _ in nodes]
        self.readers = [[] for _ in nodes]
        for index, node in enumerate(nodes):
            for parent in set(parents(node)):
                self.children[parent].append(index)
        for index, read in enumerate(plan.reads):
            if read.layer is None:
                self.readers[read.node].append(_Task("read", read.probe, index))
        self.summaries = {p: each[None] for p, each in plan.others.items() if None in each}
        for probe, node in self.summaries.items():
            self.readers[node].append(_Task("summarise", probe, probe))
        self.height = [0] * len(nodes)
        for index in reversed(range(len(nodes))):
            self.height[index] = max((self.height[c] + 1 for c in self.children[index]), default=0)
        self.uses = [len(c) + len(r) for c, r in zip(self.children, self.readers, strict=True)]
        self.waiting = [len(set(parents(node))) for node in nodes]
        self.awaited = _ancestors(plan, self.summaries.values())
        inside = [others for p, others in plan.others.items() if plan.probes[p].layers]
        self.first = set(_ancestors(plan, (node for others in inside for node in others.values())))
        self.ready: dict[_Key, list[int]] = collections.defaultdict(list)
        self.slot, self.free, self.top = {ROOT: 0}, [], 1
        self.frozen = False
        self.held: dict[int, list[int]] = {probe: [] for probe in self.summaries}
        self._finish(ROOT)

    def candidates(self) -> dict[_Key, list[int]]:
        """What may run now: all that is ready, less what has to wait for slots or summaries."""
        if self.first:
            return self._of_first()
        self.frozen = self.frozen or self.top - len(self.free) > self.budget
        if not self.frozen:
            return self.ready
        allowed = {}
        for key, nodes in self.ready.items():
            adds = key.kind in ("apply", "combine")
            kept = [node for node in nodes if not adds or not self._forks(node)]
            if kept:
                allowed[key] = kept
        if allowed:
            return allowed
        self.frozen = False
        return self.ready

    def priority(self, key: _Key, nodes: list[int]) -> tuple[int, int]:
        """Most steps left first, then most streams; summaries and sums first, reads last."""
        if key.kind in ("combine", "summarise"):
            return len(self.height), len(nodes)
        if key.kind == "read":
            return -1, len(nodes)
        return max(self.height[node] for node in nodes), len(nodes)

    def run(self, key: _Key, batch: list[int]) -> LaneWork:
        """Takes a batch of one key off the ready list and gives its slots."""
        left = [index for index in self.ready[key] if index not in batch]
        if left:
            self.ready[key] = left
        else:
            del self.ready[key]
        if key.kind == "summarise":
            return self._summarise(key.variety)
        if key.kind == "read":
            nodes = [self.plan.reads[index].node for index in batch]
            sources = (tuple(self.slot[node] for node in nodes),)
            for node in nodes:
                self._release([node])
            return LaneWork(None, sources, (), tuple(batch))
        inputs = [parents(self.plan.nodes[node]) for node in batch]
        sources = tuple(tuple(self.slot[n] for n in column) for column in zip(*inputs, strict=True))
        for ancestors in inputs:
            self._release(ancestors)
        destinations = tuple(self._allocate(node) for node in batch)
        rows = tuple(_row(self.plan.nodes[node]) for node in batch)
        for node in batch:
            self._finish(node)
        return LaneWork(key.weights, sources, destinations, rows, tuple(batch))

    def _of_first(self) -> dict[_Key, list[int]]:
        """What is ready of the streams that run first."""
        probes = {p for p in self.summaries if self.plan.probes[p].layers}
        allowed = {}
        for key, nodes in self.ready.items():
            if key.kind == "summarise":
                kept = [probe for probe in nodes if probe in probes]
            else:
                kept = [node for node in nodes if key.kind != "read" and node in self.first]
            if kept:
                allowed[key] = kept
        return allowed

    def _summarise(self, probe: int) -> LaneWork:
        """The end that a probe reads beside; what has waited for it may be read now."""
        node = self.summaries[probe]
        work = LaneWork(sources=((self.slot[node],),))
        self._release([node])
        key, waiting = _Key("read", probe), self.held.pop(probe)
        if waiting:
            self.ready[key] += waiting
        return work

    def _release(self, nodes: Sequence[int]) -> None:
        for node in set(nodes):
            self.uses[node] -= 1
            if self.uses[node] == 0:
                self.free.append(self.slot.pop(node))

    def _allocate(self, node: int) -> int:
        if self.free:
            self.slot[node] = self.free.pop()
        else:
            self.slot[node] = self.top
            self.top += 1
        return self.slot[node]

    def _forks(self, node: int) -> bool:
        """Whether the slots of all parents stay taken after this node has run.

        What reads wait for runs all the same: they would keep all finished streams alive.
        """
        stay = all(self.uses[parent] > 1 for parent in parents(self.plan.nodes[node]))
        return node not in self.awaited and stay

    def _finish(self, node: int) -> None:
        self.first.discard(node)
        for child in self.children[node]:
            self.waiting[child] -= 1
            if self.waiting[child] == 0:
                self.ready[self._key(child)].append(child)
        for task in self.readers[node]:
            if task.kind == "read" and task.probe in self.held:
                self.held[task.probe].append(task.index)
            else:
                self.ready[_Key(task.kind, task.probe)].append(task.index)
        if not self.uses[node]:  # what stands inside its layer is all that is read of it
            self.free.append(self.slot.pop(node))

    def _key(self, index: int) -> _Key:
        node = self.plan.nodes[index]
        if isinstance(node, Combine):
            return _Key("combine", len(node.nodes))
        shape: LayerShape = self.plan.config.layers[node.layer]
        variety = (shape, self.plan.points(node.layer))
        return _Key("apply", variety, (node.layer, node.edit))


def _choose(lanes: Sequence[_Lane], full: int) -> tuple[_Key, list[tuple[_Key, list[int]]]]:
    """The key that leads the next call, and each lane's own key and nodes for it.

    Reads wait until a call of them is full or nothing else is left. A lane with no
    nodes pads.
    """
    offers = [lane.candidates() for lane in lanes]

    def rank(index: int, key: _Key) -> tuple:
        nodes = offers[index][key]
        full_read = key.kind == "read" and len(nodes) >= full
        return full_read, *lanes[index].priority(key, nodes)

    ranked = [(rank(index, key), index, key) for index, offer in enumerate(offers) for key in offer]
    lead = max(ranked, key=lambda entry: (entry[0], -entry[1]))[2]
    chosen = []
    for index, offer in enumerate(offers):
        fitting = [key for key in offer if key == lead or (lead.edited and _edited_like(lead, key))]
        key = max(fitting, key=functools.partial(rank, index), default=lead)
        chosen.append((key, offer.get(key, [])))
    return lead, chosen


def _edited_like(lead: _Key, key: _Key) -> bool:
    """Whether one call can run both: edited weights are each lane's own."""
    return key.edited and key.variety == lead.variety


def split(count: int, widths: tuple[int, ...], overhead: float = CALL_OVERHEAD) -> tuple[int, ...]:
    """The widths, largest first, that take `count` streams at the least cost.

    Args:
      count: Streams, at least 1; the widths may take more, the rest is padding.
      widths: Widths to choose from, each as often as needed.
      overhead: Cost of starting a call, in units of one more stream.
    """
    best = _splits(widths, overhead)
    while len(best) <= count:
        rests = [best[max(len(best) - width, 0)] for width in widths]
        options = [
            tuple(sorted((width, *rest), reverse=True))
            for width, rest in zip(widths, rests, strict=True)
        ]
        best.append(min(options, key=lambda option: sum(option) + overhead * len(option)))
    return best[count]


@functools.cache
def _splits(widths: tuple[int, ...], overhead: float) -> list[tuple[int, ...]]:
    """What `split` has found so far, for each number of streams from 0 on."""
    del widths, overhead
    return [()]


def _ancestors(plan: Plan, nodes: Iterable[int]) -> frozenset[int]:
    """The nodes, and all that they are computed from."""
    found, open_nodes = set(), list(nodes)
    while open_nodes:
        node = open_nodes.pop()
        if node not in found:
            found.add(node)
            open_nodes += parents(plan.nodes[node])
    return frozenset(found)


def _row(node: Apply | Combine) -> int:
    return node.gate if isinstance(node, Apply) else node.mixture

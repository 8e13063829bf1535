"""Reads what stands inside layers, call by call, while a batch of text runs.

A call that applies a layer gives the points that probes read there; each probe's measure is
computed of them at once, and only what it gives is kept. Points of single streams are held for
longer in two cases: those of a variant that others are read beside, until what they are compared
with is known; and the two halves of an edit at some positions, until both have run.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy.config import LayerShape
from jaxanatomy.sweep import programs
from jaxanatomy.sweep.compilation import ProgramKey, Variety
from jaxanatomy.sweep.devices import Lanes
from jaxanatomy.sweep.plan import Plan
from jaxanatomy.sweep.schedule import Call, Schedule

SummaryKey = tuple[int, int | None]  # probe and layer; None where an end is read beside
Reads = list[dict[int, int]]  # for each lane the read of each row of a call


def program_keys(plans: Sequence[Plan], schedule: Schedule) -> dict[ProgramKey, None]:
    """The programs that a chunk needs to read inside layers."""
    probes = plans[0].probes
    mixes = any(plan.halves for plan in plans)
    holds = mixes or any(probe.layers and probe.beside for probe in probes)
    keys: dict[ProgramKey, None] = {}
    for call in schedule.calls:
        if call.kind != "apply" or not call.variety[1]:
            continue
        shape, _ = call.variety
        layers = {lane.weights[0] for lane in call.lanes if lane.weights}
        widths = (call.width, 1) if holds else (call.width,)
        for number, probe in enumerate(probes):
            if layers.isdisjoint(probe.layers):
                continue
            keys |= {("inside", (number, shape), width): None for width in widths}
            if probe.beside and not probe.beside_end:
                keys["summarise_inside", (number, shape), 1] = None
        if holds:
            keys["pick", call.variety, call.width] = None
        if mixes:
            keys["mix_points", call.variety, 1] = None
    return keys


@dataclasses.dataclass(frozen=True)
class _Found:
    """The points of the streams of one call.

    Attributes:
      variety: The shape of the layer, and the names of the points.
      width: Streams, padding among them.
      nodes: For each lane the node of each stream.
      points: The points.
    """

    variety: Variety
    width: int
    nodes: Sequence[Sequence[int]]
    points: programs.Points

    @property
    def shape(self) -> LayerShape:
        return self.variety[0]


class Inside:
    """What is read inside layers of one batch of text on each lane."""

    def __init__(
        self,
        plans: Sequence[Plan],
        compiled: Mapping[ProgramKey, Callable],
        lanes: Lanes,
        shared: tuple[Any, programs.TextArrays, jax.Array],
        params: Mapping[tuple[int, int], Any],
        keep: Callable[[int, int, Any], None],
    ):
        """Prepares for the first call.

        Args:
          plans: Of each lane.
          compiled: The programs.
          lanes: The devices.
          shared: The placed parameters without layers, the text arrays, the masks of mixtures.
          params: By probe and layer the placed parameters of its measure, None without any.
          keep: Called with lane, read and what the probe gave for that one stream.
        """
        self._plans, self._programs, self._lanes = plans, compiled, lanes
        self._head, self._text, self._masks = shared
        self._params, self._keep = params, keep
        self._summaries: dict[SummaryKey, Any] = {}
        self._waiting: dict[SummaryKey, list] = collections.defaultdict(list)
        self._halves: list[dict[int, programs.Points]] = [{} for _ in plans]
        self._mixed = [collections.Counter() for _ in plans]

    def applied(self, call: Call, points: programs.Points) -> None:
        """Takes the points that a call gave."""
        nodes = [work.nodes for work in call.lanes]
        self._arrived(_Found(call.variety, call.width, nodes, points))

    def summarised(self, probe: int, summary: Any) -> None:
        """Takes what a probe makes of another variant's end."""
        self._now_known((probe, None), summary)

    def _arrived(self, found: _Found) -> None:
        self._summarise(found)
        for probe in range(len(self._plans[0].probes)):
            self._read(probe, found)
        self._hold_halves(found)

    def _summarise(self, found: _Found) -> None:
        """What probes make of the streams that others are read beside.

        Those run first and alone, hence in the same rows on every lane.
        """
        for row, node in enumerate(found.nodes[0]):
            for probe, layer in self._plans[0].references.get(node, ()):
                program = self._programs["summarise_inside", (probe, found.shape), 1]
                points = self._of_probe(probe, self._stream(found, row))
                self._now_known((probe, layer), program(self._head, points, self._text))

    def _now_known(self, key: SummaryKey, summary: Any) -> None:
        self._summaries[key] = summary
        for shape, reads, points in self._waiting.pop(key, ()):
            self._measure(key[0], shape, 1, reads, points, summary)

    def _read(self, probe: int, found: _Found) -> None:
        """Measures what a probe reads of some streams, or has them wait for what is beside."""
        reads: Reads = [
            {row: plan.inside[probe, n] for row, n in enumerate(own) if (probe, n) in plan.inside}
            for plan, own in zip(self._plans, found.nodes, strict=True)
        ]
        if not any(reads):
            return
        keys = [self._summary_key(probe, lane, own) for lane, own in enumerate(reads)]
        needed = [key for key in keys if key is not None]
        if all(key in self._summaries for key in needed):
            summary = (self._joined(self._summaries, keys),) if needed else ()
            self._measure(probe, found.shape, found.width, reads, found.points, *summary)
            return
        for row in range(found.width):  # a stream that runs first
            own = [{0: lane[row]} if row in lane else {} for lane in reads]
            if any(own):
                self._waiting[needed[0]].append((found.shape, own, self._stream(found, row)))

    def _measure(
        self,
        probe: int,
        shape: LayerShape,
        width: int,
        reads: Reads,
        points: programs.Points,
        *summary: Any,
    ) -> None:
        program = self._programs["inside", (probe, shape), width]
        layers = [self._layer(lane, own) for lane, own in enumerate(reads)]
        keys = [None if layer is None else (probe, layer) for layer in layers]
        arguments = self._of_probe(probe, points), self._text, self._joined(self._params, keys)
        values = program(self._head, *arguments, *summary)
        for lane, value in enumerate(self._lanes.fetch(values)):
            for row, read in reads[lane].items():
                self._keep(lane, read, jax.tree.map(lambda leaf, row=row: leaf[row], value))

    def _summary_key(self, probe: int, lane: int, reads: dict[int, int]) -> SummaryKey | None:
        """What the reads of one lane, all of one layer, are beside; None for nothing."""
        made = self._plans[lane].probes[probe]
        if not reads or not made.beside:
            return None
        return probe, None if made.beside_end else self._layer(lane, reads)

    def _layer(self, lane: int, reads: dict[int, int]) -> int | None:
        """The layer that the reads of one lane are of; None for nothing."""
        return next((self._plans[lane].reads[read].layer for read in reads.values()), None)

    def _joined(self, table: Mapping, keys: Sequence[SummaryKey | None]) -> Any:
        """What each lane needs of a table; lanes may stand at edits of different layers."""
        some = next(key for key in keys if key is not None)
        if all(key in (None, some) for key in keys):
            return table[some]
        own = [table[key or some] for key in keys]
        return self._lanes.join([self._lanes.on_lane(one, lane) for lane, one in enumerate(own)])

    def _hold_halves(self, found: _Found) -> None:
        """Keeps the halves of edits at some positions; reads those that are now whole."""
        whole: list[list[int]] = [[] for _ in found.nodes]
        for lane, (plan, own) in enumerate(zip(self._plans, found.nodes, strict=True)):
            held = self._halves[lane]
            for row, node in enumerate(own):
                if node in plan.halves:
                    held[node] = self._lanes.on_lane(self._stream(found, row), lane)
                mixes = plan.halves.get(node, ())
                whole[lane] += [mix for mix in mixes if held.keys() >= {*plan.nodes[mix].nodes}]
        for mixes in itertools.zip_longest(*whole):
            self._mix(found, mixes)

    def _mix(self, found: _Found, mixes: Sequence[int | None]) -> None:
        """Reads one mix on each lane, or on some."""
        halves, rows = [], []
        for lane, (plan, mix) in enumerate(zip(self._plans, mixes, strict=True)):
            if mix is None:
                filler = self._lanes.on_lane(self._stream(found, 0), lane)
                halves.append((filler, filler))
                rows.append(np.int32(0))
                continue
            node = plan.nodes[mix]
            halves.append([self._halves[lane][half] for half in node.nodes])
            rows.append(np.int32(node.mixture))
            for half in node.nodes:
                self._mixed[lane][half] += 1
                if self._mixed[lane][half] == len(plan.halves[half]):
                    del self._halves[lane][half]
        clean, edited = (self._lanes.join(parts) for parts in zip(*halves, strict=True))
        program = self._programs["mix_points", found.variety, 1]
        points = program(clean, edited, self._lanes.put(rows), self._masks)
        nodes = [() if mix is None else (mix,) for mix in mixes]
        self._arrived(_Found(found.variety, 1, nodes, points))

    def _stream(self, found: _Found, row: int) -> programs.Points:
        """The points of one row on every lane."""
        if found.width == 1:
            return found.points
        program = self._programs["pick", found.variety, found.width]
        return program(found.points, self._lanes.replicate(np.int32(row)))

    def _of_probe(self, probe: int, points: programs.Points) -> tuple[jax.Array, ...]:
        return tuple(points[name] for name in self._plans[0].probes[probe].points)

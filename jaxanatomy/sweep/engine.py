"""Runs variants over text, computing each distinct layer application once.

sweep = Sweep(config, variants, batches, {"nll": Reading(nll)})
sweep.compile()          # needs no weights: may run while they load
sweep.place(params)
for chunk in range(len(sweep.chunks)):
    nll_VP = sweep.run(chunk)["nll"].values
"""

import collections
import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import Variant
from jaxanatomy.progress import announced
from jaxanatomy.ranges import parse_layers
from jaxanatomy.sweep import programs
from jaxanatomy.sweep.compilation import PREPARE, Compiler, Sizes, cast, text_inputs
from jaxanatomy.sweep.devices import Lanes, choose_devices
from jaxanatomy.sweep.edited_weights import Editor
from jaxanatomy.sweep.inside import Inside, program_keys
from jaxanatomy.sweep.kept import Kept
from jaxanatomy.sweep.options import SweepOptions
from jaxanatomy.sweep.plan import Plan
from jaxanatomy.sweep.reading import Measure, Measured, Reading, as_reading, probes_of
from jaxanatomy.sweep.schedule import Call, LaneWork, schedule

READS_UNDER_WAY = 2  # calls of reads whose results are not fetched yet
STREAMS_PER_DEVICE, DOCUMENTS_PER_DEVICE = 50, 4
SYNC_SECONDS = 0.5


class Sweep:
    """A list of variants, a text and some measures, planned for this process's devices.

    Attributes:
      chunks: The variants in the groups that run together, each with the anchor first.
      plans: For each chunk, the plan of each lane.
      schedules: For each chunk, the calls.
      split: "streams" or "rows": what the lanes share out.
    """

    def __init__(
        self,
        config: ModelConfig,
        variants: Sequence[Variant],
        batches: Sequence[TextBatch],
        readings: Mapping[str, Reading | Measure],
        options: SweepOptions | None = None,
        anchor: Variant | None = None,
    ):
        """Plans and schedules; no array is made.

        Args:
          config: The architecture.
          variants: What to run; names are unique.
          batches: The text, all batches of equal shapes.
          readings: What is read of every variant, by name; a measure alone is the reading of
            all that it gives at the ends.
          options: How to run.
          anchor: A variant that runs in every chunk, so that its readings are at hand to
            compare with whichever chunks run; usually the baseline.

        Raises:
          InputError: Nothing to run or to read, layers out of range, names given twice, no
            token at the positions of a reading, a layer twice in a variant that is read by
            layer, or more devices wanted than there are.
        """
        if not (variants or anchor) or not batches:
            raise InputError("a sweep needs at least one variant and some text; got none")
        self.config, self.options = config, options or SweepOptions()
        self._batches = tuple(batches)
        self.split, useful = _split(self.options.split, len(variants), batches)
        devices = choose_devices(self.options.devices, useful)
        self.lanes = Lanes(devices, self.options.backend)
        size = self.options.chunk_size
        first = () if anchor is None else (anchor,)
        starts = range(0, len(variants) or 1, size)  # the anchor alone is a chunk as well
        self.chunks = [(*first, *variants[i : i + size]) for i in starts]
        self.readings = {name: as_reading(name, given) for name, given in readings.items()}
        if not self.readings:
            raise InputError("a sweep needs at least one reading; got none")
        probes, self._probe_of = probes_of(config, self.readings)
        self._kept = {name: Kept(name, each, batches) for name, each in self.readings.items()}
        self.plans = [
            [Plan(config, part, probes) for part in self._parts(chunk)] for chunk in self.chunks
        ]
        every_plan = [plan for plans in self.plans for plan in plans]
        self._require_each_layer_once(every_plan)
        tokens = batches[0].token_RT.size
        most = max(len(plan.outputs) for plan in every_plan)
        widths = self.options.widths_for(tokens, most, devices[0].platform)
        slots = self.options.pool_megabytes * 2**20 // (tokens * config.hidden_size * 4)
        slots = max(slots, widths[0] + 2)
        overhead = self.options.overhead_for(tokens, devices[0].platform)
        self.schedules = [schedule(plans, widths, slots, overhead) for plans in self.plans]
        self._sizes = Sizes.of(every_plan, self.schedules)
        self._compiler = Compiler(config, self.options, self.lanes, batches[0], self._sizes, probes)
        self._programs: dict[tuple, Callable] = {}

    def __repr__(self) -> str:
        variants = len({variant.name for chunk in self.chunks for variant in chunk})
        return (
            f"Sweep({variants} variants, {self.distinct_applications:,} layer applications, "
            f"{len(self._batches)} batches, {self.lanes.count} devices)"
        )

    @property
    def distinct_applications(self) -> int:
        """Layer applications that the chunks need, for one batch of text on each lane."""
        return sum(schedule.distinct for schedule in self.schedules)

    @property
    def executed_applications(self) -> int:
        """Layer applications that run, padding included, for one batch of text on each lane."""
        return sum(schedule.executed for schedule in self.schedules)

    @property
    def pool_bytes(self) -> int:
        """Memory for streams on each device."""
        return self._sizes.slots * self._batches[0].token_RT.size * self.config.hidden_size * 4

    def flops(self) -> int:
        """Distinct matrix-product work over the whole text; see `Plan.flops`."""
        tokens, predictions = self._batches[0].token_RT.size, len(self._batches[0].predict_P)
        plans = [
            plan for lanes in self.plans for plan in (lanes if self._by_streams else lanes[:1])
        ]
        return len(self._batches) * sum(plan.flops(tokens, predictions) for plan in plans)

    def applications(self, chunk: int) -> int:
        """Layer applications, without padding, that `run(chunk)` reports to `progress`."""
        groups = len(range(0, len(self._batches), self._batches_at_once))
        return groups * self.schedules[chunk].distinct

    def compile(self, other: "Sweep | None" = None) -> None:
        """Compiles every program that the schedules call, in threads.

        Args:
          other: A sweep whose programs are used where they are the same: of the same variants on
            another text of the same shapes.
        """
        calls = [call for schedule in self.schedules for call in schedule.calls]
        keys = dict.fromkeys((call.kind, call.variety, call.width) for call in calls)
        for plans, made in zip(self.plans, self.schedules, strict=True):
            keys |= program_keys(plans, made)
        if other is not None and other._compiler.identity == self._compiler.identity:
            self._programs = dict(other._programs)
        missing = [key for key in keys if key not in self._programs]
        if missing:
            with announced(f"compiling {len(missing)} programs of the sweep"):
                self._programs |= self._compiler.compile(missing)
        for name, kept in self._kept.items():
            for kind, variety, width in keys:
                number = variety[0] if kind == "inside" else variety
                if kind in ("read", "inside") and number == self._probe_of[name]:
                    kept.check(self.lanes.shapes(self._programs[kind, variety, width]))

    def place(self, params: tree.Params) -> None:
        """Puts weights on the devices: matrices in the compute dtype, norms in float32.

        LN-scaling is folded into the norms: edits see the layers as they act.
        """
        _, params = tree.fold_norms(self.config, params)

        def put(part):
            return self.lanes.replicate(
                jax.tree.map(lambda leaf: cast(leaf, self.options.compute_dtype), part)
            )

        self._head = put({key: part for key, part in params.items() if key != "layers"})
        self._layers = [put(block) for block in params["layers"]]
        self._editor = Editor(self.lanes, self._layers, self.options.precision)

    def share_weights(self, other: "Sweep") -> None:
        """Uses the weights that another sweep of the same model has placed.

        Raises:
          ValueError: The other sweep has other devices or another dtype.
        """
        if (self.lanes.sharding, self.options.dtype) != (other.lanes.sharding, other.options.dtype):
            raise ValueError("weights can be shared by sweeps on the same devices and dtype only")
        self._head, self._layers, self._editor = other._head, other._layers, other._editor

    def run(self, chunk: int, progress: Callable[[int], None] | None = None) -> dict[str, Measured]:
        """Runs one chunk over the whole text, compiling first if that was not done.

        Args:
          chunk: Index into `chunks`.
          progress: Called now and then with the number of applications just finished.

        Returns:
          What each reading gave, with all variants of the chunk.
        """
        if not self._programs:
            self.compile()
        for start in range(0, len(self._batches), self._batches_at_once):
            self._run_batches(chunk, start, progress or (lambda done: None))
        found = {name: self._measured(chunk, name) for name in self.readings}
        for kept in self._kept.values():
            kept.clear()
        return found

    @property
    def _by_streams(self) -> bool:
        return self.split == "streams"

    @property
    def _batches_at_once(self) -> int:
        return 1 if self._by_streams else self.lanes.count

    def _parts(self, chunk: Sequence[Variant]) -> list[Sequence[Variant]]:
        """The variants of a chunk that each lane runs."""
        count = self.lanes.count
        return [chunk[lane::count] if self._by_streams else chunk for lane in range(count)]

    def _run_batches(self, chunk: int, start: int, progress: Callable[[int], None]) -> None:
        """Reads one batch (or, split by rows, one for each lane) from `start` on."""
        batches = self._batches[start : start + self._batches_at_once]
        pool, text, gates, mixtures = self._prepare(chunk, batches)
        keep = functools.partial(self._keep, chunk, start)
        shared = (self._head, text, mixtures[1])
        own = self._measure_params
        inside = Inside(self.plans[chunk], self._programs, self.lanes, shared, own, keep)
        summaries = {
            probe: self._zeros(shapes) for probe, shapes in self._compiler.summaries.items()
        }
        reads: collections.deque = collections.deque()
        pending, synced = 0, time.monotonic()
        current, params = None, None
        for call in self.schedules[chunk].calls:
            program = self._programs[call.kind, call.variety, call.width]
            index = self.lanes.put([self._index(call, work) for work in call.lanes])
            if call.kind == "apply":
                weights = tuple(work.weights for work in call.lanes)
                if weights != current:
                    current, params = weights, self._weights(weights)
                pool, points = program(params, pool, index, gates, text)
                pending += sum(len(work.rows) for work in call.lanes)
                if points:
                    inside.applied(call, points)
            elif call.kind == "combine":
                pool = program(pool, index, *mixtures)
            elif call.kind == "summarise":
                before = summaries[call.variety]
                summaries[call.variety] = program(self._head, pool, index, text, before)
                inside.summarised(call.variety, summaries[call.variety])
            else:
                summary = [summaries[call.variety]] if call.variety in summaries else []
                reads.append((call, program(self._head, pool, index, text, *summary)))
                if len(reads) > READS_UNDER_WAY:
                    self._collect(*reads.popleft(), keep)
            if time.monotonic() - synced > SYNC_SECONDS:
                jax.block_until_ready(pool)
                progress(pending)
                pending, synced = 0, time.monotonic()
        for each in reads:
            self._collect(*each, keep)
        progress(pending)

    def _collect(self, call: Call, outputs: Any, keep: Callable[[int, int, Any], None]) -> None:
        """Keeps what a call of reads gave."""
        for lane, output in enumerate(self.lanes.fetch(outputs)):
            for row, read in enumerate(call.lanes[lane].rows):
                keep(lane, read, jax.tree.map(lambda leaf, row=row: leaf[row], output))

    def _keep(self, chunk: int, start: int, lane: int, read: int, values: Any) -> None:
        """Gives what a probe gave for one stream and batch to the readings of that probe."""
        batch = start if self._by_streams else start + lane
        if batch >= len(self._batches):
            return  # a lane that pads
        probe = self.plans[chunk][lane].reads[read].probe
        for name, number in self._probe_of.items():
            if number == probe:
                self._kept[name].add((lane if self._by_streams else 0, read), batch, values)

    def _measured(self, chunk: int, name: str) -> Measured:
        """What a reading gave, once all batches have run."""
        reading, probe, rows = self.readings[name], self._probe_of[name], []
        variants = [variant.name for variant in self.chunks[chunk]]
        for number, variant in enumerate(variants):
            lane = number % self.lanes.count if self._by_streams else 0
            plan = self.plans[chunk][lane]
            rows.append(
                [(plan.reads[read].layer, (lane, read)) for read in plan.outputs[variant][probe]]
            )
        if reading.at_end:
            return self._kept[name].measured(variants, [row[0][1] for row in rows])
        if reading.by == "step":
            longest = self._most_steps
            rows = [row + [(-1, None)] * (longest - len(row)) for row in rows]
            layers = np.array([[layer for layer, _ in row] for row in rows], np.int32)
        else:
            layers = np.array(parse_layers(reading.layers, self.config.num_layers), np.int32)
            rows = [[(layer, dict(row).get(layer)) for layer in layers.tolist()] for row in rows]
        keys = [[key for _, key in row] for row in rows]
        return self._kept[name].measured(variants, keys, layers=layers)

    def _require_each_layer_once(self, every_plan: Sequence[Plan]) -> None:
        """Of readings by layer; finds the most layers that any variant applies."""
        by_layer = [n for n, r in self.readings.items() if not r.at_end and r.by == "layer"]
        self._most_steps = 0
        for plan in every_plan:
            counts = [len(reads) for outputs in plan.outputs.values() for reads in outputs]
            self._most_steps = max(self._most_steps, *counts, 0)
            for name, (variant, outputs) in itertools.product(by_layer, plan.outputs.items()):
                layers = [plan.reads[read].layer for read in outputs[self._probe_of[name]]]
                if len(set(layers)) < len(layers):
                    raise InputError(
                        f"reading {name!r} has one place for each layer, and variant {variant!r} "
                        "applies one twice; read it with by='step'"
                    )

    def _prepare(self, chunk: int, batches: Sequence[TextBatch]) -> tuple:
        """The pool with the embedded text, the text arrays, the gates, both mixture tables."""
        per_lane = list(batches) * (self.lanes.count if self._by_streams else 1)
        per_lane += [batches[-1]] * (self.lanes.count - len(per_lane))
        sizes, gates, mixtures = self._sizes, [], []
        for batch, plan in zip(per_lane, self.plans[chunk], strict=True):
            columns = self.config.max_heads + 2
            gates.append(programs.gate_table(plan.gates, sizes.gates, columns, batch))
            mixtures.append(
                programs.mixture_tables(plan.mixtures, sizes.mixtures, sizes.terms, batch)
            )
        inputs = self.lanes.put([text_inputs(batch) for batch in per_lane])
        pool, text = self._programs[PREPARE](self._head, *inputs)
        return pool, text, self.lanes.put(gates), self.lanes.put(mixtures)

    @functools.cached_property
    def _measure_params(self) -> dict[tuple[int, int], Any]:
        """By probe and layer the placed parameters of its measure; None where it has none."""
        return {
            (number, layer): self.lanes.replicate(
                jax.tree.map(lambda leaf, layer=layer: leaf[layer], probe.params)
            )
            for number, probe in enumerate(self.plans[0][0].probes)
            for layer in probe.layers
        }

    def _zeros(self, shapes: Any) -> Any:
        """Zeros on every lane."""
        return self.lanes.replicate(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes))

    def _weights(self, weights: Sequence[tuple | None]) -> tree.BlockParams:
        """The placed weights of an apply call: the model's own where no lane edits."""
        present = [pair for pair in weights if pair is not None]
        if all(edit is None for _, edit in present):
            return self._layers[present[0][0]]
        return self._editor.blocks(weights)

    def _index(self, call: Call, work: LaneWork) -> np.ndarray:
        """Slots and table rows of one lane, int32 [width] or [rows, width]; see `programs`."""
        beyond = self._sizes.slots  # what padding writes is dropped
        if call.kind in ("read", "summarise"):
            index = np.full(call.width, 0 if call.kind == "read" else beyond, np.int32)
            for slots in work.sources:
                index[: len(slots)] = slots
            return index
        streams = 1 if call.kind == "apply" else call.variety
        table = np.zeros((streams + 2, call.width), np.int32)
        table[-2] = beyond
        rows = (*work.sources, work.destinations, work.rows) if work.rows else ()
        for row, values in zip(table, rows, strict=False):
            row[: len(values)] = values
        return table


def _split(split: str, num_variants: int, batches: Sequence[TextBatch]) -> tuple[str, int]:
    """What lanes share out, and how many lanes have enough to do.

    Rows where there are enough documents, streams where there are enough variants.
    """
    documents = 1 + max(int(batch.document_P.max()) for batch in batches)
    by_rows = min(len(batches), documents // DOCUMENTS_PER_DEVICE)
    by_streams = num_variants // STREAMS_PER_DEVICE
    if split == "auto":
        split = "rows" if by_rows > max(1, by_streams) else "streams"
    return split, max(1, by_rows if split == "rows" else by_streams)

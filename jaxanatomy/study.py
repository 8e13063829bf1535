"""Variants on texts, measured into the rows of a run: what all sweep experiments share.

study = Study(open_model(model_id), [StudyPart(text, variants)], settings)
with Run.open(workdir, config, study.provenance()) as run:
    study.measure(run)
    study.add([StudyPart(text, variants_chosen_by(run.rows))])
    study.measure(run)
"""

import contextlib
import dataclasses
import hashlib
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxanatomy import runs
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.choices import pack_questions
from jaxanatomy.data.packing import SETTINGS, PackedText, TextBatch, pack
from jaxanatomy.data.questions import Questions
from jaxanatomy.data.text import Text
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.variants import BASELINE, Step, Variant, baseline
from jaxanatomy.measures.readings.nll import LOSSES
from jaxanatomy.measures.rows import rows_of_readings
from jaxanatomy.records import Row
from jaxanatomy.sweep import Measured, Reading, Sweep, SweepOptions, cost, distributed
from jaxanatomy.sweep.devices import choose_devices
from jaxanatomy.weights import Checkpoint, Source
from jaxanatomy.weights.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class StudyPart:
    """Variants to measure on one text.

    Attributes:
      text: The text, or questions.
      variants: The variants; a baseline among them gives its labels to the baseline's row.
      readings: What is read of each, by name.
      settings: What decides the rows besides the readings' names; goes into their hashes.
      rows: Makes rows of what was read, in the order of the variants and their units; called as
        `rows.rows_of_readings`.
      units: What a variant has a row of; by default there is one, of the variant itself.
      baseline: Whether the baseline is measured in every chunk and has a row.
      everywhere: Each of several processes measures all of it, because the parts that are
        added later are chosen by its rows.
      batches: The text as these variants read it; None: as the study packs it.
    """

    text: Text | Questions
    variants: Sequence[Variant]
    readings: Mapping[str, Reading] = dataclasses.field(default_factory=lambda: LOSSES)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rows: Callable[..., list[Row]] = rows_of_readings
    units: Callable[[Variant], Sequence[str]] = lambda variant: ("",)
    baseline: bool = True
    everywhere: bool = False
    batches: Sequence[TextBatch] | None = None

    def __repr__(self) -> str:
        return f"StudyPart({self.text.name!r}, {len(self.variants)} variants)"


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """What decides the rows besides model, text and variant, and how to run.

    Attributes:
      experiment: Whose code decides the rows; see `provenance.code_version`.
      packing: Keyword arguments of `jaxanatomy.data.packing.pack`.
      options: How to run the sweeps.
      processes: Number of processes that share the chunks.
      process: Which of them this is.
    """

    experiment: str = ""
    packing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: SweepOptions = dataclasses.field(default_factory=SweepOptions)
    processes: int = 1
    process: int = 0

    @classmethod
    def of(
        cls,
        experiment: str,
        sweep: Mapping[str, Any],
        packing: Mapping[str, Any] | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> "StudySettings":
        """Those of the fields that configs share, `config_fields.sweep` and `packing`."""
        return cls(experiment, dict(packing or {}), SweepOptions(**sweep), processes, process)


class Study:
    """Texts with their variants, planned for one model.

    Attributes:
      sweeps: For each part the planned sweep.
      hashes: For each part the hash of each row, by the variant's name and the unit.
    """

    def __init__(self, source: Source, parts: Sequence[StudyPart], settings: StudySettings):
        """Tokenises and plans; reads no weights.

        Raises:
          InputError: The model has no tokenizer, a text or variant does not fit it, or there are
            not as many devices as are asked for.
        """
        choose_devices(settings.options.devices, useful=1)  # parts may come after long work
        self._source, self._settings = source, settings
        self._parts: list[StudyPart] = []
        self.sweeps: list[Sweep] = []
        self.hashes: list[dict[str, str]] = []
        self._placed: list[Sweep] = []
        self._packed: dict[Text | Questions, PackedText] = {}
        self._tokens: dict[Text | Questions, str] = {}
        self.add(parts)

    def __repr__(self) -> str:
        return f"Study({self._source!r}, {self._parts})"

    def add(self, parts: Sequence[StudyPart]) -> None:
        """Plans further parts, for `measure` beside the first; raises what the constructor does."""
        for part in parts:
            named = [variant for variant in part.variants if variant.name == BASELINE]
            anchor = named[0] if named else baseline(self.config.num_layers)
            sweep = Sweep(
                self.config,
                sort_by_shared_prefix(part.variants),
                self.batches(part.text) if part.batches is None else part.batches,
                part.readings,
                self._settings.options,
                anchor=anchor if part.baseline else None,
            )
            self._parts.append(part)
            self.sweeps.append(sweep)
            self.hashes.append(
                {
                    key: row_hash
                    for variant in itertools.chain(*sweep.chunks)
                    for key, row_hash in self._hashed(part, variant).items()
                }
            )

    @property
    def config(self) -> ModelConfig:
        """The architecture of the model."""
        return self._source.config

    @property
    def model(self) -> str:
        """The id of the model."""
        return self._source.id

    def describe(self) -> str:
        """Variants, work, memory and expected time of each part, in a few lines."""
        return "\n\n".join(
            cost.describe(sweep, part.text.name)
            for part, sweep in zip(self._parts, self.sweeps, strict=True)
        )

    def provenance(self) -> dict[str, Any]:
        """What `runs.Run.open` records; reads the hash of the weights."""
        return runs.provenance(
            self._settings.experiment,
            model=self._source.id,
            architecture=self.config.to_dict(),
            weights_sha256=self._source.read_sha256(),
            data_sha256={part.text.name: part.text.sha256 for part in self._parts},
            tokens_sha256={part.text.name: self._tokens_of(part.text) for part in self._parts},
            left_out={
                part.text.name: dataclasses.asdict(self._pack(part.text).left_out)
                for part in self._parts
            },
        )

    def opened(
        self, workdir: Path, config: ConfigDict, ignore: Sequence[str], **more: Any
    ) -> contextlib.AbstractContextManager[runs.Run]:
        """`runs.Run.open` for this process; `more` is provenance beside that of the study."""
        own, made = self._settings, self.provenance() | more
        return runs.Run.open(workdir, config.to_dict(), made, ignore, own.process, own.processes)

    def gathered(self, run: runs.Run, *others: "Study") -> bool:
        """Waits for the other processes; in the first, which takes their rows and goes on, true."""
        distributed.wait_for_all(f"{self._settings.experiment}: all rows are written")
        if self._settings.process == 0:
            run.merge_parts([hash for study in (self, *others) for hash in study.row_order()])
        return self._settings.process == 0

    def row_order(self) -> list[str]:
        """The hashes of all rows in the order in which one process writes them."""
        return [row_hash for hashes in self.hashes for row_hash in hashes.values()]

    def load(self) -> Checkpoint:
        """The model with its weights, for measures that are no sweep."""
        return self._source.load()

    def batches(self, text: Text | Questions) -> tuple[TextBatch, ...]:
        """A text as all parts of this study pack it."""
        return self._pack(text).batches

    def count_documents(self, text: Text | Questions) -> int:
        """Documents of a text of which this study predicts at least one token."""
        return 1 + max(int(batch.document_P.max()) for batch in self.batches(text))

    def _pack(self, text: Text | Questions) -> PackedText:
        if text not in self._packed:
            self._packed[text] = pack_text(self._source, text, **self._settings.packing)
        return self._packed[text]

    def row_hash(self, text: Text | Questions, **what: Any) -> str:
        """The hash of a row on a text; `what` is what decides it besides model and settings."""
        settings, source = self._settings, self._source
        return runs.row_hash(
            weights=source.read_sha256(),
            data=text.sha256,
            tokens=self._tokens_of(text),
            text=text.name,
            code=runs.code_version(settings.experiment),
            dtype=settings.options.dtype,
            precision=settings.options.precision,
            packing=dict(settings.packing),
            **what,
        )

    def measure(self, run: runs.Run) -> None:
        """Appends the rows that are not there yet; weights are read only if some are missing.

        Chunks always run whole, so that a row does not depend on where a run was stopped.
        """
        todo = [
            [index for index in range(len(sweep.chunks)) if self._is_mine(run, part, index)]
            for part, sweep in enumerate(self.sweeps)
        ]
        if not any(todo):
            return
        self._prepare([sweep for sweep, chunks in zip(self.sweeps, todo, strict=True) if chunks])
        for part, (sweep, chunks) in enumerate(zip(self.sweeps, todo, strict=True)):
            if not chunks:
                continue
            work = sum(sweep.applications(chunk) for chunk in chunks)
            name = self._parts[part].text.name
            total = sum(len(self._reported(part, chunk)) for chunk in chunks)
            with runs.Progress(total, name, unit="variants", work=work) as progress:
                for chunk in chunks:
                    measured = sweep.run(chunk, progress.update)
                    run.append(self._rows(part, chunk, measured))

    def _prepare(self, sweeps: Sequence[Sweep]) -> None:
        """Compiles, while the weights load unless they are there, and places the weights."""
        with ThreadPoolExecutor(1) as pool:
            loading = None if self._placed else pool.submit(self._source.load)
            for before, sweep in zip([None, *sweeps], sweeps, strict=False):
                sweep.compile(before)
        for sweep in sweeps:
            # Parts may use different numbers of devices; those that agree share weights.
            same = [each for each in self._placed if each.lanes.sharding == sweep.lanes.sharding]
            if same:
                sweep.share_weights(same[0])
            else:
                sweep.place((loading.result() if loading else self._source.load()).params)
                self._placed.append(sweep)

    def _is_mine(self, run: runs.Run, part: int, chunk: int) -> bool:
        """Whether this process has to run a chunk: its turn, and rows are missing."""
        before = sum(len(sweep.chunks) for sweep in self.sweeps[:part])
        turn = (before + chunk) % self._settings.processes == self._settings.process
        turn = turn or self._parts[part].everywhere
        return turn and not all(map(run.done, self._hashes_of(part, chunk)))

    def _reported(self, part: int, chunk: int) -> Sequence[Variant]:
        """The variants whose rows a chunk gives: the baseline's comes from the first."""
        variants = self.sweeps[part].chunks[chunk]
        return variants if chunk == 0 or not self._parts[part].baseline else variants[1:]

    def _rows(self, part: int, chunk: int, measured: Mapping[str, Measured]) -> list[Row]:
        variants, text = self._reported(part, chunk), self._parts[part].text.name
        rows = self._parts[part].rows(measured, variants, text=text)
        return [
            {"hash": row_hash, "model": self.model, **row}
            for row_hash, row in zip(self._hashes_of(part, chunk), rows, strict=True)
        ]

    def _hashes_of(self, part: int, chunk: int) -> list[str]:
        """The hashes of the rows of a chunk, in their order."""
        return [
            self.hashes[part][variant.name, unit]
            for variant in self._reported(part, chunk)
            for unit in self._parts[part].units(variant)
        ]

    def _tokens_of(self, text: Text | Questions) -> str:
        """A hash of a text as the model sees it: another tokenizer gives other rows."""
        if text not in self._tokens:
            digest = hashlib.sha256()
            for batch in self.batches(text):
                for array in (batch.token_RT, batch.target_P, batch.document_P):
                    digest.update(np.ascontiguousarray(array).tobytes())
            self._tokens[text] = digest.hexdigest()
        return self._tokens[text]

    def _hashed(self, part: StudyPart, variant: Variant) -> dict[tuple[str, str], str]:
        steps = variant.fingerprint()
        return {
            (variant.name, unit): self.row_hash(
                part.text,
                variant=variant.name,
                unit=unit,
                steps=steps,
                readings=sorted(part.readings),
                part=dict(part.settings),
            )
            for unit in part.units(variant)
        }


def pack_text(model: Checkpoint | Source, text: Text | Questions, **packing: Any) -> PackedText:
    """Packs a text or questions for a model; says on stderr what is left out.

    Args:
      model: The model.
      text: The text, or the questions, for which `packing` says nothing.
      **packing: Settings of `jaxanatomy.data.packing.pack`.

    Raises:
      InputError: The model has no tokenizer, or the text does not fit it.
    """
    limits = {
        "context_length": model.config.context_length,
        "vocab_size": model.config.vocab_size,
    }
    if isinstance(text, Questions):
        share = not model.config.has_windows
        return pack_questions(text, required_tokenizer(model), **limits, share=share)
    if not isinstance(text, Text):
        raise InputError(
            f"a text to read must be a Text; got {type(text).__name__}; load one with "
            "ja.text(SOURCE), or make one of your own strings with ja.Text(NAME, STRINGS)"
        )
    for name in packing:
        choose("packing setting", name, SETTINGS)
    tokenizer = required_tokenizer(model)
    packed = pack(text, tokenizer, **limits, **packing)
    if packed.left_out.total:
        print(f"text {text.name!r}: {packed.left_out}", file=sys.stderr)
    if tokenizer.adds_bos and packing.get("add_bos", "none") in ("none", False):
        print(
            f"text {text.name!r}: read without the BOS that the tokenizer of {model.id} puts "
            "before a text; packing.add_bos=document or window puts it there",
            file=sys.stderr,
        )
    return packed


def required_tokenizer(model: Checkpoint | Source) -> Tokenizer:
    """The tokenizer of a model.

    Raises:
      InputError: It has none, or one that cannot be read.
    """
    if isinstance(model, Checkpoint):
        model.require_tokenizer()
    if model.tokenizer is None:
        raise InputError(
            f"{model.id} has no tokenizer, which a text needs; put its tokenizer.json beside it"
        )
    return model.tokenizer


def tokenise(model: Checkpoint | Source, text: Text, **packing: Any) -> tuple[TextBatch, ...]:
    """The batches of `pack_text`."""
    return pack_text(model, text, **packing).batches


def sort_by_shared_prefix(variants: Sequence[Variant]) -> list[Variant]:
    """Without the baseline, ordered so that those with a long common beginning are neighbours.

    Chunks are cut from this order, and steps are shared inside a chunk only. Variants that
    depart from the baseline at the same depth stay together.
    """
    others = [variant for variant in variants if variant.name != BASELINE]
    numbers: dict[Step, int] = {}

    def key(variant: Variant) -> tuple:
        unedited = [step == Step(depth) for depth, step in enumerate(variant.steps)]
        departure = unedited.index(False) if False in unedited else len(unedited)
        return departure, tuple(numbers.setdefault(step, len(numbers)) for step in variant.steps)

    return sorted(others, key=key)

"""Batches of a mixture for the training loop: shuffled, prefetched, exactly resumable.

    schedule = MixtureSchedule(((0, parse_mixture("offline")),))
    pipeline = Pipeline(schedule, tokenizer, batch_size=8, seq_len=256)
    batches = pipeline.batches()
    batch = batches.next()                    # token_BT, target_BT, weight_BT, ...
    state = batches.state()                   # a small dict for the checkpoint
    batches.restore(state)                    # the same batches from there, to the bit

The global batch of a step is a function of the settings and of the step alone: processes
share its rows, and a run may go on with another number of processes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from jaxanatomy.data import workers
from jaxanatomy.data.corpora import GENERATED, Corpus, open_corpus, with_commit
from jaxanatomy.data.mixture import Dealer, MixtureSchedule
from jaxanatomy.data.questions import Split
from jaxanatomy.data.sequences import GeneratedRows, StreamRows, TokenBatch, TokenRow
from jaxanatomy.data.vocabulary import tokenizer_sha256
from jaxanatomy.errors import InputError
from jaxanatomy.weights.tokenizer import Tokenizer

# That can be asked for: more than any run has.
MOST_STEPS = 2**31
# More threads only wait for each other: most of a row is Python.
THREADS, PREFETCHED = 2, 8
SET_BACK = "set it back or begin a new run"


class Pipeline:
    """Where the batches of a run come from.

    Attributes:
      batch_size: Rows B of a global batch.
      seq_len: Tokens T of a row.
      local_batch_size: Rows of a batch that this process reads.
      num_workers: Processes that make batches.
    """

    def __init__(
        self,
        schedule: MixtureSchedule,
        tokenizer: Tokenizer,
        *,
        batch_size: int,
        seq_len: int,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        num_workers: int = 0,
    ):
        """Opens every source, and tokenises those that the cache has not.

        Args:
          schedule: Which mixture is read from which step on.
          tokenizer: Any of `weights/` or `bpe`.
          batch_size: Rows B of a global batch.
          seq_len: Tokens T of a row.
          seed: Of the order of rows, and of what is made by rule.
          process_index: Which of the processes this is, from 0.
          process_count: Processes that share each batch; process i reads the i-th part of its rows.
          num_workers: Processes that make batches; 0: threads of this one, which share its Python.

        Raises:
          InputError: A source is unknown, missing, empty or too short; `batch_size` cannot be
            shared among the processes.
        """
        if batch_size < 1 or seq_len < 1 or batch_size % process_count:
            raise InputError(
                f"batch_size must be a positive multiple of the {process_count} processes, and "
                f"seq_len positive; got batch_size={batch_size} and seq_len={seq_len}; change "
                "batch_size"
            )
        self.batch_size, self.seq_len = batch_size, seq_len
        self.local_batch_size = batch_size // process_count
        self._schedule, self._tokenizer, self._seed = schedule, tokenizer, seed
        self._process_index, self._process_count = process_index, process_count
        self.num_workers = num_workers
        self._corpora = {
            name: open_corpus(name) for name in schedule.sources if name not in GENERATED
        }
        self._streams = {name: _prepare(self._corpora[name], tokenizer) for name in self._corpora}
        sources = [self._training_rows(name) for name in schedule.sources]
        dealer = Dealer(schedule, batch_size, MOST_STEPS)
        mixed = grain.MapDataset.select_from_datasets(sources, dealer)
        self._batches = mixed.batch(self.local_batch_size)

    def batches(self, state: Mapping[str, Any] | None = None) -> "Batches":
        """Batches without end, from the first step or from where a state was taken.

        Raises:
          InputError: As `Batches.restore`.
        """
        batches = Batches(self, step=0)
        if state is not None:
            batches.restore(state)
        return batches

    def held_out(self, rows: int) -> dict[str, tuple[TokenBatch, ...]]:
        """Batches of held-out text of each source of the first mixture, for any seed the same.

        Args:
          rows: Rows of each source, spread over all that it has; all if there are fewer.

        Returns:
          By source, batches of this process's part of `self.batch_size` rows; where rows are
          wanting, the weights are 0.

        Raises:
          InputError: So little of a source is held out that it does not fill a row.
        """
        found = {}
        for name in self._schedule.mixtures[0][1].sources:
            source = self._rows_of(name, "validation")
            count = min(rows, len(source))
            # Rows in a row would be those of the first documents.
            step = 1 if name in GENERATED else len(source) // count
            places = [at * step for at in range(count)]
            starts = range(0, count, self.batch_size)
            found[name] = tuple(self._held_out_batch(source, start, places) for start in starts)
        return found

    @property
    def shares(self) -> dict[str, float]:
        """The shares of the sources in the first mixture."""
        mixture = self._schedule.mixtures[0][1]
        return dict(zip(mixture.sources, mixture.weights, strict=True))

    def settings(self, step: int) -> dict[str, Any]:
        """What the batches before a step depend on, JSON-ready."""
        stages = [(first, mix) for first, mix in self._schedule.mixtures if first < max(step, 1)]
        names = dict.fromkeys(name for _, mix in stages for name in mix.sources)
        return {
            "batch_size": self.batch_size,
            "seq_len": self.seq_len,
            "seed": self._seed,
            "tokenizer": tokenizer_sha256(self._tokenizer)[:16],
            "mixtures": [
                # Pairs, as rows are dealt in their order.
                [first, [list(part) for part in zip(mix.sources, mix.weights, strict=True)]]
                for first, mix in stages
            ],
            "sources": {
                name: _digest(self._corpora[name].identity) if name in self._corpora else "rule"
                for name in names
            },
        }

    def refuse_other(self, state: Mapping[str, Any]) -> None:
        """Raises InputError when a state is not of this pipeline's data up to its step."""
        now = self.settings(state["step"])
        for name, value in now.items():
            # Through JSON, as the state may have been.
            before = state.get(name)
            if json.dumps(before, sort_keys=True) != json.dumps(value, sort_keys=True):
                remedy = _remedy(before, value) if name == "sources" else SET_BACK
                raise InputError(
                    f"the data of a run that goes on must be the same; {name} was {before} and is "
                    f"{value}; {remedy}"
                )

    def read(self, step: int) -> Iterator[TokenRow]:
        """This process's part of the batches from a step on, prefetched."""
        first = step * self._process_count + self._process_index
        mine = self._batches[first :: self._process_count]
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=PREFETCHED)
        read = mine.to_iter_dataset(options)
        if self.num_workers:
            read = workers.share_out(read, self.num_workers, PREFETCHED)
        return iter(read)

    def _training_rows(self, name: str) -> grain.MapDataset:
        rows = grain.MapDataset.source(self._rows_of(name, "train"))
        if name in GENERATED:
            return rows
        seed = int(_digest(f"{self._seed} {name}"), 16) % 2**31
        return rows.seed(seed).shuffle().repeat()

    def _rows_of(self, name: str, split: Split) -> GeneratedRows | StreamRows:
        if name in GENERATED:
            seed = self._seed if split == "train" else 0  # runs of all seeds are asked the same
            return GeneratedRows(GENERATED[name], self._tokenizer, self.seq_len, seed, split)
        return StreamRows(self._streams[name][split], self.seq_len)

    def _held_out_batch(
        self, source: GeneratedRows | StreamRows, start: int, places: Sequence[int]
    ) -> TokenBatch:
        first = start + self._process_index * self.local_batch_size
        mine = range(first, first + self.local_batch_size)
        rows = [source[places[min(at, len(places) - 1)]] for at in mine]
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        batch["weight_BT"][[at >= len(places) for at in mine]] = 0
        return TokenBatch(**batch)


class Batches:
    """Batches without end that know where they are: a `train.setup.BatchStream`.

    Attributes:
      step: Of the next batch.
    """

    def __init__(self, pipeline: Pipeline, step: int):
        self._pipeline, self.step = pipeline, step
        self._rows: grain.DatasetIterator | None = None  # reading begins with the first batch

    def next(self) -> TokenBatch:
        """The batch of this step, this process's rows, arrays [B, T] on the host.

        Raises:
          InputError: A worker was killed.
        """
        if self._rows is None:
            self._rows = self._pipeline.read(self.step)
        try:
            batch = TokenBatch(**next(self._rows))
        except RuntimeError as error:
            if not self._pipeline.num_workers:
                raise
            self.close()  # the others would go on without the batch that was lost
            raise workers.lost(error) from error
        self.step += 1
        return batch

    def __iter__(self) -> "Batches":
        return self

    __next__ = next

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on with the next batch; JSON-ready."""
        return {"step": self.step, **self._pipeline.settings(self.step)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resumes where a state was taken, on this or another number of processes.

        The mixtures of later steps may have changed since.

        Raises:
          InputError: The state is of other data, order or shape.
        """
        self._pipeline.refuse_other(state)
        self.close()
        self.step = state["step"]

    def close(self) -> None:
        """Ends the threads that read ahead; the next batch starts new ones."""
        if self._rows is not None:
            self._rows.close()
        self._rows = None


class Repeated:
    """A stream that gives each batch several times: to trials of one seed, side by side."""

    def __init__(self, stream: Batches, times: int):
        self._stream, self._times = stream, times
        self._batch: TokenBatch | None = None
        self._left = 0

    def next(self) -> TokenBatch:
        """The same batch until it was given often enough, then the next one."""
        if not self._left:
            self._batch, self._left = self._stream.next(), self._times
        self._left -= 1
        return self._batch

    def state(self) -> dict[str, Any]:
        """That of the stream; between batches."""
        return self._stream.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resumes where a state was taken; see `Batches.restore`."""
        self._stream.restore(state)
        self._left = 0


def _remedy(before: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """What to do where sources have other text; that of the hub cannot be set back."""
    changed = [name for name in now if (before or {}).get(name) != now[name]]
    pinned = {name: with_commit(name) for name in changed if name.startswith("hf:")}
    names = [each for name, each in pinned.items() if each != name]
    if not names:
        return SET_BACK
    return (
        "the hub may have another commit now; begin a new run with the commit named in its "
        f"source, which then stays the same: {', '.join(names)}"
    )


def _prepare(corpus: Corpus, tokenizer: Tokenizer) -> dict:
    from jaxanatomy.data import tfds_builder

    return tfds_builder.prepare(corpus, tokenizer)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

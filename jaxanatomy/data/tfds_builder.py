"""Tokenised corpora as TensorFlow Datasets, written and read without TensorFlow.

A corpus is tokenised once, with any tokenizer, into one long stream of tokens: document
after document, each with its end token. The stream lies in array_record files as records
of `BLOCK` tokens, so any span of it can be read at any time, and packing is arithmetic.

    streams = prepare(open_corpus("library_code"), tokenizer)
    tokens, begins = streams["train"].span(0, 512)

The folders are ordinary data sets: `tfds.builder_from_directory(folder)` opens one.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder
from tensorflow_datasets.core.sequential_writer import SequentialWriter

from jaxanatomy.data.corpora import Corpus
from jaxanatomy.data.questions import Split
from jaxanatomy.data.vocabulary import end_id, tokenizer_sha256
from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache
from jaxanatomy.weights.tokenizer import Tokenizer

BLOCK = 8192  # tokens of a record
RECORDS_PER_SHARD = 8192  # 256 MiB
RECIPE = "3"  # to be raised when the same documents and tokenizer make another stream
CACHED_BLOCKS = 2048  # records in memory, for each stream: 64 MiB
_ENCODED_TOGETHER = 256  # documents; the tokenizers library shares them over the cores
_WRITTEN_TOGETHER = 64  # records; each time the splits' sizes are written too
_SIZES = "streams.json"


class TokenStreamBuilder(FileReaderBuilder):
    """Writes the token stream of a corpus, a split for training and one held out.

    Each record has `tokens`, int32 [BLOCK] (the last one of a split may be shorter), and
    `begins`, the places in it where a document begins. Records go to the disk as they come,
    in one pass over the corpus: TFDS's builders from generators would first sort them all,
    in memory or with TensorFlow.
    """

    VERSION = tfds.core.Version("1.0.0")
    name = "token_stream"

    def __init__(self, *, corpus: Corpus, tokenizer: Tokenizer, data_dir: str | Path):
        """Sets the builder up; `download_and_prepare()` writes.

        Args:
          corpus: The documents.
          tokenizer: Encodes them; its end token follows each.
          data_dir: Where the data set's folder is made.
        """
        self.corpus, self.tokenizer = corpus, tokenizer
        self.sizes = {split: {"documents": 0, "tokens": 0} for split in get_args(Split)}
        self.left_out = 0  # documents that are blank or null
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        integers = tfds.features.Tensor(shape=(None,), dtype=np.int32, encoding="bytes")
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Tokens of {self.corpus.source}.",
            features=tfds.features.FeaturesDict({"tokens": integers, "begins": integers}),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                source=self.corpus.source,
                identity=self.corpus.identity,
                tokenizer=tokenizer_sha256(self.tokenizer),
            ),
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        del dl_manager, download_config  # corpora fetch for themselves
        info = self._info()  # of the folder of the moment, renamed when all is written
        writer = SequentialWriter(info, RECORDS_PER_SHARD, file_format="array_record")
        writer.initialize_splits(list(self.sizes))
        waiting = {split: [] for split in self.sizes}
        for split, (tokens, begins) in self._records():
            self.sizes[split]["documents"] += len(begins)
            self.sizes[split]["tokens"] += len(tokens)
            waiting[split].append({"tokens": tokens, "begins": begins})
            if len(waiting[split]) == _WRITTEN_TOGETHER:
                writer.add_examples({split: waiting[split]})
                waiting[split] = []
        writer.add_examples(waiting)
        writer.close_all()
        self.info.set_splits(info.splits)

    def _usable(self) -> Iterator[tuple[str, Split]]:
        for text, split in self.corpus.documents():
            if text is None:
                self.left_out += 1
            else:
                yield text, split

    def _records(self) -> Iterator[tuple[Split, tuple[np.ndarray, np.ndarray]]]:
        cutters = {split: Cutter(BLOCK) for split in self.sizes}
        for tokens, split in _encoded(self._usable(), self.tokenizer):
            for block in cutters[split].add(tokens):
                yield split, block
        for split, cutter in cutters.items():
            if block := cutter.rest():
                yield split, block


class TokenStream:
    """One split of a corpus as a stream of tokens, of which any span can be read.

    Attributes:
      name: What it is, for messages.
      num_tokens: Tokens of the stream.
      num_documents: Documents in it.
    """

    def __init__(self, folder: Path, source: str, split: Split, size: Mapping[str, int]):
        self._arguments = folder, source, split, size
        part = "source" if split == "train" else "the held-out part of source"
        self.name = f"{part} {source!r}"
        self.num_documents, self.num_tokens = size["documents"], size["tokens"]
        self._records = tfds.builder_from_directory(folder).as_data_source(split=split)
        self._block = functools.lru_cache(CACHED_BLOCKS)(self._read)

    def __reduce__(self):
        """Processes that make batches open the files for themselves."""
        return TokenStream, self._arguments

    def span(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens `start` to `stop` of the stream, counted from 0.

        Returns:
          (tokens, begins): int32 ids, and whether each is the first of a document.
        """
        first, last = start // BLOCK, (stop - 1) // BLOCK
        tokens, begins = zip(*map(self._block, range(first, last + 1)), strict=True)
        inside = slice(start - first * BLOCK, stop - first * BLOCK)
        return np.concatenate(tokens)[inside], np.concatenate(begins)[inside]

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        record = self._records[index]
        begins = np.zeros(len(record["tokens"]), bool)
        begins[record["begins"]] = True
        return record["tokens"], begins


def prepare(corpus: Corpus, tokenizer: Tokenizer) -> dict[Split, TokenStream]:
    """The streams of a corpus, tokenised first unless the cache has them.

    How many of its documents are left out, blank or null, is said on stderr.

    Raises:
      InputError: The corpus cannot be read, has no document, the cache is not writable, or
        the tokenizer has no end token.
    """

    def make(folder: Path) -> None:
        builder = TokenStreamBuilder(corpus=corpus, tokenizer=tokenizer, data_dir=folder)
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
        if not any(size["documents"] for size in builder.sizes.values()):
            raise InputError(
                f"source {corpus.source!r} is empty; it must hold at least one document with text"
            )
        found = {"splits": builder.sizes, "left_out": builder.left_out}
        cache.write_atomically(folder / _SIZES, json.dumps(found))

    made_from = f"{corpus.identity} {tokenizer_sha256(tokenizer)} {BLOCK} {RECIPE}"
    digest = hashlib.sha256(made_from.encode()).hexdigest()[:32]
    folder = cache.entry(f"streams/{digest}", make)
    found = json.loads((folder / _SIZES).read_text())
    sizes, left_out = found["splits"], found["left_out"]
    if left_out:
        documents = left_out + sum(size["documents"] for size in sizes.values())
        print(
            f"source {corpus.source!r}: {left_out:,} of {documents:,} documents left out, blank or "
            "null",
            file=sys.stderr,
        )
    where = folder / TokenStreamBuilder.name / str(TokenStreamBuilder.VERSION)
    return {split: TokenStream(where, corpus.source, split, sizes[split]) for split in sizes}


class Cutter:
    """Concatenates documents and cuts the whole into blocks, as they come."""

    def __init__(self, size: int):
        """Begins with no document.

        Args:
          size: Tokens of a block.
        """
        self._size, self._given = size, False
        self._parts, self._begins, self._filled = [], [], 0

    def add(self, document: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The blocks that a document fills.

        Args:
          document: Its tokens, int32.

        Yields:
          (tokens, begins): int32 ids; the places where documents begin.
        """
        self._begins.append(self._filled)
        while self._filled + len(document) >= self._size:
            room = self._size - self._filled
            self._parts.append(document[:room])
            document = document[room:]
            yield self._taken()
        self._parts.append(document)
        self._filled += len(document)

    def rest(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The last block, which is shorter; None if there is none.

        Where no block was given it is empty: a split needs a record.
        """
        return None if self._given and not self._filled else self._taken()

    def _taken(self) -> tuple[np.ndarray, np.ndarray]:
        tokens = np.concatenate([np.zeros(0, np.int32), *self._parts])
        begins = np.asarray(self._begins, np.int32)
        self._parts, self._begins, self._filled, self._given = [], [], 0, True
        return tokens, begins


def _encoded(
    documents: Iterable[tuple[str, Split]], tokenizer: Tokenizer
) -> Iterator[tuple[np.ndarray, Split]]:
    """The tokens of each document with its end token, which stands nowhere else."""
    end, backend = end_id(tokenizer), _plain_text_backend(tokenizer)
    documents = iter(documents)
    while batch := list(itertools.islice(documents, _ENCODED_TOGETHER)):
        texts = [text for text, _ in batch]
        found = backend.encode_batch_fast(texts, add_special_tokens=False)
        for encoding, (_, split) in zip(found, batch, strict=True):
            yield np.asarray([*encoding.ids, end], np.int32), split


def _plain_text_backend(tokenizer: Tokenizer) -> Any:
    """A copy to which the spelling of a special token in a document is text like any other."""
    backend = type(tokenizer.backend).from_str(tokenizer.backend.to_str())
    backend.encode_special_tokens = True
    return backend

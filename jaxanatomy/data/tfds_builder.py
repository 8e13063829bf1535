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
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tensorflow_datasets as tfds

from jaxanatomy.data.corpora import Corpus
from jaxanatomy.data.questions import Split
from jaxanatomy.data.vocabulary import tokenizer_sha256
from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache
from jaxanatomy.weights.tokenizer import Tokenizer

BLOCK = 8192  # tokens of a record
CACHED_BLOCKS = 2048  # records in memory, for each stream: 64 MiB
_ENCODED_TOGETHER = 256  # documents; the tokenizers library shares them over the cores
_SIZES = "streams.json"


class TokenStreamBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes the token stream of a corpus, a split for training and one held out.

    Each record has `tokens`, int32 [BLOCK] (the last one of a split may be shorter), and
    `begins`, the places in it where a document begins.
    """

    VERSION = tfds.core.Version("1.0.0")
    name = "token_stream"

    def __init__(self, *, corpus: Corpus, tokenizer: Tokenizer, data_dir: str | Path):
        """Sets the builder up; `download_and_prepare()` writes.

        Args:
          corpus: The documents.
          tokenizer: Encodes them; its end token follows each if it has one.
          data_dir: Where the data set's folder is made.
        """
        self.corpus, self.tokenizer = corpus, tokenizer
        self.sizes: dict[str, dict[str, int]] = {}
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        integers = tfds.features.Tensor(shape=(None,), dtype=np.int32, encoding="bytes")
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Tokens of {self.corpus.source}.",
            features=tfds.features.FeaturesDict({"tokens": integers, "begins": integers}),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                source=self.corpus.source, tokenizer=tokenizer_sha256(self.tokenizer)
            ),
        )

    def _split_generators(self, dl_manager: Any) -> Mapping[str, Iterator[tuple[int, dict]]]:
        del dl_manager  # corpora fetch for themselves
        return {split: self._generate_examples(split) for split in get_args(Split)}

    def _generate_examples(self, split: Split) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        size = self.sizes[split] = {"documents": 0, "tokens": 0}
        documents = _encoded(self.corpus.documents(split), self.tokenizer)
        for index, (tokens, begins) in enumerate(blocks(documents, BLOCK)):
            size["documents"] += len(begins)
            size["tokens"] += len(tokens)
            yield index, {"tokens": tokens, "begins": begins}


class TokenStream:
    """One split of a corpus as a stream of tokens, of which any span can be read.

    Attributes:
      name: What it is, for messages.
      num_tokens: Tokens of the stream.
      num_documents: Documents in it.
    """

    def __init__(self, folder: Path, source: str, split: Split, size: Mapping[str, int]):
        part = "source" if split == "train" else "the held-out part of source"
        self.name = f"{part} {source!r}"
        self.num_documents, self.num_tokens = size["documents"], size["tokens"]
        self._records = tfds.builder_from_directory(folder).as_data_source(split=split)
        self._block = functools.lru_cache(CACHED_BLOCKS)(self._read)

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

    Raises:
      InputError: The corpus cannot be read, has no document, or the cache is not writable.
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
        cache.write_atomically(folder / _SIZES, json.dumps(builder.sizes))

    made_from = f"{corpus.identity} {tokenizer_sha256(tokenizer)} {BLOCK}"
    digest = hashlib.sha256(made_from.encode()).hexdigest()[:32]
    folder = cache.entry(f"streams/{digest}", make)
    sizes = json.loads((folder / _SIZES).read_text())
    where = folder / TokenStreamBuilder.name / str(TokenStreamBuilder.VERSION)
    return {split: TokenStream(where, corpus.source, split, sizes[split]) for split in sizes}


def blocks(documents: Iterable[np.ndarray], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Concatenates documents and splits the whole into blocks.

    Args:
      documents: Tokens of each, int32.
      size: Tokens of a block.

    Yields:
      (tokens, begins): int32 ids; the places where documents begin. The last block may be
      shorter, and is empty if there is no document: a split needs a record.
    """
    parts, begins, filled, written = [], [], 0, 0
    for document in documents:
        begins.append(filled)
        while filled + len(document) >= size:
            parts.append(document[: size - filled])
            document = document[size - filled :]
            yield np.concatenate(parts), np.asarray(begins, np.int32)
            parts, begins, filled, written = [], [], 0, written + 1
        parts.append(document)
        filled += len(document)
    if filled or not written:
        yield np.concatenate([np.zeros(0, np.int32), *parts]), np.asarray(begins, np.int32)


def _encoded(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """The tokens of each document with its end token, if there is one; never empty."""
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    documents = iter(documents)
    while batch := [text for _, text in zip(range(_ENCODED_TOGETHER), documents, strict=False)]:
        for encoding in tokenizer.backend.encode_batch_fast(batch, add_special_tokens=False):
            if ids := [*encoding.ids, *end]:
                yield np.asarray(ids, np.int32)

"""Rows of tokens to train on: concat-then-split packing that can start at any row.

Documents are put one after another and the whole is cut every T tokens. Attention stays
inside a document: `segment_BT` tells the documents of a row apart, and positions begin
again in each. The token after a row is its last target, so every token of a stream that
does not begin a document is predicted once.

grain's `ConcatThenSplitIterDataset` makes the same rows one after another; here row k is
computed from k alone. So the state of a pipeline is a step number, whatever the number
of processes, and rows can be shuffled.
"""

import dataclasses
import random
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from jaxanatomy.data.questions import Split, Task, document, draw
from jaxanatomy.data.vocabulary import end_id
from jaxanatomy.errors import InputError
from jaxanatomy.reprs import repr_in_one_line
from jaxanatomy.weights.tokenizer import Tokenizer

_TRIED = 64  # questions of each task, whose longest must fit into a row

# Rows of a source made by rule: more than any run reads.
ENDLESS = 2**31

# One row of a batch: the fields of `TokenBatch` without their axis B.
TokenRow = dict[str, np.ndarray]


class TokenBatch(NamedTuple):
    """Rows of tokens to learn from, or to score.

    Attributes:
      token_BT: int32 ids.
      target_BT: int32, the token to be predicted at each position.
      weight_BT: float32, 1 where the target is to be predicted and 0 elsewhere.
      position_BT: int32, from 0 in each document of a row; None: from 0 in each row.
      segment_BT: int32, which document of its row a token is of, -1 where padding: attention stays
        within equal ones; None: a row is one document.
    """

    token_BT: np.ndarray
    target_BT: np.ndarray
    weight_BT: np.ndarray
    position_BT: np.ndarray | None = None
    segment_BT: np.ndarray | None = None

    __repr__ = repr_in_one_line


class TokenSource(Protocol):
    """A stream of tokens, such as `tfds_builder.TokenStream`."""

    name: str
    num_tokens: int
    num_documents: int

    def span(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, begins) of part of the stream."""


@dataclasses.dataclass(frozen=True, eq=False)
class StreamRows:
    """The rows of a stream of tokens, for `grain.MapDataset.source`.

    Attributes:
      stream: What is cut.
      seq_len: Tokens T of a row.

    Raises:
      InputError: The stream is too short for one row.
    """

    stream: TokenSource
    seq_len: int

    def __post_init__(self):
        if self.stream.num_tokens <= self.seq_len:
            raise InputError(
                f"{self.stream.name} must have more than {self.seq_len} tokens, the length of a "
                f"row; it has {self.stream.num_tokens} in {self.stream.num_documents} documents; "
                "give more text, in more documents, or lower the sequence length"
            )

    def __len__(self) -> int:
        """Whole rows, each with a token after it; what is left at the end is dropped."""
        return (self.stream.num_tokens - 1) // self.seq_len

    def __getitem__(self, index: int) -> TokenRow:
        start = index * self.seq_len
        return packed_row(*self.stream.span(start, start + self.seq_len + 1))


@dataclasses.dataclass(frozen=True, eq=False)
class GeneratedRows:
    """Rows of documents that are made by rule, without end, for `grain.MapDataset.source`.

    A row is as many documents as it takes, the last one cut; no document is in two rows.

    Attributes:
      tasks: What documents are made of, by name.
      tokenizer: Encodes them; its end token follows each.
      seq_len: Tokens T of a row.
      seed: Of all rows.
      split: Of all questions.
    """

    tasks: Mapping[str, Task]
    tokenizer: Tokenizer
    seq_len: int
    seed: int
    split: Split = "train"

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> TokenRow:
        end = [end_id(self.tokenizer)]
        ids, starts = [], []
        while len(ids) <= self.seq_len:
            # A row has at most `seq_len` documents, so no number is used twice.
            number = index * (self.seq_len + 1) + len(starts)
            starts.append(len(ids))
            ids += self.tokenizer.encode(document(self.tasks, self.seed, number, self.split))
            ids += end
        begins = np.zeros(len(ids), bool)
        begins[starts] = True
        inside = slice(self.seq_len + 1)
        return packed_row(np.asarray(ids, np.int32)[inside], begins[inside])


def require_length(tasks: Mapping[str, Task], tokenizer: Tokenizer, seq_len: int) -> None:
    """Refuses rows that are too short for a single question with its answer.

    Raises:
      InputError: A question among some of each task's is longer than a row.
    """
    for name, task in tasks.items():
        rng = random.Random(0)
        texts = (draw(task, rng, "train").text for _ in range(_TRIED))
        longest = max(len(tokenizer.encode(text)) for text in texts)
        if longest > seq_len:
            raise InputError(
                f"a {name} question of the mixture needs rows of {longest} tokens; got {seq_len}; "
                "raise the sequence length, or leave its source out of the mixture"
            )


def packed_row(tokens: np.ndarray, begins: np.ndarray) -> TokenRow:
    """A row of T tokens with what is to be predicted.

    Args:
      tokens: T + 1 ids; the last one is only a target.
      begins: Whether each is the first of its document, [T + 1].

    Returns:
      `token_BT`, `target_BT`, `position_BT` and `segment_BT`, int32, and `weight_BT`,
      float32, each [T]: positions and segments count from 0 in the row; the weight is 0
      where the next token begins another document.
    """
    index_T = np.arange(len(tokens) - 1)
    begin_T = begins[:-1].copy()
    begin_T[0] = True
    return {
        "token_BT": tokens[:-1].astype(np.int32),
        "target_BT": tokens[1:].astype(np.int32),
        "weight_BT": (~begins[1:]).astype(np.float32),
        "position_BT": (index_T - np.maximum.accumulate(np.where(begin_T, index_T, 0))).astype(
            np.int32
        ),
        "segment_BT": (np.cumsum(begin_T) - 1).astype(np.int32),
    }

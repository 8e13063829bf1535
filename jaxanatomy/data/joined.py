"""A text to train on as rows of one length: its documents laid end to end, then cut."""

import dataclasses

import numpy as np

from jaxanatomy.data.corpora import open_corpus
from jaxanatomy.data.vocabulary import end_id, tokenizer_sha256
from jaxanatomy.errors import InputError
from jaxanatomy.weights.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedRows:
    """Rows of T + 1 tokens: T to read and, one further, T to predict.

    Attributes:
      identity: Changes when the rows may have changed.
      train_NT: To learn from, int32.
      held_out_NT: Of other documents.
      document_NT: The number in the source of the document that each held-out token is of, int32;
        the token that ends a document is its own.
    """

    identity: str
    train_NT: np.ndarray
    held_out_NT: np.ndarray
    document_NT: np.ndarray


def joined_rows(source: str, tokenizer: Tokenizer, seq_len: int) -> JoinedRows:
    """Reads and encodes a source; what does not fill a row at the end is left out.

    Args:
      source: A text of `corpora.SOURCES`.
      tokenizer: With a token that ends documents.
      seq_len: T.

    Raises:
      InputError: There is no such text, or it is too short for a row of each split.
    """
    corpus, end = open_corpus(source), end_id(tokenizer)
    token: dict[str, list[int]] = {"train": [], "validation": []}
    document: dict[str, list[int]] = {split: [] for split in token}
    for number, (text, split) in enumerate(corpus.documents()):
        if text:
            own = [*tokenizer.encode(text), end]
            token[split] += own
            document[split] += [number] * len(own)
    for split, own in token.items():
        if len(own) <= seq_len:
            raise InputError(
                f"the {split} part of {source!r} must fill a row of {seq_len + 1} tokens; it has "
                f"{len(own)}; take a longer text"
            )
    return JoinedRows(
        identity=f"{corpus.identity} {tokenizer_sha256(tokenizer)[:16]} {seq_len}",
        train_NT=_rows(token["train"], seq_len),
        held_out_NT=_rows(token["validation"], seq_len),
        document_NT=_rows(document["validation"], seq_len),
    )


def _rows(values: list[int], seq_len: int) -> np.ndarray:
    """Whole rows [N, T + 1], int32."""
    count = len(values) // (seq_len + 1)
    return np.array(values[: count * (seq_len + 1)], np.int32).reshape(count, seq_len + 1)

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
    """

    identity: str
    train_NT: np.ndarray
    held_out_NT: np.ndarray


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
    for text, split in corpus.documents():
        if text:
            token[split] += [*tokenizer.encode(text), end]
    rows = []
    for split, own in token.items():
        count = len(own) // (seq_len + 1)
        if not count:
            raise InputError(
                f"the {split} part of {source!r} must fill a row of {seq_len + 1} tokens; it has "
                f"{len(own)}; take a longer text"
            )
        kept = own[: count * (seq_len + 1)]
        rows.append(np.array(kept, np.int32).reshape(count, seq_len + 1))
    return JoinedRows(f"{corpus.identity} {tokenizer_sha256(tokenizer)[:16]} {seq_len}", *rows)

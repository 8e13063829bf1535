"""Documents cut into windows of tokens, in which every token is predicted once."""

import dataclasses
import numbers
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from jaxanatomy.data.text import Text
from jaxanatomy.errors import InputError

DEFAULT_WINDOW = 512


class Tokenizer(Protocol):
    """What is needed of a tokenizer."""

    bos_id: int | None

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of a text, without special tokens around it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Window:
    """Consecutive tokens of one document.

    Attributes:
      document: Index of the document.
      token: int64 token ids.
      first_target: `token[first_target:]` are predicted in this window, those before
        are context only.
      is_first: Whether it is the first window of its document.
    """

    document: int
    token: np.ndarray
    first_target: int
    is_first: bool

    @property
    def num_targets(self) -> int:
        """Number of tokens that are predicted in this window."""
        return len(self.token) - self.first_target


def cut_text(
    text: Text,
    tokenizer: Tokenizer,
    *,
    context_length: int,
    vocab_size: int,
    window: int | None = None,
    stride: int | None = None,
    token_budget: int | None = None,
    add_bos: bool = False,
) -> list[Window]:
    """Tokenises a text and cuts it into windows; see `packing.pack` for the arguments.

    Returns:
      At least one window, each with at least one target, in the order of the text.

    Raises:
      InputError: As `packing.pack`. Documents beyond the budget are not looked at.
    """
    require_positive(
        context_length=context_length, vocab_size=vocab_size, token_budget=token_budget
    )
    size, step = _window_and_stride(window, stride, context_length)
    documents = _tokenise(text, tokenizer, vocab_size, add_bos)
    if window is not None and window > context_length:
        documents = _refuse_longer(documents, context_length, text.name, window)
    windows = (piece for index, token in documents for piece in _cut(index, token, size, step))
    return _within_budget(windows, token_budget)


def require_positive(**counts: int | None) -> None:
    """Raises `InputError` for the first number that is neither None nor a count above 0."""
    for name, number in counts.items():
        if number is not None and not _is_count(number):
            raise InputError(f"{name} must be a whole number above 0; got {number!r}")


def _is_count(number: object) -> bool:
    is_number = isinstance(number, numbers.Real) and not isinstance(number, bool)
    return is_number and number >= 1 and int(number) == number


def _window_and_stride(
    window: int | None, stride: int | None, context_length: int
) -> tuple[int, int]:
    """The window, never above the context, and the stride below it."""
    require_positive(window=window, stride=stride)
    size = min(DEFAULT_WINDOW if window is None else window, context_length)
    if size < 2:
        raise InputError(
            f"window must be at least 2 tokens, one to read and one to predict; got {size}; "
            "raise it"
        )
    if stride is not None and stride >= size:
        raise InputError(
            f"stride must be below the window of {size} tokens, or the first token of a window "
            f"could not be predicted; got {stride}; lower it"
        )
    return size, size // 2 if stride is None else stride


def _tokenise(
    text: Text, tokenizer: Tokenizer, vocab_size: int, add_bos: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """Index and tokens of each document, one at a time: a budget may end the text early."""
    if add_bos and tokenizer.bos_id is None:
        raise InputError(
            "add_bos needs a tokenizer with a BOS token; this one has none; leave add_bos off"
        )
    prefix = [tokenizer.bos_id] if add_bos else []
    for index, document in enumerate(text.documents):
        token = np.asarray([*prefix, *tokenizer.encode(document)], np.int64)
        wrong = token[(token < 0) | (token >= vocab_size)]
        if len(wrong):
            raise InputError(
                f"token {wrong[0]} in documents[{index}] of {text.name!r} is not in the "
                f"vocabulary, 0 .. {vocab_size - 1}; use the tokenizer of this model"
            )
        if len(token) < 2:
            raise InputError(
                f"documents[{index}] of {text.name!r} must have at least 2 tokens, or there is "
                f"nothing to predict; it has {len(token)}; remove or lengthen it, or set add_bos"
            )
        yield index, token


def _refuse_longer(
    documents: Iterable[tuple[int, np.ndarray]], context_length: int, name: str, window: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Passes on the documents that fit the context, for a window that does not."""
    for index, token in documents:
        if len(token) > context_length:
            raise InputError(
                f"documents[{index}] of {name!r} has {len(token)} tokens and the context is "
                f"{context_length}; lower window (now {window}) to at most {context_length}"
            )
        yield index, token


def _cut(document: int, token: np.ndarray, size: int, stride: int) -> Iterator[Window]:
    """Windows that start every `stride` tokens, up to the first that reaches the end."""
    start, reached = 0, 1
    while reached < len(token):
        piece = token[start : start + size]
        yield Window(document, piece, first_target=reached - start, is_first=start == 0)
        reached = start + len(piece)
        start += stride


def _within_budget(windows: Iterable[Window], budget: int | None) -> list[Window]:
    kept, used = [], 0
    for window in windows:
        used += len(window.token)
        if budget is not None and used > budget:
            break
        kept.append(window)
    if not kept:
        raise InputError(
            f"token_budget must leave room for the first window of {used} tokens; got {budget}; "
            "raise it or lower window"
        )
    return kept

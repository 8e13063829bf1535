"""Documents cut into windows of tokens, in which every token is predicted once."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from jaxanatomy.data import files
from jaxanatomy.data.text import LeftOut, Text
from jaxanatomy.errors import InputError, choose, require_whole
from jaxanatomy.weights.tokenizer import Tokenizer

DEFAULT_WINDOW = 512

# Where a BOS token is put, with a line of help.
ADD_BOS: dict[str, str] = {
    "none": "nowhere; a document that has its own keeps it",
    "document": "before each document, hence in its first window",
    "window": "before each window, as llama.cpp's perplexity has it",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Window:
    """Consecutive tokens of one document, perhaps after a BOS.

    Attributes:
      document: Index of the document, counted over those that are predicted.
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


@dataclasses.dataclass(frozen=True)
class Cut:
    """A text as windows.

    Attributes:
      windows: At least one, each with at least one target, in the order of the text.
      left_out: Documents without anything to predict, as far as the text was read.
    """

    windows: list[Window]
    left_out: LeftOut

    def __iter__(self) -> Iterator[Window]:
        return iter(self.windows)


def cut_text(
    text: Text,
    tokenizer: Tokenizer,
    *,
    context_length: int,
    vocab_size: int,
    window: int | None = None,
    stride: int | None = None,
    token_budget: int | None = None,
    add_bos: str | bool = "none",
) -> Cut:
    """Tokenises a text and cuts it into windows; see `packing.pack` for the arguments.

    Raises:
      InputError: As `packing.pack`. Documents beyond the budget are not looked at.
    """
    require_counts(context_length=context_length, vocab_size=vocab_size, token_budget=token_budget)
    size, step = _window_and_stride(window, stride, context_length)
    add_bos = _place_of_bos(add_bos)
    bos = _bos(tokenizer, add_bos)
    kept, beyond, longer, used, documents, one_token = [], [], [], 0, 0, 0
    for index, document in enumerate(text.documents):
        token, place = _tokens(document, tokenizer, bos), f"documents[{index}] ({document[:30]!r})"
        if len(wrong := token[(token < 0) | (token >= vocab_size)]):
            beyond.append(f"token {wrong[0]} ({tokenizer.token(int(wrong[0]))!r}) in {place}")
        elif len(token) > context_length and (window or 0) > context_length:
            longer.append(f"{place} has {len(token)} tokens")
        elif len(token) < 2:
            one_token += 1
        else:
            before = token[:1] if bos and add_bos == "window" else token[:0]
            for piece in _cut(documents, token[len(before) :], before, size, step):
                used += len(piece.token)
                if token_budget is not None and used > token_budget:
                    break
                kept.append(piece)
            documents += 1
        if token_budget is not None and used > token_budget:
            break
    _refuse(text.name, beyond, longer, vocab_size, context_length)
    left_out = dataclasses.replace(text.left_out, one_token=one_token)
    _require_windows(kept, text.name, left_out, used, token_budget)
    return Cut(kept, left_out)


def require_counts(**counts: int | None) -> None:
    """Raises `InputError` for the first number that is neither None nor a count above 0."""
    for name, number in counts.items():
        if number is not None:
            require_whole(name, number)


def _window_and_stride(
    window: int | None, stride: int | None, context_length: int
) -> tuple[int, int]:
    """The window, never above the context, and the stride below it."""
    require_counts(window=window, stride=stride)
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


def _place_of_bos(add_bos: str | bool) -> str:
    if isinstance(add_bos, bool):
        return "window" if add_bos else "none"
    return choose("add_bos", add_bos, ADD_BOS)


def _bos(tokenizer: Tokenizer, add_bos: str) -> list[int]:
    """What is put before a document, no token or one."""
    if add_bos == "none":
        return []
    if tokenizer.bos_id is None:
        raise InputError(
            f"add_bos={add_bos} needs a tokenizer with a BOS token; this one has none; leave it "
            "at none"
        )
    return [tokenizer.bos_id]


def _tokens(document: str, tokenizer: Tokenizer, bos: list[int]) -> np.ndarray:
    """The tokens of a document after BOS, which is not put before one that it has."""
    token = list(tokenizer.encode(document))
    return np.asarray(token if token[:1] == bos else [*bos, *token], np.int64)


def _refuse(
    name: str, beyond: Sequence[str], longer: Sequence[str], vocab_size: int, context_length: int
) -> None:
    """Refuses documents that the model cannot read, all of them at once."""
    problems = []
    if beyond:
        problems.append(
            f"the tokens of {name!r} must be in the vocabulary of the model, 0 .. "
            f"{vocab_size - 1}; got {files.first_of(beyond)}; take them out of the text, or use "
            "the tokenizer of this model"
        )
    if longer:
        problems.append(
            f"the context is {context_length}, and of {name!r} {files.first_of(longer)}; lower "
            f"window to at most {context_length}, and long documents are cut"
        )
    if problems:
        raise InputError("; ".join(problems))


def _cut(
    document: int, token: np.ndarray, before: np.ndarray, size: int, stride: int
) -> Iterator[Window]:
    """Windows that start every `stride` tokens, up to the first that reaches the end.

    Each is `before`, which is never predicted, and up to `size` tokens with it.
    """
    B = len(before)
    start, reached = 0, 1 - B  # of the first window all but its first token is predicted
    while reached < len(token):
        piece = token[start : start + size - B]
        both = np.concatenate([before, piece])
        yield Window(document, both, first_target=B + reached - start, is_first=start == 0)
        reached = start + len(piece)
        start += stride


def _require_windows(
    windows: Sequence[Window], name: str, left_out: LeftOut, used: int, budget: int | None
) -> None:
    if windows:
        return
    if used:
        raise InputError(
            f"token_budget must leave room for the first window of {used} tokens; got {budget}; "
            "raise it or lower window"
        )
    raise InputError(
        f"text {name!r} must have a document of at least 2 tokens, or there is nothing to "
        f"predict; {left_out}; lengthen them, or set add_bos"
    )

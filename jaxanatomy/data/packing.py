"""Documents as packed batches of tokens, for scoring every next token.

Windows of documents are packed side by side into rows, and rows into batches of
one shape. Attention stays inside a window: `segment_RT` tells windows apart and
`position_RT` restarts in each, so packing changes nothing but the amount of padding.
"""

import bisect
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from jaxanatomy.data.text import LeftOut, Text
from jaxanatomy.data.windows import Window, cut_text, require_counts
from jaxanatomy.errors import InputError
from jaxanatomy.reprs import repr_in_one_line
from jaxanatomy.weights.tokenizer import Tokenizer

# A text of so few tokens is one row: attention over all of it costs next to nothing.
SINGLE_ROW_TOKENS = 128
FITTED = "fitted"
MOST_TRIED = 256  # windows of a text for which several row lengths are tried
ATTENTION_TOKENS = 2000  # a row so long takes attention as much time as the matrices
# What `pack` may be told beside the model.
SETTINGS = ("window", "stride", "row_length", "tokens_per_batch", "token_budget", "add_bos")


@dataclasses.dataclass(frozen=True, eq=False)
class TextBatch:
    """R rows of T tokens with P predictions, as NumPy arrays.

    All batches of one call of `pack` have the same shapes.

    Attributes:
      token_RT: int32 token ids; 0 where padding.
      position_RT: int32 position inside its window, for RoPE; 0 where padding.
      segment_RT: int32 index of the window, unique in the text and ascending in it;
        -1 where padding. Padding may attend to padding, so no softmax is empty.
      predict_P: int32 flat index r * T + t of a position whose next token is
        predicted; 0 where padding.
      target_P: int32 that next token; 0 where padding.
      document_P: int32 index of the document, counted over those that are predicted; -1
        where padding.
      first_P: bool, whether it is the first prediction of its document.
      end_RT: int32, where sequences share a beginning (`prefixes.pack_sequences`): the index in
        the row before which later tokens see this one. None: those of its window do.
      branch_RT: int32, where later tokens stand several times (`branches.branch`): from 1 on in
        the branches of a window, else 0 or below. None: each token stands once.
    """

    token_RT: np.ndarray
    position_RT: np.ndarray
    segment_RT: np.ndarray
    predict_P: np.ndarray
    target_P: np.ndarray
    document_P: np.ndarray
    first_P: np.ndarray
    end_RT: np.ndarray | None = None
    branch_RT: np.ndarray | None = None

    __repr__ = repr_in_one_line


@dataclasses.dataclass(frozen=True)
class PackedText:
    """A text as a model reads it.

    Attributes:
      batches: At least one.
      left_out: Documents without anything to predict.
    """

    batches: tuple[TextBatch, ...]
    left_out: LeftOut

    def __repr__(self) -> str:
        return f"PackedText({len(self.batches)} batches, {self.left_out})"


def pack(
    text: Text,
    tokenizer: Tokenizer,
    *,
    context_length: int,
    vocab_size: int,
    window: int | None = None,
    stride: int | None = None,
    row_length: int | str | None = None,
    tokens_per_batch: int = 1024,
    token_budget: int | None = None,
    add_bos: str | bool = "none",
) -> PackedText:
    """Tokenises a text, cuts it into windows and packs them into batches.

    Every token of a document but its first is predicted exactly once: in the first
    window that reaches it, hence with the longest context of all windows. With `add_bos`
    the first one is predicted, too, from BOS; BOS itself is not. Documents in which nothing
    can be predicted are left out and counted.

    Args:
      text: The documents.
      tokenizer: Encodes them without special tokens.
      context_length: Longest sequence, in tokens, that the model takes.
      vocab_size: Rows V of the embedding; token ids must be below.
      window: Longest window, in tokens; by default 512, or the context if shorter.
      stride: Tokens from the start of a window to the start of the next in the same
        document, below `window`; by default half of it.
      row_length: Tokens T of a row; by default all tokens of a text that has at most
        128, else the longest window. "fitted": between the longest window and twice that,
        whichever leaves a layer least to do (of more than 256 windows the longest).
      tokens_per_batch: About how many tokens a batch holds; rows are spread evenly.
      token_budget: The text ends before the window that would take the tokens read above it.
      add_bos: Where a BOS token is put, one of `windows.ADD_BOS` (True is "window", False
        "none"); never before a document that has its own. It counts among the tokens of its
        window.

    Returns:
      Batches of identical shapes, and which documents were left out.

    Raises:
      InputError: No document has anything to predict; some are longer than the context
        when `window` is too, or have tokens that are not in the vocabulary; an argument
        is out of range.
    """
    cut = cut_text(
        text,
        tokenizer,
        context_length=context_length,
        vocab_size=vocab_size,
        window=window,
        stride=stride,
        token_budget=token_budget,
        add_bos=add_bos,
    )
    return PackedText(
        pack_windows(cut.windows, row_length=row_length, tokens_per_batch=tokens_per_batch),
        cut.left_out,
    )


def pack_windows(
    windows: Sequence[Window], *, row_length: int | str | None = None, tokens_per_batch: int = 1024
) -> tuple[TextBatch, ...]:
    """Packs windows into batches; arguments, shapes and errors as `pack`."""
    counted = None if row_length == FITTED else row_length
    require_counts(row_length=counted, tokens_per_batch=tokens_per_batch)
    lengths = [len(window.token) for window in windows]
    T = _row_length(row_length, lengths)
    groups = group_rows(best_fit(lengths, T), T, tokens_per_batch)
    P = max(sum(windows[w].num_targets for row in group for w in row) for group in groups)
    return tuple(_batch(windows, group, len(groups[0]), T, P) for group in groups)


def group_rows(
    rows: Sequence[Sequence[int]], row_length: int, tokens_per_batch: int
) -> list[Sequence[Sequence[int]]]:
    """The rows of each batch: spread evenly, in the first of them as many as in any."""
    num_batches = _ceil_div(len(rows), max(1, tokens_per_batch // row_length))
    R = _ceil_div(len(rows), num_batches)
    return [rows[start : start + R] for start in range(0, len(rows), R)]


def best_fit(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Packs items into rows: longest first, each into the fullest row that has room.

    Args:
      lengths: Length of each item, at most `row_length`.
      row_length: Room in a row.

    Returns:
      The items of each row, by index and ascending; rows in the order of their first
      item. Of equally long items the earlier goes first, of equally full rows the
      older is taken.
    """
    rows, room = [], []  # `room` holds (free, row), ascending.
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        place = bisect.bisect_left(room, (lengths[item], -1))
        if place == len(room):
            free, row = row_length, len(rows)
            rows.append([])
        else:
            free, row = room.pop(place)
        rows[row].append(item)
        bisect.insort(room, (free - lengths[item], row))
    return sorted(sorted(row) for row in rows)


def count_predictions(batches: Iterable[TextBatch]) -> int:
    """Number of predicted tokens, without padding."""
    return sum(int(np.count_nonzero(batch.document_P >= 0)) for batch in batches)


def gather_predictions(
    batches: Sequence[TextBatch], values_per_batch: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts values of predictions into the order of the text, without padding.

    Args:
      batches: Those that `pack` returned, in any order.
      values_per_batch: For each batch an array [..., P].

    Returns:
      The values [..., P] of all predictions of the text, sorted by document and by
      position in the document; the index of the document [P]; whether each is the
      first prediction of its document [P].
    """
    segment_P = _concatenate(batch.segment_RT.ravel()[batch.predict_P] for batch in batches)
    document_P = _concatenate(batch.document_P for batch in batches)
    first_P = _concatenate(batch.first_P for batch in batches)
    values_P = _concatenate(values_per_batch)
    if values_P.shape[-1] != len(document_P):
        raise ValueError(f"{values_P.shape[-1]} values for {len(document_P)} predictions")
    valid = np.flatnonzero(document_P >= 0)
    # Windows are numbered in the order of the text, and predictions ascend in a window.
    order = valid[np.argsort(segment_P[valid], kind="stable")]
    return values_P[..., order], document_P[order], first_P[order]


def _row_length(row_length: int | str | None, lengths: Sequence[int]) -> int:
    longest, total = max(lengths), sum(lengths)
    if row_length is None:
        return total if total <= SINGLE_ROW_TOKENS else longest
    if row_length == FITTED:
        return fitted_row_length(lengths)
    if row_length < longest:
        raise InputError(
            f"row_length must be at least the longest window, {longest} tokens; got {row_length}; "
            "raise it or lower window"
        )
    return row_length


def fitted_row_length(lengths: Sequence[int]) -> int:
    """The row length, up to twice the longest window, at which a layer has least to do.

    Longer rows leave less padding, and take attention over more keys.
    """
    longest = max(lengths)
    if len(lengths) > MOST_TRIED:
        return longest

    def work(length: int) -> float:
        return len(best_fit(lengths, length)) * length * (1 + length / ATTENTION_TOKENS)

    return min(range(longest, 2 * longest + 1, _ceil_div(longest, 64)), key=work)


def _batch(
    windows: Sequence[Window], rows: Sequence[Sequence[int]], R: int, T: int, P: int
) -> TextBatch:
    token_RT, position_RT = np.zeros((2, R, T), np.int32)
    segment_RT = np.full((R, T), -1, np.int32)
    predict_P, target_P = np.zeros((2, P), np.int32)
    document_P = np.full(P, -1, np.int32)
    first_P = np.zeros(P, bool)
    p = 0
    for r, row in enumerate(rows):
        t = 0
        for index in row:
            window = windows[index]
            span = slice(t, t + len(window.token))
            token_RT[r, span] = window.token
            position_RT[r, span] = np.arange(len(window.token))
            segment_RT[r, span] = index

            filled = slice(p, p + window.num_targets)
            predict_P[filled] = r * T + np.arange(t + window.first_target, span.stop) - 1
            target_P[filled] = window.token[window.first_target :]
            document_P[filled] = window.document
            first_P[p] = window.is_first
            t, p = span.stop, filled.stop
    return TextBatch(token_RT, position_RT, segment_RT, predict_P, target_P, document_P, first_P)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _concatenate(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(array) for array in arrays], axis=-1)

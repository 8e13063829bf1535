"""Sequences of which only the ends are predicted, packed so that shared beginnings stand once.

The choices of a question share its prompt, and questions their examples. Such sequences are laid
out depth first, as the tree of their tokens: a token stands once for all sequences that begin
alike up to it, and is seen by those alone (`model.tree_bias`). What each sequence's tokens see is
what they would see by themselves, at the same positions.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from jaxanatomy.data.packing import ATTENTION_TOKENS, TextBatch, best_fit
from jaxanatomy.errors import InputError
from jaxanatomy.reprs import repr_in_one_line

# Few sizes, so that few programs are compiled: 16, 24, 32, 48, 64, 96, ...
SIZES = tuple(size for power in range(4, 22) for size in (1 << power, 3 << (power - 1)))
MANY_TOKENS = 16_384  # of so many a fitted row length saves more than its programs cost


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """A sequence of which the end is predicted.

    Attributes:
      context: At least one token id, which is given.
      continuation: At least one token id; each is predicted from all before it.
    """

    context: Sequence[int]
    continuation: Sequence[int]

    __repr__ = repr_in_one_line

    @property
    def read(self) -> tuple[int, ...]:
        """What a model reads of it: the last token is predicted, and not read."""
        return (*self.context, *self.continuation[:-1])


@dataclasses.dataclass
class _Tree:
    """Sequences that are laid out together, depth first.

    Attributes:
      token: The tokens.
      position: Of each in its sequence.
      end: Of each the index at which its subtree ends.
      places: For each sequence its index, and where its tokens stand.
    """

    token: list[int]
    position: list[int]
    end: list[int]
    places: list[tuple[int, list[int]]]


def pack_sequences(
    sequences: Sequence[Scored], *, share: bool = True, tokens_per_batch: int = 1024
) -> tuple[TextBatch, ...]:
    """Packs sequences into batches; the document of a prediction is its sequence's index.

    Args:
      sequences: What is scored.
      share: Whether beginnings are shared. False where layers see a window of so many tokens:
        they count tokens as they lie, not as they follow one another.
      tokens_per_batch: About how many tokens a batch holds.

    Returns:
      Batches of identical shapes. Rows have one of `SIZES` tokens, or of `MANY_TOKENS` as many as
      the longest sequence, whichever leaves a layer least to do.

    Raises:
      InputError: No sequence, or an empty context or continuation.
    """
    if not sequences or not all(len(one.context) and len(one.continuation) for one in sequences):
        raise InputError(
            "what is scored must be sequences with a context and a continuation of at least one "
            f"token each; got {list(sequences)[:3]!r}; leave out what is empty"
        )
    read = [one.read for one in sequences]
    order = sorted(range(len(read)), key=lambda index: read[index])
    longest = max(map(len, read))
    lengths = [size for size in SIZES if size >= max(longest, 64)][:5]
    if sum(map(len, read)) > MANY_TOKENS:
        lengths.append(-(-longest // 8) * 8)
    found = []
    for length in lengths:
        trees = list(_trees(read, order, length, share))
        rows = best_fit([len(tree.token) for tree in trees], length)
        work = len(rows) * length * (1 + length / ATTENTION_TOKENS)
        found.append((work, length, trees, rows))
    _, length, trees, rows = min(found, key=lambda each: each[:2])
    per_batch = _rows_per_batch(len(rows), max(1, tokens_per_batch // length))
    groups = [rows[start : start + per_batch] for start in range(0, len(rows), per_batch)]
    counts = [
        sum(
            len(sequences[i].continuation) for row in group for t in row for i, _ in trees[t].places
        )
        for group in groups
    ]
    predictions = next(size for size in SIZES if size >= max(counts))
    return tuple(
        _batch(sequences, trees, group, per_batch, length, predictions) for group in groups
    )


def _rows_per_batch(rows: int, wanted: int) -> int:
    """Between half and twice the wanted number, so that the last batch is as full as can be."""
    choices = range(max(1, min(wanted // 2, rows)), min(2 * wanted, rows) + 1)
    return min(choices, key=lambda per: (-(-rows // per) * per, abs(per - wanted)))


def _trees(
    read: Sequence[tuple[int, ...]], order: Sequence[int], length: int, share: bool
) -> Iterator[_Tree]:
    """Trees of at most `length` tokens of neighbours in `order` that share half or more."""
    tree, path, before = None, [], ()
    for index in order:
        own = read[index]
        common = _common(own, before)
        new = len(own) - common
        joins = share and 2 * common >= min(len(own), len(before))
        if tree is None or not joins or len(tree.token) + new > length:
            if tree is not None:
                yield tree
            tree, path, common = _Tree([], [], [], []), [], 0
        start = len(tree.token)
        path = [*path[:common], *range(start, start + len(own) - common)]
        tree.token.extend(own[common:])
        tree.position.extend(range(common, len(own)))
        tree.end.extend(path[common:])
        for place in path:
            tree.end[place] = len(tree.token)
        tree.places.append((index, path))
        before = own
    if tree is not None:
        yield tree


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _batch(
    sequences: Sequence[Scored],
    trees: Sequence[_Tree],
    rows: Sequence[Sequence[int]],
    R: int,
    T: int,
    P: int,
) -> TextBatch:
    token_RT, position_RT = np.zeros((2, R, T), np.int32)
    segment_RT = np.full((R, T), -1, np.int32)
    end_RT = np.tile(np.arange(1, T + 1, dtype=np.int32), (R, 1))  # padding sees itself
    predictions = []
    for r, row in enumerate(rows):
        t = 0
        for number in row:
            tree = trees[number]
            span = slice(t, t + len(tree.token))
            token_RT[r, span], position_RT[r, span] = tree.token, tree.position
            segment_RT[r, span], end_RT[r, span] = number, np.add(tree.end, t)
            for index, path in tree.places:
                one = sequences[index]
                places = path[len(one.context) - 1 :]
                for place, target in zip(places, one.continuation, strict=True):
                    is_first = place == places[0]
                    predictions.append((r * T + t + place, target, index, is_first))
            t = span.stop
    filled = np.array(predictions, np.int32).T
    predict_P, target_P, document_P, first_P = np.zeros((4, P), np.int32)
    document_P -= 1
    for leaf, values in zip((predict_P, target_P, document_P, first_P), filled, strict=True):
        leaf[: len(values)] = values
    return TextBatch(
        token_RT, position_RT, segment_RT, predict_P, target_P, document_P, first_P > 0, end_RT
    )

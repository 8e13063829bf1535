"""Windows of which later tokens stand several times: what earlier tokens do to later ones.

No token sees a later one. So a change at the tokens before a boundary is, at those tokens, the
same change at all tokens, and one stream serves both, and every boundary: the trunk of a window is
changed, and a branch, a copy of its tokens from a boundary on, is not. It sees the trunk before
the boundary and itself (`model.tree_bias`), as it would in a window of its own. Of T tokens and
boundaries at a quarter, a half and three quarters 2.5 T are read instead of 4 T.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxanatomy.data.packing import TextBatch, best_fit, fitted_row_length, group_rows

TRUNK = 0  # branches are numbered from 1
AGAIN = -1  # a trunk that stands for the sake of one branch
Piece = tuple[int, int, int]  # which branch, its first token in the window, the one after its last


@dataclasses.dataclass(frozen=True)
class _Tree:
    """Tokens that see no others, depth first.

    Attributes:
      token_N: Where each stands in the text.
      branch_N: The branch of each.
      end_N: Of each the index at which what sees it ends.
    """

    token_N: np.ndarray
    branch_N: np.ndarray
    end_N: np.ndarray

    @classmethod
    def of(cls, token_T: np.ndarray, pieces: Iterable[Piece]) -> "_Tree":
        """The pieces of a window, whose tokens stand at `token_T`, one after the other."""
        spans = [np.arange(start, stop) for _, start, stop in pieces]
        branch_N = np.repeat([branch for branch, *_ in pieces], [len(span) for span in spans])
        last_N = np.repeat(np.cumsum([len(span) for span in spans]), [len(s) for s in spans])
        end_N = np.where(branch_N > TRUNK, last_N, len(branch_N))
        return cls(token_T[np.concatenate(spans)], branch_N, end_N)


def is_trunk(text: TextBatch) -> np.ndarray:
    """The tokens of trunks, bool [R, T]: all of a text that has no branches."""
    if text.branch_RT is None:
        return np.ones_like(text.token_RT, bool)
    return text.branch_RT <= TRUNK


def windows(batches: Iterable[TextBatch]) -> dict[int, np.ndarray]:
    """Of each window where its tokens stand in all batches, one after the other, [T]."""
    segment_X = np.concatenate([batch.segment_RT.ravel() for batch in batches])
    order_X = np.argsort(segment_X, kind="stable")
    found, starts = np.unique(segment_X[order_X], return_index=True)
    parts = np.split(order_X, starts[1:])
    return {w: part for w, part in zip(found.tolist(), parts, strict=True) if w >= 0}


def branch(
    batches: Sequence[TextBatch],
    starts: Sequence[Callable[[int], int]],
    *,
    whole: bool = True,
    share: bool = True,
    tokens_per_batch: int = 1024,
) -> tuple[TextBatch, ...]:
    """Lays a text out with branches; what is predicted of a token is, of each of its copies.

    Args:
      batches: As `packing.pack` gives them.
      starts: For each branch where it begins in a window of so many tokens, an index from 1 on;
        without any the text stays as it is.
      whole: Whether the trunk is the whole window; else it ends where the last branch begins.
      share: Whether the branches of a window share its trunk. False where layers see a window
        of so many tokens: they count tokens as they lie.
      tokens_per_batch: About how many tokens a batch holds.

    Returns:
      Batches of identical shapes, in rows of a length that leaves a layer least to do.
    """
    if not starts:
        return tuple(batches)
    trees = [
        _Tree.of(token_T, pieces)
        for token_T in windows(batches).values()
        for pieces in _layouts(
            [start(len(token_T)) for start in starts], len(token_T), whole, share
        )
    ]
    lengths = [len(tree.token_N) for tree in trees]
    T = fitted_row_length(lengths)
    groups = group_rows(best_fit(lengths, T), T, tokens_per_batch)
    text = _token_table(batches)
    laid_out = [_lay_out(trees, group, (len(groups[0]), T)) for group in groups]
    P = max(np.count_nonzero(text["document"][token_RT] >= 0) for token_RT, *_ in laid_out)
    return tuple(_batch(text, P, *arrays) for arrays in laid_out)


def _layouts(begins: Sequence[int], T: int, whole: bool, share: bool) -> list[list[Piece]]:
    """The pieces of each tree of a window of T tokens."""
    trunk = T if whole else max(begins)
    if not share:
        alone = [[(AGAIN, 0, begin), (n, begin, T)] for n, begin in enumerate(begins, 1)]
        return [[(TRUNK, 0, trunk)], *alone]
    pieces, before = [], 0
    for begin, number in sorted(zip(begins, range(1, len(begins) + 1), strict=True)):
        pieces += [(TRUNK, before, begin), (number, begin, T)]
        before = begin
    return [[*pieces, (TRUNK, before, trunk)]]


def _token_table(batches: Sequence[TextBatch]) -> dict[str, np.ndarray]:
    """What a text has of each of its tokens; padding comes last."""
    columns = {"token": 0, "position": 0, "segment": -1, "target": 0, "document": -1, "first": 0}
    size = sum(batch.token_RT.size for batch in batches)
    table = {name: np.full(size + 1, value, np.int32) for name, value in columns.items()}
    start = 0
    for each in batches:
        stop = start + each.token_RT.size
        for name in ("token", "position", "segment"):
            table[name][start:stop] = getattr(each, f"{name}_RT").ravel()
        valid_P = each.document_P >= 0
        predict_P = start + each.predict_P[valid_P]
        for name in ("target", "document", "first"):
            table[name][predict_P] = getattr(each, f"{name}_P")[valid_P]
        start = stop
    return table


def _lay_out(
    trees: Sequence[_Tree], rows: Sequence[Sequence[int]], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each place the token (-1: padding), its branch, and where what sees it ends, [R, T]."""
    token_RT, branch_RT = np.full(shape, -1), np.zeros(shape, np.int32)
    end_RT = np.tile(np.arange(1, shape[1] + 1, dtype=np.int32), (shape[0], 1))
    for token_T, branch_T, end_T, row in zip(token_RT, branch_RT, end_RT, rows, strict=False):
        t = 0
        for tree in (trees[index] for index in row):
            span = slice(t, t + len(tree.token_N))
            token_T[span], branch_T[span], end_T[span] = tree.token_N, tree.branch_N, t + tree.end_N
            t = span.stop
    return token_RT, branch_RT, end_RT


def _batch(
    text: dict[str, np.ndarray],
    P: int,
    token_RT: np.ndarray,
    branch_RT: np.ndarray,
    end_RT: np.ndarray,
) -> TextBatch:
    predict_P = np.flatnonzero(text["document"][token_RT] >= 0).astype(np.int32)
    of_prediction = {name: text[name][token_RT.ravel()[predict_P]] for name in text}
    padding = (0, P - len(predict_P))
    return TextBatch(
        token_RT=text["token"][token_RT],
        position_RT=text["position"][token_RT],
        segment_RT=text["segment"][token_RT],
        predict_P=np.pad(predict_P, padding),
        target_P=np.pad(of_prediction["target"], padding),
        document_P=np.pad(of_prediction["document"], padding, constant_values=-1),
        first_P=np.pad(of_prediction["first"] > 0, padding),
        end_RT=end_RT,
        branch_RT=branch_RT,
    )

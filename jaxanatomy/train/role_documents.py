"""Held-out rows whose documents are known: parts of a text, losses by document, halves.

Rows are cut from joined documents, so that a long document is in many rows and a row may be of two
documents. Rows of one document are alike: a text is so many documents, not so many rows.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.evaluation import HeldOut, Scorer, target_nll
from jaxanatomy.train.points import HeldOutRows
from jaxanatomy.train.setup import Setup


@dataclasses.dataclass(frozen=True, eq=False)
class DocumentRows(HeldOut):
    """Rows of one segment each.

    Attributes:
      document_NT: The number, from 0, of the document that each target is of, over all batches;
        without what stands before the text, such as registers.
    """

    document_NT: np.ndarray

    @classmethod
    def of(cls, batches: Sequence, document_NT: np.ndarray) -> "DocumentRows":
        """All that is scored; documents may have any numbers."""
        _, number_NT = np.unique(document_NT, return_inverse=True)
        return cls(1.0, batches, number_NT.reshape(document_NT.shape))


def rows_apart(document_NT: np.ndarray, own: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    """Two parts of a text that share no document: numbers of rows, spread over it.

    Args:
      document_NT: The document of each token, rows in the order of the text.
      own: Rows of the first part.
      other: Of the second, which comes after it.

    Raises:
      InputError: There are not so many rows of different documents.
    """
    total, first_N, last_N = len(document_NT), document_NT[:, 0], document_NT[:, -1]
    room = int(np.searchsorted(last_N, first_N[total - other]))
    if room < own:
        raise InputError(
            f"held_out_rows must be at most the {room} rows of documents that none of the "
            f"{other} judged_rows is of; got {own}; lower either, or take a text of more documents"
        )
    spread_N = np.arange(own + other) * total // (own + other)
    own_N = np.minimum(spread_N[:own], np.arange(room - own, room))
    begin = np.searchsorted(first_N, last_N[own_N[-1]], side="right")
    return own_N, np.maximum(spread_N[own:], begin + np.arange(other))


def by_document(sources: Mapping[str, DocumentRows]) -> Scorer:
    """Scores next-token losses; the units are documents, not rows."""

    def score_sources(setup: Setup, stage: Stage, params: tree.Params) -> dict[str, HeldOutRows]:
        return {name: _score(setup, stage, params, each) for name, each in sources.items()}

    return score_sources


def _score(setup: Setup, stage: Stage, params: tree.Params, rows: DocumentRows) -> HeldOutRows:
    """The loss of each document, summed over its targets in all rows."""
    length, found = rows.document_NT.shape[1], []
    for batch in rows.batches:
        placed = setup.placement.rows(batch)
        arguments = setup.loss(stage.config), params, placed, setup.placement.whole, setup.replicas
        with setup.precision():
            nll, weight_BT = map(np.asarray, target_nll(*arguments))
        nll_MBT = nll.reshape(-1, *weight_BT.shape)
        # Of several processes each gives all rows; registers stand before the text.
        found.append(nll_MBT[:, : len(batch.token_BT), -length:])
    nll_MNT, document_X = np.concatenate(found, axis=1), rows.document_NT.ravel()
    return HeldOutRows(
        rows.share,
        np.bincount(document_X).tolist(),
        [np.bincount(document_X, nll_NT.ravel()).tolist() for nll_NT in nll_MNT],
    )


def halves(document_NT: np.ndarray) -> np.ndarray:
    """Which half each document is in, 0 or 1 [U]: the larger first, each to the smaller half.

    Args:
      document_NT: The document of each target, from 0.
    """
    size_U = np.bincount(document_NT.ravel())
    half_U, filled = np.zeros(len(size_U), int), [0, 0]
    for document in np.argsort(-size_U, kind="stable"):
        half = int(filled[1] < filled[0])
        half_U[document], filled[half] = half, filled[half] + size_U[document]
    return half_U

"""Batches of short documents, chosen by number and packed one after another."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jaxanatomy.train.evaluation import HeldOut
from jaxanatomy.train.loss import Batch, batch_of, packed_batch


@dataclasses.dataclass(frozen=True, eq=False)
class Documents:
    """Documents to learn from.

    Attributes:
      token_NT: Token ids of N documents, one in each row, padded; int32.
      pad: The id of padding.
      packed_rows: Rows of a batch, which hold equally many documents.
      max_predictions: Predictions that a row of a batch has room for.
    """

    token_NT: np.ndarray
    pad: int
    packed_rows: int
    max_predictions: int

    @classmethod
    def fitting(
        cls, token_NT: np.ndarray, pad: int, packed_rows: int, orders: Iterable[np.ndarray]
    ) -> "Documents":
        """With room for the largest batch of any order, in eights.

        Args:
          token_NT: See `Documents`.
          pad: See `Documents`.
          packed_rows: Divides the documents of a batch.
          orders: Documents of each step, [steps, R] each.
        """
        targets_N = (token_NT[:, 1:] != pad).sum(axis=1)
        most = max(
            targets_N[order_ER.reshape(len(order_ER), packed_rows, -1)].sum(axis=-1).max()
            for order_ER in orders
        )
        return cls(token_NT, pad, packed_rows, int(-(-most // 8) * 8))

    def batch(self, chosen_R: np.ndarray) -> Batch:
        """Some documents, packed; on the host."""
        token_BRT = self.token_NT[chosen_R].reshape(self.packed_rows, -1, self.token_NT.shape[1])
        return packed_batch(token_BRT, self.pad, self.max_predictions)

    def predicted(self, order_ER: np.ndarray) -> int:
        """Predictions of all steps of an order."""
        return int((self.token_NT[order_ER.reshape(-1), 1:] != self.pad).sum())


class DocumentBatches:
    """Packed batches in an order: a `train.setup.BatchStream`."""

    def __init__(self, documents: Any, order_ER: np.ndarray):
        """Begins at the first step.

        Args:
          documents: What to read: `Documents`, or what else makes a `batch` of numbers.
          order_ER: Documents of each step.
        """
        self._documents, self._order_ER, self._step = documents, order_ER, 0

    def next(self) -> Batch:
        """The batch of the next step."""
        self._step += 1
        return self._documents.batch(self._order_ER[self._step - 1])

    def state(self) -> dict[str, Any]:
        """The number of steps that were read."""
        return {"step": self._step}

    def restore(self, state: dict[str, Any]) -> None:
        """Resumes from there."""
        self._step = state["step"]


def one_a_row(token_NT: np.ndarray, pad: int, multiple: int = 1) -> HeldOut:
    """Documents to be scored, each in a row of its own, and rows of padding.

    Args:
      token_NT: Token ids, padded.
      pad: The id of padding.
      multiple: Of which the number of rows is one: the devices that share them.
    """
    more = ((0, -len(token_NT) % multiple), (0, 0))
    batch = batch_of(np.pad(token_NT, more, constant_values=pad), pad)
    return HeldOut(1.0, [jax.tree.map(np.asarray, batch)])

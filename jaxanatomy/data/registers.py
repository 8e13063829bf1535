"""Registers: places before a text that are no text, to take up attention (LR section 9).

LR trained its registers, found that they had hardly moved, and concluded that they worked as sinks
of attention that were drawn once and stayed. So there are three kinds here, beside none. All are
rows of the embedding beyond the tokenizer's, so that models of every kind begin alike. Nothing is
predicted at them.

Axes: P ids of the pool, R registers of a window.
"""

import dataclasses

import numpy as np

from jaxanatomy.data.sequences import TokenBatch
from jaxanatomy.errors import InputError, choose, require_whole

LEARNED, FROZEN, RANDOM = "registers_learned", "registers_frozen", "registers_random"
KINDS = {
    LEARNED: "registers that are trained (LR section 9)",
    FROZEN: "registers that stay as they were drawn",
    RANDOM: "other registers before every window, of a pool that stays as it was drawn",
}


@dataclasses.dataclass(frozen=True)
class Registers:
    """Which ids stand before a window.

    Attributes:
      kind: One of `KINDS`.
      count: R.
      first: The first id of the pool: the tokenizer's vocabulary is below.
      pool: P; those that are learned or frozen are its first R.

    Raises:
      InputError: No register, or nothing to draw.
    """

    kind: str
    count: int
    first: int
    pool: int

    def __post_init__(self):
        choose("registers", self.kind, KINDS)
        require_whole("registers.count", self.count)
        require_whole("registers.pool", self.pool)
        if self.pool <= self.count:
            raise InputError(
                "registers.pool must be above registers.count, or there is nothing to draw; got "
                f"{self.pool} and {self.count}; raise the pool"
            )

    @property
    def are_frozen(self) -> bool:
        """Whether their rows of the embedding stay."""
        return self.kind != LEARNED

    def draw(self, rows: int, *numbers: int) -> np.ndarray:
        """The ids before each of some windows, int32 [rows, R]; equal numbers give the same."""
        ids_P = np.arange(self.first, self.first + self.pool, dtype=np.int32)
        ids_BP = np.tile(ids_P, (rows, 1))
        if self.kind == RANDOM:
            ids_BP = np.random.default_rng(numbers).permuted(ids_BP, axis=1)
        return ids_BP[:, : self.count]


def prepend(batch: TokenBatch, register_BR: np.ndarray) -> TokenBatch:
    """A batch with registers before its rows, at which nothing is predicted.

    Args:
      batch: Rows of one segment each, positions from 0.
      register_BR: Ids.

    Raises:
      ValueError: A row has several segments: all but the first would not see the registers.
    """
    if batch.segment_BT is not None or batch.position_BT is not None:
        raise ValueError("registers stand before rows of one segment; got rows of several")

    def before(own_BT: np.ndarray, new_BR: np.ndarray) -> np.ndarray:
        return np.concatenate([new_BR.astype(own_BT.dtype), own_BT], axis=1)

    # A target without weight may be any id.
    nothing_BR = np.zeros_like(register_BR)
    return TokenBatch(
        token_BT=before(batch.token_BT, register_BR),
        target_BT=before(batch.target_BT, nothing_BR),
        weight_BT=before(batch.weight_BT, nothing_BR),
    )

"""The papers' keys, as claims cite them, and the figures that they print (`tables.json`)."""

from jaxanatomy.papers.tables import NEAR, find, is_near, paper_table, table1, table1_of

__all__ = ["KEYS", "NEAR", "find", "is_near", "paper_table", "table1", "table1_of"]

KEYS = ("AH", "DG", "LR", "LD", "ZO", "CS", "GL")  # docs/papers.md says what they stand for

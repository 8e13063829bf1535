"""Next tokens of held-out text after edits of a trained model, as `eval_set.EvalSet` has them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.data.packing import TextBatch, pack_windows
from jaxanatomy.data.sequences import TokenBatch
from jaxanatomy.data.windows import Window
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings.effects import OUTPUT_CHANGE
from jaxanatomy.measures.readings.next_token import SCORES
from jaxanatomy.sweep import Measured, Reading

OUTPUT = "output"


@dataclasses.dataclass(frozen=True, eq=False)
class TextRows:
    """Rows of held-out text, of which all count alike.

    A row is an example; attention stays inside each of its documents, as in training. The target
    that stands behind a row is left out.

    Attributes:
      rows: Batches of one row, with positions and segments.
    """

    rows: Sequence[TokenBatch]

    @classmethod
    def of(cls, held_out: Mapping[str, Sequence[TokenBatch]], counts: Sequence[int]) -> "TextRows":
        """So many rows of each source, spread over those that it has; all if there are fewer.

        Args:
          held_out: By source batches of one row.
          counts: Rows of each source.
        """
        rows: list[TokenBatch] = []
        for own, wanted in zip(held_out.values(), counts, strict=True):
            count = min(wanted, len(own))
            rows += [own[at * len(own) // count] for at in range(count)]
        return cls(rows)

    @property
    def score_readings(self) -> Mapping[str, Reading]:
        """Means over predictions, taken in the sweep: logits of a whole vocabulary are large."""
        return SCORES

    @property
    def answer_readings(self) -> Mapping[str, Reading]:
        """The change of the predicted distribution, a number for each token."""
        return {OUTPUT: OUTPUT_CHANGE}

    def windows(self) -> tuple[TextBatch, ...]:
        """Each row a document, with a window for each part in which attention stays."""
        windows = []
        for number, row in enumerate(self.rows):
            (token_T,), (segment_T,) = row.token_BT, row.segment_BT
            for segment in np.unique(segment_T[segment_T >= 0]):
                own = token_T[segment_T == segment].astype(np.int64)
                windows += [Window(number, own, 1, True)] if len(own) > 1 else []
        return pack_windows(windows, row_length=self.rows[0].token_BT.shape[1])

    def scores(self, measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
        """Scores of each edited model.

        Returns:
          `eval_nll`, in nats per token, and `whole_nll`, that of the model as it is on these rows;
          `accuracy`, the share of predictions whose likeliest token is right; `agreement` and
          `overlap`, of `next_token.SCORES`.
        """
        whole, *edited = (
            dict(zip(SCORES, each, strict=True))
            for each in zip(*(measured[name].values.tolist() for name in SCORES), strict=True)
        )
        return [
            {
                **each,
                "eval_nll": finite(each["eval_nll"]),
                "whole_nll": finite(whole["eval_nll"]),
            }
            for each in edited
        ]

    def answer_changes(self, measured: Mapping[str, Measured]) -> dict[str, np.ndarray]:
        """L2 of the change of the predicted distribution (DG appendix B)."""
        found = measured[OUTPUT]
        return dict(zip(found.variants[1:], found.values[1:], strict=True))

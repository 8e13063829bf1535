"""What trained models are read on at their end: sequences, and how answers to them are scored."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from jaxanatomy.data.packing import TextBatch
from jaxanatomy.sweep import Measured, Reading


class EvalSet(Protocol):
    """Sequences that nothing is trained on; `edited.Editor` and `depth_reader.DepthReader` take it.

    In all that a sweep measured the first variant is the model as it is.

    Attributes:
      score_readings: What a sweep reads of edited models, for `scores`.
      answer_readings: What it reads where layers are silent, for `answer_changes`.
    """

    @property
    def score_readings(self) -> Mapping[str, Reading]: ...

    @property
    def answer_readings(self) -> Mapping[str, Reading]: ...

    def windows(self) -> tuple[TextBatch, ...]:
        """The sequences, each a document."""

    def scores(self, measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
        """JSON-ready scores of each edited model: `eval_nll` and `agreement` among them."""

    def answer_changes(self, measured: Mapping[str, Measured]) -> dict[str, np.ndarray]:
        """By variant the L2 of the change of the answers at each token, [N], in text order."""

"""Answers to k-hop questions after edits of a trained model, as `eval_set.EvalSet` has them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from jaxanatomy.data.packing import TextBatch
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings.ready import logits
from jaxanatomy.sweep import Measured, Reading
from jaxanatomy.train.hops import HopScorer, answer_scores

_LOGITS = {"logits": logits()}


@dataclasses.dataclass(frozen=True)
class HopAnswers:
    """Held-out sequences with K questions at each position.

    Attributes:
      scorer: Of the sequences.
    """

    scorer: HopScorer

    @property
    def score_readings(self) -> Mapping[str, Reading]:
        """Scores of the whole vocabulary: all answers to all questions, a few dozen."""
        return _LOGITS

    @property
    def answer_readings(self) -> Mapping[str, Reading]:
        """The same."""
        return _LOGITS

    def windows(self) -> tuple[TextBatch, ...]:
        """All sequences, a document each."""
        return self.scorer.windows()

    def scores(self, measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
        """Scores of each edited model.

        Returns:
          `eval_nll`, the mean over hops, `accuracy_by_hop` and `agreement`, the share of answers
          that are those of the model as it is.
        """
        clean_BTKQ, *edited = map(self._by_question, measured["logits"].values)
        return [self._scores(logit_BTKQ, clean_BTKQ) for logit_BTKQ in edited]

    def answer_changes(self, measured: Mapping[str, Measured]) -> dict[str, np.ndarray]:
        """L2 over all answers of a position that are asked for."""
        found = measured["logits"]
        label_BTK = np.asarray(self.scorer.batch().label_BTK)
        asked_NK = label_BTK[found.documents, found.positions] >= 0
        clean_NKQ, *others = (self._answers(each, asked_NK) for each in found.values)
        changes = [np.sqrt(((each - clean_NKQ) ** 2).sum((1, 2))) for each in others]
        return dict(zip(found.variants[1:], changes, strict=True))

    def _scores(self, logit_BTKQ: np.ndarray, clean_BTKQ: np.ndarray) -> dict[str, Any]:
        label_BTK = self.scorer.batch().label_BTK
        nll_BTK, right_BTK = answer_scores(jnp.asarray(logit_BTKQ), label_BTK)
        same_BTK = (logit_BTKQ.argmax(-1) == clean_BTKQ.argmax(-1)) & (label_BTK >= 0)
        answered_K = (label_BTK >= 0).sum((0, 1))
        nll_K, right_K, same_K = (
            np.asarray(part, np.float64).sum((0, 1)) / answered_K
            for part in (nll_BTK, right_BTK, same_BTK)
        )
        return {
            "eval_nll": finite(float(nll_K.mean())),
            "accuracy_by_hop": right_K.tolist(),
            "agreement": float(same_K.mean()),
        }

    def _answers(self, logit_NV: np.ndarray, asked_NK: np.ndarray) -> np.ndarray:
        """What a model answers [N, K, Q], probabilities; 0 where nothing is asked."""
        used_NV = logit_NV[:, : asked_NK.shape[1] * self.scorer.task.alphabet].astype(np.float64)
        answer_NKQ = softmax(used_NV.reshape(*asked_NK.shape, -1), axis=-1)
        return answer_NKQ * asked_NK[..., None]

    def _by_question(self, logit_NV: np.ndarray) -> np.ndarray:
        """Logits [B, T, K, Q]."""
        task, label_BTK = self.scorer.task, self.scorer.batch().label_BTK
        used_NV = logit_NV[:, : task.hops * task.alphabet]
        return used_NV.reshape(*label_BTK.shape, task.alphabet)

"""Trained models scored again after edits: without a layer, with layers swapped, left early."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.edits import Edit, edits
from jaxanatomy.interventions.variants import baseline
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings import logits
from jaxanatomy.sweep import Sweep, SweepOptions
from jaxanatomy.train.hops import HopScorer, answer_scores


@dataclasses.dataclass(frozen=True)
class Editor:
    """Scores edits of a model on held-out sequences.

    Attributes:
      block: Layers of the block that is applied again.
      scorer: Of the sequences.
      dtype: Of the operands of matrix products: that of the scores which edits are held against.
    """

    block: int
    scorer: HopScorer
    dtype: str = "float32"

    def score(self, config: ModelConfig, params: tree.Params) -> list[dict[str, Any]]:
        """Loss and accuracy by hop of a model after each edit.

        Args:
          config: The model's architecture.
          params: Its parameters, a block for each layer.

        Returns:
          For each of `edits` its `kind`, `name` and `layers`, `eval_nll`, `accuracy_by_hop` and
          `agreement`, the share of answers that are those of the model as it is.
        """
        engine, edited = self._engine(config)
        if not edited:
            return []
        engine.place(params)
        scores = engine.run(0)["logits"].values
        return [
            {"kind": edit.kind, "name": edit.name, "layers": [*edit.layers]}
            | self._row(own, scores[0])
            for edit, own in zip(edited, scores[1:], strict=True)
        ]

    @functools.cache  # noqa: B019 (a plan has one, as long as it lives)
    def _engine(self, config: ModelConfig) -> tuple[Sweep, list[Edit]]:
        """A sweep of the edits, compiled once for each architecture."""
        edited = edits(config, self.block)
        variants = [baseline(config.num_layers), *(edit.variant for edit in edited)]
        options = SweepOptions(self.dtype, chunk_size=len(variants))
        return Sweep(config, variants, self.scorer.windows(), {"logits": logits()}, options), edited

    def _row(self, logit_NV: np.ndarray, clean_NV: np.ndarray) -> dict[str, Any]:
        """Scores of one variant from its logits at all positions, and those of the whole model."""
        label_BTK = self.scorer.batch().label_BTK
        logit_BTKQ, clean_BTKQ = (self._by_question(each) for each in (logit_NV, clean_NV))
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

    def _by_question(self, logit_NV: np.ndarray) -> np.ndarray:
        """Logits [B, T, K, Q]."""
        task, label_BTK = self.scorer.task, self.scorer.batch().label_BTK
        used_NV = logit_NV[:, : task.hops * task.alphabet]
        return used_NV.reshape(*label_BTK.shape, task.alphabet)

"""Trained models scored again after edits: without a layer, with layers swapped, left early."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import LabelledBatch
from jaxanatomy.data.packing import pack_windows
from jaxanatomy.data.windows import Window
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
    """

    block: int
    scorer: HopScorer

    def score(self, config: ModelConfig, params: tree.Params) -> list[dict[str, Any]]:
        """Loss and accuracy by hop of a model after each edit.

        Args:
          config: The model's architecture.
          params: Its parameters, a block for each layer.

        Returns:
          For each of `edits` its `kind`, `name` and `layers`, `eval_nll` and `accuracy_by_hop`.
        """
        engine, edited = self._engine(config)
        if not edited:
            return []
        engine.place(params)
        scores = engine.run(0)["logits"].values
        return [
            {"kind": edit.kind, "name": edit.name, "layers": [*edit.layers], **self._row(own)}
            for edit, own in zip(edited, scores[1:], strict=True)
        ]

    @functools.cache  # noqa: B019 (a plan has one, as long as it lives)
    def _engine(self, config: ModelConfig) -> tuple[Sweep, list[Edit]]:
        """A sweep of the edits, compiled once for each architecture."""
        edited = edits(config, self.block)
        variants = [baseline(config.num_layers), *(edit.variant for edit in edited)]
        windows = [
            Window(document, np.asarray(row_T, np.int64), 1, True)
            for document, row_T in enumerate(self._batch.token_BT)
        ]
        seq_len = self._batch.token_BT.shape[1]
        batches = pack_windows(windows, row_length=seq_len)
        options = SweepOptions(chunk_size=len(variants))
        return Sweep(config, variants, batches, {"logits": logits()}, options), edited

    @functools.cached_property
    def _batch(self) -> LabelledBatch:
        """All sequences, on the host."""
        return self.scorer.batch()

    def _row(self, logit_NV: np.ndarray) -> dict[str, Any]:
        """Scores of one variant from its logits at all positions."""
        task, label_BTK = self.scorer.task, self._batch.label_BTK
        used_NV = logit_NV[:, : task.hops * task.alphabet]
        logit_BTKQ = used_NV.reshape(*label_BTK.shape, task.alphabet)
        nll_BTK, right_BTK = answer_scores(jnp.asarray(logit_BTKQ), label_BTK)
        answered_K = (label_BTK >= 0).sum((0, 1))
        nll_K, right_K = (
            np.asarray(part, np.float64).sum((0, 1)) / answered_K for part in (nll_BTK, right_BTK)
        )
        return {"eval_nll": finite(float(nll_K.mean())), "accuracy_by_hop": right_K.tolist()}

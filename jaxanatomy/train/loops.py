"""Trained models with their middle block applied again at inference (arXiv 2602.16490)."""

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
from jaxanatomy.growth.maps import lidas
from jaxanatomy.interventions.variants import Step, Steps, Variant, baseline, damped
from jaxanatomy.measures.readings import logits
from jaxanatomy.sweep.engine import Sweep
from jaxanatomy.train.hops import HopScorer, answer_scores

HALF = 0.5
# (name, further passes, factor on the change that each makes)
LOOPS = (("once", 1, 1.0), ("twice", 2, 1.0), ("damped", 1, HALF))


@dataclasses.dataclass(frozen=True)
class Loops:
    """Repeats of the middle block of a model, scored on held-out sequences.

    Attributes:
      block: Layers of the block.
      scorer: Of the sequences.
    """

    block: int
    scorer: HopScorer

    def score(self, config: ModelConfig, params: tree.Params) -> list[dict[str, Any]]:
        """Loss and accuracy by hop of a model with its middle block once more, and so on.

        Args:
          config: The model's architecture; where it is shallower than the block, nothing is
            repeated.
          params: Its parameters, a block for each layer.
        """
        if config.num_layers < self.block:
            return []
        engine, middle = self._engine(config)
        engine.place(params)
        scores = engine.run(0)["logits"].values
        return [
            {"name": name, "layers": middle, "passes": passes, "factor": factor, **self._row(own)}
            for (name, passes, factor), own in zip(LOOPS, scores[1:], strict=True)
        ]

    @functools.cache  # noqa: B019 (a plan has one, as long as it lives)
    def _engine(self, config: ModelConfig) -> tuple[Sweep, list[int]]:
        """A sweep of the loops, compiled once for each architecture; the layers of the block."""
        middle = middle_block(config.num_layers, self.block)
        variants = [baseline(config.num_layers)] + [
            Variant(name, looped(config.num_layers, middle, passes, factor))
            for name, passes, factor in LOOPS
        ]
        windows = [
            Window(document, np.asarray(row_T, np.int64), 1, True)
            for document, row_T in enumerate(self._batch.token_BT)
        ]
        seq_len = self._batch.token_BT.shape[1]
        batches = pack_windows(windows, row_length=seq_len)
        return Sweep(config, variants, batches, {"logits": logits()}), middle

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
        return {"eval_nll": float(nll_K.mean()), "accuracy_by_hop": right_K.tolist()}


def middle_block(num_layers: int, block: int) -> list[int]:
    """The layers that LIDAS would copy next."""
    sources = lidas(num_layers, block)
    first = next(layer for layer in sources if sources.count(layer) == 2)
    return list(range(first, first + block))


def looped(num_layers: int, middle: list[int], passes: int, factor: float) -> Steps:
    """The steps of a model whose middle block is applied `passes` times more."""
    once = tuple(Step(layer) for layer in middle)
    more = once * passes if factor == 1 else (damped(once, factor),) * passes
    before, after = range(middle[0]), range(middle[-1] + 1, num_layers)
    return (*map(Step, before), *once, *more, *map(Step, after))
